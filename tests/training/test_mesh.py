"""One program on one device, on many and on several processes: the same losses to 1e-5."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from babelscale.errors import InputError
from babelscale.model import ATLAS, Shape
from babelscale.model.execution import Execution
from babelscale.training import memory
from babelscale.training import mesh as meshes
from babelscale.training.recipe import Recipe

PROGRAM = Path(__file__).with_name("run_on_mesh.py")


def started(
    folder: Path, compiler: dict[str, str], simulated: int, devices: int, tensor: int = 1, *several: str
) -> subprocess.Popen[str]:
    environment = (
        os.environ
        | compiler
        | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={simulated}"}
    )
    command = [sys.executable, str(PROGRAM), str(folder), str(devices), str(tensor), *several]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str]) -> None:
    told, _ = process.communicate()
    assert process.returncode == 0, told


def curve(folder: Path) -> np.ndarray:
    """Every training and held-out loss of a run, in order."""
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return np.array([entry["loss"] if "loss" in entry else entry["nats"] for entry in entries])


# Compiling takes most of the time, and half of that is the compiler's optimisation, which divides nothing over devices.
@pytest.fixture(
    scope="module",
    params=[{"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}, pytest.param({}, marks=pytest.mark.slow)],
    ids=["few optimisations", "all optimisations"],
)
def compiler(request: pytest.FixtureRequest) -> dict[str, str]:
    return request.param


@pytest.fixture(scope="module")
def alone(compiler, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    finished(started(folder, compiler, 1, 1))
    return folder


@pytest.mark.parametrize("tensor", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_eight_devices_give_the_losses_of_one(alone, compiler, tmp_path, tensor):
    finished(started(tmp_path, compiler, 8, 8, tensor))
    np.testing.assert_allclose(curve(tmp_path), curve(alone), rtol=1e-5)


def test_two_processes_give_the_losses_of_one(alone, compiler, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    both = [started(tmp_path, compiler, 2, 4, 1, coordinator, "2", str(process)) for process in range(2)]
    for process in both:
        finished(process)
    np.testing.assert_allclose(curve(tmp_path), curve(alone), rtol=1e-5)
    assert (tmp_path / "state").is_dir()


def test_the_largest_published_model_is_reckoned_without_being_made():
    shape = ATLAS[-1].shape
    recipe = Recipe.of_study(shape.params)
    execution = Execution("bfloat16", "cudnn", loss_tokens=8192, microbatches=16, rematerialise=True)
    many, few = (memory.estimate(shape, recipe, execution, meshes.abstract_mesh(count)) for count in (128, 8))
    # float32 parameters and two moments of AdamW, spread evenly but for the norm vectors.
    norms = 4 * shape.params_norm
    assert many.parameters == (4 * shape.params - norms) // 128 + norms
    assert many.optimiser == 2 * many.parameters
    assert 16 * shape.params / 8 < few.needed
    assert many.needed < 80e9


def test_parameters_are_split_over_every_device_that_divides_them():
    mesh = meshes.abstract_mesh(16, tensor=2)
    shape = ATLAS[8].shape
    parameters = meshes.parameter_shapes(shape)
    placed = meshes.shardings(parameters, mesh)
    for name, leaf in parameters.items():
        pieces = leaf.size / np.prod(placed[name].shard_shape(leaf.shape))
        assert pieces == (1 if name.startswith("norm") else 16), name


def test_what_does_not_divide_is_refused():
    shape = Shape(layers=1, heads=7, d_model=16, d_ff=32, d_head=8, vocabulary=64)
    with pytest.raises(InputError, match="a batch of 6 sequences does not divide over 4 devices"):
        meshes.check(shape, 6, meshes.abstract_mesh(4))
    with pytest.raises(InputError, match="does not divide the model's heads, 7"):
        meshes.check(shape, 8, meshes.abstract_mesh(4, tensor=2))
    with pytest.raises(InputError, match="devices are requested"):
        meshes.make_mesh(10_000)


def test_a_run_that_does_not_fit_is_refused_before_it_starts():
    class Full:
        def memory_stats(self) -> dict[str, int]:
            return {"bytes_limit": 10_000}

    class OneFull:
        local_devices = (Full(),)

    shape = Shape(layers=1, heads=2, d_model=16, d_ff=32, d_head=8, vocabulary=64)
    reckoned = memory.estimate(shape, Recipe(), Execution(), meshes.abstract_mesh(1))
    with pytest.raises(InputError, match=r"the run needs about .* on each of 1 devices"):
        memory.check(reckoned, OneFull())  # pyright: ignore[reportArgumentType]
