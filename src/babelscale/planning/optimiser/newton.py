"""Newton steps along a barrier's path, for all rows of a planning problem together.

    minimise  Phi_mu(L(p, n)) - mu [sum log p + log(n - low) + log(high - n) + sum log slack]   subject to  sum p = 1

Steps are primal-dual (Wright 1997, Primal-Dual Interior-Point Methods, chapter 1): the curvature of the barrier on p is
z / p with multipliers z of p >= 0, not mu / p^2, so that shares on their way to nothing get there in a few steps. In
scaled variables dp = p y that curvature is p z. Where no language helps another the Hessian is a diagonal with a
border, and a step costs O(K); otherwise O(K^3).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.optimiser.evaluate import LossEvaluator, Slopes
from babelscale.planning.optimiser.token_space_newton import advance, direction

Array = NDArray[np.float64]
_BACKTRACKS = 40
# A level of the path is centred when the Newton decrement is this part of mu; the last one is followed to the end.
_CENTRED, _EXACT = 0.5, 1e-9
# How far p z may lie from mu at the end of a level, relative, and at most between steps.
_NEAR, _BAND = 0.5, 1e6


class Box(NamedTuple):
    """The interval of n = log N, shape (R,) each; None: n stays where it is."""

    low: Array
    high: Array

    def at(self, rows: NDArray[np.intp] | slice) -> "Box":
        return Box(self.low[rows], self.high[rows])


class System(NamedTuple):
    """Scaled gradient and Hessian of the barrier problem: shapes (R, K), (R,), (R, K), (R, K, K) or None, (R, K),
    (R,)."""

    g: Array
    g_n: Array
    diagonal: Array
    dense: Array | None
    border: Array
    corner: Array


def follow(
    problem: LossEvaluator, p: Array, n: Array, z: Array, box: Box | None, mu: Array, steps: int, exact: bool
) -> tuple[Array, Array, Array]:
    """Newton's method at one weight of the barrier, from an interior point; p, n and z there. `mu` (R,), `z` (R, K)."""
    p, n, z = p.copy(), n.copy(), z.copy()
    value = barriered(problem, p, n, mu, box)
    active = np.flatnonzero(np.isfinite(value))
    target = (1e-16 * np.abs(value) if exact else 0.0) + (_EXACT if exact else _CENTRED) * mu
    for _ in range(steps):
        whole = len(active) == len(n)
        part = problem if whole else problem.at(active)
        edges = None if box is None else box.at(active)
        m, old = mu[active], p[active]
        if edges is None or not part.constraints.any:
            step_p, step_n, decrement = _step(part, old, n[active], z[active], m, edges)
        else:
            step_p, step_n, decrement = _tokens_step(part, old, n[active], z[active], m, edges)
        now = old, n[active], value[active]
        p[active], n[active], value[active], moved = _search(part, now, (step_p, step_n, decrement), m, edges)
        z[active] = _multipliers(z[active], old, step_p, p[active], m)
        centred = np.abs(z[active] * p[active] / m[:, None] - 1).max(1) < _NEAR
        done = (decrement <= target[active]) & (centred | ~moved)
        active = active[~done & (moved | ~centred)]
        if not len(active):
            break
    return p, n, z


def _multipliers(z: Array, p: Array, step: Array, p_new: Array, mu: Array) -> Array:
    """z + dz, with dz = mu / p - z - z dp / p, kept within a wide band around mu / p."""
    middle = mu[:, None] / p_new
    return np.clip(mu[:, None] / p - z * step / p, middle / _BAND, middle * _BAND)


def barriered(problem: LossEvaluator, p: Array, n: Array, mu: Array, box: Box | None) -> Array:
    """The barrier problem's value, shape (R,); infinite outside."""
    with np.errstate(divide="ignore", invalid="ignore"):
        barrier = np.log(p).sum(1)
        if box is not None:
            barrier = barrier + np.log(n - box.low) + np.log(box.high - n)
        if problem.constraints.any:
            X = problem.budget(n)[0]
            barrier = barrier + problem.constraints.barrier(p, X)
            if box is not None:
                # Steps are in tokens there: the barrier is on log D and on slacks in tokens.
                barrier = barrier + (p.shape[1] + problem.constraints.count) * np.log(X)
        inside = np.isfinite(barrier) & (problem.budget(n)[0] > 0)
        value = np.full(len(n), np.inf)
        if inside.all():
            value = problem.objective(p, n, mu) - mu * barrier
        elif inside.any():
            rows = np.flatnonzero(inside)
            value[rows] = problem.at(rows).objective(p[rows], n[rows], mu[rows]) - mu[rows] * barrier[rows]
    return np.where(np.isfinite(value), value, np.inf)


