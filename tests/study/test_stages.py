"""Two-stage runs: one mixture, then another, in one run that shares its beginning with others."""

import itertools
import json
import re
from pathlib import Path

import polars as pl
import pytest

from babelscale.errors import InputError, Stopped
from babelscale.reporting.design.power import power
from babelscale.reporting.monitor.study_monitor import StudyMonitor
from babelscale.reporting.report.study_analysis import StudyAnalysis
from babelscale.reporting.report.study_sections import limits
from babelscale.study import Study, cost, export, worker
from babelscale.study.design import parse, to_toml
from babelscale.study.engines import Engine
from babelscale.study.record import RECORD
from babelscale.study.spec import RunSpec, expand, trunks
from babelscale.training import LOG
from babelscale.web.pages import study as page

STAGED = """
[[groups]]
name = "plain"
mixture = "uniform"
languages = ["sv", "da"]
sizes = ["xs"]
tokens = [10e3, 6e3]

[[groups]]
name = "staged"
mixture = "uniform"
languages = ["sv", "da"]
sizes = ["xs"]
tokens = [10e3]
then = [{ sw = 3, da = 1 }, { sv = 1 }]
boundaries = [0.5, 0.8]
"""
SIZES = {"sv": 2e4, "da": 2e4, "sw": 1e4}
# Never edit these: whoever has finished runs finds them by name.
GOLDEN = [
    "xs-da+sv-then-da+sw-9.98k-s0-8645671a7e",
    "xs-da+sv-then-da+sw-9.98k-s0-293235fbc7",
    "xs-da+sv-then-sv-9.98k-s0-afdf7f6678",
    "xs-da+sv-then-sv-9.98k-s0-99f406e2d0",
]


def groups(text: str) -> dict[str, list[RunSpec]]:
    return expand(parse(text, "tiny.toml"), SIZES, "corpus", "tokenizer")


def made(text: str, folder: Path, staged: str = STAGED) -> Study:
    (folder / "staged.toml").write_text(text.replace("[recipe]", "[recipe]\nwarmup_steps = 2") + staged)
    study = Study.create(folder / "staged.toml", folder / "study")
    study.prepare()
    return study


