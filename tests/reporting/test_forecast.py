"""A forecast is sealed before runs are trained, and scored on the runs that were trained afterwards alone."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from babelscale import cli, laws
from babelscale.allocation import Allocation
from babelscale.corpora import TokenStore
from babelscale.errors import InputError, StudyError
from babelscale.intervals import wilson
from babelscale.laws import Chinchilla
from babelscale.reporting.design.forecast import listing, open_forecast, seal
from babelscale.reporting.design.forecast.document import Forecast, read
from babelscale.study import RunSpec, Study, record, text, timing

DESIGN = """
name = "sealed"
languages = ["sv", "da", "sw"]
analysis = { targets = ["sv", "da"] }
holdout = { sizes = ["d"] }

[corpus]
bytes_per_language = 60_000

[tokenizer]
vocabulary = 400

[recipe]
batch_size = 4
sequence_length = 32
evaluations = 2

[sizes]
a = { layers = 1, heads = 1, d_model = 8, d_ff = 16, d_head = 8 }
b = { layers = 1, heads = 2, d_model = 16, d_ff = 32, d_head = 8 }
c = { layers = 2, heads = 2, d_model = 24, d_ff = 48, d_head = 12 }
d = { layers = 2, heads = 4, d_model = 48, d_ff = 96, d_head = 12 }

[[groups]]
name = "alone"
mixture = "monolingual"
languages = ["sv", "da"]
sizes = ["a", "b", "c"]
tokens = [1e4, 2e4, 4e4, 1.6e5]

[[groups]]
name = "pair"
mixture = "bilingual"
sizes = ["a", "b"]
tokens = [2e4, 8e4]

[[groups]]
name = "ahead"
mixture = "monolingual"
languages = ["sv"]
sizes = ["b", "d"]
tokens = [3e4, 6.4e5]

[[groups]]
name = "elsewhere"
mixture = "monolingual"
languages = ["sw"]
sizes = ["b"]
tokens = [3e4]

[[groups]]
name = "wide"
mixture = "uniform"
sizes = ["b"]
tokens = [8e4]

[[groups]]
name = "continued"
mixture = "monolingual"
languages = ["sv"]
sizes = ["b"]
tokens = [2e4]
continue_from = "wide"

