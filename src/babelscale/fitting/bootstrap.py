"""How far the optimum would move with other runs: whole runs are drawn again, as integer weights over one design."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from babelscale.fitting.identifiability import flat
from babelscale.fitting.newton import RESAMPLE, minimise
from babelscale.fitting.objective import Array, Problem

Progress = Callable[[str, int, int], None]
_CHUNK = 256  # problems solved at once: large enough for NumPy, small enough for the cache


def run_weights(run: NDArray[np.str_], resamples: int, seed: int) -> Array:
    """Weights (resamples, n): how often each observation's run was drawn; checkpoints of a run go together."""
    names, index = np.unique(run, return_inverse=True)
    count = len(names)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn[:, index].astype(np.float64)


def draws(
    problem: Problem, optimum: Array, weights: Array, delta: float, progress: Progress | None = None
) -> dict[str, Array]:
    """Refits from the optimum under each row of weights: every parameter in natural units, shape (resamples,).

    A parameter to which no loss responds stays where a search starts, so those searches start all over its range.
    """
    starts = np.repeat(optimum[None], len(weights), axis=0)
    low, high = problem.bounds
    for k in flat(problem, optimum).values():
        starts[:, k] = low[k] + (high[k] - low[k]) * np.random.default_rng(k).permutation(len(weights)) / len(weights)
    found = []
    for start in range(0, len(weights), _CHUNK):
        part = weights[start : start + _CHUNK]
        found.append(minimise(problem, starts[start : start + _CHUNK], part, delta, RESAMPLE).z)
        if progress:
            progress("resamples", start + len(part), len(weights))
    return problem.natural(np.concatenate(found))
