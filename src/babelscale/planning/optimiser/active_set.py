"""Active set: problems near a solved one, by Newton's method on the languages that are trained on.

    minimise  f(p, n)   subject to  sum p = 1,  p >= 0;   at the best, with nu = p'g and g = df/dp,
    g_k = nu where p_k > 0,   g_k >= nu where p_k = 0

Between the optima of two similar problems only a few languages join or leave, so no barrier is needed. Languages with
p_k < (g_k - nu) / H_kk, whose own Newton step ends below 0, are set to 0, and the others take a Newton step together
(the primal-dual active set, a semismooth Newton method: Hintermueller, Ito and Kunisch 2002). Rows whose last whole
step was short are solved, with an error of about the square of that step; `interior_point` solves the others.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.optimiser.evaluate import LossDerivatives, LossEvaluator
from babelscale.planning.optimiser.newton import Box, NewtonSystem

Array = NDArray[np.float64]
_STEPS, _TRIES = 15, 5
# Where a whole step raises the value, shares fall to this part at most: power laws are steep near 0.
_FALL, _SHORTER = 0.3, 0.4
# Tokens grow to this many times themselves, or their unique ones, in a step. Languages whose step leaves its bounds are
# fixed there and the system is solved again for the others, this often.
_GROW, _EPOCHS, _SOLVES = 4.0, 2.0, 4
_REACH, _ROUNDING = 1.5, 1e-13


class ActiveSetResult(NamedTuple):
    """Shares (R, K), n and value (R,); `solved` where the last step was short enough."""

    shares: Array
    n: Array
    value: Array
    solved: NDArray[np.bool_]


def applies(problem: LossEvaluator) -> bool:
    """Whether the method holds: a convex mean of losses, without bounds or a price on the share."""
    return problem.convex and problem.risk.scenario is None and not problem.constraints.any and not problem.gamma.any()


def follow(
    problem: LossEvaluator, p: Array, n: Array, box: Box | None, short: float, gap: float = np.inf
) -> ActiveSetResult:
    """Follow every row from shares and n nearby.

    Args:
        box: of n; None: n stays.
        short: the last step's largest change of a share (and of n).
        gap: max_k(nu - g_k), which bounds what any mixture at this n could gain (see `certificate`), relative.
    """
    p, n = p.copy(), n.copy()
    solved, value = np.zeros(len(n), bool), np.full(len(n), np.inf)
    rows, part = np.arange(len(n)), problem
    at = problem.derivatives(p, n)
    for _ in range(_STEPS):
        before = at
        at, whole = _line_search(part, before, *_direction(part, before, box is not None))
        size = np.maximum(np.abs(at.p - before.p).max(1), np.abs(at.n - before.n))
        p[rows], n[rows], value[rows] = at.p, at.n, at.value
        done = whole & (size <= short) & ((at.by_p * at.p).sum(1) - at.by_p.min(1) <= gap * np.abs(at.value))
        solved[rows[done]] = True
        left = ~done & np.isfinite(at.value)
        if not left.any():
            break
        if not left.all():
            rows, part, at = rows[left], part.at(np.flatnonzero(left)), at.at(left)
    if box is not None:
        solved &= (n > box.low + 1e-3) & (n < box.high - 1e-3)
    return ActiveSetResult(p, n, value, solved & np.isfinite(value))


def _direction(part: LossEvaluator, at: LossDerivatives, free: bool) -> tuple[Array, Array]:
    """The Newton step of shares and n that stays within 0 and `_ceiling`; NaN where there is none or it goes uphill."""
    H, border, corner = part.hessian(at)
    # Without nu, by which the sum of the step multiplies nothing: rounding then matters less.
    g, p = at.by_p - (at.by_p * at.p).sum(1, keepdims=True), at.p
    low, high = -p, _ceiling(part, at) - p
    fixed = (g > 0) & (p * (H if part.diagonal else np.einsum("rkk->rk", H)) <= g)
    if not part.diagonal:
        k = np.arange(p.shape[1])
        # A ridge far below the curvature decides between languages that do the same.
        H[:, k, k] *= 1 + 1e-10
    system = NewtonSystem(H, border, corner, g, at.by_n, np.ones_like(p))
    system = system if free else system.with_fixed_size()
    dp, dn = np.where(fixed, low, 0.0), np.zeros_like(at.n)
    rows = np.arange(len(dn))
    for _ in range(_SOLVES):
        some = system if len(rows) == len(dn) else system.at(rows)
        dp[rows], dn[rows] = some.step(fixed[rows], dp[rows])
        out = ~fixed & ((dp < low) | (dp > high))
        rows = np.flatnonzero(out.any(1))
        if not len(rows):
            break
        fixed |= out
        dp = np.where(out, np.clip(dp, low, high), dp)
    with np.errstate(invalid="ignore"):
        descent = -(dp * g).sum(1) - dn * system.g_n
    uphill = ~(descent > -_ROUNDING * np.abs(at.value))
    dp[uphill], dn[uphill] = np.nan, np.nan
    return dp, dn


def _ceiling(part: LossEvaluator, at: LossDerivatives) -> Array:
    """The largest shares of a step: below its unique tokens a language's curvature does not include repeats."""
    return np.maximum(_GROW * at.p, _EPOCHS * part.unique / at.X[:, None])


def _line_search(
    part: LossEvaluator, at: LossDerivatives, dp: Array, dn: Array
) -> tuple[LossDerivatives, NDArray[np.bool_]]:
    """The derivatives after the step, or after a part of it that does not raise the value; where it is the whole."""
    t, floor = np.minimum(1.0, _REACH / np.maximum(np.abs(dn), 1e-300)), np.zeros_like(at.p)
    whole, worse, after = t == 1, np.ones(len(t), bool), at
    for turn in range(_TRIES):
        p = np.maximum(at.p + t[:, None] * dp, floor)
        after = part.derivatives(p / p.sum(1, keepdims=True), at.n + t * dn)
        worse = ~(after.value <= at.value + _ROUNDING * np.abs(at.value))
        if not worse.any():
            break
        whole &= ~worse
        floor = np.where(worse[:, None], _FALL * at.p, floor)
        t = np.where(worse & (turn > 0), _SHORTER * t, t)
    return after._replace(value=np.where(worse, np.inf, after.value)), whole
