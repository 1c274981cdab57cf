"""The multilingual law of He et al. (2024), arXiv 2410.12883: the loss of a language scales with its sampling share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from babelscale.allocation import Allocation
from babelscale.laws.base import ALPHA, BETA, Array, IdentifiabilityConstraint, Parameter, ScalingLaw, Term, logs
from babelscale.laws.separable import SeparableForm, plain


@dataclass(frozen=True)
class Multilingual(ScalingLaw):
    """L_t(N, D, p_t) = (E + A / N^alpha + B / D^beta) p_t^-gamma, with p_t = D_t / D_tot.

    D is every token of the run; p_t the share of them in the target language (in the paper, its family). gamma is how
    much a smaller share costs: half the share multiplies the loss by 2^gamma.
    """

    target: str
    name: ClassVar[str] = "multilingual"
    equation: ClassVar[str] = "L = (E + A / N^alpha + B / D_tot^beta) p_t^-gamma,  p_t = D_t / D_tot"
    latex: ClassVar[str] = r"L = \left(E + \frac{A}{N^{\alpha}} + \frac{B}{D_{tot}^{\beta}}\right) p_t^{-\gamma}"

    @property
    def shape(self) -> tuple[Parameter, ...]:
        gamma = Parameter(
            "gamma",
            "how much a smaller share costs: the loss goes as p^-gamma",
            -0.5,
            1.0,
            (0.0, 0.1),
            default=0.05,
            identified_by="runs with more different shares",
        )
        return (ALPHA, BETA, gamma)

    def D(self, allocation: Allocation) -> NDArray[np.float64]:
        return allocation.total_tokens

    def defined(self, allocation: Allocation) -> NDArray[np.bool_]:
        return allocation.D(self.target) > 0

    def prepare(self, allocation: Allocation) -> tuple[Array, Array, Array]:
        log_N, log_D = logs(allocation.params, allocation.total_tokens)
        return log_N, log_D, logs(1.0, allocation.D(self.target))[1] - log_D

    def terms(self, shape: Mapping[str, Array], x: tuple[Array, Array, Array]) -> Mapping[str, Term]:
        log_N, log_D, log_p = x
        price = -shape["gamma"] * log_p
        return {
            "E": Term(price + 0 * log_N, {"gamma": -log_p}),
            "A": Term(price - shape["alpha"] * log_N, {"gamma": -log_p, "alpha": -log_N}),
            "B": Term(price - shape["beta"] * log_D, {"gamma": -log_p, "beta": -log_D}),
        }

    def constraints(self, allocation: Allocation) -> tuple[IdentifiabilityConstraint, ...]:
        share = allocation.D(self.target) / allocation.total_tokens
        if np.ptp(share) > 1e-3 * share.max():
            return ()
        reason = f"{self.target} has the same share in every run"
        return (IdentifiabilityConstraint.fix("gamma", reason, "Runs with another share"),)

    def falls_with(self, parameters: Mapping[str, float]) -> tuple[str, ...]:
        return ("params", "tokens") if parameters["gamma"] >= 0 else ("params",)

    def separable(
        self, parameters: Mapping[str, Array], languages: Sequence[str], unique_tokens: Mapping[str, float]
    ) -> SeparableForm:
        return plain(parameters, frozenset(languages))._replace(gamma=parameters["gamma"])
