"""Damped Newton with bounds on many problems at once.

Huber's objective is piecewise smooth: with delta far below the residuals most rows pull with constant force, the
Hessian is often indefinite, and reweighted least squares crawl. Each step therefore solves
(|H| + mu S) s = -g in the scale S of the weighted least-squares problem, with |H| the Hessian's eigenvalues taken
positive; mu falls after a good step and rises after a bad one. Rows enter the quadratic zone from a wider delta.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale.fitting.absolute import polish
from babelscale.fitting.objective import Array, Evaluation, FitProblem


@dataclass(frozen=True)
class Effort:
    """How hard to search: starts, the share of F below which a step's gain ends the search, the most steps.

    `wider`: multiples of delta to solve first, which keeps far starts from stalling on kinks.

    A table with few losses a parameter has kinked, nearly flat valleys that take hundreds of steps for the fourth
    digit of F; only the reported optimum is worth that.
    """

    starts: int
    tolerance: float
    most: int
    wider: tuple[float, ...] = ()


EXACT = Effort(starts=8, tolerance=1e-15, most=600, wider=(64.0, 8.0))
QUICK = Effort(starts=3, tolerance=1e-5, most=60, wider=(16.0,))
RESAMPLE = Effort(starts=1, tolerance=1e-9, most=200)
ROUGH = Effort(starts=1, tolerance=1e-4, most=60)
PATH = Effort(starts=1, tolerance=1e-9, most=100)
_START = 1e-3  # Huber's delta from which least absolute deviation is approached
_LAST = 1e-7  # and the share of the typical residual at which the approach gives up


@dataclass(frozen=True)
class Optimum:
    """z (b, p), objective (b,), steps taken, and which problems met the tolerance."""

    z: Array
    value: Array
    steps: int
    converged: NDArray[np.bool_]


def minimise(
    problem: FitProblem,
    z: Array,
    weights: Array,
    delta: float,
    effort: Effort = EXACT,
    bounds: tuple[Array, Array] | None = None,
) -> Optimum:
    """Local minima of the objective from each row of z, shape (problems, size).

    delta = inf is least squares, delta = 0 least absolute deviation. `bounds` replaces the problem's; each may have a
    row a problem.
    """
    low, high = (np.broadcast_to(edge, z.shape) for edge in bounds or problem.bounds)
    z = np.clip(z, low, high)
    weights = np.broadcast_to(weights, (len(z), len(problem.log_loss)))
    taken = 0
    first = delta if delta > 0 else _START
    if np.isfinite(first):
        for factor in effort.wider:
            rough = _descend(problem, z, weights, factor * first, ROUGH, low, high)
            z, taken = rough.z, taken + rough.steps
    exact = _descend(problem, z, weights, first, effort if delta > 0 else PATH, low, high)
    if delta == 0:
        exact = _absolute(problem, exact, weights, low, high)
    return Optimum(exact.z, exact.value, taken + exact.steps, exact.converged)


def _absolute(problem: FitProblem, found: Optimum, weights: Array, low: Array, high: Array) -> Optimum:
    """Least absolute deviation from a Huber optimum: delta falls until the rows inside it are those met exactly."""
    z, proved, taken = found.z.copy(), np.zeros(len(found.z), bool), found.steps
    best = int(np.argmin(np.where(np.isfinite(found.value), found.value, np.inf)))
    typical = float(np.median(np.abs(problem.residual(found.z[best]))))
    delta = min(typical / 4, _START)
    open_ = np.isfinite(found.value)
    while open_.any() and delta > max(_LAST * typical, 1e-12):
        rows = np.flatnonzero(open_)
        part = _descend(problem, z[rows], weights[rows], delta, PATH, low[rows], high[rows])
        taken += part.steps
        z[rows], proved[rows] = polish(problem, part.z, weights[rows], delta, low[rows], high[rows])
        open_ = open_ & ~proved
        delta /= 4
    end = problem.evaluate(z, weights, 0.0)
    return Optimum(z, end.value, taken, proved | (end.value <= 1e-9 * weights.sum(axis=1)))


def _descend(
    problem: FitProblem, z: Array, weights: Array, delta: float, effort: Effort, low: Array, high: Array
) -> Optimum:
    z = z.copy()
    here = problem.evaluate(z, weights, delta)
    mu = np.full(len(z), 1e-3)
    converged = np.zeros(len(z), bool)
    open_ = np.isfinite(here.value)
    steps = 0
    while open_.any() and steps < effort.most:
        steps += 1
        rows = np.flatnonzero(open_)
        now = here.at(rows)
        step, promise, decrement = _step(z[rows], now, mu[rows], low[rows], high[rows])
        trial = np.clip(z[rows] + step, low[rows], high[rows])
        there = problem.evaluate(trial, weights[rows], delta)
        gain = now.value - there.value
        better = gain > 0
        moved = rows[better]
        z[moved] = trial[better]
        here.put(moved, there.at(better))
        good = better & (gain > 0.25 * promise)
        mu[rows] = np.where(good, mu[rows] / 8, np.where(better, mu[rows], np.maximum(mu[rows], 1e-8) * 6))
        mu[rows] = np.clip(mu[rows], 1e-14, 1e14)
        done = decrement <= effort.tolerance * now.value
        # A step too small for the arithmetic to see its gain: the minimum as far as float64 can tell.
        done |= ~better & (decrement <= 1e-13 * now.value)
        done |= now.value <= 1e-28
        converged[rows[done]] = True
        open_[rows[done | (mu[rows] >= 1e14)]] = False
    return Optimum(z, here.value, steps, converged)


def _step(z: Array, now: Evaluation, mu: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """The damped Newton step inside the bounds, the decrease it promises, and the decrease without damping.

    The last tells how far the minimum is; the promise shrinks with damping and would end a search that is merely slow.
    """
    held = ((z <= low) & (now.gradient > 0)) | ((z >= high) & (now.gradient < 0))
    floor = 1e-12 * now.scale.max(axis=1, keepdims=True) + 1e-300
    root = np.sqrt(np.maximum(now.scale, floor))
    g = np.where(held, 0.0, now.gradient / root)
    H = now.hessian / (root[:, :, None] * root[:, None, :])
    H = np.where(held[:, :, None] | held[:, None, :], 0.0, H)
    size = z.shape[1]
    H[:, range(size), range(size)] += held  # a held coordinate: an equation of its own with no force
    values, vectors = np.linalg.eigh(H)
    curved = np.maximum(np.abs(values), 1e-12) + mu[:, None]
    along = np.einsum("bpk,bp->bk", vectors, g)
    move = -np.einsum("bpk,bk->bp", vectors, along / curved)
    promise = 0.5 * (along**2 / curved).sum(axis=1)
    decrement = 0.5 * (along**2 / np.maximum(np.abs(values), 1e-10)).sum(axis=1)
    return move / root, promise, decrement