[[groups]]
name = "own"
mixture = "monolingual"
tokenizer = "own"
languages = ["sv"]
sizes = ["a", "b"]
tokens = [2e4]
"""
FINISHED = ("alone", "pair")


def trained(study: Study, names: Iterable[str]) -> list[str]:
    """Runs as training leaves them, their losses drawn from a law with half a per cent of noise."""
    done = []
    for name in names:
        spec = study.specs[name]
        attempt = begun(study, spec)
        store = TokenStore.open(study.text(spec) / "corpus")
        batches = text.batches(spec, store)
        rng = np.random.default_rng(int(spec.hash[:8], 16))
        lines = []
        for step in spec.recipe.evaluation_steps(spec.steps):
            for code, count in batches.counts(step).items():
                D = max(count, 1) * 32 + 0.2 * step * 128
                bits = (1 + 8 / spec.shape.params**0.3 + 30 / D**0.4) * float(np.exp(0.005 * rng.normal()))
                lr_state = "decayed" if step == spec.steps else "stable"
                totals = {"nats": bits * np.log(2) * 1e4, "tokens": 4e3, "bytes": 1e4, "unigram_nats": 2e4}
                lines.append({"step": step, "language": code, "lr_state": lr_state, "split": "validation"} | totals)
        (attempt / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        record.write(spec, batches, {code: batches.unique_tokens(code) for code in spec.mixture.languages}, attempt)
        timing.finish(attempt, 1.0, spec.tokens)
        assert record.publish(attempt, study.finished(name))
        done.append(name)
    return done


def begun(study: Study, spec: RunSpec) -> Path:
    """The folder of an attempt as the worker begins it."""
    attempt = record.claim(study.folder / "working" / spec.name)
    timing.begin(attempt, study.folder)
    (attempt / "log.jsonl").touch()
    return attempt


@dataclass(frozen=True)
class Frozen:
    """A study with a sealed forecast, to be copied."""

    folder: Path
    sha256: str


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Frozen:
    folder = tmp_path_factory.mktemp("forecast")
    (folder / "sealed.toml").write_text(DESIGN)
    study = Study.create(folder / "sealed.toml", folder / "sealed")
    study.prepare()
    trained(study, [spec.name for spec in study.select(FINISHED)])
    trained(study, [study.groups["own"][0].name])
    return Frozen(study.folder, seal(study, resamples=10).sha256)


@pytest.fixture
def study(frozen: Frozen, tmp_path: Path) -> Study:
    shutil.copytree(frozen.folder, tmp_path / "study")
    return Study.open(tmp_path / "study")


def document(study: Study, name: str = "forecast-1") -> Forecast:
    return read(study.folder / "forecasts" / f"{name}.json", Forecast)[0]


def missing(study: Study) -> list[str]:
    """Runs that can be forecast."""
    return [spec.name for spec in study.missing if spec.mixture.languages != ("sw",) and spec.own is None]


def test_the_seal_says_what_it_rests_on_and_what_it_forecasts(study: Study, frozen: Frozen):
    path = study.folder / "forecasts" / "forecast-1.json"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == frozen.sha256
    held = document(study)
    assert {one.run for one in held.used} == {spec.name for spec in study.select(FINISHED)}
    for one in held.used:
        assert one.sha256 == hashlib.sha256((study.finished(one.run) / "record.json").read_bytes()).hexdigest()
    named = {run.run for run in held.runs} | {*held.untargeted, *held.own_tokenizer}
    assert named == {spec.name for spec in study.missing}
    assert held.own_tokenizer == (study.groups["own"][1].name,)
    (untargeted,) = held.untargeted
    assert study.specs[untargeted].mixture.languages == ("sw",)
    assert held.settings.targets == ("sv", "da")
    axes = {run.run: set(run.axes) for run in held.runs}
    specs = {name: study.specs[name] for name in axes}
    assert {name for name, labels in axes.items() if "holdout" in labels} == study.held_out
    far = next(name for name, spec in specs.items() if spec.size == "d" and spec.tokens > 3e5)
    assert axes[far] == {"size", "tokens", "compute", "holdout"}
    assert axes[next(name for name, spec in specs.items() if len(spec.mixture.languages) == 3)] == {"mixture"}
    (continued,) = [run for run in held.runs if run.start == "checkpoint"]
    assert continued.base is not None
    assert continued.base.state == "missing"
    between = next(run for run in held.runs if run.start == "scratch" and run.axes == ("interpolation",))
    assert between.trunk is None or between.trunk.state in ("finished", "missing")


def test_forecast_tokens_are_those_of_the_record(study: Study):
    trained(study, missing(study))
    for run in document(study).runs:
        held = json.loads((study.finished(run.run) / "record.json").read_text())
        last = max(row["step"] for row in held["exposure"])
        rows = [row for row in held["exposure"] if row["step"] == last]
        assert run.tokens == {row["language"]: row["tokens"] for row in rows}
        assert run.unique_tokens == {row["language"]: row["unique_tokens"] for row in rows}
        assert run.params == held["run"]["params"]


def test_every_law_answers_or_says_why_not(study: Study):
    held = document(study)
    assert {answer.law for answer in held.answers if not answer.baseline} == set(laws.names())
    for answer in held.answers:
        asked = {run.run for run in held.runs if answer.target in run.tokens}
        told = [one.run for one in answer.predictions] + [run for one in answer.unanswered for run in one.runs]
        assert len(told) == len(set(told))
        assert set(told) == asked
    chinchilla = next(one for one in held.answers if (one.law, one.target) == ("chinchilla", "sv"))
    (refused,) = chinchilla.unanswered
    assert "starts from checkpoint" in refused.reason
    crossover = next(one for one in held.answers if one.law == "crossover")
    assert crossover.parameters is None
    assert not crossover.predictions
    assert "gives a compute and no loss" in crossover.unanswered[0].reason


def test_the_same_runs_and_seed_give_the_same_bytes_of_predictions(study: Study):
    again = seal(study, name="again", resamples=10)
    other = seal(study, name="other", resamples=10, seed=1)
    texts = [path.read_bytes() for path in (study.folder / "forecasts" / "forecast-1.json", again.path)]
    # Keys are sorted, so that what is not a name, a time or the hash over both stands in one piece.
    parts = [text[: text.index(b'"format"')] for text in texts]
    assert parts[0] == parts[1]
    assert b'"predictions":[{' in parts[0]
    assert again.forecast.runs == document(study).runs
    assert again.forecast.used == document(study).used
    assert other.forecast.answers != again.forecast.answers


class Flat(Chinchilla):
    """A law of somebody's own."""

    name = "flat"