@pytest.fixture(scope="module")
def study(tiny: Path, in_process: Engine, tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = made(tiny.read_text(), tmp_path_factory.mktemp("stages"))
    study.train(engine=in_process, only=["plain", "staged"])
    return study


def test_each_mixture_and_boundary_is_a_run_whose_identity_is_golden(tiny_text: str):
    found = groups(tiny_text + STAGED)
    assert [spec.name for spec in found["staged"]] == GOLDEN
    steps = found["staged"][0].steps
    assert [spec.then.start for spec in found["staged"] if spec.then] == 2 * [round(0.5 * steps), round(0.8 * steps)]
    # A group of one stage has the runs it had.
    plain = groups(tiny_text)
    assert {name: found[name] for name in plain} == plain
    assert "then" not in found["plain"][0].identity()


BAD = {
    "no boundary": ("boundaries = [0.5, 0.8]", "", "groups[5] (staged): then is given without boundaries"),
    "no second mixture": ("then = [{ sw = 3, da = 1 }, { sv = 1 }]", "", "boundaries is given without then"),
    "boundary at the end": ("[0.5, 0.8]", "[0.5, 1]", "boundaries: 1.0 must be between 0 and 1"),
    "boundary nan": ("[0.5, 0.8]", "[nan]", "boundaries: nan must be between 0 and 1"),
    "no weight": ("sw = 3, da = 1", "sw = 3, da = 0", "then {'sw': 3.0, 'da': 0.0} must be positive weights"),
    "infinite weight": ("sw = 3, da = 1", "sw = inf, da = 1", "must be positive weights"),
    "no language": ("{ sv = 1 }", "{}", "then {} must be positive weights"),
    "unlisted language": ("{ sv = 1 }", "{ fi = 1 }", "language 'fi' is not among the study's languages"),
    "a base": ("then =", 'continue_from = "plain"\nthen =', "two-stage runs start from scratch"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_second_stage_names_the_group_and_the_field(tiny_text: str, case: str):
    before, after, said = BAD[case]
    assert before in STAGED
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        parse(tiny_text + STAGED.replace(before, after), "tiny.toml")
    assert caught.value.message.startswith("tiny.toml: groups[5] (staged)")


def test_a_run_of_one_step_has_no_second_stage(tiny_text: str):
    with pytest.raises(InputError, match="'staged' has runs of 1 step"):
        groups(tiny_text + STAGED.replace("tokens = [10e3]", "steps = [1]"))


def test_a_design_of_two_stages_survives_toml(tiny_text: str):
    design = parse(tiny_text + STAGED, "tiny.toml")
    assert parse(to_toml(design), "again.toml") == design


def test_a_run_that_continues_a_two_stage_run_is_measured_on_both_of_its_mixtures(tiny_text: str):
    more = '[[groups]]\nname = "on"\nmixture = "monolingual"\nlanguages = ["da"]\nsizes = ["xs"]\ntokens = [2e3]\n'
    found = groups(tiny_text + STAGED + more + 'continue_from = "staged"\n')
    (spec,) = found["on"]
    assert spec.base == found["staged"][0]
    assert spec.measured_languages == ("da", "sv", "sw")
    assert spec.name.startswith("xs-da+sv-then-da+sw-to-da-2.05k-s0-")


def test_runs_leave_the_latest_run_that_begins_alike(tiny_text: str):
    warm = (tiny_text + STAGED).replace("[recipe]", "[recipe]\nwarmup_steps = 2")
    found = groups(warm)
    longest, short = found["plain"]
    every = [*found["plain"], *found["staged"]]
    assert {name: trunk.name for name, trunk in trunks(every).items()} == {
        spec.name: longest.name for spec in every if spec != longest
    }
    assert [spec.fork for spec in found["staged"]] == [39, 62, 39, 62]
    # Without runs of one stage, the two-stage run with the latest boundary is the trunk; ties go by name.
    late = min((spec for spec in found["staged"] if spec.fork == 62), key=lambda spec: spec.name)
    assert {trunk.name for trunk in trunks(found["staged"]).values()} == {late.name}
    # A shorter run of one stage leaves a longer one of two where its decay starts.
    mixed = trunks([short, *found["staged"]])
    assert mixed[short.name] == late
    assert short.fork < late.fork


def test_what_is_trained_is_what_is_counted(tiny_text: str):
    found = groups((tiny_text + STAGED).replace("[recipe]", "[recipe]\nwarmup_steps = 2"))
    specs = {spec.name: spec for spec in (*found["plain"], *found["staged"])}
    longest = found["plain"][0]
    spent = cost.spent(specs)
    assert spent[longest.name] == longest.flops
    for spec in specs.values():
        if spec != longest:
            assert spent[spec.name] == pytest.approx(spec.flops * (spec.steps - spec.fork) / spec.steps)
            assert spent[spec.name] < spec.flops


@pytest.mark.parametrize("kept", [["plain", "staged"], ["staged"]])
def test_two_stage_runs_leave_the_records_of_whole_runs(study: Study, beside, tmp_path: Path, kept: list[str]):
    """Branched off a run of one stage, or off another two-stage run."""
    design = study.design.model_copy(update={"groups": tuple(g for g in study.design.groups if g.name in kept)})
    one = beside(Study(design, study.folder), tmp_path / "branched")
    alone = beside(one, tmp_path / "alone")
    staged = one.select(["staged"])
    trunk = one.trunks[next(spec.name for spec in staged if spec.name in one.trunks)]
    assert (trunk.then is None) == ("plain" in kept)
    trunk_last = sorted(one.specs.values(), key=lambda spec: spec == trunk)
    for spec in reversed(trunk_last):
        assert worker.train_run(one, spec)
    for spec in trunk_last:
        # Nothing can branch off the trunk before it is there.
        assert worker.train_run(alone, spec)
        assert (one.finished(spec.name) / RECORD).read_bytes() == (alone.finished(spec.name) / RECORD).read_bytes()
        if spec != trunk:
            assert (one.finished(trunk.name) / "branches" / str(spec.fork)).is_dir()
            assert (one.finished(spec.name) / LOG).read_bytes() == (alone.finished(spec.name) / LOG).read_bytes()
            assert worker.job(one, spec).trunk == one.finished(trunk.name)


@pytest.mark.parametrize(("branched", "when"), [(False, 45), (False, 70), (True, 65)])
def test_a_two_stage_run_that_is_stopped_goes_on_to_the_same_bytes(
    study: Study, beside, tmp_path: Path, branched: bool, when: int
):
    """Before and after its boundary; a branch and a run from the start."""
    spec = study.select(["staged"])[1]
    assert spec.then is not None
    assert spec.then.start == 62
    other = beside(study, tmp_path / "cut")
    if branched:
        (other.folder / "finished").mkdir()
        trunk = study.trunks[spec.name].name
        (other.folder / "finished" / trunk).symlink_to(study.finished(trunk))
    asked = itertools.count(1 + (spec.fork if branched else 0))
    with pytest.raises(Stopped, match=f"after step {when} "):
        worker.train_run(other, spec, stop=lambda: next(asked) == when)
    assert worker.train_run(other, spec)
    for name in (RECORD, LOG):
        assert (other.finished(spec.name) / name).read_bytes() == (study.finished(spec.name) / name).read_bytes()


def test_the_record_holds_both_stages(study: Study):
    spec = study.select(["staged"])[0]
    record = json.loads((study.finished(spec.name) / RECORD).read_text())
    assert record["run"]["start"] == "two-stage"
    assert record["run"]["base"] is None
    assert record["run"]["mixture"] == "uniform2 then da 25% + sw 75% from step 39"
    assert record["identity"]["then"] == {"step": 39, "mixture": {"da": 0.25, "sw": 0.75}}
    batches = worker.job(study, spec).batches
    rows = {(row["step"], row["language"]): row for row in record["exposure"]}
    assert {code for _, code in rows} == {"sv", "da", "sw"}
    for (step, code), row in rows.items():
        assert row["tokens"] == 32 * batches.counts(step)[code]
        assert row["unique_tokens"] == batches.unique_tokens(code)
    first, last = min(step for step, _ in rows), spec.steps
    assert rows[first, "sw"]["tokens"] == 0
    assert sum(rows[last, code]["tokens"] for code in spec.languages) == spec.tokens
    for code, share in spec.shares.items():
        assert rows[last, code]["tokens"] == pytest.approx(share * spec.tokens, abs=4 * 32)
    measured = {(row["step"], row["language"]) for row in record["losses"]}
    assert measured == {(step, code) for step in spec.recipe.evaluation_steps(last) for code in ("sv", "da", "sw")}
    # The run it branched off was measured on Swahili for it, and says nothing of that.
    trunk = json.loads((study.finished(study.trunks[spec.name].name) / RECORD).read_text())
    assert {row["language"] for row in trunk["losses"]} == {"sv", "da"}
    assert "then" not in trunk["identity"]


def test_the_tables_keep_two_stage_runs_out_of_fits_unless_they_are_named(study: Study):
    runs = study.runs()
    assert runs is not None
    staged = {spec.name for spec in study.select(["staged"])}
    assert set(runs.table.filter(pl.col("start") == "two-stage")["run"]) == staged
    assert not staged & set(runs.observations("sv").run.tolist())
    assert set(runs.observations("sv", start=["two-stage"]).run.tolist()) == staged
    assert not staged & set(runs.one_stage().names)
    assert "sw" not in runs.cosampled("da")


def test_two_stage_runs_of_one_boundary_train_in_one_program(study: Study, beside, tmp_path: Path):
    other = beside(study, tmp_path / "together")
    alike = [spec for spec in study.select(["staged"]) if spec.fork == 39]
    assert len(alike) == 2
    assert len(worker.train_runs(other, alike)) == 2
    for spec in alike:
        told, alone = (
            [json.loads(line) for line in (one.finished(spec.name) / LOG).read_text().splitlines()]
            for one in (other, study)
        )
        assert [entry["step"] for entry in told] == [entry["step"] for entry in alone]
        for entry, expected in zip(told, alone, strict=True):
            name = "nats" if "language" in expected else "loss"
            assert entry[name] == pytest.approx(expected[name], rel=1e-4)


def test_branches_of_different_boundaries_are_not_one_population(study: Study, beside, tmp_path: Path):
    other = beside(study, tmp_path / "mixed")
    (other.folder / "finished").mkdir()
    early, late = study.select(["staged"])[:2]
    trunk = study.trunks[early.name].name
    (other.folder / "finished" / trunk).symlink_to(study.finished(trunk))
    with pytest.raises(InputError, match="leave their trunks at the same step"):
        worker.train_runs(other, [early, late])
    # The worker's own way trains them one after the other.
    events: list[dict] = []
    worker.train_alike(other, [early, late], events.append)
    assert {event["run"] for event in events if "finished" in event} == {early.name, late.name}


def test_a_prediction_of_power_leaves_two_stage_runs_out(tiny_text: str):
    plain = parse(tiny_text + STAGED.partition('[[groups]]\nname = "staged"')[0], "tiny.toml")
    staged = parse(tiny_text + STAGED, "tiny.toml")
    one, two = (power(design, "chinchilla", "sv", tables=1, resamples=2) for design in (plain, staged))
    assert one.runs == two.runs
    assert "4 two-stage runs are left out." in two.assumptions
    assert not any("two-stage" in text for text in one.assumptions)


def test_a_study_that_is_followed_shows_both_mixtures(study: Study):
    now = StudyMonitor(study.folder).snapshot()
    shown = {run.name: run for run in now.runs if run.spec.then is not None}
    costs = cost.spent(study.specs)
    for spec in study.select(["staged"]):
        assert (shown[spec.name].state, shown[spec.name].flops) == ("finished", costs[spec.name])
        assert "from step" in page._row(shown[spec.name])[1]
    assert {spec.name for spec in study.select(["staged"])} <= set(cost.status(study).finished)


def test_an_estimate_counts_one_state_for_branches_of_one_fork(study: Study):
    found = cost.estimate(study.design, only=["plain", "staged"])
    specs = {spec.name: spec for spec in study.select(["plain", "staged"])}
    assert found.branched == pytest.approx(sum(run.flops for run in specs.values()) - sum(cost.spent(specs).values()))
    # Forks at the two boundaries, and at the decay of the shorter run of one stage.
    params = study.select(["plain"])[0].shape.params
    assert found.storage.states == 3 * cost.STATE_BYTES * params


def test_a_model_card_tells_what_a_two_stage_run_saw_in_all(study: Study):
    spec = study.select(["staged"])[0]
    card = export._card_text(export._record(study.finished(spec.name)))
    assert "in two stages (uniform2 then da 25% + sw 75% from step 39)" in card
    shares = {line.split(" | ")[0].strip("| "): float(line.split(" | ")[1]) for line in card.splitlines()[4:-2]}
    assert shares == pytest.approx(spec.shares, abs=0.02)


def test_the_report_says_that_two_stage_runs_are_left_out(study: Study):
    runs = study.runs()
    assert runs is not None
    told = [line for line in limits(StudyAnalysis("tiny", runs, {})).lines if "two-stage" in line]
    assert [line.partition(" are")[0] for line in told] == ["4 two-stage runs"]


def test_a_group_in_one_stage_sees_the_same_tokens_of_each_language(tiny_text: str):
    one = STAGED.replace('"staged"', '"one"').replace("tokens = [10e3]", "tokens = [10e3]\none_stage = true")
    made = groups(tiny_text + STAGED + one[one.index("[[groups]]", 5) :])
    assert len(made["one"]) == len(made["staged"]) == 4
    for single, staged in zip(made["one"], made["staged"], strict=True):
        assert single.then is None
        assert single.steps == staged.steps
        assert single.shares == pytest.approx(staged.shares)
        assert single.hash != staged.hash
    with pytest.raises(InputError, match="one_stage"):
        groups(tiny_text.replace('mixture = "unimax"', 'mixture = "unimax"\none_stage = true'))
