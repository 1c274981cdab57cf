"""The README's own script and commands, run as they stand."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from babelscale.runs import Runs

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


@pytest.fixture
def home(study: Path, runs: Runs, tmp_path: Path) -> Path:
    """A folder with what the README names: a study, a folder of runs and a flat table."""
    home = tmp_path / "home"
    (home / "studies").mkdir(parents=True)
    shutil.move(study, home / "studies" / "quickstart")
    runs.write(home / "runs")
    seen = runs.observations("sw")
    columns = {"run": seen.run, "params": seen.allocation.params, "tokens": seen.allocation.D("sw"), "loss": seen.loss}
    pl.DataFrame(columns).with_columns(language=pl.lit("sw")).write_csv(home / "runs.csv")
    return home


def test_the_script_runs(home: Path):
    (script,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", script], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "adaptive-transfer of sv" in done.stdout
    assert "plan for 1e+14 FLOPs" in done.stdout
    assert len(script.strip().splitlines()) <= 15


# These commands train, serve, or need a study or files of their own. The tests of importers/, reporting/, web/ and
# study/ and the other tests of this folder run them.
LONG = (
    "babelscale import",
    "babelscale export",
    "babelscale forecast",
    "babelscale serve",
    "study next",
    "study prepare",
    "study records",
    "study run",
    "study train",
)


def commands() -> list[str]:
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in line.split(";")]
    wanted = [part.removeprefix(".venv/bin/") for part in parts]
    return [part for part in wanted if part.startswith("babelscale") and not any(long in part for long in LONG)]


# The default, eight simulated tables for every law and target, takes a minute; tests/reporting tests more tables.
FEWER = {"babelscale study power quickstart": ("--tables", "1")}


@pytest.mark.parametrize("command", commands())
def test_a_command_runs(home: Path, command: str, babelscale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(home)
    done = babelscale(*shlex.split(command)[1:], *FEWER.get(command, ()))
    assert done.code == 0, done.err
    assert done.out.strip()


def test_a_command_runs_in_a_process_of_its_own(home: Path):
    command = [sys.executable, "-m", "babelscale", "compare", "runs.csv"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_kind_of_command_is_in_the_readme():
    assert {command.split()[1] for command in commands()} >= {"plan", "fit", "compare", "transfer", "expand", "decide"}
