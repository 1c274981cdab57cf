"""Named runs of a study, alone and together as a population."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from babelscale.study import RunSpec, Study
from babelscale.study.engines import run_local
from babelscale.study.record import RECORD
from babelscale.study.worker import train_run, train_runs


@pytest.fixture
def study(tiny: Path, tmp_path: Path) -> Study:
    text = tiny.read_text().replace('languages = ["sv", "da"]\n', 'languages = ["sv", "da"]\nkeep_state = true\n')
    (tmp_path / "tiny.toml").write_text(text)
    prepared = Study.create(tmp_path / "tiny.toml", tmp_path / "one")
    prepared.prepare()
    return prepared


def losses(study: Study, spec: RunSpec) -> list[float]:
    return [row["nats"] for row in json.loads((study.finished(spec.name) / RECORD).read_text())["losses"]]


def test_runs_trained_together_are_those_trained_alone(study: Study, beside, tmp_path: Path):
    together = beside(study, tmp_path / "together")
    specs = [study.specs[name] for name in sorted(study.kept) if study.specs[name].size == "xs"]
    assert len(specs) == 2
    assert train_runs(together, specs) == specs
    for spec in specs:
        assert train_run(study, spec)
        np.testing.assert_allclose(losses(together, spec), losses(study, spec), rtol=1e-5)
    assert train_runs(together, specs) == []


def test_only_states_that_are_wanted_stay(study: Study):
    kept = next(study.specs[name] for name in sorted(study.kept) if study.specs[name].size == "xs")
    other = next(spec for name, spec in study.specs.items() if name not in study.kept and spec.base is None)
    assert other.steps > other.recipe.checkpoint_every
    for spec in (kept, other):
        train_run(study, spec)
    assert (study.finished(kept.name) / "state" / str(kept.steps)).is_dir()
    assert not (study.finished(other.name) / "state").exists()


def test_the_command_trains_on_several_devices(study: Study, beside):
    spec = next(spec for spec in study.specs.values() if spec.size == "s" and spec.base is None)
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "babelscale", "study", "train", str(study.folder), spec.name, "--devices", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(study.finished(spec.name))
    assert "2 devices" in done.stderr
    alone = beside(study, study.folder.parent / "alone")
    train_run(alone, spec)
    np.testing.assert_allclose(losses(study, spec), losses(alone, spec), rtol=1e-5)


def test_a_name_that_is_no_run_is_refused(study: Study, babelscale):
    done = babelscale("study", "train", study.folder, "xs-sv")
    assert done.code == 2
    assert "has no run 'xs-sv'" in done.err
    assert "Traceback" not in done.err


class Stopped(Exception):
    pass


def test_a_damaged_state_is_told_and_the_one_before_is_used(study: Study):
    spec = next(study.specs[name] for name in sorted(study.kept) if study.specs[name].size == "xs")

    def stop(step: int, loss: float) -> None:
        if step > 2 * spec.recipe.checkpoint_every:
            raise Stopped

    with pytest.raises(Stopped):
        train_run(study, spec, progress=stop)
    (states,) = (study.folder / "working" / spec.name).glob("*/state")
    newest = states / str(2 * spec.recipe.checkpoint_every)
    largest = max((file for file in newest.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    events = []
    run_local([spec], study.folder, on_event=events.append)
    (told,) = [event["warning"] for event in events if "warning" in event]
    assert f"step {2 * spec.recipe.checkpoint_every} is damaged" in told
    assert f"step {spec.recipe.checkpoint_every} is used instead" in told
    assert study.is_finished(spec.name)
