"""ScalingLaw: a form without numbers, L = sum_j c_j exp(t_j(theta, allocation)) with c_j >= 0.

Each term is a non-negative coefficient (E, A, B) times a positive function of the allocation, which is written as its
logarithm t_j. Fitting needs only this form: the coefficients come from linear algebra, the rest from Newton.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from babelscale.allocation import Allocation
from babelscale.errors import DomainError, InputError

if TYPE_CHECKING:
    from babelscale.laws.separable import SeparableForm
    from babelscale.runs import Runs

Array = NDArray[Any]  # float64, or complex128 where a derivative is checked by a complex step


@dataclass(frozen=True)
class Parameter:
    """One parameter: what it means, where it may lie and where a search for it starts.

    `low` and `high` bound the parameter (a fit reports a parameter on a bound). `starts` are the grid values
    of the search. `log`: searched on a logarithmic scale, for positive parameters known only to a factor.
    `grid_group` parameters share their grid value, so that the grid stays small.
    `default` is an assumed value before anything was trained (see `ScalingLaw.defaults`).
    `identified_by` names the runs that would identify the parameter. `at_zero` says of a coefficient what a zero means.
    """

    name: str
    meaning: str
    low: float
    high: float
    starts: tuple[float, ...] = ()
    log: bool = False
    grid_group: str | None = None
    default: float | None = None
    identified_by: str = "more runs that vary what it acts on"
    at_zero: str = "its term is absent"

    @property
    def supposed(self) -> float:
        """`default`, otherwise the middle start, otherwise the middle of the bounds."""
        if self.default is not None:
            return self.default
        if self.starts:
            return self.starts[len(self.starts) // 2]
        return float(np.sqrt(self.low * self.high)) if self.log else (self.low + self.high) / 2


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
class IdentifiabilityConstraint:
    """A parameter that certain runs cannot identify: fixed at `value` or equal to parameter `tie`, and why."""

    parameter: str
    sentence: str
    value: float = 0.0
    tie: str | None = None

    @classmethod
    def fix(
        cls, parameter: str, reason: str, remedy: str, value: float = 0.0, *, at: str = "", label: str = ""
    ) -> Self:
        """A parameter fixed at a value, with the sentence made from the reason and the runs that would help.

        Args:
            at: the value in words. label: the parameter in words.
        """
        why = f"{label or parameter} is not identified, because {reason}; it is fixed at {at or f'{value:g}'}."
        return cls(parameter, f"{why} {remedy} would identify it.", value)


@dataclass(frozen=True)
class Support:
    """The runs that determine a parameter: where the mask `rows` (n,) holds. Fewer than `enough` of them are noted.

    `sentence` is the note, with `{runs}` for their number.
    """

    parameter: str
    rows: NDArray[np.bool_]
    enough: int
    sentence: str


SIZES, AMOUNTS = "runs of more different sizes", "runs of more different token counts"
EXPONENT_STARTS = (0.06, 0.12, 0.2, 0.3, 0.42, 0.55, 0.75, 1.0, 1.4)
ALPHA = Parameter(
    "alpha",
    "exponent of N: how fast a larger model helps",
    0.005,
    2.0,
    EXPONENT_STARTS,
    default=0.35,
    identified_by=SIZES,
)
BETA = Parameter(
    "beta",
    "exponent of the data: how fast more tokens help",
    0.005,
    2.0,
    EXPONENT_STARTS,
    default=0.35,
    identified_by=AMOUNTS,
)


@dataclass(frozen=True)
class ScalingLaw(ABC):
    """A function from an allocation to a loss, up to its parameters.

    To add a law, derive a frozen dataclass, name its shape parameters in `shape` and write its terms in `terms`.
    `target` is the language whose loss the law gives; None reads every token as the target's.
    `starts` names the kinds of runs that the law describes, and is fitted to, by the `start` of the runs table.

    Further properties of a law have a default that holds for most laws:
    `equation` and `latex` (texts), `covariates` (names that the law reads of an allocation beyond N, D and U),
    `exponents` (the parameters that are the exponents of a power of N and of D, or None), `repetition` (whether
    repeated tokens count for less), `prices_languages` (whether the law reads
    E + A K^phi / N^alpha + B K^psi / D_t^beta for K languages), `languages`, `constraints`, `supports`, `defaults`,
    `in_domain`, `falls_with` and `separable`.
    """

    target: str | None
    name: ClassVar[str]
    starts: ClassVar[tuple[str, ...]] = ("scratch",)
    equation: ClassVar[str] = ""
    latex: ClassVar[str] = ""
    covariates: ClassVar[tuple[str, ...]] = ()
    exponents: ClassVar[tuple[str, str] | None] = ("alpha", "beta")
    repetition: ClassVar[bool] = False
    prices_languages: ClassVar[bool] = False
    linear: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "E",
            "loss that neither size nor data removes, in the unit of the loss",
            0.0,
            np.inf,
            at_zero="the runs do not reach losses near a floor, so do not extrapolate far; larger runs would identify "
            "it",
        ),
        Parameter(
            "A",
            "scale of what a finite model loses; A / N^alpha is a loss",
            0.0,
            np.inf,
            at_zero="these runs show no gain from size, and alpha means nothing; runs of more different sizes would "
            "show one",
        ),
        Parameter(
            "B",
            "scale of what finite data lose; B / D^beta is a loss",
            0.0,
            np.inf,
            at_zero="these runs show no gain from data, and the parameters of its term mean nothing; runs of more "
            "different token counts would show one",
        ),
    )

    @classmethod
    def for_runs(cls, target: str, runs: "Runs") -> Self:
        """The law of a target with the options that suit a table of runs; here from the target alone."""
        return cls(target)

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
        """What `terms` reads of an allocation, computed once for a whole fit."""
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
        """Where the law is defined, whatever its parameters."""
        return self.D(allocation) > 0

    def in_domain(self, parameters: Mapping[str, ArrayLike], allocation: Allocation) -> NDArray[np.bool_]:
        """Where the law has a finite loss for these parameters."""
        return self.defined(allocation)

    def falls_with(self, parameters: Mapping[str, float]) -> tuple[str, ...]:
        """In which of "params" and "tokens" (of the target) the loss never rises, at these parameters."""
        return ("params", "tokens")

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that the law names, its target first."""
        return () if self.target is None else (self.target,)

    def constraints(self, allocation: Allocation) -> tuple[IdentifiabilityConstraint, ...]:
        """The parameters that runs with these allocations cannot identify, for reasons of this law."""
        return ()

    def supports(self, allocation: Allocation) -> tuple[Support, ...]:
        """The runs that determine single parameters, where a small number of them deserves a note."""
        return ()

    def defaults(self, allocation: Allocation) -> dict[str, float]:
        """Assumed parameters before anything was trained, on allocations (n,) where the law is defined.

        Shape parameters take their `Parameter.default`. The coefficients give a loss of 1 at the middle of the
        allocations: half of it E, the rest in equal parts of the other terms.
        """
        found = {parameter.name: parameter.supposed for parameter in self.shape}
        found |= {name: found[other] for name, other in self.ties.items()}
        terms = self.terms({name: np.asarray(value) for name, value in found.items()}, self.prepare(allocation))
        rest = len(terms) - ("E" in terms)
        for name, term in terms.items():
            part = 0.5 if name == "E" else (0.5 if "E" in terms else 1.0) / rest
            found[name] = part * float(np.exp(-np.mean(term.value[np.isfinite(term.value)])))
        return {name: found[name] for name in self.parameter_names}

    def separable(
        self, parameters: Mapping[str, Array], languages: Sequence[str], unique_tokens: Mapping[str, float]
    ) -> "SeparableForm | None":
        """The law as E + A / N^alpha + B / D_eff^beta on a model of some languages; None where it has no such form.

        Args:
            parameters: a value for each of `parameter_names`, shape (R,) each.
            languages: what the model is trained on. unique_tokens: U by language where it is known.
        """
        return None

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
