"""Streams: value, slopes and curvature of the mean loss, pair by pair of a target and a language that counts for it.

    f(p, n) = sum_t q_t (E_t + A_t / S(N)^alpha_t + B_t D_eff,t^-beta_t),    D = p X(n)

With v_tl = dD_eff,t / dD_l, f' and f'' the derivatives of q_t B_t D_eff^-beta_t by D_eff,t and H_D the Hessian by D,

    H_D = sum_t f''_t v_t v_t' + diag(sum_t f'_t W_tl S''(D_l)) + sum_t f'_t V_t S''(pool_t) m_t m_t'
    df/dp = X v'f',    d2f/dp2 = X^2 H_D,    d2f/dp dn = -a X H_D p - a v'f'      (X' = -a, X'' = a)

Most laws name few helpers: only their pairs are worked out, not all T x K. For laws without a price on the share.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.problem import Problem, saturated, saturated_size

Array = NDArray[np.float64]
# exp is vectorised in NumPy and expm1 is not; their difference rounds at 1e-16 / lambda of a stream's tokens.
_SMALL_LAMBDA = 1e-3


class Point(NamedTuple):
    """Value (R,) and gradient (R, K), (R,) at shares and n, and what the Hessian needs of that point."""

    value: Array
    by_p: Array
    by_n: Array
    D: Array
    first: Array
    second: Array
    slope: Array
    pull: Array
    pool_slope: Array
    pool_pull: Array
    corner: Array


@dataclass(frozen=True)
class Streams:
    """R rows of a problem by pairs: `target`, `language` (M,) sorted by target; `worth`, `lam` (R, M)."""

    problem: Problem
    target: NDArray[np.intp]
    language: NDArray[np.intp]
    worth: Array
    lam: Array

    @classmethod
    def of(cls, problem: Problem) -> "Streams":
        target, language = np.nonzero(np.asarray(problem.helps))
        return cls(problem, target, language, problem.worth[:, target, language], problem.lam[:, target])

    def at(self, rows: NDArray[np.intp]) -> "Streams":
        return replace(self, problem=self.problem.at(rows), worth=self.worth[rows], lam=self.lam[rows])

    def point(self, p: Array, n: Array) -> Point:
        """Value and derivatives; rows outside the laws' domain have an infinite value and no meaning else."""
        one = self.problem
        X, a = one.budget(n)
        D = p * X[:, None]
        S, slope, curve = self._saturated(D)
        effective = self._by_target(self.worth * S)
        pool_slope = pool_curve = np.zeros((len(p), 1))
        if one.pooled.any():
            pool, pool_slope, pool_curve = saturated(D @ one.members.T, one.pooled_unique, one.lam)
            effective = effective + one.pooled * pool
        inside = (effective > 0).all(1) & (X > 0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            data = one.weights * one.B * np.exp(-one.beta * np.log(np.maximum(effective, 1e-300)))
            N, by_n, curve_n = saturated_size(n, one.size_cap, one.size_lam)
            capacity = one.weights * one.A * np.exp(-one.alpha * np.log(N))
            value = (one.weights * (one.E - one.offset) + capacity + data).sum(1)
            first = -one.beta * data / effective
            second = -first * (one.beta + 1) / effective
        slope, pull = self.worth * slope, first[:, self.target] * self.worth * curve
        by_D = self._by_language(first[:, self.target] * slope)
        if one.pooled.any():
            by_D += (first * one.pooled * pool_slope) @ one.members
        along, rate = (by_D * p).sum(1), by_n / N
        size_n = -(one.alpha * capacity * rate).sum(1)
        size_nn = (one.alpha * capacity * ((one.alpha + 1) * rate**2 - curve_n / N)).sum(1)
        return Point(
            np.where(inside & np.isfinite(value), value, np.inf), X[:, None] * by_D, size_n - a * along, D, first,
            second, slope, pull, one.pooled * pool_slope, first * one.pooled * pool_curve, size_nn + a * along,
        )  # fmt: skip

    def hessian(self, at: Point, p: Array, n: Array) -> tuple[Array, Array, Array]:
        """By the shares (R, K, K), between them and n (R, K), and by n (R,)."""
        one, (R, K) = self.problem, p.shape
        T = one.weights.shape[1]
        X, a = one.budget(n)
        # X v sqrt(f''), so that the first sum is one product of a matrix with itself.
        root = np.sqrt(at.second) * X[:, None]
        v = np.zeros((R, T, K))
        if at.pool_slope.any():
            np.multiply((root * at.pool_slope)[:, :, None], one.members, out=v)
        v.reshape(R, T * K)[:, self.target * K + self.language] += root[:, self.target] * at.slope
        H = np.matmul(v.swapaxes(1, 2), v)
        if at.pool_pull.any():
            H += np.matmul((one.members * (X[:, None] ** 2 * at.pool_pull)[:, :, None]).swapaxes(1, 2), one.members)
        k = np.arange(K)
        H[:, k, k] += X[:, None] ** 2 * self._by_language(at.pull)
        Hp = np.matmul(H, p[:, :, None])[:, :, 0]
        r = a / X
        return H, -r[:, None] * (Hp + at.by_p), r**2 * (Hp * p).sum(1) + at.corner

    def _saturated(self, D: Array) -> tuple[Array, Array, Array]:
        """S, S' and S'' of every pair, (R, M)."""
        U, D = self.problem.unique[self.language], D[:, self.language]
        S, slope, curve = D.copy(), np.ones(D.shape), np.zeros(D.shape)
        m = np.flatnonzero((U < D).any(0))
        if not len(m):
            return S, slope, curve
        U, D, lam = U[m], D[:, m], self.lam[:, m]
        repeats = np.maximum(D / U - 1, 0.0)
        if lam.min() < _SMALL_LAMBDA:
            S[:, m], slope[:, m], curve[:, m] = saturated(D, U, lam)
            return S, slope, curve
        kept = np.exp(-lam * repeats)
        S[:, m] = np.where(repeats > 0, U * (1 + (1 - kept) / lam), D)
        slope[:, m] = kept
        curve[:, m] = np.where(repeats > 0, -lam / U * kept, 0.0)
        return S, slope, curve

    def _by_target(self, values: Array) -> Array:
        t, starts = np.unique(self.target, return_index=True)
        found = np.zeros(self.problem.weights.shape)
        if len(t):
            found[:, t] = np.add.reduceat(values, starts, axis=1)
        return found

    def _by_language(self, values: Array) -> Array:
        order = np.argsort(self.language, kind="stable")
        k, starts = np.unique(self.language[order], return_index=True)
        found = np.zeros((len(values), len(self.problem.languages)))
        if len(k):
            found[:, k] = np.add.reduceat(values[:, order], starts, axis=1)
        return found
