"""Problems near a solved one, by Newton's method on the languages that are trained on.

    minimise  f(p, n)   subject to  sum p = 1,  p >= 0;   at the best, with nu = p'g and g = df/dp,
    g_k = nu where p_k > 0,   g_k >= nu where p_k = 0

From the optimum of a problem nearby only a few languages join or leave, so no barrier is needed: an idle language with
g_k >= nu stays idle, the others take a Newton step together, and what would fall below nothing is set to nothing (the
primal-dual active set, a semismooth Newton method: Hintermueller, Ito and Kunisch 2002). Rows whose last whole step was
short are solved, and their error is about that step's square; the others are handed back for the barrier's path.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.newton import Box
from babelscale.planning.problem import Problem
from babelscale.planning.streams import Point, Streams

Array = NDArray[np.float64]
_STEPS, _CUTS = 9, 3
# A share larger than this falls to a tenth at most in a step: power laws are steep, and Newton's model is not.
_TINY, _FALL = 1e-4, 0.1
_REACH, _ROUNDING = 1.5, 1e-13


class Near(NamedTuple):
    """Shares (R, K), n and value (R,); `solved` where the last step was short enough."""

    shares: Array
    n: Array
    value: Array
    solved: NDArray[np.bool_]


def suits(problem: Problem) -> bool:
    """Whether the method holds: a convex mean of losses, without bounds or a price on the share."""
    return (
        problem.convex and problem.outer.scenario is None and not problem.separable and not problem.limits.any
        and not problem.gamma.any()
    )  # fmt: skip


def near(problem: Problem, p: Array, n: Array, box: Box | None, short: float) -> Near:
    """Follow every row from shares and n nearby. `box`: of n; None: n stays. `short`: the last step's largest change
    of a share (and of n)."""
    every = Streams.of(problem)
    p, n = p.copy(), n.copy()
    solved, value = np.zeros(len(n), bool), np.full(len(n), np.inf)
    rows, part = np.arange(len(n)), every
    at = every.point(p, n)
    for _ in range(_STEPS):
        dp, dn = _direction(part, at, p[rows], n[rows], box is not None)
        p_new, n_new, at, whole = _moved(part, at, p[rows], n[rows], dp, dn)
        size = np.maximum(np.abs(p_new - p[rows]).max(1), np.abs(n_new - n[rows]))
        p[rows], n[rows], value[rows] = p_new, n_new, at.value
        done = whole & (size <= short)
        solved[rows[done]] = True
        left = ~done & np.isfinite(at.value)
        if not left.any():
            break
        if not left.all():
            rows, part = rows[left], part.at(np.flatnonzero(left))
            at = Point(*(each[left] for each in at))
    if box is not None:
        solved &= (n > box.low + 1e-3) & (n < box.high - 1e-3)
    return Near(p, n, value, solved & np.isfinite(value))


def _direction(part: Streams, at: Point, p: Array, n: Array, free: bool) -> tuple[Array, Array]:
    """The Newton step of the trained languages and n; NaN where there is none or it goes uphill."""
    H, border, corner = part.hessian(at, p, n)
    R, K = p.shape
    # Less nu, which the sum of the step multiplies by nothing: rounding then matters less.
    g = at.by_p - (at.by_p * p).sum(1, keepdims=True)
    idle = (p <= 0) & (g >= 0)
    A, right = np.zeros((R, K + 2, K + 2)), np.zeros((R, K + 2))
    trained = ~idle
    A[:, :K, :K] = H * trained[:, :, None] * trained[:, None, :]
    k = np.arange(K)
    # A ridge far below the curvature decides between languages that do the same.
    A[:, k, k] += np.where(idle, 1.0, 1e-10 * H[:, k, k].max(1, keepdims=True))
    A[:, :K, K + 1] = A[:, K + 1, :K] = trained
    right[:, :K] = -g * trained
    if free:
        A[:, :K, K] = A[:, K, :K] = border * trained
        A[:, K, K], right[:, K] = corner, -at.by_n
    else:
        A[:, K, K] = 1.0
    try:
        step = np.linalg.solve(A, right[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        step = np.full(right.shape, np.nan)
    uphill = ~((step[:, : K + 1] * right[:, : K + 1]).sum(1) > -_ROUNDING * np.abs(at.value))
    step[uphill] = np.nan
    return step[:, :K], step[:, K]


def _moved(
    part: Streams, at: Point, p: Array, n: Array, dp: Array, dn: Array
) -> tuple[Array, Array, Point, NDArray[np.bool_]]:
    """Shares and n after the step, or the part of it that does not raise the value; where that was all of it."""
    t = np.minimum(1.0, _REACH / np.maximum(np.abs(dn), 1e-300))
    whole = t == 1
    for _ in range(_CUTS):
        p_new = np.maximum(p + t[:, None] * dp, np.where(p > _TINY, _FALL * p, 0.0))
        p_new /= p_new.sum(1, keepdims=True)
        n_new = n + t * dn
        after = part.point(p_new, n_new)
        worse = ~(after.value <= at.value + _ROUNDING * np.abs(at.value))
        if not worse.any():
            break
        t = np.where(worse, 0.3 * t, t)
        whole &= ~worse
    else:
        after = after._replace(value=np.where(worse, np.inf, after.value))
    return p_new, n_new, after, whole
