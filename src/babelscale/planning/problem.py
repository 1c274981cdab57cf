"""The planner's problem: a weighted mean loss as a function of N and of each language's share of the tokens.

Every law planned here has, for target t, the form

    L_t = [E_t + A_t / S(N; c_t)^alpha_t + B_t / D_eff,t^beta_t] p_t^-gamma_t
    D_eff,t = sum_g W_tg S(D_g; U_g),   D_g = sum of D_l over the languages l of group g

with S the saturation of `laws.saturation` and 6 N D_tot = C, so that D_l = p_l C / (6 N). The variables are the shares
p and n = log N. One problem holds R sets of parameters at once: the fit itself, or its draws.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """R problems over K languages, T targets and G groups of languages.

    Args:
        languages: K codes.
        weights: shape (T,), sum one.
        E, A, alpha, B, beta, gamma: shape (R, T).
        worth: W, shape (R, T, G).
        lam: lambda of S on the tokens, shape (R, T).
        size_cap, size_lam: N above `size_cap` saturates with `size_lam`, shape (R, T); cap infinite where it does not.
        groups: shape (G, K), 1 where a language belongs to a group.
        unique: U of each group, shape (G,), infinite where nothing repeats.
        own: the row of each target in `languages`, shape (T,).
        compute: C in FLOPs.
    """

    languages: tuple[str, ...]
    weights: Array
    E: Array
    A: Array
    alpha: Array
    B: Array
    beta: Array
    gamma: Array
    worth: Array
    lam: Array
    size_cap: Array
    size_lam: Array
    groups: Array
    unique: Array
    own: NDArray[np.intp]
    compute: float

    @property
    def draws(self) -> int:
        return len(self.E)

    @property
    def convex(self) -> bool:
        """Convex in the shares for fixed N: no source takes anything away, and no price on the share itself."""
        return bool((self.worth >= 0).all() and (self.gamma >= 0).all())

    def at(self, rows: NDArray[np.intp]) -> "Problem":
        """The problems of some rows."""
        names = ("E", "A", "alpha", "B", "beta", "gamma", "worth", "lam", "size_cap", "size_lam")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def losses(self, shares: Array, n: Array) -> Array:
        """Loss by target, shape (R, T); infinite outside a law's domain. `shares` (R, K), `n` (R,)."""
        return self._parts(shares, n)[0]

    def objective(self, shares: Array, n: Array) -> Array:
        """Weighted mean loss, shape (R,)."""
        return self.losses(shares, n) @ self.weights

    def _parts(self, shares: Array, n: Array) -> tuple[Array, ...]:
        D = shares * (self.compute / 6 * np.exp(-n))[:, None]
        S, slope, curve = saturated(D @ self.groups.T, self.unique, self.lam)
        effective = np.einsum("rtg,rtg->rt", self.worth, S)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            data = np.where(effective > 0, self.B * np.maximum(effective, 1e-300) ** -self.beta, np.inf)
            price = np.exp(-self.gamma * np.log(np.maximum(shares[:, self.own], 1e-300)))
            N, N_slope, N_curve = _size(n, self.size_cap, self.size_lam)
            capacity = self.A * N**-self.alpha
            inner = self.E + capacity + data
            total = np.where(np.isfinite(data), inner * price, np.inf)
        return total, D, slope, curve, effective, data, price, N, N_slope, N_curve, capacity, inner

    def derivatives(self, shares: Array, n: Array) -> tuple[Array, Array]:
        """Gradient (R, K + 1) and Hessian (R, K + 1, K + 1) of the objective by the shares and n, inside the domain."""
        _, D, slope, curve, effective, data, price, N, N_slope, N_curve, capacity, inner = self._parts(shares, n)
        X = self.compute / 6 * np.exp(-n)
        R, K = shares.shape
        weight = self.weights * price
        # By D_eff: f = B D_eff^-beta, f' and f''; by D_g through v = W S'.
        first = -weight * self.beta * data / effective
        second = weight * self.beta * (self.beta + 1) * data / effective**2
        v = (self.worth * slope) @ self.groups  # (R, T, K): dD_eff / dD_l
        bend = np.einsum("rt,rtg,rtg->rg", first, self.worth, curve)
        by_D = np.einsum("rt,rtk->rk", first, v)
        H = (second[:, :, None] * v).swapaxes(1, 2) @ v
        H += (self.groups.T * bend[:, None, :]) @ self.groups
        # Capacity by n, through N: d log S(N) / dn and its derivative.
        rate = N_slope / N
        size_first = -weight * self.alpha * capacity * rate
        size_second = weight * self.alpha * capacity * ((self.alpha + 1) * rate**2 - N_curve / N)
        gradient = np.empty((R, K + 1))
        hessian = np.empty((R, K + 1, K + 1))
        HD = np.einsum("rkl,rl->rk", H, D)
        gradient[:, :K] = X[:, None] * by_D
        gradient[:, K] = -np.einsum("rk,rk->r", by_D, D) + size_first.sum(1)
        hessian[:, :K, :K] = X[:, None, None] ** 2 * H
        cross = -X[:, None] * (HD + by_D)
        hessian[:, :K, K] = cross
        hessian[:, K, :K] = cross
        hessian[:, K, K] = np.einsum("rk,rk->r", D, HD + by_D) + size_second.sum(1)
        if self.gamma.any():
            self._price(shares, D, X, weight, inner, first, v, size_first, gradient, hessian)
        return gradient, hessian

    def _price(
        self, shares: Array, D: Array, X: Array, weight: Array, inner: Array, first: Array, v: Array, size_first: Array,
        gradient: Array, hessian: Array,
    ) -> None:  # fmt: skip
        """Add what p_t^-gamma contributes: its own slope, and its products with the slopes of the bracket."""
        K = shares.shape[1]
        p = shares[:, self.own]
        bracket_n = -np.einsum("rt,rtk,rk->rt", first, v, D) + size_first
        for t, k in enumerate(self.own):
            pull = -self.gamma[:, t] / p[:, t]
            gradient[:, k] += weight[:, t] * inner[:, t] * pull
            hessian[:, k, k] += weight[:, t] * inner[:, t] * self.gamma[:, t] * (self.gamma[:, t] + 1) / p[:, t] ** 2
            mixed = np.concatenate([(X * first[:, t])[:, None] * v[:, t], bracket_n[:, t, None]], axis=1)
            hessian[:, k, : K + 1] += pull[:, None] * mixed
            hessian[:, : K + 1, k] += pull[:, None] * mixed