def system(problem: LossEvaluator, p: Array, n: Array, z: Array, mu: Array, box: Box | None) -> System:
    """Scaled gradient and Hessian at interior points."""
    s = problem.slopes(p, n, mu)
    by_p, by_n, diagonal, border, corner = s.by_p.copy(), s.by_n.copy(), s.diagonal, s.border, s.corner.copy()
    dense = s.dense
    if problem.constraints.any:
        by_p, by_n, diagonal, dense, border, corner = _limited(problem, p, n, mu, s)
    g = by_p * p - mu[:, None]
    if box is not None:
        by_n = by_n + mu * (1 / (box.high - n) - 1 / (n - box.low))
        corner = corner + mu * (1 / (n - box.low) ** 2 + 1 / (box.high - n) ** 2)
    return System(g, by_n, diagonal * p**2 + p * z, dense, border * p, corner)


def _limited(problem: LossEvaluator, p: Array, n: Array, mu: Array, s: Slopes) -> tuple:
    """Add -mu sum log slack: slack = sign (p_l - ...) + over / X(n) + last p_last."""
    by_p, by_n, corner = s.by_p.copy(), s.by_n.copy(), s.corner.copy()
    diagonal, border, dense = s.diagonal.copy(), s.border.copy(), s.dense
    X, a = problem.budget(n)
    first, second = a / X**2, 2 * a**2 / X**3 - a / X**2  # derivatives of 1 / X by n
    if problem.constraints.spare and problem.constraints.by_share and dense is None:
        dense = np.zeros((*p.shape, p.shape[1]))
    for k, slack, sign, over, last, _ in problem.constraints.slacks(p, X):
        pull, stiff = mu[:, None] / slack, mu[:, None] / slack**2
        by_p[:, k] -= sign * pull
        diagonal[:, k] += stiff
        along = over * first[:, None]
        by_n -= (pull * along).sum(1)
        border[:, k] += sign * stiff * along
        corner += (stiff * along**2 - pull * over * second[:, None]).sum(1)
        if last.any() and dense is not None:
            by_p[:, -1] -= (pull * last).sum(1)
            mixed = sign * stiff * last * p[:, k] * p[:, -1:]
            dense[:, k, -1] += mixed
            dense[:, -1, k] += mixed
            diagonal[:, -1] += (stiff * last**2).sum(1)
    return by_p, by_n, diagonal, dense, border, corner


def _step(
    problem: LossEvaluator, p: Array, n: Array, z: Array, mu: Array, box: Box | None
) -> tuple[Array, Array, Array]:
    """A descent direction with sum(dp) = 0, and the decrease it promises at first order."""
    s = system(problem, p, n, z, mu, box)
    y, dn = _bordered(s, p, box is None) if s.dense is None else _full(s, p, box is None)
    descent = -(s.g * y).sum(1) - s.g_n * dn
    poor = ~(np.isfinite(y).all(1) & np.isfinite(dn) & (descent > 0))
    if poor.any():
        y, dn = y.copy(), dn.copy()
        y[poor], dn[poor] = _saddle_free(System(*(None if part is None else part[poor] for part in s)), p[poor], box)  # pyright: ignore[reportArgumentType]
        descent = -(s.g * y).sum(1) - s.g_n * dn
    return y * p, dn, np.maximum(descent, 0.0)


def _tokens_step(
    problem: LossEvaluator, p: Array, n: Array, z: Array, mu: Array, box: Box
) -> tuple[Array, None, Array]:
    """A descent direction in tokens, times p, and the decrease it promises."""
    s = problem.slopes(p, n, mu)
    g_n = s.by_n + mu * (1 / (box.high - n) - 1 / (n - box.low))
    corner = s.corner + mu * (1 / (n - box.low) ** 2 + 1 / (box.high - n) ** 2)
    delta, descent = direction(problem, p, n, z, mu, s.by_p * p, g_n, s.diagonal * p**2, s.dense, s.border * p, corner)
    return delta * p, None, np.maximum(descent, 0.0)


