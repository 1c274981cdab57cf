"""Minimise a planning problem over shares and log N: a batched interior-point Newton method.

A logarithmic barrier keeps shares positive and N inside its box; its weight falls to nothing, and each weight starts
where the last one ended. All rows of a problem (the fit and its draws) move together. For fixed N and tau >= 0 the
problem in the shares is convex and the barrier's last weight bounds the gap; with negative tau it is not, and the
best of several starts is taken.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.problem import Problem

Array = NDArray[np.float64]

BARRIERS = (1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12)
_NEWTON = 40
_BACKTRACKS = 40
_SIZES = 33
_RANDOM_STARTS = 8
# Smaller shares than this are the barrier's shadow and are planned as none.
NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class Solution:
    """Shares (R, K), N (R,), the objective (R,), how many starts were tried, and whether N stopped at its box."""

    shares: Array
    params: Array
    objective: Array
    starts: int
    at_edge: NDArray[np.bool_]


def solve(
    problem: Problem, box: tuple[float, float], *, seed: int = 0, start: Solution | None = None
) -> Solution | None:
    """The best shares and N in `box` for every row; None where no start lies inside the law's domain.

    Args:
        start: the solution of a problem of one row nearby, tried first.
    """
    K, R = len(problem.languages), problem.draws
    low, high = float(np.log(box[0])), float(np.log(box[1]))
    candidates = _starts(problem, seed) if start is None else [_inside(start.shares[0])]
    best_shares, best_n = np.full((R, K), np.nan), np.full(R, np.nan)
    best = np.full(R, np.inf)
    tried = 0
    for shares in candidates:
        p = np.broadcast_to(shares, (R, K)).copy()
        n, value = _scan(problem, p, low, high)
        inside = np.isfinite(value)
        if not inside.any():
            continue
        tried += 1
        rows = np.flatnonzero(inside)
        p_end, n_end = _follow(problem.at(rows), p[rows], n[rows], low, high)
        end = problem.at(rows).objective(p_end, n_end)
        better = end < best[rows]
        keep = rows[better]
        best[keep], best_n[keep], best_shares[keep] = end[better], n_end[better], p_end[better]
    if not np.isfinite(best).any():
        return None
    best_shares = _cleaned(problem, best_shares, best_n, best)
    edge = (best_n < low + 1e-3) | (best_n > high - 1e-3)
    return Solution(best_shares, np.exp(best_n), best, tried, edge)


def _starts(problem: Problem, seed: int) -> list[Array]:
    """Even shares; where transfer may be negative also the targets alone and random shares."""
    K = len(problem.languages)
    even = np.full(K, 1 / K)
    if problem.convex or K == 1:
        return [even]
    own = np.zeros(K)
    own[problem.own] = 1 / len(set(problem.own.tolist()))
    rng = np.random.default_rng(seed)
    random = [_inside(0.5 * own + 0.5 * rng.dirichlet(np.full(K, 0.5))) for _ in range(_RANDOM_STARTS)]
    return [even, _inside(own), *random]


def _cleaned(problem: Problem, shares: Array, n: Array, best: Array) -> Array:
    """Drop the barrier's shadow, tiny shares, where that costs nothing; of targets only if they can do without."""
    found = shares
    for spare_targets in (True, False):
        tiny = shares < NEGLIGIBLE
        if spare_targets:
            tiny[:, problem.own] = False
        clean = np.where(tiny, 0.0, shares)
        clean /= clean.sum(1, keepdims=True)
        free = problem.objective(clean, n) <= best * (1 + 1e-9)
        found = np.where(free[:, None], clean, found)
    return found


def _inside(shares: Array) -> Array:
    return (0.999 * shares / shares.sum()) + 0.001 / len(shares)


def _scan(problem: Problem, shares: Array, low: float, high: float) -> tuple[Array, Array]:
    """The best N of a grid for given shares."""
    grid = np.linspace(low, high, _SIZES + 2)[1:-1]
    values = np.stack([problem.objective(shares, np.full(problem.draws, n)) for n in grid])
    values = np.where(np.isnan(values), np.inf, values)
    return grid[values.argmin(0)], values.min(0)


def _follow(problem: Problem, p: Array, n: Array, low: float, high: float) -> tuple[Array, Array]:
    """Newton steps along the barrier's path."""
    scale = np.maximum(problem.objective(p, n), 1e-300)
    for weight in BARRIERS:
        p, n = _newton(problem, p, n, weight * scale, low, high)
    return p, n


