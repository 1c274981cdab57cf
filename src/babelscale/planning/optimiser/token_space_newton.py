"""Newton directions in tokens, for problems with bounds where N is searched.

Bounds on tokens and shares are linear in D and not in (p, n); a Newton step in (p, n) would leave them at once. So
where there are bounds the step is taken in delta_k = dD_k / D_k, with

    p_k = D_k / X,    n = log(C / 6) - log(X + D_served / 3),    X = sum D

Along D (1 + t delta), with sigma = sum p delta and r = X / a: p' = p (delta - sigma), n' = -r sigma,
p'' = 2 p (sigma^2 - delta sigma), n'' = r^2 sigma^2; the chain rule turns the Hessian of `newton.system` into

    H + p v' + v p' + kappa p p',    v = -H 1 - r b - q,    kappa = 1'H 1 + 2 r sum b + c r^2 + 2 sum q + g_n r^2
"""

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.optimiser.evaluate import LossEvaluator

Array = NDArray[np.float64]


def advance(problem: LossEvaluator, p: Array, n: Array, delta: Array, t: Array) -> tuple[Array, Array]:
    """Shares and n after D (1 + t delta)."""
    X, a = problem.budget(n)
    D = p * (1 + t[:, None] * delta)
    grown = D.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_more = np.log((X * grown + problem.served / 3) / a)
        return D / grown[:, None], n - log_more


def direction(
    problem: LossEvaluator,
    p: Array,
    n: Array,
    z: Array,
    mu: Array,
    q: Array,
    g_n: Array,
    diagonal: Array,
    dense: Array | None,
    border: Array,
    corner: Array,
) -> tuple[Array, Array]:
    """delta, and the decrease it promises at first order.

    Args:
        q, g_n, diagonal, dense, border, corner: scaled derivatives by the shares and n, without barriers on p, but with
            those on n: q = p dF/dp, diagonal and dense p F'' p, border p d2F/dp dn.
    """
    X, a = problem.budget(n)
    r = X / a
    ones = diagonal if dense is None else diagonal + dense.sum(2)
    v = -ones - r[:, None] * border - q
    kappa = ones.sum(1) + 2 * r * border.sum(1) + corner * r**2 + 2 * q.sum(1) + g_n * r**2
    g = q - (q.sum(1) + r * g_n)[:, None] * p - mu[:, None]
    stiff = diagonal + p * z
    rows: list[Array] = []
    for k, slack, sign, _, _, share in problem.constraints.slacks(p, X):
        pull = mu[:, None] / slack
        g[:, k] -= sign * pull * p[:, k]
        if share is None:
            stiff[:, k] += mu[:, None] / slack**2 * p[:, k] ** 2
            continue
        # slack = sign (D_l - share u): every trained language moves u.
        trained = p.copy()
        if problem.constraints.spare:
            trained[:, -1] = 0.0
        slopes = -sign * share[None, :, None] * trained[:, None, :]
        slopes[:, np.arange(len(k)), k] += sign * p[:, k]
        g += (sign * pull * share).sum(1)[:, None] * trained
        rows.append(slopes * np.sqrt(mu)[:, None, None] / slack[:, :, None])
    delta = _low_rank(stiff, p, v, kappa, g) if dense is None and not rows else None
    if delta is None:
        H = np.zeros((*p.shape, p.shape[1])) if dense is None else dense.copy()
        i = np.arange(p.shape[1])
        H[:, i, i] += stiff
        H += p[:, :, None] * v[:, None, :] + v[:, :, None] * p[:, None, :]
        H += kappa[:, None, None] * p[:, :, None] * p[:, None, :]
        for slopes in rows:
            H += np.matmul(slopes.swapaxes(1, 2), slopes)
        delta = _solved(H, g)
    return delta, -(g * delta).sum(1)


def _low_rank(d: Array, p: Array, v: Array, kappa: Array, g: Array) -> Array | None:
    """Solve (diag d + p v' + v p' + kappa p p') delta = -g; None where that is no descent."""
    if not (d > 0).all():
        return None
    pp, pv, vv = (p * p / d).sum(1), (p * v / d).sum(1), (v * v / d).sum(1)
    pg, vg = (p * g / d).sum(1), (v * g / d).sum(1)
    # C^-1 + U' d^-1 U with U = [p, v] and C = [[kappa, 1], [1, 0]].
    a, b, c = pp, pv + 1, vv - kappa
    determinant = a * c - b * b
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = (c * pg - b * vg) / determinant, (a * vg - b * pg) / determinant
        delta = -(g - p * x[:, None] - v * y[:, None]) / d
    downhill = np.isfinite(delta).all() and (-(g * delta).sum(1) > 0).all()
    return delta if downhill else None


def _solved(H: Array, g: Array) -> Array:
    """Newton's step where it goes downhill, elsewhere one with absolute eigenvalues."""
    try:
        delta = np.linalg.solve(H, -g[..., None])[..., 0]
    except np.linalg.LinAlgError:
        delta = np.full(g.shape, np.nan)
    poor = ~(np.isfinite(delta).all(1) & ((g * delta).sum(1) < 0))
    if poor.any():
        values, vectors = np.linalg.eigh(H[poor])
        values = np.maximum(np.abs(values), 1e-10 * np.abs(values).max(1, keepdims=True) + 1e-300)
        delta[poor] = -np.einsum("rij,rj->ri", vectors, np.einsum("rji,rj->ri", vectors, g[poor]) / values)
    return np.asarray(delta)
