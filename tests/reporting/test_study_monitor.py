"""A study that others train is followed: nothing is missed for long, nothing is written, and no read is a half one."""

import hashlib
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from babelscale.errors import InputError
from babelscale.reporting.monitor.eta import estimate_eta
from babelscale.reporting.monitor.run_logs import RunLog
from babelscale.reporting.monitor.study_monitor import StudyMonitor, StudySnapshot
from babelscale.study import RunSpec, Study, cost, failures

TINY = """
name = "tiny"
languages = ["sv", "da"]
corpus = { bytes_per_language = 60_000 }
tokenizer = { vocabulary = 400 }

[recipe]
batch_size = 4
sequence_length = 32
learning_rate = 1e-2
evaluations = 2
evaluation_tokens = 256
checkpoint_every = 500

[sizes]
xs = { layers = 1, heads = 1, d_model = 8, d_ff = 16, d_head = 8 }

[[groups]]
name = "mono"
mixture = "monolingual"
sizes = ["xs"]
tokens = [4e4]

[[groups]]
name = "continued"
mixture = "monolingual"
languages = ["da"]
sizes = ["xs"]
tokens = [2e4]
continue_from = "mono"
"""


def step_line(step: int, loss: float) -> str:
    return json.dumps({"step": step, "loss": loss, "gradient_norm": 1.0, "learning_rate": 1e-2}) + "\n"


def everything(folder: Path) -> str:
    """A hash of a folder: names, sizes, times of writing and bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        digest.update(f"{path} {facts.st_mode} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A prepared study of three runs, one of which continues another; none is begun."""
    (tmp_path / "tiny.toml").write_text(TINY)
    study = Study.create(tmp_path / "tiny.toml", tmp_path / "study")
    study.prepare()
    return study


def of(now: StudySnapshot, name: str):
    return next(run for run in now.runs if run.name == name)


def begin(study: Study, spec: RunSpec, steps: int, attempt: str = "0000aaaa") -> Path:
    log = study.folder / "working" / spec.name / attempt / "log.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(step_line(k, 8 - k / 100) for k in range(1, steps + 1)))
    return log


def finish(study: Study, spec: RunSpec) -> None:
    log = begin(study, spec, spec.steps)
    (log.parent / "timing.json").write_text(json.dumps({"seconds": 2.0, "tokens": spec.tokens}))
    (log.parent / "record.json").write_text("{}")
    study.finished(spec.name).parent.mkdir(exist_ok=True)
    log.parent.rename(study.finished(spec.name))
    log.parent.parent.rmdir()


def test_half_a_line_waits_and_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    path, log = tmp_path / "log.jsonl", RunLog()
    path.write_text(step_line(1, 8.0) + '{"step": 2, "lo')
    log.follow(path)
    assert (log.step, log.loss) == (1, 8.0)
    path.write_text(step_line(1, 8.0) + step_line(2, 7.0) + '{"step": 2, "language": "sv"}\n')
    log.follow(path)
    assert list(log.steps) == [1, 2]
    assert [line["language"] for line in log.held_out] == ["sv"]
    for damaged in ("{nonsense\n", "[]\n", '"step"\n', '{"step": 3, "loss": null}\n'):
        with path.open("a") as file:
            file.write(damaged)
        log.follow(path)
    assert log.step == 2
    other = tmp_path / "other"
    other.write_text(step_line(1, 9.0))
    other.replace(path)
    log.follow(path)
    assert list(log.losses) == [9.0]
    with pytest.raises(FileNotFoundError):
        log.follow(tmp_path / "gone")
    assert log.loss == 9.0


def test_a_curve_is_means_of_all_steps(tmp_path: Path) -> None:
    losses = np.random.default_rng(0).uniform(2, 8, 1000)
    (tmp_path / "log").write_text("".join(step_line(k, loss) for k, loss in enumerate(losses, start=1)))
    log = RunLog()
    log.follow(tmp_path / "log")
    curve = log.curve(20)
    assert len(curve) <= 21
    assert curve[-1][0] == 1000
    ends = [0, *(step for step, _ in curve)]
    assert sum(mean * (b - a) for (_, mean), a, b in zip(curve, ends, ends[1:], strict=False)) == pytest.approx(
        losses.sum()
    )


