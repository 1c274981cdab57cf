"""Baselines: the loss of simpler mixtures against a plan, each at its best size for the same compute.

proportional   D_l in proportion to U_l                            uniform       every language the same
temperature    D_l in proportion to U_l^(1/T), T = 10/3            monolingual   a model of its own for every target,
unimax         as even as ten epochs allow (Chung et al. 2023)                   the compute shared out evenly
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from babelscale import mixture as mixtures
from babelscale.formatting import count
from babelscale.intervals import interval
from babelscale.laws.separable import SeparableForm
from babelscale.planning.budget import Budget
from babelscale.planning.optimiser.evaluate import saturated
from babelscale.planning.optimiser.setting import UNSPENT, LawSource, Setting
from babelscale.planning.optimiser.solver import PlanProblem, losses_at

Array = NDArray[np.float64]
TEMPERATURE, EPOCHS = 10 / 3, 10.0
# Sizes are sought on a grid of log N, then on finer ones around its best, to 1e-4 in log N.
_FIRST, _ZOOMS, _GRID = 40, 6, 12
_ROUNDING = 1e-6  # of a bound that a baseline reaches


@dataclass(frozen=True)
class Baseline:
    """A simpler mixture: its size, tokens by language and objective, and its loss against the plan.

    `loss` is its objective less the plan's, with the 90 % interval over draws (NaN where there are none). `params` is
    the mean over its models for "monolingual". `within_bounds` is False where it breaks a bound that the plan keeps.
    """

    name: str
    params: float
    tokens: Mapping[str, float]
    objective: float
    loss: tuple[float, float, float]
    within_bounds: bool = True

    def row(self) -> list[str]:
        loss, low, high = self.loss
        within = "unknown" if math.isnan(low) else f"{low:+.4f} to {high:+.4f}"
        name = self.name if self.within_bounds else f"{self.name} (outside the plan's bounds)"
        return [name, count(self.params), f"{loss:+.4f}", within]


@dataclass(frozen=True)
class Reference:
    """The plan that baselines are compared with: its shares (K,), log N, and the problems of the fit and its draws."""

    shares: Array
    n: float
    point: PlanProblem
    drawn: PlanProblem | None
    budget: Budget
    setting: Setting

    @cached_property
    def own(self) -> tuple[Array, Array | None]:
        """The plan's own objective for the fit, and for its draws."""
        drawn = None if self.drawn is None else _value(self.drawn, self.shares, self.n)
        return _value(self.point, self.shares, self.n), drawn


def compare(reference: Reference, basis: LawSource, count: int, seed: int) -> tuple[Baseline, ...]:
    """All baselines that these languages and unique tokens allow."""
    found = []
    X = float(reference.point.budget(np.array([reference.n]))[0][0])
    tried = _mixtures(reference.setting, X)
    every = [np.array([shares.get(code, 0.0) for code in reference.point.languages]) for shares in tried.values()]
    sizes = best_sizes(reference.point, np.array(every), reference.budget) if tried else []
    for (name, shares), p, n in zip(tried.items(), every, map(float, sizes), strict=True):
        value = _value(reference.point, p, n)
        if math.isfinite(value[0]):
            spread = None if reference.drawn is None else _value(reference.drawn, p, n)
            tokens = float(reference.point.budget(np.array([n]))[0][0])
            D = {code: share * tokens for code, share in shares.items()}
            found.append(_baseline(name, math.exp(n), D, reference, value, spread))
    if alone := _monolingual(reference, basis, count, seed):
        found.append(alone)
    return tuple(found)


def _mixtures(setting: Setting, budget: float) -> dict[str, Mapping[str, float]]:
    codes = [code for code in setting.languages if code != UNSPENT]
    if len(codes) < 2:
        return {}
    found = {"uniform": mixtures.uniform(codes).shares}
    sizes = {code: setting.unique_tokens[code] for code in codes if code in setting.unique_tokens}
    if len(sizes) == len(codes):
        found["proportional"] = mixtures.proportional(sizes).shares
        found["temperature"] = mixtures.temperature(sizes, TEMPERATURE).shares
        found["unimax"] = mixtures.unimax(sizes, budget, EPOCHS).shares
    return found


def _value(many: PlanProblem, p: Array, n: float) -> Array:
    return _over(many, losses_at(many, p[None], np.array([n])))


def best_sizes(one: PlanProblem, shares: Array, budget: Budget) -> Array:
    """log N (M,) of the least objective for each of M mixtures, shares (M, K), within the budget."""
    every = np.arange(len(shares))
    fixed = budget.fixed(one.compute)
    if fixed is not None and (budget.compute is not None or budget.params is not None):
        return np.full(len(shares), float(fixed[0]))

    def best(n: Array) -> Array:
        """Of the sizes (M, G) of each mixture its best, shape (M,)."""
        found = _over(one, losses_at(one, np.repeat(shares, n.shape[1], 0), n.ravel())).reshape(n.shape)
        return n[every, np.where(np.isfinite(found), found, np.inf).argmin(1)]

    box = budget.box(float(one.compute[0]))
    if budget.rungs:
        rungs = np.log([rung for rung in budget.rungs if rung < box[1]] or budget.rungs[:1])
        return best(np.tile(rungs, (len(shares), 1)))
    return _zoom(best, len(shares), box)