class Narrow(Chinchilla):
    """A law of small models, from scratch or continued."""

    name = "narrow"
    starts = ("scratch", "checkpoint")

    def defined(self, allocation: Allocation) -> np.ndarray:
        return super().defined(allocation) & (allocation.params < 40_000)


@dataclass(frozen=True)
class Picky(Chinchilla):
    """A law that cannot be built for one language."""

    name = "picky"

    def __post_init__(self) -> None:
        if self.target == "da":
            raise InputError("picky knows no Danish")


def test_laws_that_users_register_are_sealed_and_failures_counted(study: Study, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(laws.naming._laws, "flat", Flat)
    monkeypatch.setitem(laws.naming._laws, "picky", Picky)
    monkeypatch.setitem(laws.naming._laws, "narrow", Narrow)
    sealed = seal(study, name="own", resamples=5)
    counts = {row["law"]: row for row in sealed.counts()}
    assert counts["flat"]["answered"] == counts["chinchilla"]["answered"] > 0
    danish = sum("da" in run.tokens for run in sealed.forecast.runs)
    assert counts["picky"]["unanswered"]["the law cannot be fitted: picky knows no Danish"] == danish
    assert counts["picky"]["answered"] > 0
    assert "picky knows no Danish" in str(sealed)
    (outside,) = [one for answer in sealed.forecast.answers if answer.law == "narrow" for one in answer.unanswered]
    assert outside.reason.startswith("outside the law's domain")
    assert {study.specs[run].size for run in outside.runs} == {"d"}
    frame = sealed.to_frame()
    assert frame.filter(law="picky", target="da")["loss"].null_count() == danish


def test_scores_follow_their_definitions(study: Study):
    names = trained(study, missing(study))
    opened = open_forecast(study.folder)
    (opening,) = opened.openings
    assert {one.run for one in opening.runs} == set(names)
    assert not opening.refused
    assert not opening.missing
    held = document(study)
    losses = {one.run: one.losses for one in opening.runs}
    row = next(one for one in opening.scores if (one.law, one.axis) == ("chinchilla", "all"))
    pairs = [
        (one, losses[one.run][answer.target])
        for answer in held.answers
        if answer.law == "chinchilla"
        for one in answer.predictions
    ]
    errors = np.array([one.loss / loss - 1 for one, loss in pairs])
    assert row.answered == row.intervals == len(pairs)
    assert row.unanswered == 1
    assert row.covered == sum(one.low <= loss <= (one.high or np.inf) for one, loss in pairs)
    assert row.bias == pytest.approx(errors.mean())
    assert row.median_error == pytest.approx(np.median(np.abs(errors)))
    assert row.mean_error == pytest.approx(np.abs(errors).mean())
    nearest = next(one for one in opening.scores if (one.law, one.axis) == ("baseline-nearest", "all"))
    assert nearest.answered == row.answered + row.unanswered
    assert nearest.coverage is None
    assert row.nearest_error is not None
    assert row.median_error < row.nearest_error
    axes = {one.axis for one in opening.scores}
    assert axes == {"all", "size", "tokens", "compute", "mixture", "interpolation", "holdout", "scratch", "continued"}
    assert "coverage" in str(opened)
    assert opened.to_frame().height == len(opening.scores_in_all)


def test_measured_losses_are_those_of_the_records(study: Study):
    trained(study, missing(study))
    for one in open_forecast(study.folder).last.runs:
        rows = json.loads((study.finished(one.run) / "record.json").read_text())["losses"]
        final = {
            row["language"]: row["nats"] / np.log(2) / row["bytes"] for row in rows if row["lr_state"] == "decayed"
        }
        assert one.losses == pytest.approx({code: final[code] for code in ("sv", "da") if code in final})


def test_a_changed_byte_is_told(study: Study):
    trained(study, missing(study))
    path = study.folder / "forecasts" / "forecast-1.json"
    data = path.read_bytes()
    digit = data.index(b'"loss":') + len('"loss":') + 3
    changed = bytearray(data)
    changed[digit] = ord("1") + (changed[digit] - ord("0")) % 9
    for wrong in (bytes(changed), data + b" ", data[:-10], data.replace(b'"format":1', b'"format": 1')):
        assert wrong != data
        path.write_bytes(wrong)
        with pytest.raises(StudyError, match=r"forecast-1\.json was changed"):
            open_forecast(study.folder)
        assert listing(study.folder).forecasts[0].state == "damaged"
    path.write_bytes(data)
    assert open_forecast(study.folder).scored_now


def resealed(path: Path, content: dict) -> None:
    """Write a changed forecast with the hash that belongs to it."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    content = content | {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n")


def test_a_run_added_to_the_sealed_file_is_told_by_its_hash(study: Study):
    trained(study, missing(study))
    path = study.folder / "forecasts" / "forecast-1.json"
    content = json.loads(path.read_text())
    content["used"].append({"run": "another", "sha256": "0" * 64})
    path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n")
    with pytest.raises(StudyError, match="was changed"):
        open_forecast(study.folder)
    # Whoever computes the hash anew names a run that was never there, or a seal that no run noted.
    del content["sha256"]
    resealed(path, content)
    with pytest.raises(StudyError, match=r"another/record\.json: gone"):
        open_forecast(study.folder)
    content["used"].pop()
    content["answers"][0]["predictions"][0]["loss"] = 1.5
    resealed(path, content)
    with pytest.raises(StudyError, match=r"none of its \d+ runs was trained after the seal"):
        open_forecast(study.folder)


def test_a_field_of_another_type_is_named(study: Study):
    path = study.folder / "forecasts" / "forecast-1.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    resealed(path, content | {"runs": "none"})
    with pytest.raises(InputError, match=r"forecast-1\.json: runs: "):
        open_forecast(study.folder)
    resealed(path, content | {"format": 2})
    with pytest.raises(InputError, match=r"forecast-1\.json: format: 2"):
        open_forecast(study.folder)


@pytest.mark.parametrize("what", ["changed", "gone"])
def test_a_used_record_that_is_not_as_it_was_is_named(study: Study, what: str):
    trained(study, missing(study))
    used = document(study).used[0].run
    path = study.finished(used) / "record.json"
    if what == "changed":
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    else:
        path.unlink()
    with pytest.raises(StudyError, match=rf"{re.escape(used)}/record\.json: {what}"):
        open_forecast(study.folder)


def test_a_run_trained_before_the_seal_is_refused_by_name(study: Study, tmp_path: Path):
    early = missing(study)[0]
    path = study.folder / "forecasts" / "forecast-1.json"
    path.rename(tmp_path / "hidden.json")
    trained(study, [early])
    (tmp_path / "hidden.json").rename(path)
    with pytest.raises(StudyError, match=f"{early}: trained before the forecast was sealed"):
        open_forecast(study.folder)
    late = missing(study)[0]
    trained(study, [late])
    opened = open_forecast(study.folder)
    assert [one.run for one in opened.last.runs] == [late]
    assert [(one.run, one.reason) for one in opened.last.refused] == [(early, "trained before the forecast was sealed")]
    assert early in str(opened)


def test_a_run_begun_before_the_seal_is_not_forecast(study: Study):
    name = missing(study)[0]
    attempt = begun(study, study.specs[name])
    later = seal(study, name="later", resamples=5).forecast
    assert later.under_way == (name,)
    assert name not in {run.run for run in later.runs}
    # Another attempt takes the first one over, and keeps the seals of the first one.
    noted = timing.read(attempt / "timing.json").forecasts
    trained(study, [name])
    assert timing.read(study.finished(name) / "timing.json").forecasts == noted
    assert set(noted) == {"forecast-1.json"}


def test_a_record_of_another_run_or_without_timing_is_refused(study: Study):
    first, second, third = trained(study, missing(study)[:3])
    path = study.finished(first) / "record.json"
    content = json.loads(path.read_text())
    content["identity"]["seed"] = 7
    path.write_text(json.dumps(content))
    (study.finished(second) / "timing.json").unlink()
    opened = open_forecast(study.folder)
    reasons = {one.run: one.reason for one in opened.last.refused}
    assert "another identity" in reasons[first]
    assert "no timing.json" in reasons[second]
    assert [one.run for one in opened.last.runs] == [third]


def test_a_damaged_timing_is_named(study: Study):
    (name,) = trained(study, missing(study)[:1])
    path = study.finished(name) / "timing.json"
    path.write_text('{"seconds": "long", "forecasts": {}}')
    with pytest.raises(InputError, match=r"timing\.json: seconds"):
        open_forecast(study.folder)


def test_nothing_trained_is_refused_and_writes_nothing(study: Study):
    with pytest.raises(StudyError, match="none of its"):
        open_forecast(study.folder)
    assert not (study.folder / "forecasts" / "forecast-1.opened.json").exists()


def test_each_run_is_scored_once_and_later_runs_in_an_entry_of_their_own(study: Study):
    names = missing(study)
    trained(study, names[:2])
    first = open_forecast(study.folder)
    assert first.scored_now
    assert set(first.last.missing) == set(names[2:])
    path = study.folder / "forecasts" / "forecast-1.opened.json"
    stored = path.read_bytes()
    again = open_forecast(study.folder)
    assert not again.scored_now
    assert again.openings == first.openings
    assert path.read_bytes() == stored
    assert "opened before" in str(again)
    trained(study, names[2:])
    second = open_forecast(study.folder)
    assert second.scored_now
    assert second.openings[0] == first.openings[0]
    assert {one.run for one in second.last.runs} == set(names[2:])
    total = next(one for one in second.last.scores_in_all if (one.law, one.axis) == ("baseline-mean", "all"))
    parts = [one for opening in second.openings for one in opening.scores]
    assert total.answered == sum(one.answered for one in parts if (one.law, one.axis) == ("baseline-mean", "all"))
    assert not open_forecast(study.folder).scored_now


def test_scores_that_were_changed_are_told(study: Study):
    trained(study, missing(study)[:1])
    open_forecast(study.folder)
    path = study.folder / "forecasts" / "forecast-1.opened.json"
    path.write_text(path.read_text().replace('"unanswered":1', '"unanswered":2').replace('"runs":1', '"runs":2'))
    with pytest.raises(StudyError, match=r"opened\.json was changed"):
        open_forecast(study.folder)


def test_what_cannot_be_sealed_is_refused(study: Study, tmp_path: Path):
    with pytest.raises(InputError, match="exists already"):
        seal(study, name="forecast-1", resamples=5)
    with pytest.raises(InputError, match="--name"):
        seal(study, name="../up", resamples=5)
    with pytest.raises(InputError, match="'fi' is not a language"):
        seal(study, targets=["fi"], resamples=5)
    with pytest.raises(InputError, match="resamples"):
        seal(study, resamples=1)
    shutil.move(study.folder / "finished", tmp_path / "finished")
    with pytest.raises(StudyError, match="no run is finished"):
        seal(study)
    shutil.move(tmp_path / "finished", study.folder / "finished")
    trained(study, missing(study))
    with pytest.raises(StudyError, match="no run is left"):
        seal(study)


def test_the_command_prints_one_object(study: Study, capsys: pytest.CaptureFixture[str]):
    def said(*options: str) -> dict:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["forecast", str(study.folder), *options, "--json"])
        assert not stopped.value.code
        return json.loads(capsys.readouterr().out)

    sealed = said("--seal", "--targets", "sv", "--resamples", "5", "--name", "swedish")
    assert sealed["settings"]["targets"] == ["sv"]
    assert {row["law"] for row in sealed["laws"]} > set(laws.LAWS)
    trained(study, missing(study)[:2])
    opened = said("--open", "--name", "swedish")
    assert len(opened["openings"][0]["runs"]) == 2
    listed = {one["name"]: one for one in said()["forecasts"]}
    assert listed["swedish"]["state"] == "opened"
    assert listed["swedish"]["sha256"] == sealed["sha256"]
    assert listed["forecast-1"]["state"] == "sealed"
    assert listed["forecast-1"]["trained"] == 2
    with pytest.raises(SystemExit) as stopped:
        cli.main(["forecast", str(study.folder), "--open"])
    assert stopped.value.code == 2
    assert "2 forecasts are sealed" in capsys.readouterr().err


def test_the_wilson_interval_of_a_share():
    assert wilson(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert wilson(0, 5)[0] == 0
    assert wilson(0, 0) == (None, None)
