"""A linear mixed model: y = X b + d + e, with a variance for each group of effects, estimated from the data.

    b_j ~ N(0, s_k^2)   for every column j of group k
    d   ~ N(0, s_d^2 K) effects that observations share beyond that, K given block by block
    e_i ~ N(0, v_i + s_e^2 + s_r^2 r_i)
        v_i is the known noise variance of observation i, and s_e^2 the residual variance; r_i, where given, says how
        much less accurate the model is there than elsewhere

The variances maximise the marginal likelihood (empirical Bayes; MacKay 1992, "Bayesian interpolation", section 4, with
several groups), under a wide prior on their logarithms, so that a group with little evidence is not ruled out.
Everything predicted is then Gaussian. An observation known only as a bound enters by expectation propagation (Minka
2001): its Gaussian stand-in has the first two moments that the bound leaves to what the other observations predict.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

RESIDUAL, SHARED, ROUGH = "residual", "shared", "rough"
# Prior of a log variance: centred on a tenth of the data's variance, with a standard deviation of a factor of e^2.
_CENTRE, _SPREAD = 0.1, 2.0
_LEAST = 1e-10
_SWEEPS, _ROUNDS = 12, 3


@dataclass(frozen=True)
class MixedProblem:
    """Observations and the effects they are made of.

    Args:
        X: shape (n, p).
        group: of each column, shape (p,), numbers into `names`.
        names: of the groups.
        y: shape (n,); NaN where only bounds are known.
        noise: known variance of each observation, shape (n,).
        low, high: bounds of what is NaN in y, shape (n,), infinite where open.
        shared: blocks (rows, K of those rows), each row in at most one.
        fixed: variances that are given and not estimated, by the name of the group.
        rough: r_i, shape (n,), not negative; None where the model is as good everywhere.
    """

    X: Array
    group: Rows
    names: tuple[str, ...]
    y: Array
    noise: Array
    low: Array
    high: Array
    shared: tuple[tuple[Rows, Array], ...] = ()
    fixed: Mapping[str, float] | None = None
    rough: Array | None = None

    @property
    def free(self) -> list[str]:
        """Groups whose variance is estimated, the shared part and the residual last."""
        names = [name for name in self.names if name not in (self.fixed or {})]
        return [*names, *([SHARED] if self.shared else []), *([ROUGH] if self.rough is not None else []), RESIDUAL]


@dataclass(frozen=True)
class Posterior:
    """The posterior distribution of the effects.

    Attributes:
        problem: with a Gaussian stand-in where there were only bounds.
        mean: of b, shape (p,).
        covariance: of b, shape (p, p).
        variances: of each group by name, of the shared part and of the residual.
        evidence: log marginal likelihood.
        explained: N^-1 (y - X mean), N the covariance of d + e, shape (n,).
    """

    problem: MixedProblem
    mean: Array
    covariance: Array
    variances: Mapping[str, float]
    evidence: float
    explained: Array
    precision: "_Noise"

    def predict(self, X: Array) -> tuple[Array, Array]:
        """Mean and variance of X b, shape (m,) each; neither shared part nor residual is in it."""
        return X @ self.mean, np.einsum("ij,ij->i", X @ self.covariance, X)

    def leave_out(self, folds: Sequence[Rows]) -> list[tuple[Array, Array]]:
        """Of each fold, mean and variance of its observations (noise in it) from all the others.

        With K the covariance of all observations, mean = y_F - (K^-1)_FF^-1 (K^-1 y)_F. The variances stay fixed.
        """
        y, found = self.problem.y, []
        Z = self.precision.solve(self.problem.X)
        for rows in folds:
            inverse = self.precision.block(rows) - Z[rows] @ self.covariance @ Z[rows].T
            cover = np.linalg.inv(inverse)
            found.append((y[rows] - cover @ self.explained[rows], np.diag(cover)))
        return found


class _Noise:
    """N = diag(v + s_e^2) + s_d^2 K, factored."""

    def __init__(self, problem: MixedProblem, variances: Mapping[str, float]) -> None:
        from scipy.linalg import cho_factor

        self.shared = problem.shared
        self.diagonal = problem.noise + max(variances[RESIDUAL], _LEAST)
        if problem.rough is not None:
            self.diagonal = self.diagonal + variances[ROUGH] * problem.rough
        scale = variances.get(SHARED, 0.0)
        self.factors = [
            cho_factor(scale * K + np.diag(self.diagonal[rows]), check_finite=False) for rows, K in self.shared
        ]

    def solve(self, M: Array) -> Array:
        """N^-1 M."""
        from scipy.linalg import cho_solve

        out = (M.T / self.diagonal).T
        for (rows, _), factor in zip(self.shared, self.factors, strict=True):
            out[rows] = cho_solve(factor, M[rows], check_finite=False)
        return out

    @functools.cached_property
    def inverses(self) -> list[Array]:
        """N^-1 of each block."""
        from scipy.linalg import cho_solve

        return [cho_solve(factor, np.eye(len(factor[0])), check_finite=False) for factor in self.factors]

    @functools.cached_property
    def _places(self) -> dict[int, tuple[int, int]]:
        return {int(row): (b, k) for b, (rows, _) in enumerate(self.shared) for k, row in enumerate(rows)}

    def block(self, rows: Rows) -> Array:
        """N^-1 of some rows, shape (len(rows), len(rows))."""
        out = np.diag(1 / self.diagonal[rows])
        blocks: dict[int, list[tuple[int, int]]] = {}
        for position, row in enumerate(rows):
            if int(row) in self._places:
                b, k = self._places[int(row)]
                blocks.setdefault(b, []).append((position, k))
        for b, both in blocks.items():
            inside, at = map(list, zip(*both, strict=True))
            out[np.ix_(inside, inside)] = self.inverses[b][np.ix_(at, at)]
        return out

    @property
    def log_determinant(self) -> float:
        total = np.log(self.diagonal).sum()
        for (rows, _), factor in zip(self.shared, self.factors, strict=True):
            total += 2 * np.log(np.diag(factor[0])).sum() - np.log(self.diagonal[rows]).sum()
        return float(total)


def one_thread() -> Any:
    """Linear algebra on one thread within this context. The matrices here are small: on a machine that does other work
    too, threads wait for each other ten times longer than they compute."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")