def _zoom(best: Callable[[Array], Array], count: int, box: tuple[float, float]) -> Array:
    """log N (count,) at which `best` ends, which takes grids of log N (count, G) and gives the best of each."""
    low, high = math.log(box[0]), math.log(box[1])
    n = np.tile(np.linspace(low, high, _FIRST)[1:-1], (count, 1))
    for _ in range(_ZOOMS):
        at, width = best(n), n[:, 1] - n[:, 0]
        n = np.linspace(np.maximum(at - width, low), np.minimum(at + width, high), _GRID, axis=1)
    return best(n)


def _baseline(
    name: str, params: float, tokens: Mapping[str, float], reference: Reference, value: Array, spread: Array | None
) -> Baseline:
    own, own_spread = reference.own
    low = high = math.nan
    if spread is not None and own_spread is not None:
        known = np.isfinite(spread) & np.isfinite(own_spread)
        low, high = interval(spread[known] - own_spread[known])
    at = float(value[0]) - float(own[0])
    loss = at, min(low, at), max(high, at)
    return Baseline(name, params, dict(tokens), float(value[0]), loss, _within(tokens, reference.setting))


def _within(tokens: Mapping[str, float], setting: Setting) -> bool:
    """Whether tokens by language keep the bounds of a plan; those of shares are of all its tokens."""
    total = math.fsum(tokens.values())
    bounds = [(tokens.get(code, 0.0), *pair) for code, pair in setting.tokens.items()]
    bounds += [(tokens.get(code, 0.0) / total, *pair) for code, pair in setting.shares.items()]
    return all(low * (1 - _ROUNDING) <= value <= high * (1 + _ROUNDING) for value, low, high in bounds)


def _monolingual(reference: Reference, basis: LawSource, count: int, seed: int) -> Baseline | None:
    """One model a target, each on its own tokens with an even part of the compute; nothing is shared."""
    targets, setting = basis.targets, reference.setting
    if len(targets) < 2 or not basis.separable(setting):
        return None
    T, C = len(targets), float(reference.point.compute[0]) / len(targets)
    served = setting.served / T
    budget = replace(reference.budget, compute=C, served=served, loss=None, rungs=())
    budget = replace(budget, tokens=None) if budget.params is None else budget
    if not 6e6 + 2e3 * served < C:
        return None
    alone = replace(setting, compute=C, served=served, tokens={}, shares={})
    one = Alone.of(basis.alone(alone, 0, seed), alone)
    n = _sizes(one, budget)
    X = one.budget(n)
    if not (X > 0).all():
        return None
    spread = None
    if reference.drawn is not None:
        spread = _over(reference.drawn, Alone.of(basis.alone(alone, count, seed), alone).losses(n))
    tokens = {code: float(x) for code, x in zip(targets, X, strict=True)}
    value = _over(reference.point, one.losses(n))
    return _baseline("monolingual", float(np.exp(n).mean()), tokens, reference, value, spread)


@dataclass(frozen=True)
class Alone:
    """Laws of T targets with a model each: numbers (R, T) by name, W of a target's own tokens (R, T) and U (T,)."""

    law: Mapping[str, Array]
    worth: Array
    unique: Array
    compute: float
    served: float

    @classmethod
    def of(cls, laws: Mapping[str, SeparableForm], setting: Setting) -> "Alone":
        names = ("E", "A", "alpha", "B", "beta", "lam", "size_cap", "size_lam")
        numbers = {name: np.stack([getattr(law, name) for law in laws.values()], axis=1) for name in names}
        worth = np.stack([sum(law.worth.values(), np.zeros_like(law.E)) for law in laws.values()], axis=1)
        unique = np.array([setting.unique_tokens.get(code, np.inf) for code in laws])
        return cls(numbers, worth, unique, setting.compute, setting.served)

    def budget(self, n: Array) -> Array:
        return self.compute / 6 * np.exp(-n) - self.served / 3

    def losses(self, n: Array) -> Array:
        """Losses where each target has log N of `n`; shapes (..., T) that broadcast with (R, T)."""
        law, X = self.law, self.budget(n)
        N = saturated(np.exp(n), law["size_cap"], law["size_lam"])[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            D = self.worth * saturated(X, self.unique, law["lam"])[0]
            return np.where(X > 0, law["E"] + law["A"] * N ** -law["alpha"] + law["B"] * D ** -law["beta"], np.inf)


def _sizes(one: Alone, budget: Budget) -> Array:
    """log N of the least loss of every target."""
    T = len(one.unique)
    if budget.params is not None:
        return np.full(T, math.log(budget.params))

    def best(n: Array) -> Array:
        values = one.losses(n.T)
        return n[np.arange(T), np.where(np.isfinite(values), values, np.inf).argmin(0)]

    return _zoom(best, T, budget.box(one.compute))


def _over(many: PlanProblem, losses: Array) -> Array:
    """The objective of losses by target, shape (R, T)."""
    rows = len(losses), losses.shape[1]
    return many.risk.value(np.broadcast_to(many.weights, rows), losses - many.least_loss)
