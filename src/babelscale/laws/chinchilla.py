"""Chinchilla: model size and tokens, without repetition. Hoffmann et al. (2022), arXiv 2203.15556, equation 2."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from babelscale.allocation import Allocation
from babelscale.laws.base import ALPHA, BETA, Array, Parameter, ScalingLaw, Term, logs
from babelscale.laws.separable import SeparableForm, plain


@dataclass(frozen=True)
class Chinchilla(ScalingLaw):
    """L(N, D) = E + A / N^alpha + B / D^beta.

    D is the target's tokens, or all tokens where no target is named. `tied` sets beta = alpha.
    """

    target: str | None = None
    tied: bool = False
    name: ClassVar[str] = "chinchilla"
    equation: ClassVar[str] = "L = E + A / N^alpha + B / D^beta"
    latex: ClassVar[str] = r"L = E + \frac{A}{N^{\alpha}} + \frac{B}{D^{\beta}}"

    @property
    def shape(self) -> tuple[Parameter, ...]:
        return (ALPHA, BETA)

    @property
    def ties(self) -> Mapping[str, str]:
        return {"beta": "alpha"} if self.tied else {}

    def prepare(self, allocation: Allocation) -> tuple[Array, Array]:
        return logs(allocation.params, self.D(allocation))

    def terms(self, shape: Mapping[str, Array], x: tuple[Array, Array]) -> Mapping[str, Term]:
        log_N, log_D = x
        return {
            "E": Term(log_N * 0, {}),
            "A": Term(-shape["alpha"] * log_N, {"alpha": -log_N}),
            "B": Term(-shape["beta"] * log_D, {"beta": -log_D}),
        }

    def separable(
        self, parameters: Mapping[str, Array], languages: Sequence[str], unique_tokens: Mapping[str, float]
    ) -> SeparableForm:
        return plain(parameters, frozenset(languages if self.target is None else [self.target]))
