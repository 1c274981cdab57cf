"""Value, slopes and curvature of the mean loss, pair by pair of a target and a language that counts for it.

    f(p, n) = sum_t q_t (E_t + A_t / S(N)^alpha_t + B_t D_eff,t^-beta_t),    D = p X(n)

With r_l = max(D_l / U_l - 1, 0) repeats, S' = exp(-lambda_t r_l), S'' = -lambda_t S' / U_l where tokens repeat, and
S = min(D_l, U_l) + U_l (1 - S') / lambda_t: one array of T x K exponentials, v_tl = W_tl S' = dD_eff,t / dD_l, holds
all that saturates. With f' and f'' the derivatives of q_t B_t D_eff^-beta_t by D_eff,t and H_D the Hessian by D,

    H_D = sum_t f''_t v_t v_t' - diag(sum_t f'_t lambda_t v_tl / U_l) + sum_t f'_t V_t S''(pool_t) m_t m_t'
    df/dp = X v'f',    d2f/dp2 = X^2 H_D,    d2f/dp dn = -a X H_D p - a v'f'      (X' = -a, X'' = a)

Most laws name few helpers: then only their pairs are worked out, not all T x K. For laws without a price on the share.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.optimiser.evaluate import SMALL_LAMBDA, LossEvaluator, saturated, saturated_size

Array = NDArray[np.float64]
Rows = NDArray[np.intp] | slice
# Pairs are worked out one by one where they are at most this part of all.
_SPARSE = 0.1


class LossDerivatives(NamedTuple):
    """Value (R,) and gradient (R, K), (R,) at shares and n, and what the Hessian needs of that point.

    `v` are the slopes of D_eff by pairs; `second` (R, T) f''; `bent` (R, K) the diagonal of H_D; `pool_slope` and
    `pool_bent` (R, T) what pools add to v and to H_D; `corner` (R,) the part of d2f/dn2 beside H_D.
    """

    value: Array
    by_p: Array
    by_n: Array
    v: Array
    second: Array
    bent: Array
    pool_slope: Array
    pool_bent: Array
    corner: Array


@dataclass(frozen=True)
class PairEvaluator:
    """R rows of a problem. Numbers of pairs are (R, T, K), or (R, M) for the M pairs `target`, `language`."""

    problem: LossEvaluator
    transfer_weight: Array
    target: NDArray[np.intp]
    language: NDArray[np.intp]

    @classmethod
    def of(cls, problem: LossEvaluator) -> "PairEvaluator":
        helps = np.asarray(problem.transfer_mask)
        target, language = np.nonzero(helps)
        if problem.separable:
            return cls(problem, problem.transfer_weight, np.arange(len(problem.target_index)), problem.target_index)
        if len(target) > _SPARSE * helps.size:
            return cls(problem, problem.transfer_weight, target, language)
        return cls(problem, problem.transfer_weight[:, target, language], target, language)

    def at(self, rows: Rows) -> "PairEvaluator":
        return replace(self, problem=self.problem.at(rows), transfer_weight=self.transfer_weight[rows])

    @property
    def dense(self) -> bool:
        return self.transfer_weight.ndim == 3

    @property
    def diagonal(self) -> bool:
        """Whether no language's worth depends on another's tokens."""
        return self.problem.separable and not self.problem.group_weight.any()

    def losses(self, p: Array, n: Array) -> Array:
        """Loss by target, shape (R, T); infinite outside a law's domain."""
        one = self.problem
        D = p * one.budget(n)[0][:, None]
        effective = self._effective(D)[1] + one.group_weight * self._pools(D)[0]
        N = saturated_size(n, one.size_cap, one.size_lam)[0]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found = one.E + one.A * np.exp(-one.alpha * np.log(N)) + one.B * np.exp(-one.beta * np.log(effective))
        return np.where((effective > 0) & np.isfinite(found), found, np.inf)

    @np.errstate(over="ignore", invalid="ignore")
    def point(self, p: Array, n: Array) -> LossDerivatives:
        """Value and derivatives; rows outside the laws' domain have an infinite value and no meaning else."""
        one = self.problem
        X, a = one.budget(n)
        D = p * X[:, None]
        v, effective, over = self._effective(D)
        pool, pool_slope, pool_curve = self._pools(D)
        effective = effective + one.group_weight * pool
        inside = (effective > 0).all(1) & (X > 0)
        effective = np.where(effective > 0, effective, 1.0)
        data = one.weights * one.B * np.exp(-one.beta * np.log(effective))
        N, N_slope, N_curve = saturated_size(n, one.size_cap, one.size_lam)
        capacity = one.weights * one.A * np.exp(-one.alpha * np.log(N))
        value = (one.weights * (one.E - one.least_loss) + capacity + data).sum(1)
        first = -one.beta * data / effective
        second = -first * (one.beta + 1) / effective
        by_D, bent = self._by_language(first, v), np.zeros_like(D)
        if over.any():
            bent = np.where(over, -self._by_language(first * one.lam, v) / one.unique, 0.0)
        if one.group_weight.any():
            by_D = by_D + (first * one.group_weight * pool_slope) @ one.group_members
        along, rate = (by_D * p).sum(1), N_slope / N
        size_n = -(one.alpha * capacity * rate).sum(1)
        size_nn = (one.alpha * capacity * ((one.alpha + 1) * rate**2 - N_curve / N)).sum(1)
        return LossDerivatives(
            np.where(inside & np.isfinite(value), value, np.inf),
            X[:, None] * by_D,
            size_n - a * along,
            v,
            second,
            bent,
            one.group_weight * pool_slope,
            first * one.group_weight * pool_curve,
            size_nn + a * along,
        )

    def _pools(self, D: Array) -> tuple[Array, Array, Array]:
        """S, S' and S'' of the pooled streams, shape (R, T)."""
        one = self.problem
        if not one.group_weight.any():
            nothing = np.zeros_like(one.group_weight)
            return nothing, nothing, nothing
        return saturated(D @ one.group_members.T, one.group_unique, one.lam)

    def _effective(self, D: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """v by pairs, D_eff of single streams (R, T), and which tokens repeat (R, K)."""
        U, lam = self.problem.unique, self.problem.lam
        over = U < D
        if not over.any():
            return self.transfer_weight, self._by_target(self.transfer_weight, D), over
        repeats, held = np.where(over, D / U - 1, 0.0), np.where(over, U, 0.0)
        v = self._outer(lam, -repeats)
        if lam.min() < SMALL_LAMBDA:
            more = np.where(v < 0, np.expm1(v) / self._outer(-np.where(lam > 0, lam, 1.0), np.ones_like(D)), 0.0)
            more = np.where(self._outer(lam, np.ones_like(D)) > 0, more, self._outer(np.ones_like(lam), repeats))
            again = self._by_target(self.transfer_weight * more, held)
            v = self.transfer_weight * np.exp(v)
        else:
            np.exp(v, out=v)
            v *= self.transfer_weight
            again = (self._by_target(self.transfer_weight, held) - self._by_target(v, held)) / lam
        return v, self._by_target(self.transfer_weight, np.minimum(D, U)) + again, over

    def hessian(self, at: LossDerivatives, p: Array, n: Array) -> tuple[Array, Array, Array]:
        """By the shares (R, K, K), or (R, K) where it is a diagonal; between them and n (R, K), and by n (R,)."""
        one, K = self.problem, p.shape[1]
        X, a = one.budget(n)
        r = a / X
        if self.diagonal:
            H = X[:, None] ** 2 * (self._by_language(at.second, at.v**2) + at.bent)
            return H, -r[:, None] * (H * p + at.by_p), r**2 * (H * p**2).sum(1) + at.corner
        # X v sqrt(f''), so that the first sum is one product of a matrix with itself.
        root = np.sqrt(at.second) * X[:, None]
        if self.dense:
            J = at.v * root[:, :, None]
        else:
            J = np.zeros((*root.shape, K))
            J[:, self.target, self.language] = root[:, self.target] * at.v
        if at.pool_slope.any():
            J += (root * at.pool_slope)[:, :, None] * one.group_members
        H = np.matmul(J.swapaxes(1, 2), J)
        if at.pool_bent.any():
            bent = one.group_members * (X[:, None] ** 2 * at.pool_bent)[:, :, None]
            H += np.matmul(bent.swapaxes(1, 2), one.group_members)
        k = np.arange(K)
        H[:, k, k] += X[:, None] ** 2 * at.bent
        Hp = np.matmul(H, p[:, :, None])[:, :, 0]
        return H, -r[:, None] * (Hp + at.by_p), r**2 * (Hp * p).sum(1) + at.corner

    def _outer(self, y: Array, x: Array) -> Array:
        """y_t x_l of every pair."""
        return y[:, :, None] * x[:, None, :] if self.dense else y[:, self.target] * x[:, self.language]

    def _by_target(self, values: Array, x: Array) -> Array:
        """sum_l values_tl x_l, shape (R, T)."""
        if self.dense:
            return np.matmul(values, x[:, :, None])[:, :, 0]
        t, starts = np.unique(self.target, return_index=True)
        found = np.zeros((len(x), len(self.problem.target_index)))
        found[:, t] = np.add.reduceat(values * x[:, self.language], starts, axis=1) if len(t) else 0.0
        return found

    def _by_language(self, y: Array, values: Array) -> Array:
        """sum_t y_t values_tl, shape (R, K)."""
        if self.dense:
            return np.matmul(y[:, None, :], values)[:, 0]
        order = np.argsort(self.language, kind="stable")
        k, starts = np.unique(self.language[order], return_index=True)
        found = np.zeros((len(y), len(self.problem.languages)))
        found[:, k] = np.add.reduceat((y[:, self.target] * values)[:, order], starts, axis=1) if len(k) else 0.0
        return found
