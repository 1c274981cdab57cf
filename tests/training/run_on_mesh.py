"""One small run on a mesh, as a program of its own: JAX fixes its devices when it starts.

Usage: python run_on_mesh.py FOLDER DEVICES TENSOR [COORDINATOR PROCESSES PROCESS]
"""

import sys
from pathlib import Path

import jax
import numpy as np

from babelscale.mixture import Mixture
from babelscale.model import Shape
from babelscale.training.batches import Batches
from babelscale.training.evaluation import HeldOut
from babelscale.training.loop import Job, train
from babelscale.training.mesh import make_mesh
from babelscale.training.recipe import Recipe

SHAPE = Shape(layers=2, heads=4, d_model=32, d_ff=64, d_head=8, vocabulary=128)
RECIPE = Recipe(
    batch_size=16,
    sequence_length=32,
    evaluations=3,
    evaluation_tokens=1200,
    checkpoint_every=15,
    dropout=0.1,
    z_loss=1e-4,
)


def job(seed: int = 0, steps: int = 40, **changes) -> Job:
    rng = np.random.default_rng(0)
    mixture = Mixture({"sw": 0.7, "yo": 0.3})
    tokens = {code: rng.integers(0, 128, 5000).astype(np.uint16) for code in mixture.languages}
    batches = Batches(tokens, mixture, seed, RECIPE.batch_size, RECIPE.sequence_length)
    held_out = tuple(
        HeldOut.of(code, part, np.full(128, 3, np.uint16), np.full(128, np.log(128)), RECIPE.sequence_length, 1200)
        for code, part in tokens.items()
    )
    return Job(SHAPE, RECIPE, steps, seed, batches, held_out, **changes)


def main() -> None:
    folder, devices, tensor, *several = sys.argv[1:]
    if several:
        coordinator, processes, process = several
        jax.distributed.initialize(coordinator, int(processes), int(process))
    train(job(), Path(folder), keep_state=True, mesh=make_mesh(int(devices), int(tensor)))


if __name__ == "__main__":
    main()
