"""Accelerators, without one: a process for each with the right one in sight, and populations shared out among them.

JAX and the workers are stubs that say what a machine with such devices would.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from babelscale.mixture import Mixture, monolingual
from babelscale.model.shape import Shape
from babelscale.study import RunSpec
from babelscale.study.engines import local, run_local
from babelscale.training.recipe import Recipe

SHAPE = Shape(layers=1, heads=1, d_model=8, d_ff=16, d_head=8, vocabulary=64)
WIDE = Shape(layers=2, heads=1, d_model=8, d_ff=16, d_head=8, vocabulary=64)
RECIPE = Recipe(batch_size=4, sequence_length=32)
SIGHT = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS")
# Trains nothing: notes what it sees and what it was given, a line each, and says that all is finished.
WORKER = """
import json, os, sys
from pathlib import Path
place = Path(sys.argv[1]) / f"given-{os.getpid()}.jsonl"
seen = {name: value for name, value in os.environ.items() if name in sys.argv[2].split(",")}
for line in sys.stdin:
    names = line.rstrip("\\n").split("\\t")
    with place.open("a") as file:
        file.write(json.dumps({"seen": seen, "arguments": sys.argv[3:], "names": names}) + "\\n")
    for name in names:
        print(json.dumps({"run": name, "finished": True}), flush=True)
"""


def specs(count: int, shape: Shape = SHAPE, steps: int = 10) -> list[RunSpec]:
    return [RunSpec("xs", shape, monolingual("sv"), RECIPE, steps, seed, "c", "t") for seed in range(count)]


@pytest.fixture
def jax_says(monkeypatch: pytest.MonkeyPatch):
    """Makes this a machine with a driver, on which JAX gives this answer."""

    def say(answer: str, status: int = 0) -> None:
        monkeypatch.setattr(local.os.path, "exists", lambda path: str(path) == "/dev/nvidiactl")
        monkeypatch.setattr(local.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=answer, returncode=status))

    for name in (*SIGHT, "JAX_PLATFORMS", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)
    return say


@pytest.mark.parametrize(
    ("answer", "variable", "visible", "seen"),
    [
        ("gpu 3", "CUDA_VISIBLE_DEVICES", None, ["0", "1", "2"]),
        ("gpu 2", "CUDA_VISIBLE_DEVICES", "5,7", ["5", "7"]),
        ("gpu 2", "CUDA_VISIBLE_DEVICES", "GPU-ab12,MIG-cd34", ["GPU-ab12", "MIG-cd34"]),
        ("rocm 2", "ROCR_VISIBLE_DEVICES", "4,6", ["4", "6"]),
        ("tpu 4", "TPU_VISIBLE_CHIPS", None, ["0", "1", "2", "3"]),
    ],
)
def test_a_slot_sees_one_device(answer, variable, visible, seen, jax_says, monkeypatch: pytest.MonkeyPatch):
    jax_says(f"{answer}\n")
    if visible is not None:
        monkeypatch.setenv(variable, visible)
    slots = local.device_slots()
    assert [slot.environment[variable] for slot in slots] == seen
    assert len({slot.name for slot in slots}) == len(seen)
    for slot in slots:
        assert slot.together == local.TOGETHER
        assert not slot.arguments
        assert "JAX_PLATFORMS" not in slot.environment
        assert not [name for name in SIGHT if name != variable and name in slot.environment]
        if variable != "TPU_VISIBLE_CHIPS":
            assert slot.environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.92"


@pytest.mark.parametrize(("answer", "status"), [("cpu 1", 0), ("", 1), ("gpu", 0)])
def test_no_device_is_no_slot(answer: str, status: int, jax_says):
    jax_says(answer, status)
    assert local.device_slots() == []


def test_whoever_says_cpu_is_not_asked(jax_says, monkeypatch: pytest.MonkeyPatch):
    jax_says("gpu 8")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert local.device_slots() == []


def test_the_question_is_one_that_jax_answers():
    asked = subprocess.run(
        [sys.executable, "-c", local._ASK_JAX],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.stdout.split() == ["cpu", "1"], asked.stderr


def test_one_process_a_device_and_populations_shared_out(jax_says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    jax_says("gpu 2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    monkeypatch.setattr(local, "WORKER", (str(worker),))
    folder = tmp_path / "study"
    folder.mkdir()
    # The worker's own arguments: the folder, and which variables to note.
    slots = [
        local.Slot(slot.name, (",".join((*SIGHT, "JAX_PLATFORMS")),), slot.environment, slot.together)
        for slot in local.device_slots()
    ]
    monkeypatch.undo()
    monkeypatch.setattr(local, "WORKER", (str(worker),))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    pair = RunSpec("xs", SHAPE, Mixture({"sv": 0.5, "da": 0.5}), RECIPE, 10, 0, "c", "t")
    base = specs(1, WIDE, 40)[0]
    continued = [RunSpec("s", WIDE, monolingual(code), RECIPE, 30, 0, "c", "t", base) for code in ("sv", "da")]
    every = [*specs(11), pair, *specs(3, WIDE, 20), base, *continued]
    finished: list[str] = []
    run_local(every, folder, slots=slots, on_event=lambda event: finished.append(event["run"]))
    assert sorted(finished) == sorted(spec.name for spec in every)
    by_process = [[json.loads(line) for line in path.open()] for path in folder.glob("given-*.jsonl")]
    # One process each, all its life with one device, and the two have different ones.
    assert len(by_process) == 2
    assert {tuple({json.dumps(line["seen"]) for line in lines}) for lines in by_process} == {
        (json.dumps({"CUDA_VISIBLE_DEVICES": number}),) for number in ("3", "1")
    }
    by_name = {spec.name: spec for spec in every}
    given = [line["names"] for lines in by_process for line in lines]
    assert sorted(name for names in given for name in names) == sorted(by_name)
    for names in given:
        assert len({(by_name[name].shape, by_name[name].steps) for name in names}) == 1
    # Twelve alike, mixtures that differ among them, in programs of at most half: none of the two devices idles.
    alike = [names for names in given if (by_name[names[0]].shape, by_name[names[0]].steps) == (SHAPE, 10)]
    assert len(alike) >= 2
    assert max(map(len, alike)) == 6
    assert any(pair.name in names and len(names) > 1 for names in alike)
    # What continues a run waits for it and then shares a program.
    assert [len(names) for names in given if base.name in names] == [1]
    assert finished.index(base.name) < min(finished.index(spec.name) for spec in continued)
