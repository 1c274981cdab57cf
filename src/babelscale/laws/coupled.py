"""The coupled law: size and data compensate for each other inside one power. Videau et al. (2026), arXiv 2608.07222.

The paper ("Skaling") writes (A / N^alpha + B / D^beta)^k + E. Here A^k stands before the bracket and R = B / A inside
it, so that the law is linear in its coefficients. k = 1 is the law of Chinchilla.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from babelscale.allocation import Allocation
from babelscale.laws.adaptive_transfer import AdaptiveTransfer, Derivatives
from babelscale.laws.base import (
    ALPHA,
    BETA,
    Array,
    IdentifiabilityConstraint,
    Parameter,
    ScalingLaw,
    Support,
    Term,
    logs,
)

if TYPE_CHECKING:
    from babelscale.runs import Runs

_STARTS = (0.1, 0.2, 0.35, 0.6, 1.0)
_RATIO = Parameter(
    "R",
    "scale of the data term relative to the size term, B / A of the paper",
    1e-10,
    1e10,
    (0.01, 1.0, 100.0),
    log=True,
    identified_by="runs with more different ratios of tokens to parameters",
)
_POWER = Parameter(
    "k",
    "how size and data combine: 1 adds them, below 1 each helps more where the other is large",
    0.05,
    3.0,
    (0.4, 1.0),
    default=0.4,
    identified_by="runs of more sizes, each with several token counts",
)


@dataclass(frozen=True)
class Coupled(ScalingLaw):
    """L(N, D) = E + A (N^-alpha + R D^-beta)^k.

    D is the target's tokens, or all tokens where no target is named.
    """

    target: str | None = None
    name: ClassVar[str] = "coupled"
    equation: ClassVar[str] = "L = E + A (N^-alpha + R D^-beta)^k"
    latex: ClassVar[str] = r"L = E + A \left(N^{-\alpha} + R\, D^{-\beta}\right)^{k}"
    linear: ClassVar[tuple[Parameter, ...]] = (
        ScalingLaw.linear[0],
        Parameter(
            "A",
            "scale of what a finite model and finite data lose together",
            0.0,
            np.inf,
            at_zero="these runs show no gain from size or data, and alpha, beta, R and k mean nothing; runs of more "
            "different sizes and token counts would show one",
        ),
    )

    @property
    def shape(self) -> tuple[Parameter, ...]:
        return (replace(ALPHA, starts=_STARTS), replace(BETA, starts=_STARTS), _RATIO, _POWER)

    def prepare(self, allocation: Allocation) -> Any:
        return logs(allocation.params, self.D(allocation))

    def data(self, shape: Mapping[str, Array], x: Any) -> Derivatives:
        """log of the tokens that count, with its first and second derivatives by further parameters."""
        return x[1], {}, {}

    def terms(self, shape: Mapping[str, Array], x: Any) -> Mapping[str, Term]:
        alpha, beta, R, k = (shape[name] for name in ("alpha", "beta", "R", "k"))
        log_N = x[0]
        log_D, first, second = self.data(shape, x)
        size, data = -alpha * log_N, np.log(R) - beta * log_D
        top = np.where(np.real(size) > np.real(data), size, data)
        log_u = top + np.log(np.exp(size - top) + np.exp(data - top))
        v, w = np.exp(size - log_u), np.exp(data - log_u)
        both = k * v * w
        by_D = -k * beta * w
        gradient = {"alpha": -k * log_N * v, "beta": -k * log_D * w, "R": k * w / R, "k": log_u}
        hessian: dict[tuple[str, str], Array] = {
            ("alpha", "alpha"): both * log_N**2,
            ("alpha", "beta"): -both * log_N * log_D,
            ("alpha", "R"): both * log_N / R,
            ("alpha", "k"): -log_N * v,
            ("beta", "beta"): both * log_D**2,
            ("beta", "R"): -both * log_D / R,
            ("beta", "k"): -log_D * w,
            ("R", "R"): -k * (w / R) ** 2,
            ("R", "k"): w / R,
        }
        mixed = {
            "alpha": -both * beta * log_N,
            "beta": both * beta * log_D - k * w,
            "R": -both * beta / R,
            "k": -beta * w,
        }
        for name, g in first.items():
            gradient[name] = by_D * g
            hessian |= {(other, name): value * g for other, value in mixed.items()}
        for (a, b), bend in second.items():
            hessian[a, b] = both * beta**2 * first[a] * first[b] + by_D * bend
        return {"E": Term(0 * log_N, {}), "A": Term(k * log_u, gradient, hessian)}

    def constraints(self, allocation: Allocation) -> tuple[IdentifiabilityConstraint, ...]:
        sizes, amounts = (len(np.unique(np.round(100 * np.log(v)))) for v in (allocation.params, self.D(allocation)))
        if min(sizes, amounts) > 2:
            return ()
        few = "sizes" if sizes <= amounts else "token counts"
        reason = f"fewer than three {few} do not show how size and data combine"
        remedy = "Runs of three sizes with three token counts"
        return (IdentifiabilityConstraint.fix("k", reason, remedy, 1.0, at="1, where they add"),)

    def defaults(self, allocation: Allocation) -> dict[str, float]:
        """As for every law; R makes size and data equally important at the middle of the allocations."""
        found = {parameter.name: parameter.supposed for parameter in self.shape}
        x = self.prepare(allocation)
        log_D = self.data({name: np.asarray(value) for name, value in found.items()}, x)[0]
        found["R"] = float(np.clip(np.exp(np.mean(found["beta"] * log_D - found["alpha"] * x[0])), 1e-10, 1e10))
        term = self.terms({name: np.asarray(value) for name, value in found.items()}, x)["A"]
        return {"E": 0.5, "A": 0.5 * float(np.exp(-np.mean(term.value))), **found}


@dataclass(frozen=True)
class CoupledTransfer(Coupled):
    """L(N, D_eff) = E + A (N^-alpha + R D_eff^-beta)^k, with D_eff of `AdaptiveTransfer`."""

    target: str  # pyright: ignore[reportGeneralTypeIssues]
    sources: tuple[str, ...] = ()
    other: bool = True
    name: ClassVar[str] = "coupled-transfer"
    equation: ClassVar[str] = (
        "L = E + A (N^-alpha + R D_eff^-beta)^k,  D_eff = S(D_t) + sum_i tau_i S(D_i) + tau_other S(D_other)"
    )
    latex: ClassVar[str] = r"L = E + A \left(N^{-\alpha} + R\, D_{eff}^{-\beta}\right)^{k}"
    repetition: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        self.transfer.__post_init__()  # checks the sources

    @classmethod
    def for_runs(cls, target: str, runs: "Runs") -> Self:
        """With the sources that `AdaptiveTransfer` takes."""
        like = AdaptiveTransfer.for_runs(target, runs)
        return cls(target, like.sources, like.other)

    @property
    def transfer(self) -> AdaptiveTransfer:
        """The law whose D_eff this one reads."""
        return AdaptiveTransfer(self.target, self.sources, self.other)

    @property
    def languages(self) -> tuple[str, ...]:
        return self.transfer.languages

    @property
    def shape(self) -> tuple[Parameter, ...]:
        return (*super().shape, *self.transfer.shape[2:])

    def prepare(self, allocation: Allocation) -> Any:
        return logs(allocation.params, 1.0)[0], self.transfer.prepare(allocation)

    def data(self, shape: Mapping[str, Array], x: Any) -> Derivatives:
        return self.transfer.log_effective(shape, x[1])

    def in_domain(self, parameters: Mapping[str, ArrayLike], allocation: Allocation) -> NDArray[np.bool_]:
        return self.transfer.in_domain(parameters, allocation)

    def constraints(self, allocation: Allocation) -> tuple[IdentifiabilityConstraint, ...]:
        return (*super().constraints(allocation), *self.transfer.constraints(allocation))

    def supports(self, allocation: Allocation) -> tuple[Support, ...]:
        return self.transfer.supports(allocation)

    @property
    def domain(self) -> str:
        return self.transfer.domain
