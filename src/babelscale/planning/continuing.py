"""Continue a checkpoint or start over: the losses of both at equal new compute, and where they cross.

By the law of a target, a checkpoint of N parameters that has seen D_l tokens of each language and goes on with D'_l has
the loss L(N, D + D'). What a law so extended leaves out is how a model that is already trained takes to new text. Runs
that were continued say it, in two numbers beside the law of the runs from scratch (after Hernandez et al. 2021, arXiv
2102.01293, where D0 is the effective data transferred):

    L_continued(N, D') = E + A / N^alpha + B / (D0 + kappa D')^beta,   D0 = d0 (N / N_0)^g

D0 is the head start in tokens of the target, kappa what a further token is worth to a model that starts there. Starting
over has the loss L(N, D'): it overtakes where D' = D0 + kappa D', at D' = D0 / (1 - kappa), if kappa < 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale import fitting, tables
from babelscale.errors import InputError
from babelscale.fitting.bootstrap import run_weights
from babelscale.laws import Chinchilla
from babelscale.runs import Observations, Runs

Array = NDArray[np.float64]
_FAR = 40.0  # a head start or a crossing beyond e^40 tokens is none


@dataclass(frozen=True)
class Checkpoint:
    """A model to go on from: N, and the tokens of each language that it has seen."""

    params: float
    tokens: Mapping[str, float]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.params) and self.params > 0):
            raise InputError(f"checkpoint: params is {self.params}", hint="give its number of parameters")
        for code, D in self.tokens.items():
            if not (math.isfinite(D) and D >= 0):
                raise InputError(f"checkpoint: tokens of {code!r} is {D}", hint="give a number, 0 or more")
        if not any(D > 0 for D in self.tokens.values()):
            raise InputError("checkpoint: it has seen no tokens", hint="give its tokens by language")

    @property
    def compute(self) -> float:
        """6 N D_tot, FLOPs."""
        return 6 * self.params * math.fsum(self.tokens.values())


@dataclass(frozen=True)
class Warm:
    """The law of continued runs and of runs from scratch, with draws.

    `scratch` columns are E, A, B, alpha, beta; `head` columns are log d0, g and kappa; shapes (draws, 5) and (draws,
    3), the first row the fit itself. `size` is N_0, the geometric mean of the continued runs' sizes.
    """

    language: str
    metric: str
    scratch: Array
    head: Array
    size: float
    sizes: tuple[float, float]
    tokens: tuple[float, float]
    runs: tuple[int, int]
    notes: tuple[str, ...]

    def losses(self, params: float, tokens: float, charged: float = 0.0) -> tuple[Array, Array]:
        """Continued and from scratch, at `tokens` of new training, shape (draws,); starting over has `charged` FLOPs
        more."""
        E, A, B, alpha, beta = self.scratch.T
        floor = E + A * params**-alpha
        D = np.exp(np.minimum(self._head(params), _FAR)) + self.head[:, 2] * tokens
        over = tokens + charged / (6 * params)
        return floor + B * D**-beta, floor + B * over**-beta

    def crossover(self, params: float, charged: float = 0.0) -> Array:
        """Tokens of new training at which starting over is as good, shape (draws,); 0 where it is better from the
        first token on, infinite where it never is."""
        gap = np.exp(np.minimum(self._head(params), _FAR)) - charged / (6 * params)
        kappa = self.head[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = gap / (1 - kappa)
        return np.where(gap <= 0, np.where(kappa <= 1, 0.0, np.abs(found)), np.where(kappa < 1, found, np.inf))

    def _head(self, params: float) -> Array:
        return self.head[:, 0] + self.head[:, 1] * math.log(params / self.size)


def warm(runs: Runs, language: str | None, *, resamples: int = 200, seed: int = 0) -> Warm:
    """Fit both laws to runs from scratch and runs continued from a checkpoint, trained on the language alone.

    Raises:
        InputError: no run was continued on the language, or too few to tell a head start from a slope.
    """
    from scipy.optimize import least_squares

    target = runs.target(language)
    seen = _continued(runs, target)
    N = np.asarray(seen.allocation.params)
    D, loss = np.asarray(seen.allocation.D(target)), np.asarray(seen.loss)
    keep = (D > 0) & (0.999 * seen.allocation.total_tokens <= D)
    if keep.sum() < 3 or len(np.unique(D[keep])) < 2:
        raise InputError(
            f"{int(keep.sum())} losses of runs continued on {target!r} alone, at {len(np.unique(D[keep]))} lengths",
            hint="train three or more, of two lengths or more",
        )
    fit = fitting.fit(Chinchilla(target, tied=True), runs, resamples=resamples, seed=seed)
    N, D, loss, names = N[keep], D[keep], loss[keep], np.asarray(seen.run)[keep]
    size, several = float(np.exp(np.log(N).mean())), len(np.unique(N)) > 1
    scratch = [fit.parameters[name] for name in fit.law.parameter_names]
    order = [fit.law.parameter_names.index(name) for name in ("E", "A", "B", "alpha", "beta")]
    every = np.array([scratch, *fit.draws])[:, order]
    # Whole runs weighed anew for every draw, as in the fits; other runs than those of the scratch law, so another seed.
    weights = run_weights(names.astype(np.str_), len(every), seed + 1, 3 if several else 2)
    weights[0] = 1.0
    heads = []
    start = np.array([math.log(np.median(D)), 0.0, 0.8])
    for row, (E, A, B, alpha, beta) in enumerate(every):
        root = np.sqrt(weights[row])

        def residual(x: Array, E=E, A=A, B=B, alpha=alpha, beta=beta, root=root) -> Array:
            g = x[1] if several else 0.0
            effective = np.exp(x[0] + g * np.log(N / size)) + x[2] * D
            return root * (np.log(E + A * N**-alpha + B * effective**-beta) - np.log(loss))

        solved = least_squares(
            residual, start, bounds=([0, -3, 1e-3], [_FAR, 3, 5.0]), x_scale=[1, 0.3, 0.3], loss="huber", f_scale=1e-3
        )
        heads.append([solved.x[0], solved.x[1] if several else 0.0, solved.x[2]])
        start = np.array(heads[0])
    notes = [] if several else [f"every continued run has {size:.3g} parameters: other sizes are not told"]
    return Warm(
        target,
        seen.metric,
        every,
        np.array(heads),
        size,
        (float(N.min()), float(N.max())),
        (float(D.min()), float(D.max())),
        (len(np.unique(names)), len(set(runs.observations(target).run))),
        tuple(notes),
    )


def _continued(runs: Runs, target: str) -> Observations:
    fresh = (tables.SCRATCH, tables.TWO_STAGE)
    starts = [name for name in runs.table["start"].drop_nulls().unique().sort() if name not in fresh]
    if not starts:
        raise InputError("no run was continued from a checkpoint", hint='their `start` is "checkpoint"')
    return runs.observations(target, start=starts)
