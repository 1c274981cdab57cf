"""The checked input of a plan, and the protocol of the sources of its laws."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from babelscale.allocation import Allocation
from babelscale.laws import ScalingLaw
from babelscale.laws.separable import SeparableForm
from babelscale.planning.optimiser.constraints import ConstraintSet
from babelscale.planning.request import Bounds

Array = NDArray[np.float64]
Expectations = Mapping[str, tuple[float, float, float]]
UNSPENT = ""
_WIDTH = 1e-7


@dataclass(frozen=True)
class Setting:
    """The checked input of a plan; the compute pays for `served` tokens of inference, and `tokens` and `shares` are
    bounds."""

    languages: tuple[str, ...]
    weights: Mapping[str, float]
    unique_tokens: Mapping[str, float]
    compute: float
    served: float = 0.0
    tokens: Mapping[str, Bounds] = field(default_factory=dict)
    shares: Mapping[str, Bounds] = field(default_factory=dict)
    covariates: Mapping[str, float] = field(default_factory=dict)

    @property
    def constraints(self) -> ConstraintSet:
        """The bounds as arrays, with a last column for budget that they leave unspent."""
        if not (self.tokens or self.shares):
            return ConstraintSet()
        bounds = [self.tokens.get(code, (0.0, np.inf)) for code in self.languages]
        shares = [self.shares.get(code, (0.0, 1.0)) for code in self.languages]
        spare = any(high < np.inf for _, high in bounds)
        more = [(0.0, np.inf)] if spare else []
        # Bounds that leave no width would leave no inside; a ten-millionth is below any sampler's exactness.
        tokens = np.array(bounds + more) * [1 - _WIDTH, 1 + _WIDTH]
        parts = np.array(shares + [(0.0, 1.0)] * len(more)) * [1 - _WIDTH, 1.0]
        parts[:, 1] = np.where(parts[:, 1] < 1, parts[:, 1] * (1 + _WIDTH), 1.0)
        return ConstraintSet(tokens[:, 0], tokens[:, 1], parts[:, 0], parts[:, 1], spare)


class LawSource(Protocol):
    """The laws of the losses of some target languages."""

    @property
    def targets(self) -> tuple[str, ...]: ...
    @property
    def metric(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def pooled(self) -> tuple[str, ...]: ...
    @property
    def key(self) -> Hashable:
        """Equal for equal laws as long as these are referenced (see `problem_cache`)."""
        ...

    def languages(self) -> tuple[str, ...]:
        """The languages planned where none are named."""
        ...

    def unique(self, codes: Sequence[str]) -> dict[str, float]:
        """U by language where it is known."""
        ...

    def covariates(self, given: Mapping[str, float]) -> dict[str, float]:
        """The covariates that the laws read, fixed at the given values or at the only value of the fitted runs."""
        ...

    def only(self, targets: Sequence[str]) -> "LawSource":
        """The laws of some targets."""
        ...

    def separable(self, setting: Setting) -> bool:
        """Whether every law has the separable form that `point` and `drawn` give."""
        ...

    def rows(self, count: int, seed: int) -> dict[str, tuple[ScalingLaw, Array]] | None:
        """Every target's law with rows of its parameters: `count` draws, with 0 the optimum; None without draws."""
        ...

    def point(self, setting: Setting) -> dict[str, SeparableForm]:
        """Every target's law, one row."""
        ...

    def drawn(self, setting: Setting, count: int, seed: int) -> dict[str, SeparableForm] | None:
        """Every target's law at `count` draws; None where nothing is known of the uncertainty."""
        ...

    def alone(self, setting: Setting, count: int, seed: int) -> dict[str, SeparableForm]:
        """Every target's law in a model of its own, at so many of its draws, or with count 0 at the fit itself."""
        ...

    def expected(self, setting: Setting, allocation: Allocation, seed: int) -> Expectations:
        """Loss, low and high (90 %) of every target for a new run."""
        ...

    def estimated(self, codes: Sequence[str]) -> tuple[str, ...]:
        """The languages whose unique tokens are an estimate."""
        ...

    def extrapolation(self, allocation: Allocation) -> str | None: ...
    def notes(self, setting: Setting, allocation: Allocation) -> tuple[str, ...]: ...