def _bordered(s: System, p: Array, fixed: bool) -> tuple[Array, Array]:
    """Solve with a diagonal Hessian, the border of n and the row sum(p y) = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        d = s.diagonal
        pp, pg = (p * p / d).sum(1), (p * s.g / d).sum(1)
        if fixed:
            dn, nu = np.zeros(len(p)), -pg / pp
        else:
            bb, bp, bg = (s.border**2 / d).sum(1), (s.border * p / d).sum(1), (s.border * s.g / d).sum(1)
            # (c - bb) dn - bp nu = bg - g_n and -bp dn - pp nu = pg
            dn = ((bg - s.g_n) * pp - bp * pg) / ((s.corner - bb) * pp + bp**2)
            nu = -(pg + bp * dn) / pp
        return -(s.g + s.border * dn[:, None] + p * nu[:, None]) / d, dn


def _matrix(s: System, more: int = 1) -> Array:
    """The whole Hessian, (R, K + 1, K + 1), with `more` - 1 empty rows and columns below."""
    R, K = s.g.shape
    H, k = np.zeros((R, K + more, K + more)), np.arange(K)
    if s.dense is not None:
        H[:, :K, :K] = s.dense
    H[:, k, k] += s.diagonal
    H[:, :K, K] = H[:, K, :K] = s.border
    H[:, K, K] = s.corner
    return H


def _full(s: System, p: Array, fixed: bool) -> tuple[Array, Array]:
    R, K = p.shape
    A = _matrix(s, 2)
    A[:, K + 1, :K] = A[:, :K, K + 1] = p
    right = np.concatenate([-s.g, -s.g_n[:, None], np.zeros((R, 1))], axis=1)
    if fixed:
        A[:, K, :] = A[:, :, K] = 0.0
        A[:, K, K], right[:, K] = 1.0, 0.0
    try:
        y = np.linalg.solve(A, right[..., None])[..., 0]
    except np.linalg.LinAlgError:
        y = np.full((R, K + 2), np.nan)
    return np.asarray(y[:, :K], np.float64), np.asarray(y[:, K], np.float64)


def _saddle_free(s: System, p: Array, box: Box | None) -> tuple[Array, Array]:
    """Newton with the absolute eigenvalues of the Hessian on the plane sum(p y) = 0: always downhill."""
    H, g = _matrix(s), np.concatenate([s.g, s.g_n[:, None]], axis=1)
    if box is None:
        H[:, -1, :] = H[:, :, -1] = 0.0
        H[:, -1, -1], g[:, -1] = 1.0, 0.0
    a = np.concatenate([p, np.zeros((len(p), 1))], axis=1)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    project = np.eye(H.shape[1]) - a[:, :, None] * a[:, None, :]
    values, vectors = np.linalg.eigh(project @ H @ project)
    values = np.maximum(np.abs(values), 1e-10 * np.abs(values).max(1, keepdims=True) + 1e-300)
    flat = np.einsum("rij,rj->ri", project, -g)
    inner = np.einsum("rji,rj->ri", vectors, flat) / values
    step = np.einsum("rij,rj->ri", project, np.einsum("rij,rj->ri", vectors, inner))
    return np.asarray(step[:, :-1]), np.asarray(step[:, -1])


def _search(
    problem: LossEvaluator,
    now: tuple[Array, Array, Array],
    step: tuple[Array, Array | None, Array],
    mu: Array,
    box: Box | None,
) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    """Backtrack from the largest step inside the bounds until the value falls; rows that cannot stay put."""
    (p, n, value), (step_p, step_n, descent) = now, step
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(step_p < 0, -p / step_p, np.inf).min(1)
        if box is not None and step_n is not None:
            room = np.where(step_n < 0, (box.low - n) / step_n, (box.high - n) / step_n)
            t = np.minimum(t, np.where(step_n == 0, np.inf, room))
    t = np.minimum(1.0, 0.99 * t)
    p_new, n_new, v_new = p.copy(), n.copy(), value.copy()
    rows = np.arange(len(n))
    for _ in range(_BACKTRACKS):
        whole = len(rows) == len(n)
        part, edges = problem if whole else problem.at(rows), box if whole or box is None else box.at(rows)
        if step_n is None:
            p_try, n_try = advance(part, p[rows], n[rows], step_p[rows] / p[rows], t[rows])
        else:
            p_try, n_try = p[rows] + t[rows, None] * step_p[rows], n[rows] + t[rows] * step_n[rows]
        v_try = barriered(part, p_try, n_try, mu[rows], edges)
        good = v_try <= value[rows] - 1e-4 * t[rows] * descent[rows] + 4e-16 * np.abs(value[rows])
        kept = rows[good]
        p_new[kept], n_new[kept], v_new[kept] = p_try[good], n_try[good], v_try[good]
        rows = rows[~good]
        t[rows] *= 0.4
        if not len(rows):
            break
    moved = np.ones(len(n), bool)
    moved[rows] = False
    return p_new, n_new, v_new, moved
