"""Problems near a solved one, by Newton's method on the languages that are trained on.

    minimise  f(p, n)   subject to  sum p = 1,  p >= 0;   at the best, with nu = p'g and g = df/dp,
    g_k = nu where p_k > 0,   g_k >= nu where p_k = 0

From the optimum of a problem nearby only a few languages join or leave, so no barrier is needed: languages with
p_k < (g_k - nu) / H_kk, whose own Newton step ends below nothing, are set to nothing, and the others take a Newton step
together (the primal-dual active set, a semismooth Newton method: Hintermueller, Ito and Kunisch 2002). Rows whose last
whole step was short are solved, and their error is about that step's square; the others are handed back for the
barrier's path.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.optimiser.newton import Box
from babelscale.planning.optimiser.streams import LossDerivatives, PairEvaluator

Array = NDArray[np.float64]
_STEPS, _TRIES = 15, 5
# Where a whole step raises the value, shares fall to this part at most: power laws are steep near nothing.
_FALL, _SHORTER = 0.3, 0.4
# Tokens grow to this many times themselves, or their unique ones, in a step. Languages whose step leaves its bounds are
# held there and the others solved for again, this often.
_GROW, _EPOCHS, _SOLVES = 4.0, 2.0, 4
_REACH, _ROUNDING = 1.5, 1e-13


class Near(NamedTuple):
    """Shares (R, K), n and value (R,); `solved` where the last step was short enough."""

    shares: Array
    n: Array
    value: Array
    solved: NDArray[np.bool_]


def suits(problem: LossEvaluator) -> bool:
    """Whether the method holds: a convex mean of losses, without bounds or a price on the share."""
    return problem.convex and problem.risk.scenario is None and not problem.constraints.any and not problem.gamma.any()


def near(problem: LossEvaluator, p: Array, n: Array, box: Box | None, short: float, gap: float = np.inf) -> Near:
    """Follow every row from shares and n nearby.

    Args:
        box: of n; None: n stays.
        short: the last step's largest change of a share (and of n).
        gap: max_k(nu - g_k), which bounds what any mixture at this n could gain (see `certificate`), relative.
    """
    every = PairEvaluator.of(problem)
    p, n = p.copy(), n.copy()
    solved, value = np.zeros(len(n), bool), np.full(len(n), np.inf)
    rows, part = np.arange(len(n)), every
    at = every.point(p, n)
    for _ in range(_STEPS):
        dp, dn = _direction(part, at, p[rows], n[rows], box is not None)
        p_new, n_new, at, whole = _moved(part, at, p[rows], n[rows], dp, dn)
        size = np.maximum(np.abs(p_new - p[rows]).max(1), np.abs(n_new - n[rows]))
        p[rows], n[rows], value[rows] = p_new, n_new, at.value
        done = whole & (size <= short) & (_gap(at, p_new) <= gap * np.abs(at.value))
        solved[rows[done]] = True
        left = ~done & np.isfinite(at.value)
        if not left.any():
            break
        if not left.all():
            rows, part = rows[left], part.at(np.flatnonzero(left))
            at = LossDerivatives(*(each[left] for each in at))
    if box is not None:
        solved &= (n > box.low + 1e-3) & (n < box.high - 1e-3)
    return Near(p, n, value, solved & np.isfinite(value))


def _gap(at: LossDerivatives, p: Array) -> Array:
    return (at.by_p * p).sum(1) - at.by_p.min(1)


def _direction(part: PairEvaluator, at: LossDerivatives, p: Array, n: Array, free: bool) -> tuple[Array, Array]:
    """The Newton step of shares and n that stays within 0 and `_ceiling`; NaN where there is none or it goes uphill."""
    H, border, corner = part.hessian(at, p, n)
    # Less nu, which the sum of the step multiplies by nothing: rounding then matters less.
    g = at.by_p - (at.by_p * p).sum(1, keepdims=True)
    low, high = -p, _ceiling(part.problem, p, n) - p
    curved = H if part.diagonal else np.einsum("rkk->rk", H)
    if not free:
        border, corner = np.zeros_like(border), np.ones_like(corner)
    held = (g > 0) & (p * curved <= g)
    system = _System(H, border, corner, g, at.by_n if free else np.zeros_like(n))
    dp, dn = np.where(held, low, 0.0), np.zeros_like(n)
    rows = np.arange(len(n))
    for _ in range(_SOLVES):
        some = system if len(rows) == len(n) else _System(*(each[rows] for each in system))
        dp[rows], dn[rows] = (_solved_diagonal if part.diagonal else _solved)(some, held[rows], dp[rows])
        out = ~held & ((dp < low) | (dp > high))
        rows = np.flatnonzero(out.any(1))
        if not len(rows):
            break
        held |= out
        dp = np.where(out, np.clip(dp, low, high), dp)
    with np.errstate(invalid="ignore"):
        descent = -(dp * g).sum(1) - dn * system.g_n
    uphill = ~(descent > -_ROUNDING * np.abs(at.value))
    dp[uphill], dn[uphill] = np.nan, np.nan
    return dp, dn


class _System(NamedTuple):
    """H dp + border dn + nu = -g,  border'dp + corner dn = -g_n,  sum dp = 0; held languages have their dp instead."""

    H: Array
    border: Array
    corner: Array
    g: Array
    g_n: Array


