"""Engines: what runs next, what happens where workers die, how a study is stopped; the same bytes whatever happened."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from babelscale.errors import Stopped, StudyError
from babelscale.mixture import Mixture, monolingual
from babelscale.model.shape import Shape
from babelscale.study import RunSpec, Study
from babelscale.study.disk import DiskFull
from babelscale.study.engines import local, run_local, write_array
from babelscale.study.engines.common import ATTEMPTS, Schedule
from babelscale.training.recipe import Recipe

SHAPE = Shape(layers=1, heads=1, d_model=8, d_ff=16, d_head=8, vocabulary=64)
RECIPE = Recipe(batch_size=4, sequence_length=32)


def spec(
    code: str = "sv", steps: int = 10, seed: int = 0, base: RunSpec | None = None, shape: Shape = SHAPE
) -> RunSpec:
    return RunSpec("xs", shape, monolingual(code), RECIPE, steps, seed, "c", "t", base)


def benchmark(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def assert_same_bytes(one: Study, two: Study, names: list[str] | None = None) -> None:
    for name in names or one.specs:
        for part in ("record.json", "log.jsonl"):
            same = (one.finished(name) / part).read_bytes() == (two.finished(name) / part).read_bytes()
            assert same, f"{name}/{part}"


def test_the_costliest_run_is_first_and_bases_before_what_depends_on_them(tmp_path: Path):
    base, short, other = spec(steps=20), spec("da", 5), spec("sw", 30)
    continued = spec("sw", 40, base=base)
    schedule = Schedule([short, other, continued, base], tmp_path)
    assert schedule.take() == [other.name]
    assert schedule.take() == [base.name]
    assert schedule.take() == [short.name]
    assert schedule.take() == []
    schedule.finish(base.name)
    assert schedule.take() == [continued.name]
    schedule.close()


def test_a_run_whose_base_failed_fails_and_a_branch_whose_trunk_failed_does_not(tmp_path: Path):
    base, trunk, short = spec(steps=20), spec("da", 30), spec("da", 10)
    schedule = Schedule([base, spec("sw", 5, base=base), trunk, short], tmp_path, {short.name: trunk})
    assert {schedule.take()[0], schedule.take()[0]} == {base.name, trunk.name}
    schedule.fail(base.name, "said so")
    schedule.fail(trunk.name, "said so")
    assert schedule.take() == [short.name]
    with pytest.raises(StudyError, match="3 of the runs failed"):
        schedule.close()


def test_alike_runs_are_taken_together_and_shared_out(tmp_path: Path):
    alike = [spec("sv", seed=seed) for seed in range(6)]
    wide = spec("sv", shape=Shape(layers=2, heads=1, d_model=8, d_ff=16, d_head=8, vocabulary=64))
    schedule = Schedule([*alike, wide, spec("da", 11)], tmp_path)
    assert schedule.take(8, 2) == [wide.name]
    assert len(schedule.take(8, 2)) == 1
    assert len(schedule.take(8, 2)) == 3
    assert len(schedule.take(2)) == 2
    assert len(schedule.take(2)) == 1
    assert not len(schedule)


def test_a_run_that_takes_its_workers_with_it_fails_unless_it_gets_on(tmp_path: Path):
    one = spec()
    schedule = Schedule([one], tmp_path)
    for step in range(10):
        assert schedule.take() == [one.name]
        (tmp_path / "working" / one.name / "a" / "state" / str(step + 1)).mkdir(parents=True)
        schedule.lose([one.name], "killed")
    for _ in range(ATTEMPTS - 1):
        assert schedule.take() == [one.name]
        schedule.lose([one.name], "killed")
    assert schedule.take() == []
    assert schedule.failures == {one.name: f"killed, {ATTEMPTS} times"}


def test_a_full_disk_ends_a_study_before_the_runs_that_wait(tmp_path: Path):
    first, bad, *others = (spec(seed=seed) for seed in range(6))
    schedule = Schedule([first, bad, *others], tmp_path)
    taken = [schedule.take()[0] for _ in range(3)]
    schedule.finish(taken[0])
    schedule.fail(taken[1], "no room", full=True)
    assert schedule.take() == []
    # One that was under way already may fail for a reason of its own.
    schedule.fail(taken[2], "said so")
    with pytest.raises(DiskFull, match=r"the disk is full; 4 runs are left; 1 failed for other reasons") as caught:
        schedule.close()
    assert caught.value.exit_code == 2


def test_where_no_worker_starts_it_is_said_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StudyError, match="no worker process is left"):
        run_local([spec(seed=seed) for seed in range(50)], tmp_path, slots=2)


def test_kills_of_workers_lose_and_double_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    kills = benchmark("local_kills")
    monkeypatch.setattr(sys, "argv", ["local_kills", "--runs", "12", "--kills", "20"])
    monkeypatch.setattr(local, "WORKER", local.WORKER)
    assert kills.main() == 0, capsys.readouterr().out


def test_a_signal_saves_what_is_under_way_and_the_same_call_goes_on(tiny_trained: Study, beside, tmp_path: Path):
    study = beside(tiny_trained, tmp_path / "stopped")

    asked = []

    def stop(event: dict) -> None:
        # Once: who asks twice does not wait for what is being saved.
        if "step" in event and len(study.missing) < 6 and not asked:
            asked.append(event["run"])
            os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="stopped by SIGTERM") as caught:
        study.train(on_event=stop)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is handler
    begun = list((study.folder / "working").glob("*/*/log.jsonl"))
    for log in begun:
        last = max(json.loads(line)["step"] for line in log.read_text().splitlines())
        saved = [int(path.name) for path in (log.parent / "state").iterdir() if path.name.isdecimal()]
        assert max(saved) == last
    assert 0 < len(study.missing) < 6
    study.train(engine=partial(run_local, slots=1))
    assert_same_bytes(tiny_trained, study)


def test_one_slot_trains_runs_alike_in_one_program(tiny_trained: Study, beside, tmp_path: Path):
    """As on an accelerator; the losses are those of runs trained alone but for rounding."""
    study = beside(tiny_trained, tmp_path / "together")
    events = []
    alike = [run for run in study.specs.values() if run.size == "xs"]
    run_local(alike, study.folder, slots=local.cpu_slots(1, together=8), on_event=events.append)
    began = [event["run"] for event in events if "step" in event]
    assert sorted(began[:4]) == sorted(run.name for run in alike)
    for run in alike:
        both = [
            json.loads((one.finished(run.name) / "record.json").read_text())["losses"] for one in (study, tiny_trained)
        ]
        np.testing.assert_allclose(*([row["nats"] for row in rows] for rows in both), rtol=1e-4)


def test_slurm_gets_a_script_that_trains_the_waves_in_order(tiny_trained: Study, beside, tmp_path: Path):
    """With an sbatch that runs each task at once, as a cluster of one machine would."""
    study = beside(tiny_trained, tmp_path / "slurm study")
    commands = write_array(study.missing, study.folder, trunks=study.trunks)
    first, second = (line for line in commands if "sbatch" in line)
    assert "--array=1-5" in first
    assert "--dependency=afterany:$wave1" in second
    chain = [run for run in study.missing if run.size == "s"]
    write_array(chain, study.folder)
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(SBATCH)
    sbatch.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SAID": str(tmp_path / "said")}
    script = study.folder / "slurm" / "submit.sh"
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "said").read_text().splitlines()[1].endswith("afterany:77")
    assert all(study.is_finished(run.name) for run in chain)
    assert_same_bytes(tiny_trained, study, [run.name for run in chain])
    # What a second array asks squeue for.
    assert (study.folder / "slurm" / "jobs.txt").read_text() == "77\n77\n"


SBATCH = """#!/bin/bash
for option in "$@"; do
  case "$option" in
    --array=1-*) last=${option#--array=1-};;
    --dependency=*) waits=${option#--dependency=};;
    --*) ;;
    *) break;;
  esac
  shift
done
echo "array of $last $waits" >> "$SAID"
for ((k = 1; k <= last; k++)); do SLURM_ARRAY_TASK_ID=$k bash "$@" >&2 || exit 1; done
echo "77;cluster"
"""


def test_runs_of_mixtures_that_differ_share_a_program(tmp_path: Path):
    pair = RunSpec("xs", SHAPE, Mixture({"sv": 0.5, "da": 0.5}), RECIPE, 10, 0, "c", "t")
    assert len(Schedule([pair, spec()], tmp_path).take(8)) == 2
