"""Shorter runs that branch off a longer one leave what they would leave if trained from the start."""

from pathlib import Path

import pytest

from babelscale.study import Study
from babelscale.study.engines import Engine
from babelscale.study.record import RECORD
from babelscale.study.spec import trunks
from babelscale.training import LOG

LENGTHS = "tokens = [4e3]"


@pytest.fixture(scope="module")
def several(tiny: Path, in_process: Engine, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny design at four lengths, what continues its largest run at two; some of its groups are trained."""
    folder = tmp_path_factory.mktemp("branches")
    text = (
        tiny.read_text().replace(LENGTHS, "tokens = [4e3, 3e3, 2e3, 12e3]").replace("[2e3]\ncont", "[4e3, 3e3]\ncont")
    )
    text = text.replace("[recipe]", "[recipe]\nwarmup_steps = 2")
    (folder / "several.toml").write_text(text)
    study = Study.create(folder / "several.toml", folder / "several")
    study.prepare()
    study.train(engine=in_process, only=["mono", "continued"])
    return study


def test_a_branch_leaves_the_record_of_a_run_from_the_start(several: Study, beside, tmp_path: Path):
    from babelscale.study.worker import train_run

    short = next(spec for spec in several.groups["mono"] if spec.name in several.trunks and spec.steps == 31)
    trunk = several.finished(several.trunks[short.name].name)
    assert (trunk / "branches" / str(short.recipe.phases(short.steps)[1])).is_dir()
    alone = beside(several, tmp_path / "apart")
    assert train_run(alone, short)
    for name in (RECORD, "log.jsonl"):
        assert (alone.finished(short.name) / name).read_bytes() == (several.finished(short.name) / name).read_bytes()


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


SELDOM = """
[[groups]]
name = "seldom"
mixture = "monolingual"
languages = ["sv"]
sizes = ["xs"]
tokens = [6e3, 12e3]
recipe = { evaluations = 5 }
"""


def test_runs_evaluated_at_other_steps_share_a_trunk_and_leave_their_own_records(
    tiny: Path, beside, in_process: Engine, tmp_path: Path
):
    from babelscale.study.worker import train_run

    text = (
        tiny.read_text().replace(LENGTHS, "tokens = [12e3, 10e3]", 1).replace("[recipe]", "[recipe]\nwarmup_steps = 2")
    )
    (tmp_path / "seldom.toml").write_text(text + SELDOM)
    study = Study.create(tmp_path / "seldom.toml", tmp_path / "study")
    study.prepare()
    study.train(engine=in_process, only=["mono", "seldom"])
    alike = [study.specs[spec.name] for spec in study.select(["mono", "seldom"]) if spec.mixture.languages == ("sv",)]
    assert {spec.recipe.evaluations for spec in alike} == {2, 5}
    trunk = study.trunks[next(spec.name for spec in alike if spec.name in study.trunks)]
    assert {study.trunks.get(spec.name, spec).name for spec in alike} == {trunk.name}
    alone = beside(study, tmp_path / "apart")
    for spec in sorted(alike, key=lambda spec: spec == trunk):
        # The trunk is trained last, so that nothing branches off it.
        assert train_run(alone, spec)
        assert (study.finished(spec.name) / RECORD).read_bytes() == (alone.finished(spec.name) / RECORD).read_bytes()
        if spec != trunk:
            assert (study.finished(trunk.name) / "branches" / str(spec.fork)).is_dir()
            assert (study.finished(spec.name) / LOG).read_bytes() == (alone.finished(spec.name) / LOG).read_bytes()


def test_a_trunk_that_was_not_measured_for_a_run_is_left_alone(tiny: Path, tmp_path: Path):
    """A group that is added later finds the trunk without its evaluations."""
    from babelscale.study.worker import job, train_run

    text = (
        tiny.read_text().replace(LENGTHS, "tokens = [12e3, 6e3]", 1).replace("[recipe]", "[recipe]\nwarmup_steps = 2")
    )
    (tmp_path / "before.toml").write_text(text)
    (tmp_path / "after.toml").write_text(text + SELDOM.replace("[6e3, 12e3]", "[6e3]"))
    before = Study.create(tmp_path / "before.toml", tmp_path / "study")
    before.prepare()
    longest, short = (spec for spec in before.select(["mono"]) if spec.mixture.languages == ("sv",))
    assert train_run(before, longest)
    assert job(before, short).trunk == before.finished(longest.name)
    after = Study.create(tmp_path / "after.toml", tmp_path / "study")
    late = after.select(["seldom"])[0]
    assert after.trunks[late.name] == longest
    assert late.fork == short.fork
    assert job(after, late).trunk is None