def _solved(s: _System, held: NDArray[np.bool_], dp: Array) -> tuple[Array, Array]:
    R, K = s.g.shape
    A, right, k = np.zeros((R, K + 2, K + 2)), np.zeros((R, K + 2)), np.arange(K)
    A[:, :K, :K], A[:, :K, K], A[:, K, :K], A[:, K, K] = s.H, s.border, s.border, s.corner
    A[:, :K, K + 1], A[:, K + 1, :K] = 1.0, 1.0
    # A ridge far below the curvature decides between languages that do the same.
    A[:, k, k] *= 1 + 1e-10
    A[:, :K][held] = 0.0
    A[:, k, k] = np.where(held, 1.0, A[:, k, k])
    right[:, :K], right[:, K] = np.where(held, dp, -s.g), -s.g_n
    try:
        step = np.linalg.solve(A, right[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        step = np.full(right.shape, np.nan)
    return np.asarray(step[:, :K], np.float64), np.asarray(step[:, K], np.float64)


def _solved_diagonal(s: _System, held: NDArray[np.bool_], dp: Array) -> tuple[Array, Array]:
    """dp = -(g + border dn + nu) / H of the others; the two sums that are left give dn and nu."""
    fixed, b = np.where(held, dp, 0.0), s.border
    with np.errstate(divide="ignore", invalid="ignore"):
        w = np.where(held, 0.0, 1 / s.H)
        one, by_b, by_bb = w.sum(1), (w * b).sum(1), (w * b * b).sum(1)
        # by_b dn + one nu = left and (corner - by_bb) dn - by_b nu = right
        left, right = fixed.sum(1) - (w * s.g).sum(1), (w * b * s.g).sum(1) - s.g_n - (b * fixed).sum(1)
        dn = (right * one + by_b * left) / ((s.corner - by_bb) * one + by_b**2)
        nu = (left - by_b * dn) / one
        return np.where(held, dp, -w * (s.g + b * dn[:, None] + nu[:, None])), dn


def _ceiling(problem: LossEvaluator, p: Array, n: Array) -> Array:
    """How far a share may grow in a step: below its unique tokens a language's curvature does not tell of repeats."""
    return np.maximum(_GROW * p, _EPOCHS * problem.unique / problem.budget(n)[0][:, None])


def _moved(
    part: PairEvaluator, at: LossDerivatives, p: Array, n: Array, dp: Array, dn: Array
) -> tuple[Array, Array, LossDerivatives, NDArray[np.bool_]]:
    """Shares and n after the step, or the part of it that does not raise the value; where that was all of it."""
    t, floor = np.minimum(1.0, _REACH / np.maximum(np.abs(dn), 1e-300)), np.zeros_like(p)
    whole, worse = t == 1, np.ones(len(n), bool)
    p_new, n_new, after = p, n, at
    for turn in range(_TRIES):
        p_new = np.maximum(p + t[:, None] * dp, floor)
        p_new, n_new = p_new / p_new.sum(1, keepdims=True), n + t * dn
        after = part.point(p_new, n_new)
        worse = ~(after.value <= at.value + _ROUNDING * np.abs(at.value))
        if not worse.any():
            break
        whole &= ~worse
        floor = np.where(worse[:, None], _FALL * p, floor)
        t = np.where(worse & (turn > 0), _SHORTER * t, t)
    return p_new, n_new, after._replace(value=np.where(worse, np.inf, after.value)), whole
