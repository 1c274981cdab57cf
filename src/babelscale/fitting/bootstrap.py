"""How far the optimum would move with other runs: whole runs are weighed anew at random, over one design.

The weights are those of Rubin's (1981) Bayesian bootstrap: of mean 1 and variance 1 as when runs are drawn with
replacement, but never 0. Drawing drops a third of the runs each time, and with them all that stands for a parameter
carried by few: intervals of predictions were up to 44 % too wide
(docs/decisions/2026-11-intervals-by-weighing-runs.md).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale.fitting.identifiability import flat
from babelscale.fitting.newton import RESAMPLE, minimise
from babelscale.fitting.objective import Array, FitProblem

Progress = Callable[[str, int, int], None]
_CHUNK, _MOST = 256, 1 << 21  # resamples that are refitted together, and weights that are drawn at once (16 MB)
_LEAST = 0.2  # concentration where there are hardly more runs than parameters


@dataclass(frozen=True)
class Weighing:
    """Random weights of the observations, `resamples` times; the checkpoints of a run share one.

    Dirichlet of concentration 1 - (free / runs)^1.5: residuals of a few runs with many `free` parameters are too small,
    and so would be the scatter of refits with weights of variance 1. The power is set by simulation.
    """

    run: NDArray[np.str_]
    resamples: int
    seed: int
    free: int = 0

    def parts(self) -> Iterator[Array]:
        """The weights (some, n), a few resamples at a time so that they fill no memory; each sums to the runs' number.

        The numbers do not depend on how many come at a time.
        """
        names, index = np.unique(self.run, return_inverse=True)
        spread = max(1 - (self.free / len(names)) ** 1.5, _LEAST)
        rng = np.random.default_rng(self.seed)
        size = max(1, _MOST // len(self.run))
        for start in range(0, self.resamples, size):
            weights = rng.gamma(spread, size=(min(size, self.resamples - start), len(names)))
            weights *= len(names) / weights.sum(axis=1, keepdims=True)
            drawn = weights[:, index]
            yield from (drawn[at : at + _CHUNK] for at in range(0, len(drawn), _CHUNK))


def run_weights(run: NDArray[np.str_], resamples: int, seed: int, free: int = 0) -> Array:
    """All of a `Weighing` at once, shape (resamples, n)."""
    return np.concatenate(list(Weighing(run, resamples, seed, free).parts()))


def draws(
    problem: FitProblem, optimum: Array, weights: Weighing, delta: float, progress: Progress | None = None
) -> dict[str, Array]:
    """Refits from the optimum under each set of weights: every parameter in natural units, shape (resamples,).

    A parameter to which no loss responds stays where a search starts, so those searches start all over its range.
    """
    total = weights.resamples
    starts = np.repeat(optimum[None], total, axis=0)
    low, high = problem.bounds
    idle = list(flat(problem, optimum).values())
    for k in idle:
        starts[:, k] = low[k] + (high[k] - low[k]) * np.random.default_rng(k).permutation(total) / total
    done = 0
    for part in weights.parts():
        z = starts[done : done + len(part)]
        if idle:
            # The far end of a range can lie outside the law's domain (D_eff <= 0), where no search can start.
            z[~np.isfinite(problem.evaluate(z, part, np.inf).value)] = optimum
        starts[done : done + len(part)] = minimise(problem, z, part, delta, RESAMPLE).z
        done += len(part)
        if progress:
            progress("resamples", done, total)
    return problem.natural_parameters(starts)