def fit(problem: MixedProblem) -> Posterior:
    """Variances that maximise the marginal likelihood, and the effects under them.

    Observations with bounds only are left out first, and then enter by their stand-ins.
    """
    bounded = np.isnan(problem.y)
    if not bounded.any():
        return condition(problem, _maximise(problem, None))
    known = _rows(problem, np.flatnonzero(~bounded))
    variances = _maximise(known, None)
    approximated = problem
    for _ in range(_ROUNDS):
        approximated = _propagate(problem, approximated, variances)
        variances = _maximise(approximated, variances)
    return condition(_propagate(problem, approximated, variances), variances)


def condition(problem: MixedProblem, variances: Mapping[str, float]) -> Posterior:
    """The effects under given variances."""
    noise = _Noise(problem, variances)
    mean, C, explained, evidence = _solve(problem, noise, variances)
    return Posterior(problem, mean, C, dict(variances), evidence, explained, noise)


def _rows(problem: MixedProblem, chosen: Rows) -> MixedProblem:
    """The same problem with some of its observations."""
    place = np.full(len(problem.y), -1)
    place[chosen] = np.arange(len(chosen))
    shared = []
    for rows, K in problem.shared:
        inside = place[rows] >= 0
        if inside.any():
            shared.append((place[rows[inside]], K[np.ix_(inside, inside)]))
    y, noise, low, high = (getattr(problem, name)[chosen] for name in ("y", "noise", "low", "high"))
    rough = None if problem.rough is None else problem.rough[chosen]
    return replace(
        problem, X=problem.X[chosen], y=y, noise=noise, low=low, high=high, shared=tuple(shared), rough=rough
    )


def _solve(problem: MixedProblem, noise: _Noise, variances: Mapping[str, float]) -> tuple[Array, Array, Array, float]:
    from scipy.linalg import cho_solve, cholesky

    X, y = problem.X, problem.y
    each = np.array([max(variances[name], _LEAST) for name in problem.names])[problem.group]
    Z = noise.solve(X)
    root = cholesky(X.T @ Z + np.diag(1 / each), check_finite=False)
    C = cho_solve((root, False), np.eye(len(root)), check_finite=False)
    mean = cho_solve((root, False), Z.T @ y, check_finite=False)
    residual = y - X @ mean
    explained = noise.solve(residual)
    quadratic = float(residual @ explained + mean**2 @ (1 / each))
    logs = 2 * float(np.log(np.diag(root)).sum()) + float(np.log(each).sum()) + noise.log_determinant
    return mean, C, explained, -0.5 * (quadratic + logs + len(y) * math.log(2 * math.pi))