def saturated(D: Array, unique: Array, lam: Array) -> tuple[Array, Array, Array]:
    """S, S' and S'' by D. `D` (R, G), `unique` (G,), `lam` (R, T); results (R, T, G), or (R, 1, G) for one lambda."""
    if (lam == lam[:, :1]).all():
        lam = lam[:, :1]
    D, lam = D[:, None, :], lam[..., None]
    over = unique < D
    repeats = np.where(over, D / unique - 1, 0.0)
    S = np.minimum(D, unique) + np.where(over, unique, 0.0) * _worth(repeats, lam)
    slope = np.exp(-lam * repeats)
    curve = np.where(over, -lam / unique * slope, 0.0)
    return S, slope, curve


def _worth(repeats: Array, lam: Array) -> Array:
    """(1 - exp(-lambda x)) / lambda, the worth of x repeats in epochs; x where lambda is 0."""
    return np.where(lam > 0, -np.expm1(-lam * repeats) / np.where(lam > 0, lam, 1.0), repeats)


def _size(n: Array, cap: Array, lam: Array) -> tuple[Array, Array, Array]:
    """S(N) and its first two derivatives by n = log N, shape (R, T)."""
    N = np.broadcast_to(np.exp(n)[:, None], cap.shape)
    over = cap < N
    repeats = np.where(over, N / cap - 1, 0.0)
    S = np.minimum(N, cap) + np.where(over, cap, 0.0) * _worth(repeats, lam)
    fading = np.exp(-lam * repeats)
    slope = N * fading
    curve = slope - np.where(over, lam / cap, 0.0) * N**2 * fading
    return S, slope, curve