def _newton(problem: Problem, p: Array, n: Array, mu: Array, low: float, high: float) -> tuple[Array, Array]:
    value = _barriered(problem, p, n, mu, low, high)
    active = np.ones(len(n), bool)
    for _ in range(_NEWTON):
        rows = np.flatnonzero(active)
        part = problem.at(rows)
        step_p, step_n, decrement = _step(part, p[rows], n[rows], mu[rows], low, high)
        done = decrement <= 1e-16 * np.abs(value[rows]) + 1e-3 * 1e-6 * mu[rows]
        p_new, n_new, v_new, moved = _search(
            part, p[rows], n[rows], value[rows], step_p, step_n, decrement, mu[rows], low, high
        )
        p[rows], n[rows], value[rows] = p_new, n_new, v_new
        active[rows[done | ~moved]] = False
        if not active.any():
            break
    return p, n


def _barriered(problem: Problem, p: Array, n: Array, mu: Array, low: float, high: float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        barrier = np.log(p).sum(1) + np.log(n - low) + np.log(high - n)
        value = problem.objective(p, n) - mu * barrier
    return np.where(np.isfinite(value), value, np.inf)


def _step(problem: Problem, p: Array, n: Array, mu: Array, low: float, high: float) -> tuple[Array, Array, Array]:
    """A descent direction with sum(dp) = 0, and the decrease it promises at first order."""
    R, K = p.shape
    gradient, hessian = problem.derivatives(p, n)
    gradient[:, :K] -= mu[:, None] / p
    gradient[:, K] += mu * (1 / (high - n) - 1 / (n - low))
    # Scaled variables dp = p y make the barrier's curvature mu times the identity.
    scale = np.concatenate([p, np.ones((R, 1))], axis=1)
    g = gradient * scale
    H = hessian * scale[:, :, None] * scale[:, None, :]
    H[:, np.arange(K), np.arange(K)] += mu[:, None]
    H[:, K, K] += mu * (1 / (high - n) ** 2 + 1 / (n - low) ** 2)
    system = np.zeros((R, K + 2, K + 2))
    system[:, : K + 1, : K + 1] = H
    system[:, K + 1, :K] = p
    system[:, :K, K + 1] = p
    right = np.concatenate([-g, np.zeros((R, 1))], axis=1)
    try:
        y = np.linalg.solve(system, right[..., None])[..., 0][:, : K + 1]
    except np.linalg.LinAlgError:
        y = np.full((R, K + 1), np.nan)
    descent = -np.einsum("rk,rk->r", g, y)
    poor = ~(np.isfinite(y).all(1) & (descent > 0))
    if poor.any():
        y[poor] = _saddle_free(H[poor], g[poor], p[poor])
        descent = -np.einsum("rk,rk->r", g, y)
    step = y * scale
    return step[:, :K], step[:, K], np.maximum(descent, 0.0)


def _saddle_free(H: Array, g: Array, p: Array) -> Array:
    """Newton with the absolute eigenvalues of the Hessian on the plane sum(p y) = 0: always downhill."""
    a = np.concatenate([p, np.zeros((len(p), 1))], axis=1)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    project = np.eye(H.shape[1]) - a[:, :, None] * a[:, None, :]
    values, vectors = np.linalg.eigh(project @ H @ project)
    values = np.maximum(np.abs(values), 1e-10 * np.abs(values).max(1, keepdims=True) + 1e-300)
    flat = np.einsum("rij,rj->ri", project, -g)
    inner = np.einsum("rji,rj->ri", vectors, flat) / values
    return np.einsum("rij,rj->ri", project, np.einsum("rij,rj->ri", vectors, inner))


def _search(
    problem: Problem, p: Array, n: Array, value: Array, step_p: Array, step_n: Array, descent: Array,
    mu: Array, low: float, high: float,
) -> tuple[Array, Array, Array, NDArray[np.bool_]]:  # fmt: skip
    """Backtrack from the largest step inside the bounds until the objective falls; rows that cannot stay put."""
    with np.errstate(divide="ignore", invalid="ignore"):
        to_zero = np.where(step_p < 0, -p / step_p, np.inf).min(1)
        to_edge = np.where(step_n < 0, (low - n) / step_n, np.where(step_n > 0, (high - n) / step_n, np.inf))
    t = np.minimum(1.0, 0.99 * np.minimum(to_zero, to_edge))
    p_new, n_new, v_new = p.copy(), n.copy(), value.copy()
    open_rows = np.ones(len(n), bool)
    for _ in range(_BACKTRACKS):
        rows = np.flatnonzero(open_rows)
        p_try, n_try = p[rows] + t[rows, None] * step_p[rows], n[rows] + t[rows] * step_n[rows]
        v_try = _barriered(problem.at(rows), p_try, n_try, mu[rows], low, high)
        good = v_try <= value[rows] - 1e-4 * t[rows] * descent[rows] + 4e-16 * np.abs(value[rows])
        kept = rows[good]
        p_new[kept], n_new[kept], v_new[kept] = p_try[good], n_try[good], v_try[good]
        open_rows[kept] = False
        t[open_rows] *= 0.4
        if not open_rows.any():
            break
    return p_new, n_new, v_new, ~open_rows