def test_runs_are_told_by_state_and_looking_writes_nothing(study: Study) -> None:
    second, first, continued = study.specs.values()
    assert continued.base == second
    monitor = StudyMonitor(study.folder)
    now = monitor.snapshot()
    assert (now.count("waiting"), now.done, now.silent) == (3, 0.0, None)
    begin(study, second, 100)
    before = everything(study.folder)
    for _ in range(3):
        now = monitor.snapshot()
    assert everything(study.folder) == before
    run = of(now, second.name)
    assert (run.state, run.step, run.loss) == ("working", 100, 7.0)
    assert now.done == pytest.approx(second.flops * 100 / second.steps)
    finish(study, second)
    failures.note(study.folder, first.name, "the loss is nan")
    now = monitor.snapshot()
    assert of(now, second.name).state == "finished"
    assert of(now, second.name).loss == pytest.approx(8 - second.steps / 100)
    assert (of(now, first.name).state, of(now, first.name).reason) == ("failed", "the loss is nan")
    assert of(now, continued.name).state == "waiting"
    assert set(monitor.logs([run.name for run in now.runs])) == {second.name}
    told = cost.status(study)
    assert told.failed == {first.name: "the loss is nan"}
    failures.forget(study.folder, [first.name])
    assert of(monitor.snapshot(), first.name).state == "waiting"
    assert not (study.folder / "working" / "failures.json").exists()


def test_a_run_whose_base_failed_is_told_so(study: Study) -> None:
    base = next(spec.base for spec in study.specs.values() if isinstance(spec.base, RunSpec))
    failures.note(study.folder, base.name, "out of memory")
    now = StudyMonitor(study.folder).snapshot()
    assert now.count("failed") == 2
    assert any(run.reason == f"continues from {base.name}" for run in now.runs)


def test_an_attempt_that_is_taken_over_is_followed(study: Study) -> None:
    spec = next(iter(study.specs.values()))
    old = begin(study, spec, 50)
    monitor = StudyMonitor(study.folder)
    assert of(monitor.snapshot(), spec.name).step == 50
    old.parent.rename(old.parent.with_name("1111bbbb"))
    assert of(monitor.snapshot(), spec.name).step == 50
    taken = begin(study, spec, 60, "1111bbbb")
    assert of(monitor.snapshot(), spec.name).step == 60
    taken.unlink()
    assert of(monitor.snapshot(), spec.name).step == 60, "what was read stays until the next look finds more"


def test_what_is_no_study_and_what_is_not_prepared_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no study in this folder"):
        StudyMonitor(tmp_path).snapshot()
    (tmp_path / "tiny.toml").write_text(TINY)
    study = Study.create(tmp_path / "tiny.toml", tmp_path / "study")
    study.folder.mkdir()
    study._write_design({}, {})
    monitor = StudyMonitor(study.folder)
    with pytest.raises(InputError):
        monitor.snapshot()
    study.prepare()
    assert len(monitor.snapshot().runs) == 3


def test_the_rate_is_told_with_its_interval() -> None:
    even = [(float(t), 100.0 * t) for t in range(11)]
    left = estimate_eta(5000.0, even)
    assert left is not None
    assert (left.rate, left.seconds, left.low, left.high) == pytest.approx((100, 50, 50, 50))
    assert estimate_eta(5000.0, even[:3]) is None
    assert estimate_eta(5000.0, [(t, 7.0) for t, _ in even]) is None
    wild = [(0.0, 0.0), (1.0, 1.0), (2.0, 1000.0), (3.0, 1001.0)]
    unsure = estimate_eta(5000.0, wild)
    assert unsure is not None
    assert unsure.high is None
    assert estimate_eta(1.0, even, longest=30.0).seconds == 30.0  # pyright: ignore[reportOptionalMemberAccess]


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        times = np.cumsum(rng.exponential(10.0, 30))
        done = np.cumsum(rng.choice([20.0, 50.0, 80.0], 30))
        left = estimate_eta(1000.0, list(zip(times, done, strict=True)))
        assert left is not None
        inside += left.low <= 1000.0 / 5.0 <= (left.high or math.inf)
    # 90 % within three standard errors, and a little less for a ratio of few parts.
    assert 0.84 <= inside / 400 <= 0.95


def test_a_study_that_trains_is_followed_to_its_end(study: Study) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "babelscale",
            "study",
            "run",
            str(study.folder.parent / "tiny.toml"),
            "--out",
            str(study.folder),
            "--no-report",
            "--slots",
            "1",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    monitor, seen, done = StudyMonitor(study.folder), set(), [0.0]
    until = time.monotonic() + 150
    try:
        while process.poll() is None and time.monotonic() < until:
            now = monitor.snapshot()
            monitor.logs([run.name for run in now.runs])
            seen |= {run.state for run in now.runs}
            done.append(now.done)
            time.sleep(0.02)
    finally:
        process.kill()
        said = process.communicate()[1]
    assert process.returncode == 0, said
    now = monitor.snapshot()
    assert now.count("finished") == 3
    assert now.done == now.flops
    assert "working" in seen
    assert done == sorted(done)
    assert len(now.history) == 3
