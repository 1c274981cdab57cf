"""Group models: the least loss of a model for some of the languages with a part of the compute.

A model's weighted loss is cap(N) + h(X), h(X) the least of the data's part over mixtures of X tokens, so it is a
table of h over X. Several models share compute C (and, where memory is bounded, M parameters in all):

    minimise  sum_b cap_b(N_b) + h_b(X_b)   subject to   sum_b 6 N_b X_b <= C,   sum_b N_b <= M

Without the second bound each model is its curve V_b(C_b) and the best split has one marginal -dV_b/dC_b for all.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.optimiser.interior_point import COLD, solve
from babelscale.planning.optimiser.setting import LawSource, Setting

Array = NDArray[np.float64]
Code = frozenset[str]
_X = np.linspace(math.log(1e3), math.log(1e17), 49)
_N = np.linspace(math.log(1e3), math.log(1e15), 140)


@dataclass(frozen=True)
class GroupModel:
    """The languages of one model: the problem at one row, h and its slope by log X on the grid `_X`."""

    codes: tuple[str, ...]
    problem: LossEvaluator
    setting: Setting
    data: Array
    slope: Array

    def cap(self, n: Array) -> Array:
        """sum_t w_t (E_t + A_t / S(N)^alpha_t) at each n of a vector."""
        return (self.problem.weights * self.problem.capacity(n)).sum(1)

    def h(self, x: Array) -> Array:
        """The data's part at log X, by a cubic through values and slopes."""
        return hermite(x, _X, self.data, self.slope)

    def value(self, compute: float, n: float) -> float:
        """The loss from the tables at this compute and log N."""
        return float((self.cap(np.array([n])) + self.h(np.array([math.log(compute / 6) - n])))[0])

    @cached_property
    def curve(self) -> tuple[Array, Array]:
        """A grid of log C, and the log of the marginal -dV/dC there, which falls."""
        log_C = np.linspace(math.log(1e12), math.log(1e30), 160)
        x = log_C[:, None] - math.log(6) - _N
        best = (self.cap(_N) + self.h(x.ravel()).reshape(x.shape)).argmin(1)
        # The envelope: dV / dlog C = dh / dlog X at the best N.
        x_best = x[np.arange(len(log_C)), best]
        slope = (self.h(x_best + 1e-4) - self.h(x_best - 1e-4)) / 2e-4
        return log_C, np.minimum.accumulate(np.log(np.maximum(-slope, 1e-300)) - log_C)


def hermite(x: Array, grid: Array, value: Array, slope: Array) -> Array:
    """Cubic Hermite interpolation on an even grid, linear beyond it."""
    step = grid[1] - grid[0]
    i = np.clip(((x - grid[0]) / step).astype(int), 0, len(grid) - 2)
    t = np.clip((x - grid[i]) / step, 0.0, 1.0)
    a, b, m, k = value[i], value[i + 1], slope[i] * step, slope[i + 1] * step
    inside = (2 * t**3 - 3 * t**2 + 1) * a + (t**3 - 2 * t**2 + t) * m + (3 * t**2 - 2 * t**3) * b + (t**3 - t**2) * k
    return inside + np.where(x < grid[0], slope[0] * (x - grid[0]), 0.0)


class ModelCache:
    """The group models of all sets of languages tried so far."""

    def __init__(
        self, basis: LawSource, weights: Mapping[str, float], unique: Mapping[str, float], helpers: Sequence[str]
    ):
        self.basis, self.weights, self.unique, self.helpers = basis, weights, unique, tuple(helpers)
        self._made: dict[Code, GroupModel | None] = {}

    def __call__(self, codes: Code) -> GroupModel | None:
        """The model of some targets; None where no mixture lies in the domain of their laws."""
        if codes not in self._made:
            self._made[codes] = self._make(tuple(sorted(codes)))
        return self._made[codes]

    def _make(self, codes: tuple[str, ...]) -> GroupModel | None:
        setting = Setting((*codes, *self.helpers), self.weights, self.unique, 1e20)
        one = LossEvaluator.of(self.basis.only(codes).point(setting), setting)
        rows = np.zeros(len(_X), np.intp)
        n = np.zeros(len(_X))
        many = replace(one.at(rows), compute=6 * np.exp(_X))
        found = solve(many, None, n=n, levels=COLD[:5], clean=False)
        inside = np.zeros(len(_X), bool) if found is None else np.isfinite(found.objective)
        if found is None or not inside.any():
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            at = many.derivatives(found.shares, n)
            # With a price on shares, h takes what the price adds to the capacity at N = 1.
            data = at.value - (many.weights * many.capacity(n)).sum(1) if many.gamma.any() else at.data.sum(1)
            slope = np.gradient(data, _X) if many.gamma.any() else (at.by_p * found.shares).sum(1)
        # Outside the domain: fewer tokens are hopeless, more are left unspent.
        first, last = np.flatnonzero(inside)[[0, -1]]
        data[:first], slope[:first] = 1e6, 0.0
        data[last + 1 :], slope[last + 1 :] = data[last], 0.0
        if not inside[first : last + 1].all():
            return None
        return GroupModel(codes, one, setting, data, slope)


def split(models: Sequence[GroupModel], compute: float) -> Array:
    """C_b of each model: one marginal for all, by bisection."""
    low, high = -200.0, 50.0
    log_C = np.zeros(len(models))
    for _ in range(80):
        middle = (low + high) / 2
        log_C = np.array([np.interp(-middle, -model.curve[1], model.curve[0]) for model in models])
        low, high = (middle, high) if np.exp(log_C).sum() > compute else (low, middle)
    C = np.exp(log_C)
    return C / C.sum() * compute


def value(model: GroupModel, compute: float) -> tuple[float, float]:
    """V(C) from the tables, and log N there."""
    n = _N
    total = model.cap(n) + model.h(math.log(compute / 6) - n)
    best = int(total.argmin())
    fine = np.linspace(n[max(best - 1, 0)], n[min(best + 1, len(n) - 1)], 101)
    total = model.cap(fine) + model.h(math.log(compute / 6) - fine)
    return float(total.min()), float(fine[total.argmin()])


def split_with_memory(models: Sequence[GroupModel], compute: float, memory: float) -> tuple[Array, Array]:
    """C_b and log N_b of each model where sum N_b is bounded too (in parameters), by SLSQP on the tables."""
    from scipy.optimize import minimize

    B = len(models)
    C = split(models, compute)
    n = np.array([min(value(b, c)[1], math.log(memory / B)) for b, c in zip(models, C, strict=True)])
    start = np.concatenate([n, np.log(C / 6) - n])

    def total(z: Array) -> float:
        each = [float(b.cap(z[i : i + 1])[0] + b.h(z[B + i : B + i + 1])[0]) for i, b in enumerate(models)]
        return math.fsum(each)

    bounds: list[Callable[[Array], float]] = [
        lambda z: 1 - float(np.exp(z[:B] + z[B:] + math.log(6 / compute)).sum()),
        lambda z: 1 - float(np.exp(z[:B] - math.log(memory)).sum()),
    ]
    found = minimize(
        total,
        start,
        method="SLSQP",
        constraints=[{"type": "ineq", "fun": bound} for bound in bounds],
        options={"maxiter": 200, "ftol": 1e-10},
    )
    z = found.x if np.isfinite(found.fun) else start
    n, x = z[:B], z[B:]
    n = n - max(math.log(np.exp(n - math.log(memory)).sum()), 0.0)
    C = 6 * np.exp(n + x)
    return C * compute / C.sum(), n
