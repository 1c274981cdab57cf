"""The planner's problem: losses of all targets as a function of N and of each language's share of the tokens.

Every law planned here has, for target t, the form

    L_t = [E_t + A_t / S(N; c_t)^alpha_t + B_t / D_eff,t^beta_t] p_t^-gamma_t
    D_eff,t = sum_l W_tl S(D_l; U_l) + V_t S(sum_{l in G_t} D_l; U_G)

with S the saturation of `laws.saturation` and a budget of C = 6 N D_tot + 2 N D_served (FLOPs of training, and of
serving D_served tokens), so that D_l = p_l X and X(n) = C / (6 N) - D_served / 3. The variables are the shares p, which
sum to one, and n = log N. One problem holds R sets of parameters at once: the fit itself, or its draws.
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.optimiser.constraints import ConstraintSet
from babelscale.planning.optimiser.risk import MEAN, RiskMeasure

Array = NDArray[np.float64]
# Down to this lambda (1 - S') / lambda keeps its digits without expm1, which NumPy does not vectorise as it does exp.
SMALL_LAMBDA = 1e-3
_SCALARS = ("E", "A", "alpha", "B", "beta", "gamma", "group_weight", "lam", "size_cap", "size_lam", "least_loss")
ROWS = (
    "weights",
    "E",
    "A",
    "alpha",
    "B",
    "beta",
    "gamma",
    "transfer_weight",
    "group_weight",
    "lam",
    "size_cap",
    "size_lam",
    "least_loss",
)


class Repeated(NamedTuple):
    """What saturates of single streams: pairs of a target and a language whose tokens repeat.

    `target` and `language` index the M pairs, target by target; S - D, S' and S'' (None unless asked for) are (R, M).
    """

    target: NDArray[np.intp]
    language: NDArray[np.intp]
    lost: Array
    slope: Array
    curve: Array


class State(NamedTuple):
    """What losses and derivatives share at a point; shapes (R, T) but for the shares' tokens D (R, K)."""

    loss: Array
    D: Array
    repeated: Repeated | None
    pool_slope: Array
    pool_curve: Array
    effective: Array
    data: Array
    price: Array
    capacity: Array
    size_rate: Array
    size_curve: Array
    inner: Array


class Slopes(NamedTuple):
    """Gradient (R, K) and (R,), and the Hessian in parts: `diagonal` (R, K), `dense` (R, K, K) or None, `border` (R, K)
    between the shares and n, `corner` (R,) of n. `dense` is scaled: p_k p_l times the second derivative."""

    by_p: Array
    by_n: Array
    diagonal: Array
    dense: Array | None
    border: Array
    corner: Array


