"""How far the optimum would move with other runs: whole runs are weighed anew at random, over one design.

The weights are those of Rubin's (1981) Bayesian bootstrap: of mean 1 and variance 1 as when runs are drawn with
replacement, but never 0. Drawing drops a third of the runs each time, and with them all that stands for a parameter
carried by few: intervals of predictions were up to 44 % too wide
(docs/decisions/2026-11-intervals-by-weighing-runs.md).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from babelscale.fitting.identifiability import flat
from babelscale.fitting.newton import RESAMPLE, minimise
from babelscale.fitting.objective import Array, Problem

Progress = Callable[[str, int, int], None]
_CHUNK = 256  # problems solved at once: large enough for NumPy, small enough for the cache
_LEAST = 0.2  # concentration where there are hardly more runs than parameters


def run_weights(run: NDArray[np.str_], resamples: int, seed: int, free: int = 0) -> Array:
    """Weights (resamples, n) of the observations; the checkpoints of a run share one, and they sum to the runs' number.

    Dirichlet of concentration 1 - (free / runs)^1.5: residuals of a few runs with many `free` parameters are too small,
    and so would be the scatter of refits with weights of variance 1. The power is set by simulation.
    """
    names, index = np.unique(run, return_inverse=True)
    spread = max(1 - (free / len(names)) ** 1.5, _LEAST)
    weights = np.random.default_rng(seed).gamma(spread, size=(resamples, len(names)))
    weights *= len(names) / weights.sum(axis=1, keepdims=True)
    return weights[:, index]


def draws(
    problem: Problem, optimum: Array, weights: Array, delta: float, progress: Progress | None = None
) -> dict[str, Array]:
    """Refits from the optimum under each row of weights: every parameter in natural units, shape (resamples,).

    A parameter to which no loss responds stays where a search starts, so those searches start all over its range.
    """
    starts = np.repeat(optimum[None], len(weights), axis=0)
    low, high = problem.bounds
    idle = list(flat(problem, optimum).values())
    for k in idle:
        starts[:, k] = low[k] + (high[k] - low[k]) * np.random.default_rng(k).permutation(len(weights)) / len(weights)
    found = []
    for start in range(0, len(weights), _CHUNK):
        part, z = weights[start : start + _CHUNK], starts[start : start + _CHUNK]
        if idle:
            # The far end of a range can lie outside the law's domain (D_eff <= 0), where no search can start.
            z[~np.isfinite(problem.evaluate(z, part, np.inf).value)] = optimum
        found.append(minimise(problem, z, part, delta, RESAMPLE).z)
        if progress:
            progress("resamples", start + len(part), len(weights))
    return problem.natural(np.concatenate(found))
