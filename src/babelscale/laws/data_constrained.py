"""The data-constrained law: repeated tokens and excess parameters lose their value.

Muennighoff et al. (2023), arXiv 2305.16264, equations 5 to 8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from babelscale.allocation import Allocation
from babelscale.laws.base import ALPHA, BETA, Array, IdentifiabilityConstraint, Parameter, ScalingLaw, Support, Term
from babelscale.laws.repeats import REPEATS, repeating
from babelscale.laws.saturation import LAMBDA, decay, split
from babelscale.laws.separable import SeparableForm, plain

Optimum = tuple[float, float]
_EXCESS = 5.309743  # R_N* of Muennighoff et al. (2023)


def optimum(A: float, B: float, alpha: float, beta: float) -> Optimum:
    """(g, e) with N_opt(U) = g U^e, the size for which U tokens are compute-optimal under A / N^alpha + B / D^beta.

    From alpha A / N^alpha = beta B / D^beta at the optimum of C = 6 N D.
    """
    return (alpha * A / (beta * B)) ** (1 / alpha), beta / alpha


@dataclass(frozen=True)
class DataConstrained(ScalingLaw):
    """L(N, D; U) = E + A / N'^alpha + B / D'^beta, with

        D' = U + U R_D* (1 - exp(-R_D / R_D*)),          R_D = max(D/U - 1, 0)
        N' = U_N + U_N R_N* (1 - exp(-R_N / R_N*)),      R_N = max(N/U_N - 1, 0),   U_N = min(N, N_opt(U))

    Parameters `R_D` and `R_N` stand for R_D* and R_N*. N_opt(U) = g U^e comes from a first fit without repetition
    (`optimum` makes (g, e) of its numbers) and is given as `sizes`; without it N' = N and there is no R_N.
    """

    target: str | None = None
    sizes: Optimum | None = None
    tied: bool = False
    name: ClassVar[str] = "data-constrained"
    equation: ClassVar[str] = (
        "L = E + A / N'^alpha + B / D'^beta,  D' = U + U R_D (1 - exp(-(D/U - 1) / R_D)) where D > U"
    )
    latex: ClassVar[str] = (
        r"L = E + \frac{A}{N'^{\alpha}} + \frac{B}{D'^{\beta}}, \quad "
        r"D' = U + U R_D (1 - e^{-(D/U - 1)/R_D})"
    )
    repetition: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", None if self.sizes is None else (self.sizes[0], self.sizes[1]))

    @property
    def shape(self) -> tuple[Parameter, ...]:
        repeats = Parameter(
            "R_D",
            "repeated epochs after which data lose their value",
            0.01,
            1e3,
            (3.0, 30.0),
            log=True,
            default=1 / LAMBDA,
            identified_by=REPEATS,
        )
        excess = Parameter(
            "R_N",
            "value of excess parameters, in multiples of N_opt",
            0.01,
            1e3,
            (3.0, 30.0),
            log=True,
            default=_EXCESS,
            identified_by="larger models on the same data",
        )
        return (ALPHA, BETA, repeats, *([excess] if self.sizes else []))

    @property
    def ties(self) -> Mapping[str, str]:
        return {"beta": "alpha"} if self.tied else {}

    def U(self, allocation: Allocation) -> Array:
        if self.target is not None:
            return allocation.U(self.target)
        seen = [np.where(allocation.D(c) > 0, allocation.U(c), 0.0) for c in allocation.languages]
        total = np.sum(seen, axis=0)
        return np.where(total > 0, total, np.inf)

    def prepare(self, allocation: Allocation) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
        U = self.U(allocation)
        best = np.inf if self.sizes is None else self.sizes[0] * U ** self.sizes[1]
        return split(allocation.params, best), split(self.D(allocation), U)

    def terms(self, shape: Mapping[str, Array], x: tuple) -> Mapping[str, Term]:
        excess, repeats = x
        return {
            "E": Term(excess[0] * 0, {}),
            "A": _term(shape, "alpha", "R_N" if self.sizes else None, excess),
            "B": _term(shape, "beta", "R_D", repeats),
        }

    def constraints(self, allocation: Allocation) -> tuple[IdentifiabilityConstraint, ...]:
        (_, _, excess), (_, _, repeats) = self.prepare(allocation)
        found = []
        if not repeats.any():
            at, remedy = f"{1 / LAMBDA:.4g} (Muennighoff et al. 2023)", "Runs of several epochs on little unique data"
            found.append(
                IdentifiabilityConstraint.fix("R_D", "no run repeats its data", remedy, 1 / LAMBDA, at=at, label="R_D*")
            )
        if self.sizes and not excess.any():
            reason, remedy = "no run is larger than optimal for its unique data", "Larger models on the same data"
            at = f"{_EXCESS:.3g} (Muennighoff et al. 2023)"
            found.append(IdentifiabilityConstraint.fix("R_N", reason, remedy, _EXCESS, at=at, label="R_N*"))
        return tuple(found)

    def supports(self, allocation: Allocation) -> tuple[Support, ...]:
        codes = allocation.languages if self.target is None else (self.target,)
        return (repeating("R_D", codes, allocation),)

    def separable(
        self, parameters: Mapping[str, Array], languages: Sequence[str], unique_tokens: Mapping[str, float]
    ) -> SeparableForm:
        own = frozenset(languages if self.target is None else [self.target])
        form = plain(parameters, own)._replace(lam=1 / parameters["R_D"])
        if self.sizes is None:
            return form
        U = sum(unique_tokens.get(code, np.inf) for code in own)
        cap = np.full(len(form.E), self.sizes[0] * U ** self.sizes[1])
        return form._replace(size_cap=cap, size_lam=1 / parameters["R_N"])


def _term(p: Mapping[str, Array], exponent: str, star: str | None, parts: tuple[Array, Array, Array]) -> Term:
    """-exponent log S, S = fresh + unique R* (1 - exp(-repeats / R*)), with derivatives by the exponent and R*."""
    fresh, unique, repeats = parts
    with np.errstate(divide="ignore"):
        if star is None or not repeats.any():
            log_S = np.log(fresh)
            return Term(-p[exponent] * log_S, {exponent: -log_S})
        R = p[star]
        z = repeats / R
        phi, first, second = decay(z)
        S = fresh + unique * repeats * phi
        # d phi(z) / dR with dz/dR = -z/R and d2z/dR2 = 2 z/R^2
        slope = unique * repeats * first * (-z / R) / S
        curve = unique * repeats * (second * z**2 + 2 * first * z) / R**2 / S
        log_S = np.log(S)
    return Term(
        -p[exponent] * log_S,
        {exponent: -log_S, star: -p[exponent] * slope},
        {(exponent, star): -slope, (star, star): -p[exponent] * (curve - slope**2)},
    )
