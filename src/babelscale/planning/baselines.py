"""Baselines: what simpler mixtures would lose against a plan, each at the best size it can have for the same compute.

proportional   D_l in proportion to U_l                            uniform       every language the same
temperature    D_l in proportion to U_l^(1/T), T = 10/3            monolingual   a model of its own for every target,
unimax         as even as ten epochs allow (Chung et al. 2023)                   the compute shared out evenly
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from babelscale import mixture as mixtures
from babelscale.planning.ask import Ask
from babelscale.planning.basis import Basis
from babelscale.planning.problem import ROWS, Problem, saturated, saturated_size
from babelscale.planning.terms import UNSPENT, Setting, problem

Array = NDArray[np.float64]
TEMPERATURE, EPOCHS = 10 / 3, 10.0
_ZOOMS, _GRID = 6, 20


@dataclass(frozen=True)
class Baseline:
    """A simpler mixture: its size, tokens by language and objective, and what it loses against the plan.

    `loss` is its objective less the plan's, with the 90 % interval over draws (NaN where there are none). `params` is
    the mean over its models for "monolingual".
    """

    name: str
    params: float
    tokens: Mapping[str, float]
    objective: float
    loss: tuple[float, float, float]


@dataclass(frozen=True)
class Reference:
    """The plan that baselines are held against: its shares (K,), log N, and the problems of the fit and its draws."""

    shares: Array
    n: float
    point: Problem
    drawn: Problem | None
    ask: Ask
    setting: Setting


def compare(reference: Reference, basis: Basis, count: int, seed: int) -> tuple[Baseline, ...]:
    """Every baseline that these languages and unique tokens allow."""
    found = []
    X = float(reference.point.budget(np.array([reference.n]))[0][0])
    for name, shares in _mixtures(reference.setting, X).items():
        p = np.array([shares.get(code, 0.0) for code in reference.point.languages])
        n = best_size(reference.point, p, reference.ask)
        value = _value(reference.point, p, n)
        if math.isfinite(value[0]):
            spread = None if reference.drawn is None else _value(reference.drawn, p, n)
            tokens = float(reference.point.budget(np.array([n]))[0][0])
            D = {code: share * tokens for code, share in shares.items()}
            found.append(_told(name, math.exp(n), D, reference, value, spread))
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


def _value(many: Problem, p: Array, n: float) -> Array:
    rows = np.broadcast_to(p, (many.draws, len(p)))
    return many.objective(rows, np.full(many.draws, n))


def best_size(one: Problem, p: Array, ask: Ask) -> float:
    """log N of the least objective for fixed shares, among what the question allows."""
    fixed = ask.fixed(one.compute)
    if fixed is not None and (ask.compute is not None or ask.params is not None):
        return float(fixed[0])

    def values(n: Array) -> Array:
        rows = one.at(np.zeros(len(n), np.intp))
        found = rows.objective(np.broadcast_to(p, (len(n), len(p))), n)
        return np.where(np.isfinite(found), found, np.inf)

    box = ask.box(float(one.compute[0]))
    if ask.rungs:
        n = np.log([rung for rung in ask.rungs if rung < box[1]] or ask.rungs[:1])
        return float(n[values(n).argmin()])
    low, high = math.log(box[0]), math.log(box[1])
    n, best = np.linspace(low, high, 10 * _GRID)[1:-1], low
    for _ in range(_ZOOMS):
        best, width = float(n[values(n).argmin()]), float(n[1] - n[0])
        n = np.linspace(max(best - width, low), min(best + width, high), _GRID)
    return best


def _told(
    name: str, params: float, tokens: Mapping[str, float], reference: Reference, value: Array, spread: Array | None
) -> Baseline:
    own = float(_value(reference.point, reference.shares, reference.n)[0])
    low = high = math.nan
    if spread is not None and reference.drawn is not None:
        difference = spread - _value(reference.drawn, reference.shares, reference.n)
        known = difference[np.isfinite(difference)]
        if len(known):
            low, high = (float(x) for x in np.quantile(known, [0.05, 0.95]))
    at = float(value[0]) - own
    return Baseline(name, params, dict(tokens), float(value[0]), (at, min(low, at), max(high, at)))


def _monolingual(reference: Reference, basis: Basis, count: int, seed: int) -> Baseline | None:
    """One model a target, each on its own tokens with an even part of the compute; nothing is shared."""
    targets, setting = basis.targets, reference.setting
    if len(targets) < 2:
        return None
    T, C = len(targets), float(reference.point.compute[0]) / len(targets)
    served = setting.served / T
    ask = replace(reference.ask, compute=C, served=served, loss=None, rungs=())
    ask = replace(ask, tokens=None) if ask.params is None else ask
    if not 6e6 + 2e3 * served < C:
        return None
    alone = [replace(setting, languages=(code,), compute=C, served=served, tokens={}, shares={}) for code in targets]
    laws = [basis.only([code]) for code in targets]
    one = _stacked([problem(law.point(own), own) for law, own in zip(laws, alone, strict=True)])
    n = _sizes(one, ask)
    X = one.budget(n)[0]
    if not (X > 0).all():
        return None
    spread = None
    if reference.drawn is not None:
        drawn = [law.drawn(own, count, seed) for law, own in zip(laws, alone, strict=True)]
        many = [problem(each, own) for each, own in zip(drawn, alone, strict=True) if each is not None]
        if len(many) == T:
            rows = _stacked(many)
            losses = rows.losses(np.ones((rows.draws, 1)), np.repeat(n, count))
            spread = _over(reference.drawn, losses.reshape(T, count).T)
    losses = one.losses(np.ones((T, 1)), n)[:, 0][None]
    tokens = {code: float(x) for code, x in zip(targets, X, strict=True)}
    return _told("monolingual", float(np.exp(n).mean()), tokens, reference, _over(reference.point, losses), spread)


def _stacked(several: list[Problem]) -> Problem:
    """Problems of one target each, one below the other."""
    first = several[0]
    rows = {name: np.concatenate([getattr(each, name) for each in several]) for name in (*ROWS, "compute")}
    return Stack(
        **{**{f.name: getattr(first, f.name) for f in fields(Problem)}, **rows},
        row_unique=np.concatenate([np.repeat(each.unique, each.draws) for each in several]),
    )  # fmt: skip


@dataclass(frozen=True)
class Stack(Problem):
    """Rows of one language each, every row with a U of its own, shape (R,)."""

    row_unique: Array = field(default_factory=lambda: np.empty(0))

    def losses(self, shares: Array, n: Array) -> Array:
        X = self.budget(n)[0][:, None]
        N = saturated_size(n, self.size_cap, self.size_lam)[0]
        S = saturated(X, self.row_unique[:, None], self.lam)[0]
        effective = self.worth.reshape(len(X), -1)[:, :1] * S + self.pooled * S
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(X > 0, self.E + self.A * N**-self.alpha + self.B * effective**-self.beta, np.inf)


def _sizes(one: Problem, ask: Ask) -> Array:
    """log N of the least loss of every row, by zooming in on a grid."""
    if ask.params is not None:
        return np.full(one.draws, math.log(ask.params))
    box = ask.box(float(one.compute[0]))
    low, high = np.full(one.draws, math.log(box[0])), np.full(one.draws, math.log(box[1]))
    best = low
    for turn in range(_ZOOMS + 1):
        grid = low + (high - low) * np.linspace(0, 1, 10 * _GRID if turn == 0 else _GRID)[:, None]
        values = np.stack([one.losses(np.ones((one.draws, 1)), n)[:, 0] for n in grid])
        best = grid[np.where(np.isfinite(values), values, np.inf).argmin(0), np.arange(one.draws)]
        width = grid[1] - grid[0]
        low, high = np.maximum(best - width, low), np.minimum(best + width, high)
    return best


def _over(many: Problem, losses: Array) -> Array:
    """The objective of losses by target that other models gave."""
    return many.outer.value(many.weights, losses - many.offset)
