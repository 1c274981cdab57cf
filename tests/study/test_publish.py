"""Exactly once: whoever starts last owns a run, whoever finishes first publishes it, and nobody else touches it."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from babelscale.errors import StudyError
from babelscale.study import Study, record
from babelscale.study.worker import train_run


def attempt(working: Path, step: int, log: str = "a line\n") -> Path:
    """What a process that is gone left: a log and a saved state."""
    mine = record.claim(working)
    (mine / record.LOG).write_text(log)
    for path in (mine / record.STATE).glob("*"):
        path.rmdir()
    (mine / record.STATE / str(step)).mkdir(parents=True)
    return mine


def ready(working: Path) -> Path:
    mine = attempt(working, 10)
    (mine / record.RECORD).write_text("{}")
    return mine


def test_a_claim_takes_over_what_was_left_and_shuts_its_owner_out(tmp_path: Path):
    working = tmp_path / "run"
    old = attempt(working, 20)
    new = record.claim(working)
    assert new != old
    assert (new / record.STATE / "20").is_dir()
    with pytest.raises(FileNotFoundError):
        (old / record.LOG).open("r+")
    with pytest.raises(StudyError, match="another process has taken over this run"):
        record.publish(old, tmp_path / "finished" / "run")
    assert [path.name for path in working.iterdir()] == [new.name]


def test_the_furthest_attempt_is_taken(tmp_path: Path):
    working = tmp_path / "run"
    aside = tmp_path / "aside"
    attempt(working, 10).rename(aside)
    attempt(working, 30)
    aside.rename(working / "0000000a")
    assert record.reached(working) == (False, 30)
    assert (record.claim(working) / record.STATE / "30").is_dir()


def test_a_folder_made_anew_by_one_shut_out_counts_for_nothing(tmp_path: Path):
    working, finished = tmp_path / "run", tmp_path / "finished" / "run"
    old = attempt(working, 20)
    new = record.claim(working)
    # The old process was about to leave its record, whose file makes the folder.
    old.mkdir()
    (old / record.RECORD).write_text("{}")
    with pytest.raises(StudyError, match="taken over this run"):
        record.publish(old, finished)
    assert not finished.exists()
    third = record.claim(working)
    assert (third / record.LOG).exists()
    assert not new.exists()


def test_a_published_run_is_never_replaced(tmp_path: Path):
    working, finished = tmp_path / "run", tmp_path / "finished" / "run"
    first = ready(working)
    # A second process that knew of no attempt, as where both start at once.
    second = working / "00000002"
    second.mkdir()
    for name in (record.LOG, record.RECORD):
        (second / name).write_text("second")
    assert record.publish(first, finished) is True
    assert not working.exists()
    second.mkdir(parents=True)
    for name in (record.LOG, record.RECORD):
        (second / name).write_text("second")
    assert record.publish(second, finished) is False
    assert (finished / record.RECORD).read_text() == "{}"
    assert not working.exists()


def test_a_finished_folder_without_a_record_is_told(tmp_path: Path):
    finished = tmp_path / "finished" / "run"
    finished.mkdir(parents=True)
    (finished / "notes.txt").write_text("mine")
    with pytest.raises(StudyError, match="without a record") as caught:
        record.publish(ready(tmp_path / "run"), finished)
    assert str(finished) in str(caught.value)
    assert (finished / "notes.txt").exists()


def test_many_at_once_publish_one(tmp_path: Path):
    """Sixteen threads claim, write and publish one run over and over; each time exactly one is first."""
    for turn in range(20):
        working, finished = tmp_path / f"run{turn}", tmp_path / "finished" / f"run{turn}"
        outcomes: list[bool | str] = []
        barrier = threading.Barrier(16)

        def one(
            number: int,
            working: Path = working,
            finished: Path = finished,
            outcomes: list = outcomes,
            barrier: threading.Barrier = barrier,
        ) -> None:
            rng = random.Random(number)
            barrier.wait()
            for _ in range(rng.randrange(3)):
                os.sched_yield()
            try:
                mine = record.claim(working)
                for name in (record.LOG, record.RECORD):
                    (mine / name).write_text("the same")
                outcomes.append(record.publish(mine, finished))
            except (StudyError, OSError) as error:
                outcomes.append(type(error).__name__)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(outcomes) == 16
        assert outcomes.count(True) == 1
        assert {path.name: path.read_text() for path in finished.iterdir()} == {
            record.LOG: "the same",
            record.RECORD: "the same",
        }


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "run").write_text("a file in the way")
    with pytest.raises(StudyError, match="cannot be written"):
        record.claim(tmp_path / "run")


@pytest.fixture
def long(tiny_long: str, tmp_path: Path) -> Study:
    path = tmp_path / "long.toml"
    path.write_text(tiny_long)
    study = Study.create(path, tmp_path / "long")
    study.prepare()
    return study


def test_a_worker_that_was_paused_and_resumes_late_changes_nothing(long: Study):
    spec = next(spec for spec in long.specs.values() if spec.mixture.languages == ("sv",))
    command = [sys.executable, "-m", "babelscale.study.worker", str(long.folder)]
    environment = os.environ | {"NPROC": "1", "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(spec.name + "\n")
        worker.stdin.flush()
        assert "step" in json.loads(worker.stdout.readline())
        worker.send_signal(signal.SIGSTOP)
        assert not long.is_finished(spec.name)
        assert train_run(long, spec)
        published = {
            path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
            for path in long.finished(spec.name).rglob("*")
        }
        worker.send_signal(signal.SIGCONT)
        worker.stdin.close()
        said = [json.loads(line) for line in worker.stdout]
        assert worker.wait() == 0
    assert said[-1] == {"run": spec.name, "finished": True}
    assert published == {
        path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in long.finished(spec.name).rglob("*")
    }
    assert not (long.folder / "working" / spec.name).exists()