@dataclass(frozen=True)
class LossEvaluator:
    """R problems over K languages and T targets.

    Args:
        languages: K codes; with `constraints.spare` the last column is budget left unspent.
        weights: shape (R, T).
        E, A, alpha, B, beta, gamma: shape (R, T).
        transfer_weight: W, shape (R, T, K); or (R, T), each target's own, where no language helps another.
        group_weight: V (R, T); group_members: (T, K), 1 where a language is in G_t; group_unique: U_G, shape (T,).
        lam: lambda of S on the tokens, shape (R, T).
        size_cap, size_lam: N above `size_cap` saturates with `size_lam`, shape (R, T); cap infinite where it does not.
        unique: U, shape (K,), infinite where nothing repeats.
        target_index: the column of each target, shape (T,).
        compute: C in FLOPs, shape (R,). served: D_served, tokens.
        least_loss: what is subtracted of each loss (the least loss, for regrets), shape (R, T).
        constraints: bounds on tokens and shares. risk: how losses become one objective.
        transfer_mask: shape (T, K), which languages count for which targets; made from `transfer_weight`.
    """

    languages: tuple[str, ...]
    weights: Array
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
    unique: Array
    target_index: NDArray[np.intp]
    compute: Array
    least_loss: Array
    served: float = 0.0
    constraints: ConstraintSet = field(default_factory=ConstraintSet)
    risk: RiskMeasure = MEAN
    transfer_mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.transfer_mask is None:
            object.__setattr__(self, "transfer_mask", self._helps())

    def _helps(self) -> NDArray[np.bool_]:
        """Which languages count for which targets in any row."""
        if self.transfer_weight.ndim == 3:
            return (self.transfer_weight != 0).any(0)
        found = np.zeros((len(self.target_index), len(self.languages)), bool)
        found[np.arange(len(self.target_index)), self.target_index] = True
        return found

    @property
    def draws(self) -> int:
        return len(self.E)

    @property
    def separable(self) -> bool:
        """Whether every target learns from its own tokens alone."""
        return self.transfer_weight.ndim == 2

    @property
    def convex(self) -> bool:
        """Convex in the shares for fixed N: no source takes anything away, and no reward for a small share."""
        return bool((self.transfer_weight >= 0).all() and (self.group_weight >= 0).all() and (self.gamma >= 0).all())

    def at(self, rows: NDArray[np.intp] | slice) -> "LossEvaluator":
        """The problems of some rows."""
        return replace(self, **{name: getattr(self, name)[rows] for name in (*ROWS, "compute")})

    def as_scenarios(self) -> dict[str, Any]:
        """The parts of a problem of one row in which all rows are scenarios, its targets repeated for each."""
        S, T = self.weights.shape
        return {
            **{name: getattr(self, name).reshape(1, S * T) for name in _SCALARS},
            "transfer_weight": self.transfer_weight.reshape(1, S * T, *self.transfer_weight.shape[2:]),
            "group_members": np.tile(self.group_members, (S, 1)),
            "group_unique": np.tile(self.group_unique, S),
            "target_index": np.tile(self.target_index, S),
            "compute": self.compute[:1],
            "transfer_mask": None,
        }

    def budget(self, n: Array) -> tuple[Array, Array]:
        """X, the tokens that the budget leaves for training, and a = -dX/dn; shape of n against (R,)."""
        a = self.compute / 6 * np.exp(-n)
        return a - self.served / 3, a

    def losses(self, shares: Array, n: Array) -> Array:
        """Loss by target, shape (R, T); infinite outside a law's domain. `shares` (R, K), `n` (R,)."""
        return self.state(shares, n, False).loss

    def objective(self, shares: Array, n: Array, mu: Array | None = None) -> Array:
        """The objective, shape (R,); smoothed by mu where it is given and not smooth itself."""
        return self.risk.value(self.weights, self.losses(shares, n) - self.least_loss, mu)

    def state(self, shares: Array, n: Array, derivatives: bool = True) -> State:
        """Losses and their parts; without `derivatives`, S' and S'' are left out."""
        D = shares * self.budget(n)[0][:, None]
        repeated = self._repeated(D, derivatives)
        alone = self.separable
        effective = (
            self.transfer_weight * D[:, self.target_index]
            if alone
            else np.matmul(self.transfer_weight, D[..., None])[..., 0]
        )
        if repeated is not None:
            starts = np.flatnonzero(np.diff(repeated.target, prepend=-1))
            worth, t = self._of_pairs(repeated), repeated.target[starts]
            effective[:, t] += np.add.reduceat(worth * repeated.lost, starts, axis=1)
        pool_slope = pool_curve = np.zeros_like(effective)
        if self.group_weight.any():
            S, pool_slope, pool_curve = saturated(D @ self.group_members.T, self.group_unique, self.lam)
            effective = effective + self.group_weight * S
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            safe = np.maximum(effective, 1e-300)
            data = np.where(effective > 0, self.B * np.exp(-self.beta * np.log(safe)), np.inf)
            N, N_slope, N_curve = saturated_size(n, self.size_cap, self.size_lam)
            capacity = self.A * np.exp(-self.alpha * np.log(N))
            inner = self.E + capacity + data
            price = np.ones_like(inner)
            if self.gamma.any():
                price = np.exp(-self.gamma * np.log(np.maximum(shares[:, self.target_index], 1e-300)))
            total = np.where(np.isfinite(data), inner * price, np.inf)
        return State(
            total,
            D,
            repeated,
            pool_slope,
            pool_curve,
            effective,
            data,
            price,
            capacity,
            N_slope / N,
            N_curve / N,
            inner,
        )

    def _repeated(self, D: Array, derivatives: bool) -> Repeated | None:
        over = (self.unique < D).any(0)
        if not over.any():
            return None
        target, language = np.nonzero(np.asarray(self.transfer_mask) & over)
        if not len(target):
            return None
        D, unique, lam = D[:, language], self.unique[language], self.lam[:, target]
        repeats = np.maximum(D / unique - 1, 0.0)
        if lam.min() >= SMALL_LAMBDA:
            faded = np.exp(-lam * repeats) - 1
            worth = -faded / lam
        else:
            worth = _worth(repeats, lam)
            faded = np.expm1(-lam * repeats)
        lost = unique * (worth - repeats)
        if not derivatives:
            return Repeated(target, language, lost, lost, lost)
        slope = 1 + faded
        return Repeated(target, language, lost, slope, np.where(repeats > 0, -lam / unique * slope, 0.0))

    def _of_pairs(self, r: Repeated) -> Array:
        """W of the repeated pairs, (R, M)."""
        return self.transfer_weight[:, r.target] if self.separable else self.transfer_weight[:, r.target, r.language]

    def _own_slopes(self, s: State) -> tuple[Array, Array]:
        """W S' and W S'' of each target's own tokens, (R, T), where no language helps another."""
        slope, curve = self.transfer_weight.copy(), np.zeros_like(self.transfer_weight)
        if s.repeated is not None:
            t = s.repeated.target
            slope[:, t] *= s.repeated.slope
            curve[:, t] = self.transfer_weight[:, t] * s.repeated.curve
        return slope, curve

    def gradient(self, shares: Array, n: Array, weight: Array) -> tuple[Array, Array]:
        """-d/dD of sum_t weight_t L_t, shape (R, K), at fixed D_tot where a share has a price; and sum_t weight_t beta
        B / D_eff^beta, shape (R,)."""
        s = self.state(shares, n)
        weight = weight * s.price
        first = weight * self.beta * s.data / s.effective
        gains = np.zeros_like(shares)
        if self.separable:
            np.add.at(gains.T, self.target_index, (first * self._own_slopes(s)[0]).T)
            gains += (first * self.group_weight * s.pool_slope) @ self.group_members
        else:
            gains += np.matmul(first[:, None, :], self._reach(s, shares.shape[1]))[:, 0]
        if self.gamma.any():
            X = self.budget(n)[0][:, None]
            np.add.at(
                gains.T, self.target_index, (weight * s.inner * self.gamma / (shares[:, self.target_index] * X)).T
            )
        return gains, (weight * self.beta * s.data).sum(1)

    def slopes(self, shares: Array, n: Array, mu: Array) -> Slopes:
        """First and second derivatives of the objective by the shares and n, inside the domain."""
        s = self.state(shares, n)
        X, a = self.budget(n)
        outer, bend = self.risk.derivatives(self.weights, s.loss - self.least_loss, mu)
        weight = outer * s.price
        # By D_eff: f = B D_eff^-beta, f' and f''; by D_l through v = W S'.
        first = -weight * self.beta * s.data / s.effective
        second = -first * (self.beta + 1) / s.effective
        size_first = -weight * self.alpha * s.capacity * s.size_rate
        size_second = weight * self.alpha * s.capacity * ((self.alpha + 1) * s.size_rate**2 - s.size_curve)
        K = shares.shape[1]
        if self.separable and bend is None and not self.group_weight.any():
            v, curve = self._own_slopes(s)
            by_D, H = np.zeros_like(shares), np.zeros_like(shares)
            if (
                len(self.target_index) == shares.shape[1]
                and (self.target_index == np.arange(len(self.target_index))).all()
            ):
                by_D, H = first * v, second * v**2 + first * curve
            else:
                np.add.at(by_D.T, self.target_index, (first * v).T)
                np.add.at(H.T, self.target_index, (second * v**2 + first * curve).T)
            HD, dense = H * shares, None
            diagonal = X[:, None] ** 2 * H
        else:
            v = self._reach(s, K)
            by_D = np.matmul(first[:, None, :], v)[:, 0]
            scaled = v * s.D[:, None, :]
            dense = np.matmul((second[:, :, None] * scaled).swapaxes(1, 2), scaled)
            self._bend(dense, s, first)
            with np.errstate(divide="ignore", invalid="ignore"):
                HD = np.where(shares > 0, dense.sum(2) / (X[:, None] ** 2 * shares), 0.0)
            diagonal = np.zeros_like(shares)
        by_p = X[:, None] * by_D
        along = (by_D * shares).sum(1)
        by_n = -a * along + size_first.sum(1)
        border = -(a * X)[:, None] * HD - a[:, None] * by_D
        corner = a**2 * (HD * shares).sum(1) + a * along + size_second.sum(1)
        found = Slopes(by_p, by_n, diagonal, dense, border, corner)
        if dense is None:
            return self._price(found, s, shares, a, weight, None, first, size_first) if self.gamma.any() else found
        if self.gamma.any():
            found = self._price(found, s, shares, a, weight, v, first, size_first)
        return found if bend is None else self._curved(found, s, shares, X, a, outer, bend, v)

    def _reach(self, s: State, K: int) -> Array:
        """dD_eff,t / dD_l, shape (R, T, K)."""
        if self.separable:
            v = np.zeros((*self.transfer_weight.shape, K))
            v[:, np.arange(len(self.target_index)), self.target_index] = self._own_slopes(s)[0]
        else:
            v = self.transfer_weight
            if s.repeated is not None:
                v = v.copy()
                v[:, s.repeated.target, s.repeated.language] *= s.repeated.slope
        if self.group_weight.any():
            v = v + (self.group_weight * s.pool_slope)[..., None] * self.group_members
        return v

    def _bend(self, H: Array, s: State, first: Array) -> None:
        """Add what the curvature of S contributes, scaled by the tokens."""
        if s.repeated is not None:
            r = s.repeated
            pull = first[:, r.target] * self._of_pairs(r) * r.curve
            on = np.zeros((H.shape[0], H.shape[1]))
            np.add.at(on.T, r.language, pull.T)
            k = np.arange(H.shape[1])
            H[:, k, k] += on * s.D**2
        if s.pool_curve.any():
            t = s.pool_curve.any(0)
            scaled = self.group_members[t] * s.D[:, None, :]
            pull = (first * self.group_weight * s.pool_curve)[:, t]
            H += np.matmul((scaled * pull[:, :, None]).swapaxes(1, 2), scaled)

    def _price(
        self,
        found: Slopes,
        s: State,
        shares: Array,
        a: Array,
        weight: Array,
        v: Array | None,
        first: Array,
        size_first: Array,
    ) -> Slopes:
        """Add what p_t^-gamma contributes: its own slope, and its products with the slopes of the bracket."""
        by_p, border = found.by_p.copy(), found.border.copy()
        dense = np.zeros((*shares.shape, shares.shape[1])) if found.dense is None else found.dense
        v = self._reach(s, shares.shape[1]) if v is None else v
        bracket_n = -a[:, None] * first * np.matmul(v, shares[..., None])[..., 0] + size_first
        for t, k in enumerate(self.target_index):
            pull = -self.gamma[:, t] / shares[:, k]
            by_p[:, k] += weight[:, t] * s.inner[:, t] * pull
            dense[:, k, k] += weight[:, t] * s.inner[:, t] * self.gamma[:, t] * (self.gamma[:, t] + 1)
            mixed = first[:, t, None] * v[:, t] * s.D * (pull * shares[:, k])[:, None]
            dense[:, k, :] += mixed
            dense[:, :, k] += mixed
            border[:, k] += pull * bracket_n[:, t]
        return found._replace(by_p=by_p, dense=dense, border=border)

    def _curved(
        self, found: Slopes, s: State, shares: Array, X: Array, a: Array, outer: Array, bend: Array, v: Array
    ) -> Slopes:
        """Add J' (d2 Phi / dL2) J, J the slopes of the losses, for an objective that is no weighted mean."""
        scale = -self.beta * s.data / s.effective * s.price
        J = scale[..., None] * v
        J_n = -a[:, None] * np.matmul(J, shares[..., None])[..., 0] - s.price * self.alpha * s.capacity * s.size_rate
        J = X[:, None, None] * J
        if self.gamma.any():
            t = np.arange(len(self.target_index))
            J[:, t, self.target_index] -= s.loss * self.gamma / shares[:, self.target_index]
        J, J_n = self.risk.scenarios(self.weights, J), self.risk.scenarios(self.weights, J_n[..., None])[..., 0]
        left = np.matmul(bend, J)
        scaled = J * shares[:, None, :]
        dense = found.dense + np.matmul(scaled.swapaxes(1, 2), np.matmul(bend, scaled))
        border = found.border + np.matmul(J_n[:, None, :], left)[:, 0]
        corner = found.corner + np.einsum("rj,rji,ri->r", J_n, bend, J_n)
        return found._replace(dense=dense, border=border, corner=corner)


