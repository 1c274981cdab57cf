"""The separable form of a law, which a planner reads and can certify.

    L = (E + A / S(N; size_cap, size_lam)^alpha + B / D_eff^beta) p_t^-gamma
    D_eff = sum over groups g of worth_g S(D_g; U_g, lam),    p_t = D_t / D_tot

A group is one language or several whose tokens are pooled; S is `laws.saturation`, linear where lam is 0.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from babelscale.allocation import Allocation
from babelscale.laws.saturation import effective_tokens

Array = NDArray[np.float64]
Group = frozenset[str]


class SeparableForm(NamedTuple):
    """One law's coefficients, shape (R,) each; `worth` gives the groups of languages that its D_eff sums over."""

    E: Array
    A: Array
    alpha: Array
    B: Array
    beta: Array
    gamma: Array
    lam: Array
    size_cap: Array
    size_lam: Array
    worth: Mapping[Group, Array]

    def loss(self, target: str | None, allocation: Allocation) -> Array:
        """The loss of allocations (n,), shape (R, n); `target` is the language whose share gamma prices."""
        by_row = {name: np.asarray(value)[:, None] for name, value in self._asdict().items() if name != "worth"}
        D_eff = np.zeros((len(self.E), *allocation.shape))
        for group, worth in self.worth.items():
            D = np.sum([allocation.D(code) for code in group], axis=0)
            U = np.sum([allocation.U(code) for code in group], axis=0)
            D_eff = D_eff + worth[:, None] * effective_tokens(D, U, by_row["lam"])
        N = effective_tokens(allocation.params, by_row["size_cap"], by_row["size_lam"])
        share = 1.0 if target is None else allocation.D(target) / allocation.total_tokens
        with np.errstate(divide="ignore", invalid="ignore"):
            capacity, data = by_row["A"] * N ** -by_row["alpha"], by_row["B"] * D_eff ** -by_row["beta"]
            return (by_row["E"] + capacity + data) * share ** -by_row["gamma"]


def plain(parameters: Mapping[str, Array], own: Group) -> SeparableForm:
    """E + A / N^alpha + B / D^beta with the tokens of some languages as D and no saturation."""
    p = parameters
    one, zero = np.ones(len(p["E"])), np.zeros(len(p["E"]))
    return SeparableForm(
        p["E"], p["A"], p["alpha"], p["B"], p["beta"], zero, zero, np.full(len(one), np.inf), zero, {own: one}
    )
