"""The study's largest model, traced and compiled for simulated devices and never allocated: memory of each device.

Usage: python benchmarks/largest_model.py [--devices 8]

Prints what `memory.estimate` reckons beside what XLA's own buffer assignment says of the compiled step.
"""

import argparse
import os
import sys
import time


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=8)
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={options.devices}"
    import jax
    import numpy as np

    from babelscale.model import ATLAS
    from babelscale.model.execution import Execution
    from babelscale.training import memory, mesh
    from babelscale.training.program import program
    from babelscale.training.recipe import Recipe

    shape = ATLAS[-1].shape
    recipe = Recipe.of_study(shape.params)
    print(
        f"{shape.params:,} parameters, batch {recipe.batch_size} x {recipe.sequence_length}, {options.devices} devices"
    )
    for tensor in (1, 2):
        devices = mesh.make_mesh(options.devices, tensor)
        rows = recipe.batch_size // devices.shape["data"]
        execution = Execution("bfloat16", "plain", loss_tokens=8192, microbatches=rows, rematerialise=True)
        reckoned = memory.estimate(shape, recipe, execution, devices)
        began = time.perf_counter()
        made = program(shape, recipe, execution, devices)
        size = (recipe.batch_size, recipe.sequence_length + 1)
        sequences = jax.ShapeDtypeStruct(size, np.int32, sharding=made.sequences)
        step = made.update.lower(made.like, sequences, np.float32(0), np.uint32(1), np.uint32(0)).compile()
        seconds = time.perf_counter() - began
        facts = step.memory_analysis()
        compiled = (facts.argument_size_in_bytes + facts.temp_size_in_bytes) / 1e9
        print(
            f"mesh {dict(devices.shape)}, one sequence a device at a time, rematerialised; compiled in {seconds:.0f} s"
        )
        print(f"  reckoned: {reckoned}")
        print(f"  XLA:      {compiled:.3g} GB ({facts.argument_size_in_bytes / 1e9:.3g} of state and batch)")
        print(f"  ratio:    {reckoned.needed / 1e9 / compiled:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
