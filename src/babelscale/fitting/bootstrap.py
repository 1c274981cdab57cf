"""How far the optimum would move with other runs: bootstrap by random weights of whole runs.

The weights are those of Rubin's (1981) Bayesian bootstrap: of mean 1 and variance 1 as when runs are drawn with
replacement, but never 0. Resampling drops a third of the runs each time, and with them all information on a parameter
that few runs determine: intervals of predictions were up to 44 % too wide
(docs/decisions/2026-11-intervals-by-weighing-runs.md).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale.fitting.identifiability import flat
from babelscale.fitting.newton import RESAMPLE, JointProblem, minimise, minimise_jointly
from babelscale.fitting.objective import Array

Progress = Callable[[str, int, int], None]
_CHUNK, _MOST = 256, 1 << 21  # resamples that are refitted together, and weights that are drawn at once (16 MB)
_LEAST = 0.2  # concentration where there are hardly more runs than parameters


@dataclass(frozen=True)
class Weighing:
    """Random weights of the observations, `resamples` times; the checkpoints of a run share one.

    Dirichlet of concentration 1 - (free / runs)^1.5: residuals of a few runs with many `free` parameters are too small,
    and with weights of variance 1 the scatter of refits would be too small as well. The power was set by simulation.
    """

    run: NDArray[np.str_]
    resamples: int
    seed: int
    free: int = 0

    def parts(self) -> Iterator[Array]:
        """The weights (some, n), a few resamples at a time to save memory; each row sums to the number of runs.

        The numbers do not depend on the size of these parts.
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
    joint: JointProblem, optimum: list[Array], weights: Weighing, delta: float, progress: Progress | None = None
) -> list[dict[str, Array]]:
    """Refits from the optimum under each set of weights: by problem, every parameter in natural units, (resamples,).

    A run has one weight in every problem. A parameter to which no loss of a single problem responds stays where a
    search starts, so those searches start all over its range.
    """
    total = weights.resamples
    z = [np.repeat(one[None], total, axis=0) for one in optimum]
    ends = np.cumsum([len(problem.log_loss) for problem in joint.problems])[:-1]
    first = joint.problems[0]
    idle = list(flat(first, optimum[0]).values()) if len(z) == 1 else []
    low, high = first.bounds
    for k in idle:
        z[0][:, k] = low[k] + (high[k] - low[k]) * np.random.default_rng(k).permutation(total) / total
    done = 0
    for every in weights.parts():
        rows, part = slice(done, done + len(every)), np.split(every, ends, axis=1)
        start = [one[rows] for one in z]
        if idle:
            # The far end of a range can lie outside the law's domain (D_eff <= 0), where no search can start.
            start[0][~np.isfinite(first.evaluate(start[0], every, np.inf).value)] = optimum[0]
        if len(z) == 1:
            z[0][rows] = minimise(first, start[0], every, delta, RESAMPLE).z
        else:
            for one, found in zip(z, minimise_jointly(joint, start, part, delta, RESAMPLE).z, strict=True):
                one[rows] = found
        done += len(every)
        if progress:
            progress("resamples", done, total)
    return [problem.natural_parameters(one) for problem, one in zip(joint.problems, z, strict=True)]
