"""The multilinguality law: the cost of adding languages. ATLAS (arXiv 2510.22037), section 5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from babelscale.allocation import Allocation
from babelscale.laws.base import ALPHA, BETA, Array, IdentifiabilityConstraint, Parameter, ScalingLaw, Term, logs
from babelscale.laws.separable import SeparableForm, plain

_COUNTS = "runs with more different numbers of languages"


@dataclass(frozen=True)
class Multilinguality(ScalingLaw):
    """L(K, N, D_t) = E + A K^phi / N^alpha + B K^psi / D_t^beta, with K the languages that have tokens.

    phi > 0 is the capacity that each further language takes; psi < 0 means that the others' data help. The paper calls
    E L_inf. It is derived for even sampling, D_tot = K D_t.
    """

    target: str | None = None
    name: ClassVar[str] = "multilinguality"
    equation: ClassVar[str] = "L = E + A K^phi / N^alpha + B K^psi / D_t^beta"
    latex: ClassVar[str] = r"L = E + \frac{A K^{\phi}}{N^{\alpha}} + \frac{B K^{\psi}}{D_t^{\beta}}"
    prices_languages: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[Parameter, ...]:
        return (
            ALPHA,
            BETA,
            Parameter(
                "phi",
                "capacity that a language costs: N's term goes as K^phi",
                -1.0,
                1.0,
                (0.0, 0.2),
                default=0.11,
                identified_by=_COUNTS,
            ),
            Parameter(
                "psi",
                "data that a language costs: D's term goes as K^psi",
                -1.0,
                1.0,
                (0.0, -0.2),
                default=-0.04,
                identified_by=_COUNTS,
            ),
        )

    def K(self, allocation: Allocation) -> Array:
        """Number of languages with tokens."""
        return np.sum([tokens > 0 for tokens in allocation.tokens.values()], axis=0)

    def prepare(self, allocation: Allocation) -> tuple[Array, Array, Array]:
        return (*logs(allocation.params, self.D(allocation)), logs(1.0, self.K(allocation))[1])

    def terms(self, shape: Mapping[str, Array], x: tuple[Array, Array, Array]) -> Mapping[str, Term]:
        log_N, log_D, log_K = x
        return {
            "E": Term(log_N * 0, {}),
            "A": Term(shape["phi"] * log_K - shape["alpha"] * log_N, {"phi": log_K, "alpha": -log_N}),
            "B": Term(shape["psi"] * log_K - shape["beta"] * log_D, {"psi": log_K, "beta": -log_D}),
        }

    def constraints(self, allocation: Allocation) -> tuple[IdentifiabilityConstraint, ...]:
        if np.ptp(self.K(allocation)) > 0:
            return ()
        reason, remedy = "every run has the same number of languages", "Runs with more or fewer languages"
        return tuple(IdentifiabilityConstraint.fix(name, reason, remedy) for name in ("phi", "psi"))

    def separable(
        self, parameters: Mapping[str, Array], languages: Sequence[str], unique_tokens: Mapping[str, float]
    ) -> SeparableForm:
        K, own = len(languages), frozenset(languages if self.target is None else [self.target])
        form = plain(parameters, own)
        return form._replace(A=form.A * K ** parameters["phi"], B=form.B * K ** parameters["psi"])
