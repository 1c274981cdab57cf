"""Baselines: what simpler mixtures would lose against a plan, each at the best size it can have for the same compute.

    proportional   D_l in proportion to U_l                            uniform       every language the same
    temperature    D_l in proportion to U_l^(1/T), T = 10/3            monolingual   a model of its own for every target,
    unimax         as even as ten epochs allow (Chung et al. 2023)                   the compute shared out evenly
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from babelscale import mixture as mixtures
from babelscale.planning.ask import Ask
from babelscale.planning.basis import Basis
from babelscale.planning.problem import Problem
from babelscale.planning.terms import UNSPENT, Setting, problem

Array = NDArray[np.float64]
TEMPERATURE, EPOCHS = 10 / 3, 10.0
_ZOOMS, _GRID = 9, 24


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
    n = np.linspace(low, high, 10 * _GRID)[1:-1]
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
    C = float(reference.point.compute[0]) / len(targets)
    sizes, tokens, point, spread = [], {}, [], []
    for code in targets:
        own = replace(setting, languages=(code,), compute=C, served=setting.served / len(targets), tokens={}, shares={})
        law = basis.only([code])
        one, p = problem(law.point(own), own), np.ones(1)
        ask = replace(reference.ask, compute=C, served=own.served, loss=None, rungs=())
        if ask.params is None:
            ask = replace(ask, tokens=None)
        box = ask.box(C) if ask.free else (0.0, math.inf)
        if not box[0] < box[1]:
            return None
        n = best_size(one, p, ask)
        if one.budget(np.array([n]))[0][0] <= 0:
            return None
        sizes.append(math.exp(n))
        tokens[code] = float(one.budget(np.array([n]))[0][0])
        point.append(one.losses(p[None], np.array([n]))[:, 0])
        drawn = law.drawn(own, count, seed) if reference.drawn is not None else None
        if drawn is not None:
            spread.append(problem(drawn, own).losses(np.ones((count, 1)), np.full(count, n))[:, 0])
    return _told(
        "monolingual", float(np.mean(sizes)), tokens, reference, _over(reference.point, np.stack(point, 1)),
        _over(reference.drawn, np.stack(spread, 1)) if reference.drawn is not None and spread else None,
    )  # fmt: skip


def _over(many: Problem, losses: Array) -> Array:
    """The objective of losses by target that other models gave."""
    return many.outer.value(many.weights, losses - many.offset)
