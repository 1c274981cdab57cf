"""What every scaling law is: a form without numbers, L = sum_j c_j exp(t_j(theta, allocation)) with c_j >= 0.

Each term is a non-negative coefficient (E, A, B) times a positive function of the allocation, which is written as its
logarithm t_j. That shape is all the fitting needs: the coefficients come from linear algebra, the rest from Newton.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from babelscale.allocation import Allocation
from babelscale.errors import DomainError, InputError

Array = NDArray[Any]  # float64, or complex128 where a derivative is checked by a complex step


@dataclass(frozen=True)
class Parameter:
    """One parameter: what it means, where it may lie and where a search for it starts.

    `low` and `high` are part of the fit's statement (a parameter on a bound is reported). `starts` are the grid values
    of the search. `log`: searched on a logarithmic scale, for positive parameters known only to a factor.
    `together` parameters share their grid value, so that the grid stays small.
    """

    name: str
    meaning: str
    low: float
    high: float
    starts: tuple[float, ...] = ()
    log: bool = False
    together: str | None = None


@dataclass(frozen=True)
class Term:
    """log of one term's function of the allocation, and its derivatives by parameter name.

    Shapes broadcast to (..., n). `gradient` maps a name to d t / d name; `hessian` maps a pair of names, in either
    order and given once, to the second derivative; pairs left out are zero. A law written without them (gradient
    None) gets both by complex steps, more slowly.
    """

    value: Array
    gradient: Mapping[str, Array] | None = None
    hessian: Mapping[tuple[str, str], Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Restriction:
    """A parameter that certain runs cannot identify: held at `value` or equal to parameter `tie`, and why."""

    parameter: str
    sentence: str
    value: float = 0.0
    tie: str | None = None


EXPONENT_STARTS = (0.06, 0.12, 0.2, 0.3, 0.42, 0.55, 0.75, 1.0, 1.4)
ALPHA = Parameter("alpha", "exponent of N: how fast a larger model helps", 0.005, 2.0, EXPONENT_STARTS)
BETA = Parameter("beta", "exponent of the data: how fast more tokens help", 0.005, 2.0, EXPONENT_STARTS)


@dataclass(frozen=True)
class ScalingLaw(ABC):
    """A function from an allocation to a loss, up to its parameters.

    To add a law, derive a frozen dataclass, name its shape parameters in `shape` and write its terms in `terms`.
    `target` is the language whose loss the law gives; None reads every token as the target's.
    `starts` names the kinds of runs that the law describes, and is fitted to, by the `start` of the runs table.
    """

    target: str | None
    name: ClassVar[str]
    starts: ClassVar[tuple[str, ...]] = ("scratch",)
    linear: ClassVar[tuple[Parameter, ...]] = (
        Parameter("E", "loss that neither size nor data removes, in the unit of the loss", 0.0, np.inf),
        Parameter("A", "scale of what a finite model loses; A / N^alpha is a loss", 0.0, np.inf),
        Parameter("B", "scale of what finite data lose; B / D^beta is a loss", 0.0, np.inf),
    )

    @property
    @abstractmethod
    def shape(self) -> tuple[Parameter, ...]:
        """The parameters inside the terms, in order."""

    @abstractmethod
    def terms(self, shape: Mapping[str, Array], x: Any) -> Mapping[str, Term]:
        """The terms by the name of their coefficient; `x` is what `prepare` made of the allocation.

        Parameters outside the law's domain give NaN, never an error: `loss` raises, and fitting steps back.
        """

    def prepare(self, allocation: Allocation) -> Any:
        """What of an allocation `terms` reads, computed once for a whole fit."""
        return allocation

    @property
    def ties(self) -> Mapping[str, str]:
        """Parameters that equal another one by the law's definition."""
        return {}

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (*self.linear, *self.shape)

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        return {parameter.name: (parameter.low, parameter.high) for parameter in self.parameters}

    def D(self, allocation: Allocation) -> NDArray[np.float64]:
        """The tokens the law counts as its own: the target's, or all of them where no target is named."""
        return allocation.total_tokens if self.target is None else allocation.D(self.target)

    def defined(self, allocation: Allocation) -> NDArray[np.bool_]:
        """Where the law can be asked at all."""
        return self.D(allocation) > 0

    def restrictions(self, allocation: Allocation) -> tuple[Restriction, ...]:
        """The parameters that runs with these allocations cannot identify, for reasons of this law."""
        return ()

    def evaluate(self, parameters: Mapping[str, ArrayLike], allocation: Allocation) -> Array:
        """The loss; NaN where the parameters leave the law's domain, infinite without tokens."""
        missing = [name for name in self.parameter_names if name not in parameters]
        if missing:
            raise InputError(f"law {self.name!r}: no value for {', '.join(missing)}")
        values = {name: np.asarray(parameters[name]) for name in self.parameter_names}
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            terms = self.terms(values, self.prepare(allocation))
            parts = [values[name] * np.exp(term.value) for name, term in terms.items()]
            total = sum(parts[1:], parts[0])
        return np.asarray(total) + np.zeros(allocation.shape)

    def loss(self, parameters: Mapping[str, ArrayLike], allocation: Allocation) -> Array:
        """The loss of an allocation or a batch of them.

        Args:
            parameters: a value for each of `parameter_names`, in natural units (parameters, tokens); scalars, or
                arrays that broadcast against the allocation's shape, such as (draws, 1) against (n,).

        Raises:
            InputError: a parameter is missing.
            DomainError: the law has no finite loss for one of the allocations.
        """
        total = self.evaluate(parameters, allocation)
        if not np.isfinite(total).all():
            raise DomainError(f"law {self.name!r} gives no loss here: {self.domain}", hint="see the law's equation")
        return total

    @property
    def domain(self) -> str:
        """In words, where the law has a loss."""
        return f"it needs more than 0 tokens{'' if self.target is None else f' of {self.target!r}'}"


def logs(N: ArrayLike, D: ArrayLike) -> tuple[Array, Array]:
    """log N and log D; log 0 is minus infinity without a warning."""
    with np.errstate(divide="ignore"):
        return np.log(N), np.log(D)