def _maximise(problem: MixedProblem, start: Mapping[str, float] | None) -> dict[str, float]:
    from scipy.optimize import minimize

    free, fixed = problem.free, dict(problem.fixed or {})
    centre = math.log(_CENTRE * max(float(np.var(problem.y)), _LEAST))
    begin = np.full(len(free), centre) if start is None else np.log([max(start[name], _LEAST) for name in free])

    def cost(theta: Array) -> tuple[float, Array]:
        variances = dict(zip(free, np.exp(theta).tolist(), strict=True)) | fixed
        evidence, slopes = _slopes(problem, variances)
        apart = (theta - centre) / _SPREAD
        return 0.5 * float(apart @ apart) - evidence, apart / _SPREAD - slopes

    bounds = [(centre - 14, centre + 8)] * len(begin)
    found = minimize(cost, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60, "ftol": 1e-7})
    return dict(zip(free, np.exp(found.x).tolist(), strict=True)) | fixed


def _slopes(problem: MixedProblem, variances: Mapping[str, float]) -> tuple[float, Array]:
    """Log marginal likelihood, and its slopes by the log variances of `problem.free`.

    by log s_k^2:  ((b_k'b_k + tr C_kk) / s_k^2 - p_k) / 2,   C the posterior covariance
    by log s^2 of a part with covariance s^2 M:  s^2 (q'M q + tr(C Z'M Z) - tr(N^-1 M)) / 2,
                                                 q = N^-1 (y - X b), Z = N^-1 X
    """
    noise = _Noise(problem, variances)
    mean, C, q, evidence = _solve(problem, noise, variances)
    Z = noise.solve(problem.X)
    energy, slopes = mean**2 + np.diag(C), []
    for name in problem.free:
        if name not in (SHARED, ROUGH, RESIDUAL):
            mask = problem.group == problem.names.index(name)
            slopes.append(0.5 * (float(energy[mask].sum()) / max(variances[name], _LEAST) - int(mask.sum())))
    inverses = noise.inverses
    if problem.shared:
        total = 0.0
        for (rows, K), inverse in zip(problem.shared, inverses, strict=True):
            part = Z[rows]
            total += q[rows] @ K @ q[rows] + np.sum((K @ part @ C) * part) - np.sum(inverse * K)
        slopes.append(0.5 * variances[SHARED] * float(total))
    # What the diagonal parts need: q_i^2 + (C z_i).z_i - (N^-1)_ii.
    each = 1 / noise.diagonal
    for (rows, _), inverse in zip(problem.shared, inverses, strict=True):
        each[rows] = np.diag(inverse)
    each = q**2 + np.sum((Z @ C) * Z, axis=1) - each
    if problem.rough is not None:
        slopes.append(0.5 * variances[ROUGH] * float(problem.rough @ each))
    slopes.append(0.5 * variances[RESIDUAL] * float(each.sum()))
    return evidence, np.array(slopes)


def _propagate(problem: MixedProblem, approximated: MixedProblem, variances: Mapping[str, float]) -> MixedProblem:
    """Stand-ins for the observations with bounds only, given the variances; `stood` holds earlier ones or none."""
    from scipy.stats import truncnorm

    bounded = np.flatnonzero(np.isnan(problem.y))
    y, noise = approximated.y.copy(), approximated.noise.copy()
    fresh = np.isnan(y)
    # Before the first sweep a stand-in has almost no information.
    y[fresh], noise[fresh] = 0.0, 1e6 * max(float(np.nanvar(problem.y)), _LEAST)
    folds = [np.array([row]) for row in bounded]
    for _ in range(_SWEEPS):
        current = condition(replace(problem, y=y, noise=noise), variances)
        mean, spread = (np.concatenate(part) for part in zip(*current.leave_out(folds), strict=True))
        # The cavity: what the others predict of the observation itself, its stand-in's noise taken out again.
        cavity = np.maximum(spread - noise[bounded] + problem.noise[bounded], _LEAST)
        sd = np.sqrt(cavity)
        low, high = ((bound[bounded] - mean) / sd for bound in (problem.low, problem.high))
        # Far beyond a bound, the truncated moments are taken at a few standard deviations.
        low, high = np.clip(low, -30, 8), np.clip(high, -8, 30)
        inside, within = truncnorm.stats(low, high, moments="mv")
        middle, width = mean + sd * inside, np.clip(within, 1e-6, 1 - 1e-6) * cavity
        site = 1 / (1 / width - 1 / cavity)
        target = site * (middle / width - mean / cavity)
        moved = float(np.max(np.abs(target - y[bounded]) / np.sqrt(site)))
        y[bounded], noise[bounded] = target, site + problem.noise[bounded]
        if moved < 1e-3:
            break
    return replace(problem, y=y, noise=noise)
