"""SLURM: what a queue that is not empty and a log that tells a failure mean; and a real cluster of one node."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from babelscale.errors import StudyError
from babelscale.study import Study, cost
from babelscale.study.engines import slurm


@pytest.fixture(scope="module")
def private() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "slurm.py"
    found = importlib.util.spec_from_file_location("slurm_benchmark", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def study(tiny_trained: Study, beside, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return beside(tiny_trained, tmp_path_factory.mktemp("slurm") / "tiny")


def log(study: Study, number: int, text: str) -> None:
    path = study.folder / "slurm" / f"7_{number}.log"
    path.write_text(text)
    os.utime(path, (number, number))


def test_status_tells_why_tasks_failed(study: Study):
    slurm.write_array(study.missing, study.folder)
    bad, killed, stopped, mended, untold = list(study.specs)[:5]
    log(study, 1, f"run {bad}\n  50 %\nerror: the disk is full\n  hint: make room\n")
    log(study, 2, f"run {killed}\nslurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.\nmore\n")
    log(study, 3, f"run {stopped}\nslurmstepd: error: *** JOB 7 ON a CANCELLED\n\nstopped by SIGTERM; what was begun\n")
    log(study, 4, f"run {mended}\nValueError: no\n")
    log(study, 5, f"run {mended}\n1 runs on 1 devices\n")
    log(study, 6, "no run was named\nerror: something\n")
    log(study, 7, f"run {untold}\nTraceback (most recent call last):\n  File x\nValueError: a mistake of ours\n")
    told = {
        bad: "the disk is full",
        killed: "Detected 1 oom_kill event in StepId=7.batch.",
        untold: "ValueError: a mistake of ours",
    }
    found = cost.status(study)
    assert found.failed == told
    assert f"failed   {bad}: the disk is full" in str(found)
    # Logs outlast the next array, and a finished run has not failed.
    slurm.write_array(study.missing, study.folder)
    study.finished(bad).mkdir(parents=True)
    (study.finished(bad) / "record.json").touch()
    assert cost.status(study).failed.keys() == {killed, untold}


def test_no_second_array_while_the_first_is_in_the_queue(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The tasks of the first read the lists that a second would write anew."""
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho 8\necho 8\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    slurm.write_array(study.missing, study.folder)
    (study.folder / "slurm" / "jobs.txt").write_text("7\n8\n")
    before = (study.folder / "slurm" / "wave-1-1.txt").read_bytes()
    with pytest.raises(StudyError, match="8 of this study is still in SLURM's queue"):
        slurm.write_array(study.missing[:1], study.folder)
    assert (study.folder / "slurm" / "wave-1-1.txt").read_bytes() == before
    squeue.write_text("#!/bin/sh\necho unknown job >&2\nexit 1\n")
    slurm.write_array(study.missing[:1], study.folder)
    assert not (study.folder / "slurm" / "jobs.txt").exists()


@pytest.mark.slow
def test_a_real_cluster(private: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Cancelled in the middle, submitted again, a run that fails: the bytes of the local engine."""
    if reason := private.lacking():
        pytest.skip(reason)
    monkeypatch.setattr(sys, "argv", ["slurm"])
    assert private.main() == 0, capsys.readouterr().out
