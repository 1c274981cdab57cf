"""Tokens and FLOPs a second of the quickstart's sizes: two pinned one-thread runs at once, beside one on both CPUs.

Usage: .venv/bin/python benchmarks/training_speed.py
"""

import json
import os
import subprocess
import sys

from babelscale.study import load
from babelscale.study.engines import ENVIRONMENT
from babelscale.workers import available_cpus

STEPS = 120
CHILD = """
import json, os, sys, time
size, cpus = sys.argv[1], [int(c) for c in sys.argv[2].split(",")]
os.sched_setaffinity(0, cpus)
import jax, numpy as np
from babelscale.study import load
from babelscale.training import memory, mesh
from babelscale.training.program import program
design = load("quickstart")
shape, recipe = design.shape(size), design.training_recipe(size)
devices = mesh.make_mesh(1)
made = program(shape, recipe, memory.choose(shape, recipe, devices), devices)
state, steps, zero = made.initial(np.uint32(0)), int(sys.argv[3]), np.uint32(0)
batch = np.random.default_rng(0).integers(0, shape.vocabulary, (recipe.batch_size, recipe.sequence_length + 1))
batch = batch.astype(np.int32)
began = time.perf_counter()
state, metrics = made.update(state, batch, np.float32(1e-3), zero, zero)
jax.block_until_ready(metrics)
compiled = time.perf_counter() - began
began = time.perf_counter()
for _ in range(steps):
    state, metrics = made.update(state, batch, np.float32(1e-3), zero, zero)
jax.block_until_ready(metrics)
print(json.dumps({"seconds": time.perf_counter() - began, "compiled": compiled}))
"""


def started(size: str, cpus: list[int], environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, size, ",".join(map(str, cpus)), str(STEPS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)


def rate(processes: list[subprocess.Popen[str]], tokens: int) -> tuple[float, float]:
    """Tokens a second of all processes together, and seconds of compiling."""
    told = [json.loads(process.communicate()[0]) for process in processes]
    return sum(tokens / one["seconds"] for one in told), max(one["compiled"] for one in told)


def main() -> None:
    design = load("quickstart")
    recipe = design.training_recipe(next(iter(design.sizes)))
    cpus = available_cpus()[:2]
    tokens = STEPS * recipe.tokens_per_step
    titles = ("parameters", "two runs tok/s", "GFLOP/s each", "one run tok/s", "ratio", "compile s")
    print("size  " + "".join(f"{title:>15}" for title in titles))
    for size in design.sizes:
        shape = design.shape(size)
        two, compiled = rate([started(size, [cpu], ENVIRONMENT) for cpu in cpus], tokens)
        wide = {"NPROC": str(len(cpus)), "JAX_PLATFORMS": "cpu"}
        one, _ = rate([started(size, cpus, wide)], tokens)
        each = two / len(cpus) * shape.flops_per_token(recipe.sequence_length) / 1e9
        cells = (
            f"{shape.params:,}",
            f"{two:,.0f}",
            f"{each:.1f}",
            f"{one:,.0f}",
            f"{two / one:.2f}",
            f"{compiled:.1f}",
        )
        print(f"{size:<6}" + "".join(f"{cell:>15}" for cell in cells))


if __name__ == "__main__":
    main()