def saturated(D: Array, unique: Array, lam: Array) -> tuple[Array, Array, Array]:
    """S, S' and S'' by D; the three broadcast together."""
    over = unique < D
    if not over.any():
        D, lam = np.broadcast_arrays(D, lam)
        return D, np.ones(D.shape), np.zeros(D.shape)
    repeats = np.where(over, D / unique - 1, 0.0)
    S = np.minimum(D, unique) + np.where(over, unique, 0.0) * _worth(repeats, lam)
    slope = np.exp(-lam * repeats)
    curve = np.where(over, -lam / unique * slope, 0.0)
    return S, slope, curve


def _worth(repeats: Array, lam: Array) -> Array:
    """(1 - exp(-lambda x)) / lambda, the worth of x repeats in epochs; x where lambda is 0."""
    return np.where(lam > 0, -np.expm1(-lam * repeats) / np.where(lam > 0, lam, 1.0), repeats)


def saturated_size(n: Array, cap: Array, lam: Array) -> tuple[Array, Array, Array]:
    """S(N) and its first two derivatives by n = log N, shape (R, T); one row of caps stands for all."""
    cap, N = np.broadcast_arrays(cap, np.exp(n)[:, None])
    over = cap < N
    if not over.any():
        return N, N, N
    repeats = np.where(over, N / cap - 1, 0.0)
    S = np.minimum(N, cap) + np.where(over, cap, 0.0) * _worth(repeats, lam)
    fading = np.exp(-lam * repeats)
    slope = N * fading
    curve = slope - np.where(over, lam / cap, 0.0) * N**2 * fading
    return S, slope, curve
