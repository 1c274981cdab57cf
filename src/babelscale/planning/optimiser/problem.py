"""The part of a planning problem that is the same for laws of every form: targets, budget, bounds and objective."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.planning.optimiser.constraints import ConstraintSet
from babelscale.planning.optimiser.risk import MEAN, RiskMeasure
from babelscale.planning.optimiser.setting import UNSPENT, Setting
from babelscale.planning.request import Objective, Robust

Array = NDArray[np.float64]
Rows = NDArray[np.intp] | slice


@dataclass(frozen=True, kw_only=True)
class AllocationProblem(ABC):
    """R rows of laws for T targets over K languages; the variables are the shares p and n = log N.

    Args:
        languages: K codes; with `constraints.spare` the last column is budget left unspent.
        weights: shape (R, T).
        unique: U, shape (K,), infinite where nothing repeats.
        target_index: the column of each target, shape (T,).
        compute: C in FLOPs, shape (R,). served: D_served, tokens.
        least_loss: what is subtracted of each loss (for regrets, the least loss of each target), shape (R, T).
        constraints: bounds on tokens and shares. risk: how losses become one objective.
    """

    by_row: ClassVar[tuple[str, ...]] = ("weights", "compute", "least_loss")

    languages: tuple[str, ...]
    weights: Array
    unique: Array
    target_index: NDArray[np.intp]
    compute: Array
    least_loss: Array
    served: float = 0.0
    constraints: ConstraintSet = field(default_factory=ConstraintSet)
    risk: RiskMeasure = MEAN

    @staticmethod
    def arguments(setting: Setting, targets: Iterable[str], rows: int) -> dict[str, Any]:
        """The fields of this class for a setting and so many rows of laws."""
        constraints, targets = setting.constraints, tuple(targets)
        codes = (*setting.languages, *([UNSPENT] if constraints.spare else []))
        return {
            "languages": codes,
            "weights": np.tile([setting.weights[target] for target in targets], (rows, 1)),
            "unique": np.array([setting.unique_tokens.get(code, np.inf) for code in codes]),
            "target_index": np.array([codes.index(target) for target in targets]),
            "compute": np.full(rows, setting.compute),
            "least_loss": np.zeros((rows, len(targets))),
            "served": setting.served,
            "constraints": constraints,
        }

    @property
    def draws(self) -> int:
        return len(self.weights)

    def at(self, rows: Rows) -> Self:
        """The problems of some rows."""
        return replace(self, **{name: getattr(self, name)[rows] for name in self.by_row})

    @abstractmethod
    def as_scenarios(self) -> dict[str, Any]:
        """The parts of a problem of one row in which all rows are scenarios, its targets repeated for each."""

    def budget(self, n: Array) -> tuple[Array, Array]:
        """X, the tokens that the budget leaves for training, and a = -dX/dn; shape of n against (R,)."""
        a = self.compute / 6 * np.exp(-n)
        return a - self.served / 3, a

    @abstractmethod
    def losses(self, p: Array, n: Array) -> Array:
        """Loss by target, shape (R, T); infinite outside a law's domain. Shares (R, K) and n (R,)."""

    def objective(self, p: Array, n: Array, mu: Array | None = None) -> Array:
        """The objective, shape (R,); smoothed by mu where it is given and not smooth itself."""
        return self.risk.value(self.weights, self.losses(p, n) - self.least_loss, mu)

    def for_worst_target(self) -> Self:
        """The same problem with the largest loss (minus its `least_loss`) of any target as its objective."""
        targets = np.arange(self.weights.shape[1])
        return replace(self, weights=np.ones_like(self.weights), risk=RiskMeasure(targets, 2.0))

    def over_draws(self, robust: Robust, tail: float, objective: Objective) -> Self:
        """All rows, which are draws of the laws, as the targets of one row.

        The objective is the mean over draws ("mean"), or the mean over the worst `tail` of them ("cvar"). With "worst"
        or "regret" it is the largest mean over draws of any target's loss or regret.

        Raises:
            InputError: a tail outside (0, 1], or CVaR of a worst language.
        """
        S, T = self.weights.shape
        if robust == "cvar" and objective != "mean":
            raise InputError(
                f"robust='cvar' with objective={objective!r}", hint="take robust='mean', or objective='mean'"
            )
        if not 0 < tail <= 1:
            raise InputError(f"tail is {tail}", hint="a share of the draws, such as 0.1 for the worst tenth")
        weights, risk = self.weights.reshape(1, S * T), MEAN
        if robust == "cvar":
            risk = RiskMeasure(np.repeat(np.arange(S), T), 1 / (tail * S))
        elif objective == "mean":
            weights = weights / S
        else:
            weights, risk = np.full((1, S * T), 1 / S), RiskMeasure(np.tile(np.arange(T), S), 2.0)
        return replace(self, **self.as_scenarios(), weights=weights, risk=risk)
