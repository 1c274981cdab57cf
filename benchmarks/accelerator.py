"""Training on an accelerator: model FLOP utilisation at 150M and 1B parameters, and a population beside its runs.

Usage: python benchmarks/accelerator.py [--peak 989e12] [--tiny]

Limits are for one H200: 35 % at 150M, 50 % at 1B (sequences of 2048), a population of eight 10M models at 3 times the
throughput of the same eight one after another. `--tiny` runs small models anywhere, to see that the script works.
"""

import argparse
import sys
import time
from dataclasses import replace

import jax
import numpy as np

from babelscale.model import ATLAS, Shape
from babelscale.training import memory, mesh
from babelscale.training.program import program
from babelscale.training.recipe import Recipe

TINY = Shape(layers=2, heads=2, d_model=64, d_ff=128, d_head=32, vocabulary=1024)


def nearest(params: float) -> Shape:
    return min(ATLAS, key=lambda scale: abs(np.log(scale.params / params))).shape


def rate(shape: Shape, recipe: Recipe, members: int | None = None, steps: int = 12) -> float:
    """Tokens a second of all runs together, once compiled."""
    devices = mesh.make_mesh(1)
    execution = memory.choose(shape, recipe, devices, members)
    made = program(shape, recipe, execution, devices, members)
    seeds = np.arange(members, dtype=np.uint32) if members else np.uint32(0)
    lead = (members,) if members else ()
    size = (*lead, recipe.batch_size, recipe.sequence_length + 1)
    batch = np.random.default_rng(0).integers(0, shape.vocabulary, size).astype(np.int32)
    state = made.initial(seeds)
    began = time.perf_counter()
    state, metrics = made.update(state, batch, np.float32(1e-4), np.uint32(1), seeds)
    jax.block_until_ready(metrics)
    compiled = time.perf_counter() - began
    for _ in range(2):
        began = time.perf_counter()
        for step in range(steps):
            state, metrics = made.update(state, batch, np.float32(1e-4), np.uint32(step + 2), seeds)
        jax.block_until_ready(metrics)
    seconds = time.perf_counter() - began
    assert np.isfinite(np.asarray(metrics["loss"])).all()
    reckoned = memory.estimate(shape, recipe, execution, devices, members).needed / 1e9
    used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 1e9
    batch_shape = f"{recipe.batch_size} x {recipe.sequence_length}"
    print(f"  {members or 1} x {shape.params / 1e6:.1f}M, batch {batch_shape}, {execution}")
    print(
        f"  {1e3 * seconds / steps:.1f} ms a step, compiled in {compiled:.0f} s, memory reckoned {reckoned:.1f} GB, "
        f"peak of the process so far {used:.1f} GB"
    )
    return (members or 1) * steps * recipe.tokens_per_step / seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", type=float, default=989e12, help="peak FLOP/s of the device in bfloat16")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    device = jax.devices()[0]
    print(f"{device.device_kind}, jax {jax.__version__}")
    if device.platform == "cpu" and not options.tiny:
        print("no accelerator here")
        return 1
    failed = False
    for params, limit in ((150e6, 0.35), (1e9, 0.50)):
        shape = TINY if options.tiny else nearest(params)
        recipe = Recipe.of_study(shape.params)
        recipe = replace(recipe, batch_size=8, sequence_length=64) if options.tiny else replace(recipe, batch_size=64)
        tokens = rate(shape, recipe)
        utilisation = tokens * shape.flops_per_token(recipe.sequence_length) / options.peak
        failed |= utilisation < limit
        print(f"{shape.params:,} parameters: {tokens:,.0f} tokens/s, {utilisation:.1%} of peak (limit {limit:.0%})")
    shape = TINY if options.tiny else nearest(10e6)
    recipe = replace(Recipe.of_study(shape.params), batch_size=8, sequence_length=64 if options.tiny else 256)
    alone, together = rate(shape, recipe), rate(shape, recipe, members=8)
    failed |= together < 3 * alone
    print(f"eight of {shape.params:,}: {together / alone:.2f} times the throughput of one after another (limit 3)")
    return int(failed and not options.tiny)


if __name__ == "__main__":
    sys.exit(main())
