"""Farseer: the floor, the scale of the data and their exponent change with size. Li et al. (2025), arXiv 2506.10972.

The paper writes exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^-exp(a1 N^alpha + b1). Here E = exp(b3), B = exp(b2), and
N is counted in thousand millions, which only rescales a1, a2 and a3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from babelscale.allocation import Allocation
from babelscale.laws.base import AMOUNTS, SIZES, Array, IdentifiabilityConstraint, Parameter, ScalingLaw, Term, logs

UNIT = 1e9
_WHAT = {1: "exponent of the data", 2: "scale of the data", 3: "floor"}


def _slope(which: int, default: float) -> Parameter:
    starts = (-0.2, 0.3)
    return Parameter(
        f"a{which}",
        f"how the logarithm of the {_WHAT[which]} changes with size",
        -5.0,
        5.0,
        starts,
        default=default,
        grid_group="slopes" if which < 3 else None,
        identified_by=SIZES,
    )


def _power(name: str, which: int) -> Parameter:
    return Parameter(
        name,
        f"power of N in the {_WHAT[which]}",
        -0.5,
        0.5,
        (-0.3, -0.1, 0.2),
        grid_group="powers",
        default=-0.1,
        identified_by=SIZES,
    )


@dataclass(frozen=True)
class Farseer(ScalingLaw):
    """L(N, D) = E exp(a3 n^gamma) + B exp(a2 n^beta) D^-exp(a1 n^alpha + b1), with n = N / 1e9.

    D is the target's tokens, or all tokens where no target is named. Seven parameters beside E and B want many runs:
    at least four sizes with four token counts each.
    """

    target: str | None = None
    name: ClassVar[str] = "farseer"
    equation: ClassVar[str] = "L = E exp(a3 n^gamma) + B exp(a2 n^beta) D^-exp(a1 n^alpha + b1),  n = N / 1e9"
    latex: ClassVar[str] = r"L = E\, e^{a_3 n^{\gamma}} + B\, e^{a_2 n^{\beta}} D^{-e^{a_1 n^{\alpha} + b_1}}"
    exponents: ClassVar[tuple[str, str] | None] = None
    linear: ClassVar[tuple[Parameter, ...]] = (ScalingLaw.linear[0], ScalingLaw.linear[2])

    @property
    def shape(self) -> tuple[Parameter, ...]:
        return (
            _slope(1, -0.1),
            _power("alpha", 1),
            Parameter(
                "b1",
                "logarithm of the exponent of the data, but for its change with size",
                -5.0,
                2.0,
                (-2.0, -1.2, -0.5),
                default=-1.0,
                identified_by=AMOUNTS,
            ),
            _slope(2, 0.1),
            _power("beta", 2),
            _slope(3, 0.2),
            _power("gamma", 3),
        )

    def prepare(self, allocation: Allocation) -> tuple[Array, Array]:
        return logs(allocation.params / UNIT, self.D(allocation))

    def terms(self, shape: Mapping[str, Array], x: tuple[Array, Array]) -> Mapping[str, Term]:
        log_n, log_D = x
        a1, a2, a3 = shape["a1"], shape["a2"], shape["a3"]
        r, q, m = (np.exp(shape[name] * log_n) for name in ("alpha", "beta", "gamma"))
        data = -np.exp(a1 * r + shape["b1"]) * log_D
        by_alpha = a1 * log_n * r
        return {
            "E": Term(
                a3 * m + 0 * log_D,
                {"a3": m, "gamma": a3 * log_n * m},
                {("a3", "gamma"): log_n * m, ("gamma", "gamma"): a3 * log_n**2 * m},
            ),
            "B": Term(
                a2 * q + data,
                {"a2": q, "beta": a2 * log_n * q, "a1": data * r, "alpha": data * by_alpha, "b1": data},
                {
                    ("a2", "beta"): log_n * q,
                    ("beta", "beta"): a2 * log_n**2 * q,
                    ("a1", "a1"): data * r**2,
                    ("a1", "alpha"): data * log_n * r * (1 + a1 * r),
                    ("a1", "b1"): data * r,
                    ("alpha", "alpha"): data * (by_alpha**2 + by_alpha * log_n),
                    ("alpha", "b1"): data * by_alpha,
                    ("b1", "b1"): data,
                },
            ),
        }

    def falls_with(self, parameters: Mapping[str, float]) -> tuple[str, ...]:
        p = parameters
        falling = p["a3"] * p["gamma"] <= 0 and p["a2"] * p["beta"] <= 0 and p["a1"] * p["alpha"] >= 0
        return ("params", "tokens") if falling else ("tokens",)

    def constraints(self, allocation: Allocation) -> tuple[IdentifiabilityConstraint, ...]:
        sizes, amounts = (len(np.unique(np.round(100 * np.log(v)))) for v in (allocation.params, self.D(allocation)))
        defaults = {parameter.name: parameter.supposed for parameter in self.shape}
        fixed: dict[str, tuple[str, float]] = {}
        if sizes < 2:
            fixed = {f"a{k}": ("every run has the same size", 0.0) for k in (1, 2, 3)}
        if sizes < 3:
            fixed |= {n: ("there are fewer than three sizes", defaults[n]) for n in ("alpha", "beta", "gamma")}
        if amounts < 3:
            fixed["b1"] = ("there are fewer than three token counts", defaults["b1"])
        return tuple(
            IdentifiabilityConstraint.fix(
                name, reason, f"Runs of more {'token counts' if name == 'b1' else 'sizes'}", value
            )
            for name, (reason, value) in fixed.items()
        )
