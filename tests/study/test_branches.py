"""Shorter runs that branch off a longer one leave what they would leave if trained from the start."""

from pathlib import Path

import pytest

from babelscale.study import Study
from babelscale.study.record import RECORD
from babelscale.study.spec import trunks

LENGTHS = "tokens = [4e3]"


@pytest.fixture(scope="module")
def several(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny design at four lengths, what continues its largest run at two."""
    folder = tmp_path_factory.mktemp("branches")
    text = (
        tiny.read_text().replace(LENGTHS, "tokens = [4e3, 3e3, 2e3, 12e3]").replace("[2e3]\ncont", "[4e3, 3e3]\ncont")
    )
    text = text.replace("[recipe]", "[recipe]\nwarmup_steps = 2")
    (folder / "several.toml").write_text(text)
    study = Study.create(folder / "several.toml", folder / "several")
    study.prepare()
    study.train()
    return study


def test_a_branch_leaves_the_record_of_a_run_from_the_start(several: Study, tmp_path: Path):
    from babelscale.study.worker import train_run

    short = next(spec for spec in several.specs.values() if spec.name in several.trunks and spec.steps == 31)
    trunk = several.finished(several.trunks[short.name].name)
    assert (trunk / "branches" / str(short.recipe.phases(short.steps)[1])).is_dir()
    apart = Study(several.design, tmp_path / "apart")
    (tmp_path / "apart").mkdir()
    for name in ("corpus", "tokenizer"):
        (apart.folder / name).symlink_to(several.folder / name)
    assert train_run(apart, short)
    for name in (RECORD, "log.jsonl"):
        assert (apart.finished(short.name) / name).read_bytes() == (several.finished(short.name) / name).read_bytes()


def test_the_longest_run_of_each_kind_is_the_trunk(several: Study):
    assert several.trunks
    assert any(trunk.base is not None for trunk in several.trunks.values())
    for short, trunk in several.trunks.items():
        spec = several.specs[short]
        assert spec.steps < trunk.steps
        assert (spec.size, spec.mixture, spec.seed, spec.base) == (trunk.size, trunk.mixture, trunk.seed, trunk.base)
        assert trunk.name not in several.trunks
        assert spec in several.branches(trunk.name)


def test_a_run_too_short_for_the_warm_up_is_no_branch(several: Study):
    specs = list(several.specs.values())
    for short, trunk in trunks(specs).items():
        spec = several.specs[short]
        assert spec.recipe.phases(spec.steps)[0] == trunk.recipe.phases(trunk.steps)[0]
    assert any(spec.recipe.phases(spec.steps)[0] < spec.recipe.warmup_steps for spec in specs)
