"""docs/data.md: its example files are read, its column tables name real fields, its path from W&B to a plan works."""

import json
import re
import shutil
from pathlib import Path

import pytest

import babelscale as bs
from babelscale.tabular.columns import FIELDS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/data.md").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "docs/examples").glob("*.csv"))


def test_every_example_is_named_and_nothing_looks_wrong_in_it() -> None:
    assert [path.name for path in EXAMPLES] == sorted(set(re.findall(r"\(examples/(.*?)\)", TEXT)))
    for path in EXAMPLES:
        assert [finding for finding in bs.check(path).findings if finding.severity != "notice"] == []


def test_long_and_wide_examples_are_the_same_runs() -> None:
    long, wide = (bs.Runs.read(ROOT / "docs/examples" / name) for name in ("mixtures.csv", "wide.csv"))
    assert long.hash == wide.hash


def test_checkpoints_are_of_two_runs() -> None:
    runs = bs.Runs.read(ROOT / "docs/examples/checkpoints.csv")
    assert len(runs) == 2
    assert runs.observations("sw").loss.tolist() == [3.4010, 3.6120]


def test_the_tables_of_columns_name_every_field() -> None:
    rows = re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z_.A-Z]+)`", row)} - {"covariates.NAME"}
    unnamed = {"params_non_embedding", "flops_6nd", "unigram_nats"}  # written by studies, of no use in a flat table
    assert named == set(FIELDS) - unnamed


def test_from_a_folder_of_wandb_to_a_plan(tmp_path: Path, command) -> None:
    """The four commands at the top of the page, on a folder of 27 runs that wandb wrote."""
    shutil.copytree(ROOT / "tests/importers/files/wandb-study", tmp_path / "wandb")
    shutil.copy(ROOT / "docs/examples/monolingual.csv", tmp_path / "runs.csv")
    block = re.search(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    lines = [line.split("#")[0].split()[1:] for line in block[1].splitlines()]
    assert [line[0] for line in lines] == ["check", "import", "fit", "plan"]
    done = [command(*line, "--json", cwd=tmp_path) for line in lines]
    assert [each.returncode for each in done] == [0, 0, 0, 0]
    checked, imported, fitted, planned = (json.loads(each.stdout) for each in done)
    assert (checked["runs"], imported["runs"], imported["kind"]) == (9, 27, "wandb")
    assert fitted["target"] == "sw"
    assert set(planned["tokens"]) == {"sw", "yo"}


@pytest.fixture
def command():
    import subprocess
    import sys

    def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "babelscale", *arguments], cwd=cwd, capture_output=True, text=True, check=False
        )

    return run
