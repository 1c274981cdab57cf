"""LossEvaluator: the losses of all targets as a function of N and of the mixture, with gradient and Hessian.

Every separable law has, for target t, the form

    L_t = [E_t + A_t / S(N; c_t)^alpha_t + B_t / D_eff,t^beta_t] p_t^-gamma_t
    D_eff,t = sum_l W_tl S(D_l; U_l) + V_t S(sum_{l in G_t} D_l; U_G)

with S the saturation of `laws.saturation` and a budget of C = 6 N D_tot + 2 N D_served (FLOPs of training, and of
serving D_served tokens), so that D_l = p_l X and X(n) = C / (6 N) - D_served / 3. The variables are the shares p, which
sum to one, and n = log N. One evaluator holds R rows of parameters at once: those of the fit itself, or of its draws.

With r_l = max(D_l / U_l - 1, 0) repeats, S' = exp(-lambda_t r_l), S'' = -lambda_t S' / U_l where tokens repeat, and
S = min(D_l, U_l) + U_l (1 - S') / lambda_t: one array of exponentials, v_tl = W_tl S' = dD_eff,t / dD_l, holds all that
saturates. With f' and f'' the derivatives of q_t B_t D_eff^-beta_t by D_eff,t and H_D the Hessian by D,

    H_D = sum_t f''_t v_t v_t' - diag(sum_t f'_t lambda_t v_tl / U_l) + sum_t f'_t V_t S''(group_t) m_t m_t'
    df/dp = X v'f',    d2f/dp2 = X^2 H_D,    d2f/dp dn = -a X H_D p - a v'f'      (X' = -a, X'' = a)

Most laws name few helpers. Their pairs of a target and a language are then evaluated instead of all T x K.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from babelscale.laws.separable import SeparableForm
from babelscale.planning.optimiser.problem import AllocationProblem, Rows
from babelscale.planning.optimiser.setting import Setting

Array = NDArray[np.float64]
# Down to this lambda (1 - S') / lambda keeps its digits without expm1, which NumPy does not vectorise as it does exp.
_SMALL_LAMBDA = 1e-3
# TransferPairs are evaluated one by one where they are at most this part of all.
_SPARSE = 0.1
_COEFFICIENTS = ("E", "A", "alpha", "B", "beta", "gamma", "lam", "size_cap", "size_lam")
_BY_TARGET = (*_COEFFICIENTS, "group_weight", "least_loss")


@dataclass(frozen=True)
class TransferPairs:
    """M pairs of a target and a language that counts for it, ordered by target."""

    target: NDArray[np.intp]
    language: NDArray[np.intp]

    @cached_property
    def _groups(self) -> tuple[tuple[NDArray[np.intp], ...], tuple[NDArray[np.intp], ...]]:
        order = np.argsort(self.language, kind="stable")
        by_language = np.unique(self.language[order], return_index=True)
        return np.unique(self.target, return_index=True), (*by_language, order)

    def sum_by_target(self, values: Array, targets: int) -> Array:
        """Sums of (R, M) values, shape (R, T)."""
        (present, starts), _ = self._groups
        found = np.zeros((len(values), targets))
        if len(present):
            found[:, present] = np.add.reduceat(values, starts, axis=1)
        return found

    def sum_by_language(self, values: Array, languages: int) -> Array:
        """Sums of (R, M) values, shape (R, K)."""
        _, (present, starts, order) = self._groups
        found = np.zeros((len(values), languages))
        if len(present):
            found[:, present] = np.add.reduceat(values[:, order], starts, axis=1)
        return found


class _Terms(NamedTuple):
    """The parts of the losses at a point: shapes (R, T), but X and a (R,), D and `over` (R, K), `slope` by pairs."""

    X: Array
    a: Array
    D: Array
    over: NDArray[np.bool_]
    slope: Array
    group_slope: Array
    group_curve: Array
    effective: Array
    data: Array
    capacity: Array
    size_rate: Array
    size_curve: Array
    price: Array
    loss: Array


class LossDerivatives(NamedTuple):
    """The objective (R,) and its gradient (R, K), (R,) at shares p and n, and what `LossEvaluator.hessian` needs there.

    `weight` (R, T) are the derivatives of the objective by the losses, `bend` (R, J, J) its second derivatives by the
    scenarios, (R, 0, 0) for a mean. `data` (R, T) are the weighted data terms, `second` (R, T) their second derivatives
    by D_eff; `first` and `size_first` (R, T) the derivatives of the losses by D_eff and, where D stays, by n. `slope`
    are the derivatives of D_eff by pairs; `group_slope` and `group_bent` (R, T) what groups add to these and to H_D;
    `by_data` (R, K) is the gradient without the price on shares, `bent` (R, K) the diagonal of H_D, `corner` (R,) the
    part of d2f/dn2 beside H_D.
    """

    p: Array
    n: Array
    value: Array
    by_p: Array
    by_n: Array
    X: Array
    a: Array
    loss: Array
    weight: Array
    bend: Array
    data: Array
    first: Array
    second: Array
    size_first: Array
    slope: Array
    group_slope: Array
    group_bent: Array
    by_data: Array
    bent: Array
    corner: Array

    def at(self, rows: Rows) -> "LossDerivatives":
        return LossDerivatives(*(each[rows] for each in self))


@dataclass(frozen=True, kw_only=True)
class LossEvaluator(AllocationProblem):
    """Laws of separable form.

    Args:
        E, A, alpha, B, beta, gamma: shape (R, T).
        transfer_weight: W, shape (R, T, K); or (R, M), the weights of `pairs`.
        group_weight: V, shape (R, T); group_members: (T, K), 1 where a language is in G_t; group_unique: U_G, (T,).
        lam: lambda of S on the tokens, shape (R, T).
        size_cap, size_lam: N above `size_cap` saturates with `size_lam`, shape (R, T); cap infinite where it does not.
        pairs: the pairs of the weights (R, M); by default each target with itself.
    """

    by_row: ClassVar[tuple[str, ...]] = (*_BY_TARGET, "weights", "transfer_weight", "compute")

    E: Array
    A: Array
    alpha: Array
    B: Array
    beta: Array
    gamma: Array
    transfer_weight: Array
    group_weight: Array
    group_members: Array
    group_unique: Array
    lam: Array
    size_cap: Array
    size_lam: Array
    pairs: TransferPairs | None = None

    def __post_init__(self) -> None:
        if self.pairs is None and self.transfer_weight.ndim == 2:
            object.__setattr__(self, "pairs", TransferPairs(np.arange(len(self.target_index)), self.target_index))

    @classmethod
    def of(cls, laws: Mapping[str, SeparableForm], setting: Setting) -> "LossEvaluator":
        """The coefficients of the laws of all targets, stacked."""
        rows, T, everything = len(next(iter(laws.values())).E), len(laws), frozenset(setting.languages)
        common = cls.arguments(setting, laws, rows)
        codes, unique = common["languages"], common["unique"]
        column = {code: k for k, code in enumerate(codes)}
        single: list[tuple[int, int, Array]] = []
        group_weight, group_members = np.zeros((rows, T)), np.zeros((T, len(codes)))
        for t, law in enumerate(laws.values()):
            for group, weight in law.worth.items():
                if len(group) == 1:
                    single.append((t, column[next(iter(group))], weight))
                    continue
                group_weight[:, t] = weight
                # A group is nearly everything: its complement is short.
                group_members[t, : len(setting.languages)] = 1.0
                group_members[t, [column[code] for code in everything - group]] = 0.0
        weights = np.stack([weight for _, _, weight in single], axis=1) if single else np.zeros((rows, 0))
        pairs = TransferPairs(*(np.array([each[i] for each in single], np.intp) for i in (0, 1)))
        coefficients: dict[str, Any] = {
            name: np.stack([getattr(law, name) for law in laws.values()], axis=1) for name in _COEFFICIENTS
        }
        made = cls(
            **common,
            **coefficients,
            transfer_weight=weights,
            group_weight=group_weight,
            group_members=group_members,
            group_unique=np.where(group_members.any(1), np.where(group_members > 0, unique, 0.0).sum(1), np.inf),
            pairs=pairs,
        )
        return made.compact()

    def compact(self) -> "LossEvaluator":
        """The same with the weights of pairs where these are few, and with those of all T x K where they are many."""
        T, K = len(self.target_index), len(self.languages)
        weight, pairs = self.transfer_weight, self.pairs
        if pairs is None:
            pairs = TransferPairs(*np.nonzero(np.ones((T, K), bool)))
            weight = weight.reshape(len(weight), -1)
        counts = np.flatnonzero((weight != 0).any(0))
        target, language, weight = pairs.target[counts], pairs.language[counts], weight[:, counts]
        own = bool((language == self.target_index[target]).all())
        if own or len(target) <= _SPARSE * T * K:
            return replace(self, transfer_weight=weight, pairs=TransferPairs(target, language))
        dense = np.zeros((len(weight), T, K))
        dense[:, target, language] = weight
        return replace(self, transfer_weight=dense, pairs=None)

    @property
    def separable(self) -> bool:
        """Whether every target learns from its own tokens and those of its group alone."""
        return self.pairs is not None and bool((self.pairs.language == self.target_index[self.pairs.target]).all())

    @property
    def diagonal(self) -> bool:
        """Whether the Hessian by the shares is a diagonal."""
        return self.separable and self.risk.scenario is None and not self.group_weight.any() and not self.gamma.any()

    @property
    def convex(self) -> bool:
        """Convex in the shares for fixed N: no source takes anything away, and no reward for a small share."""
        return all(bool((each >= 0).all()) for each in (self.transfer_weight, self.group_weight, self.gamma))

    def as_scenarios(self) -> dict[str, Any]:
        (S, T), pairs = self.weights.shape, self.pairs
        if pairs is not None:
            first = T * np.repeat(np.arange(S), len(pairs.target))
            pairs = TransferPairs(first + np.tile(pairs.target, S), np.tile(pairs.language, S))
            weight = self.transfer_weight.reshape(1, -1)
        else:
            weight = self.transfer_weight.reshape(1, S * T, -1)
        return {
            **{name: getattr(self, name).reshape(1, S * T) for name in _BY_TARGET},
            "transfer_weight": weight,
            "pairs": pairs,
            "group_members": np.tile(self.group_members, (S, 1)),
            "group_unique": np.tile(self.group_unique, S),
            "target_index": np.tile(self.target_index, S),
            "compute": self.compute[:1],
        }

    def capacity(self, n: Array) -> Array:
        """E + A / S(N)^alpha at each n of a vector, shape (len(n), T)."""
        N = saturated_size(n, self.size_cap, self.size_lam)[0]
        return self.E + self.A * np.exp(-self.alpha * np.log(N))

    def losses(self, p: Array, n: Array) -> Array:
        """As in every problem; one row of the shares or one n stands for all."""
        return self._terms(p, n).loss

    @np.errstate(divide="ignore", invalid="ignore", over="ignore")
    def _terms(self, p: Array, n: Array) -> _Terms:
        X, a = self.budget(n)
        D = p * X[:, None]
        slope, effective, over = self._effective(D)
        group_slope = group_curve = np.zeros_like(self.group_weight)
        if self.group_weight.any():
            S, group_slope, group_curve = saturated(D @ self.group_members.T, self.group_unique, self.lam)
            effective = effective + self.group_weight * S
        inside = effective > 0
        effective = np.where(inside, effective, 1.0)
        data = self.B * np.exp(-self.beta * np.log(effective))
        N, N_slope, N_curve = saturated_size(n, self.size_cap, self.size_lam)
        capacity = self.A * np.exp(-self.alpha * np.log(N))
        inner, price = self.E + capacity + data, np.ones(())
        if self.gamma.any():
            price = np.exp(-self.gamma * np.log(np.maximum(p[:, self.target_index], 1e-300)))
        loss = np.where(inside & np.isfinite(inner), inner * price, np.inf)
        return _Terms(
            X=X,
            a=a,
            D=D,
            over=over,
            slope=slope,
            group_slope=group_slope,
            group_curve=group_curve,
            effective=effective,
            data=data,
            capacity=capacity,
            size_rate=N_slope / N,
            size_curve=N_curve / N,
            price=np.broadcast_to(price, loss.shape),
            loss=loss,
        )

    def _effective(self, D: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """v by pairs, D_eff of single languages (R, T), and which tokens repeat (R, K)."""
        U, lam, weight = self.unique, self.lam, self.transfer_weight
        over = U < D
        if not over.any():
            return weight, self._by_target(weight, D), over
        repeats, repeated = np.where(over, D / U - 1, 0.0), np.where(over, U, 0.0)
        v = self._outer(lam, -repeats)
        if lam.min() < _SMALL_LAMBDA:
            more = _saturated_repeats(self._outer(np.ones_like(lam), repeats), self._outer(lam, np.ones_like(D)))
            again = self._by_target(weight * more, repeated)
            v = weight * np.exp(v)
        else:
            np.exp(v, out=v)
            v *= weight
            again = (self._by_target(weight, repeated) - self._by_target(v, repeated)) / lam
        return v, self._by_target(weight, np.minimum(D, U)) + again, over

    @np.errstate(divide="ignore", invalid="ignore", over="ignore")
    def derivatives(self, p: Array, n: Array, mu: Array | None = None) -> LossDerivatives:
        """Value and gradient of the objective; outside the laws' domain the value is infinite.

        Args:
            p: shares, shape (R, K). n: log N, shape (R,).
            mu: smoothing of an objective that is not smooth itself, shape (R,).
        """
        s = self._terms(p, n)
        above = s.loss - self.least_loss
        value, q, bend = self.risk.derivatives(self.weights, above, np.ones(len(p)) if mu is None else mu)
        first = -self.beta * s.price * s.data / s.effective
        weighted, group_slope = q * first, self.group_weight * s.group_slope
        by_D, bent = self._by_language(weighted, s.slope), np.zeros_like(s.D)
        if s.over.any():
            bent = np.where(s.over, -self._by_language(weighted * self.lam, s.slope) / self.unique, 0.0)
        if self.group_weight.any():
            by_D = by_D + (weighted * group_slope) @ self.group_members
        along, steep = (by_D * p).sum(1), self.alpha * s.price * s.capacity
        size_first = -steep * s.size_rate
        size_second = steep * ((self.alpha + 1) * s.size_rate**2 - s.size_curve)
        by_p = by_data = s.X[:, None] * by_D
        if self.gamma.any():
            by_p = by_data + self._to_languages(-q * s.loss * self.gamma / p[:, self.target_index])
        return LossDerivatives(
            p=p,
            n=n,
            value=np.where((s.X > 0) & np.isfinite(value), value, np.inf),
            by_p=by_p,
            by_n=(q * size_first).sum(1) - s.a * along,
            X=s.X,
            a=s.a,
            loss=s.loss,
            weight=q,
            bend=np.empty((len(p), 0, 0)) if bend is None else bend,
            data=q * s.price * s.data,
            first=first,
            second=-weighted * (self.beta + 1) / s.effective,
            size_first=size_first,
            slope=s.slope,
            group_slope=group_slope,
            group_bent=weighted * self.group_weight * s.group_curve,
            by_data=by_data,
            bent=bent,
            corner=(q * size_second).sum(1) + s.a * along,
        )

    def hessian(self, at: LossDerivatives) -> tuple[Array, Array, Array]:
        """By the shares (R, K, K), or (R, K) where it is a diagonal; between them and n (R, K), and by n (R,)."""
        p, X, r = at.p, at.X[:, None], at.a / at.X
        if self.diagonal:
            H = X**2 * (self._by_language(at.second, at.slope**2) + at.bent)
            return H, -r[:, None] * (H * p + at.by_data), r**2 * (H * p**2).sum(1) + at.corner
        # X v sqrt(f''), so that the first sum is one product of a matrix with itself.
        J = self._rows(at, np.sqrt(at.second) * X)
        H = np.matmul(J.swapaxes(1, 2), J)
        if at.group_bent.any():
            bent = self.group_members * (X**2 * at.group_bent)[:, :, None]
            H += np.matmul(bent.swapaxes(1, 2), self.group_members)
        k = np.arange(p.shape[1])
        H[:, k, k] += X**2 * at.bent
        Hp = np.matmul(H, p[:, :, None])[:, :, 0]
        border, corner = -r[:, None] * (Hp + at.by_data), r**2 * (Hp * p).sum(1) + at.corner
        if not (self.gamma.any() or at.bend.size):
            return H, border, corner
        # The slopes of every loss by the shares and n, first without the price p^-gamma, which multiplies them.
        J = self._rows(at, X * at.first)
        J_n = at.size_first - r[:, None] * np.matmul(J, p[:, :, None])[:, :, 0]
        if self.gamma.any():
            pull = -self.gamma / p[:, self.target_index]
            scale = at.weight * pull
            mixed = self._to_languages(scale[:, :, None] * J)
            H += mixed + mixed.swapaxes(1, 2)
            H[:, k, k] += self._to_languages(at.weight * at.loss * pull * (pull - 1 / p[:, self.target_index]))
            border += self._to_languages(scale * J_n)
            J[:, np.arange(len(self.target_index)), self.target_index] += at.loss * pull
        if at.bend.size:
            J, J_n = self.risk.scenarios(self.weights, J), self.risk.scenarios(self.weights, J_n)
            bend_J = np.matmul(at.bend, J)
            H += np.matmul(J.swapaxes(1, 2), bend_J)
            border += np.matmul(J_n[:, None, :], bend_J)[:, 0]
            corner += np.einsum("rj,rji,ri->r", J_n, at.bend, J_n)
        return H, border, corner

    def _rows(self, at: LossDerivatives, scale: Array) -> Array:
        """scale_t dD_eff,t / dD_l, shape (R, T, K)."""
        if self.pairs is None:
            J = at.slope * scale[:, :, None]
        else:
            J = np.zeros((*scale.shape, at.p.shape[1]))
            J[:, self.pairs.target, self.pairs.language] = scale[:, self.pairs.target] * at.slope
        if at.group_slope.any():
            J += (scale * at.group_slope)[:, :, None] * self.group_members
        return J

    def _to_languages(self, values: Array) -> Array:
        """Sums of the values (R, T, ...) of the targets of each language, shape (R, K, ...)."""
        found = np.zeros((len(values), len(self.languages), *values.shape[2:]))
        np.add.at(found.swapaxes(0, 1), self.target_index, values.swapaxes(0, 1))
        return found

    def _outer(self, y: Array, x: Array) -> Array:
        """y_t x_l of every pair."""
        if self.pairs is None:
            return y[:, :, None] * x[:, None, :]
        return y[:, self.pairs.target] * x[:, self.pairs.language]

    def _by_target(self, values: Array, x: Array) -> Array:
        """sum_l values_tl x_l, shape (R, T)."""
        if self.pairs is None:
            return np.matmul(values, x[:, :, None])[:, :, 0]
        return self.pairs.sum_by_target(values * x[:, self.pairs.language], len(self.target_index))

    def _by_language(self, y: Array, values: Array) -> Array:
        """sum_t y_t values_tl, shape (R, K)."""
        if self.pairs is None:
            return np.matmul(y[:, None, :], values)[:, 0]
        return self.pairs.sum_by_language(y[:, self.pairs.target] * values, len(self.languages))


def saturated(D: Array, unique: Array, lam: Array) -> tuple[Array, Array, Array]:
    """S, S' and S'' by D; the three broadcast together."""
    over = unique < D
    if not over.any():
        D, lam = np.broadcast_arrays(D, lam)
        return D, np.ones(D.shape), np.zeros(D.shape)
    repeats = np.where(over, D / unique - 1, 0.0)
    S = np.minimum(D, unique) + np.where(over, unique, 0.0) * _saturated_repeats(repeats, lam)
    slope = np.exp(-lam * repeats)
    curve = np.where(over, -lam / unique * slope, 0.0)
    return S, slope, curve


def _saturated_repeats(repeats: Array, lam: Array) -> Array:
    """(1 - exp(-lambda x)) / lambda, the worth of x repeats in epochs; x where lambda is 0."""
    return np.where(lam > 0, -np.expm1(-lam * repeats) / np.where(lam > 0, lam, 1.0), repeats)


def saturated_size(n: Array, cap: Array, lam: Array) -> tuple[Array, Array, Array]:
    """S(N) and its first two derivatives by n = log N, shape (R, T); one row of caps stands for all."""
    cap, N = np.broadcast_arrays(cap, np.exp(n)[:, None])
    over = cap < N
    if not over.any():
        return N, N, N
    repeats = np.where(over, N / cap - 1, 0.0)
    S = np.minimum(N, cap) + np.where(over, cap, 0.0) * _saturated_repeats(repeats, lam)
    fading = np.exp(-lam * repeats)
    slope = N * fading
    curve = slope - np.where(over, lam / cap, 0.0) * N**2 * fading
    return S, slope, curve
