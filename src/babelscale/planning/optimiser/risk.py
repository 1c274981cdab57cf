"""Risk: how the losses of many targets, or of many draws of the laws, become one objective.

With f_j = sum of the weighted losses of scenario j, and kappa = 1 / (tail J) over J scenarios,

    mean      Phi = sum_j f_j
    tail      Phi = min_z  z + kappa sum_j max(f_j - z, 0)        (Rockafellar and Uryasev 2000, CVaR)

The worst scenario is the tail with kappa >= 1. The tail has corners, so the solver follows a smooth one: max(s, 0) is
replaced by min_{u > max(s, 0)} kappa u - mu log u - mu log(u - s), a barrier whose weight mu falls to nothing; its
slope q_j lies in (0, kappa), and sum q_j = 1 at the best z. The q are the weights of the dual, which the
certificate uses.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_STEPS = 60
# Newton's last steps only change the last digits.
_ROUNDING = 5e-16


@dataclass(frozen=True)
class RiskMeasure:
    """The objective as a function of the losses.

    Args:
        scenario: of each target, shape (T,); None: all belong to one, and the objective is the weighted mean.
        kappa: 1 / (tail J), or 2 for the worst scenario.
    """

    scenario: NDArray[np.intp] | None = None
    kappa: float = 0.0

    def scenarios(self, weights: Array, values: Array) -> Array:
        """Weighted sums over the targets of each scenario, (R, T, ...) -> (R, J, ...)."""
        assert self.scenario is not None
        weighted = weights.reshape(*weights.shape, *[1] * (values.ndim - 2)) * values
        found = np.zeros((values.shape[0], int(self.scenario.max()) + 1, *values.shape[2:]))
        np.add.at(found.swapaxes(0, 1), self.scenario, weighted.swapaxes(0, 1))
        return found

    def value(self, weights: Array, losses: Array, mu: Array | None = None) -> Array:
        """The objective, shape (R,); the smooth one where mu is given."""
        if self.scenario is None:
            return (weights * losses).sum(1)
        f = self.scenarios(weights, losses)
        inside = np.isfinite(f).all(1)
        found = np.full(len(f), np.inf)
        if mu is None:
            found[inside] = self._tail(f[inside])
        elif inside.any():
            found[inside] = self._smooth(f[inside], self._z(f[inside], mu[inside]), mu[inside])
        return found

    def _smooth(self, f: Array, z: Array, mu: Array) -> Array:
        """The smooth objective at the best z, shape (R,)."""
        mu = mu[:, None]
        u, rest = self._u(f - z[:, None], mu)
        return z + (self.kappa * u - mu * np.log(u / mu) - mu * np.log(rest / mu)).sum(1)

    def derivatives(self, weights: Array, losses: Array, mu: Array) -> tuple[Array, Array, Array | None]:
        """The smooth objective Phi (R,), dPhi/dL by target (R, T), and d2Phi/df2 by scenario (R, J, J); None for the
        mean."""
        if self.scenario is None:
            return (weights * losses).sum(1), weights, None
        f = self.scenarios(weights, losses)
        z = self._z(f, mu)
        q, slope = self._q(f - z[:, None], mu[:, None])
        bend = -slope[:, :, None] * slope[:, None, :] / slope.sum(1)[:, None, None]
        j = np.arange(f.shape[1])
        bend[:, j, j] += slope
        return self._smooth(f, z, mu), weights * q[:, self.scenario], bend

    def multipliers(self, weights: Array, losses: Array, mu: Array) -> Array:
        """The dual weights by target: a mean of losses that is never above the objective, shape (R, T)."""
        found = self.derivatives(weights, losses, mu)[1]
        if self.scenario is None:
            return found
        q = np.zeros((len(weights), int(self.scenario.max()) + 1))
        q[:, self.scenario] = found / np.where(weights > 0, weights, 1.0)
        # Weights below one scenario's worth round to a sum of one; shrinking only lowers them under kappa.
        q /= np.maximum(q.sum(1, keepdims=True), 1e-300)
        q = np.minimum(q, max(self.kappa, 1.0))
        return weights * q[:, self.scenario]

    def _tail(self, f: Array) -> Array:
        order = -np.sort(-f, axis=1)
        most = np.clip(1 / min(self.kappa, 1e300) - np.arange(f.shape[1]), 0.0, 1.0) if self.kappa < 1 else None
        return order[:, 0] if most is None else self.kappa * (order * most).sum(1)

    def _root(self, s: Array, mu: Array) -> Array:
        return np.sqrt((self.kappa * s) ** 2 + 4 * mu**2)

    def _u(self, s: Array, mu: Array) -> tuple[Array, Array]:
        """u and u - s at the best u, both without cancellation."""
        k, root = self.kappa, self._root(s, mu)
        large = np.abs(k * s) + root
        small = 4 * mu**2 / large
        u = (2 * mu + np.where(s > 0, large, small)) / (2 * k)
        rest = (2 * mu + np.where(s > 0, small, large)) / (2 * k)
        return u, rest

    def _q(self, s: Array, mu: Array) -> tuple[Array, Array]:
        """q = mu / (u - s) in (0, kappa), and dq/ds > 0."""
        root = self._root(s, mu)
        _, rest = self._u(s, mu)
        q = mu / rest
        # 1 - kappa s / root without cancellation where s is large.
        fall = np.where(s > 0, 4 * mu**2 / (root * (root + self.kappa * np.abs(s))), 1 - self.kappa * s / root)
        return q, q**2 / mu * fall / 2

    def _z(self, f: Array, mu: Array) -> Array:
        """The z at which sum q = 1, by bisection and Newton; shape (R,)."""
        mu, J = mu[:, None], f.shape[1]
        reach = 4 * J * (mu[:, 0] + 1e-300) * max(1.0, 1 / self.kappa)
        low, high = f.min(1) - reach - 1e-12 * np.abs(f).max(1), f.max(1) + reach
        z = high - reach
        for _ in range(_STEPS):
            q, slope = self._q(f - z[:, None], mu)
            excess = q.sum(1) - 1
            low, high = np.where(excess > 0, z, low), np.where(excess > 0, high, z)
            step = z + excess / np.maximum(slope.sum(1), 1e-300)
            # The interval includes its ends: a step of zero has converged, and bisection would leave the root again.
            z_new = np.where((step >= low) & (step <= high), step, (low + high) / 2)
            if (np.abs(z_new - z) <= _ROUNDING * np.abs(z) + 1e-12 * mu[:, 0]).all():
                return z_new
            z = z_new
        return z


MEAN = RiskMeasure()
