"""Numbers of a law to suppose before anything was trained, good enough to judge a design by."""

import math
from collections.abc import Mapping

import numpy as np

from babelscale import published
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.laws import ScalingLaw
from babelscale.laws.saturation import LAMBDA

EXPONENT = 0.35
_FLOOR, _SIZE, _DATA = 0.5, 0.25, 0.25
# Where a law has no printed number: a weak helper, the multilinguality law of ATLAS, Muennighoff et al. (2023).
_USUAL = {"lambda": LAMBDA, "R_D": 1 / LAMBDA, "R_N": 5.309743, "gamma": 0.05, "phi": 0.11, "psi": -0.04}
_SOURCE, _OTHER = 0.1, 0.05


def assumed_parameters(
    law: ScalingLaw, allocation: Allocation, given: Mapping[str, float] | None = None
) -> tuple[dict[str, float], list[str]]:
    """A law's numbers and sentences that say where they come from.

    E, A, B, alpha and beta are those of ATLAS's Table C.1 (multilingual vocabulary, monolingual training) where the
    target has a row and the design's sizes lie among the published ones; otherwise a rough law of loss 1 at the
    design's middle, half of it floor, a quarter each of size and data, with exponents of 0.35.

    Args:
        allocation: the design's allocations on which the law is defined, shape (n,).
        given: numbers that replace these.

    Raises:
        InputError: `given` names no parameter of the law, or lies outside its bounds; a law of one's own has a
            parameter that is not given.
    """
    given = dict(given or {})
    for name, value in given.items():
        low, high = law.bounds.get(name, (math.nan, math.nan))
        if not low <= value <= high:
            raise InputError(
                f"law {law.name!r} cannot have {name!r} at {value}",
                hint=f"parameters: {', '.join(f'{n} in [{a:g}, {b:g}]' for n, (a, b) in law.bounds.items())}",
            )
    values, told = _core(law, allocation)
    values |= _USUAL | {name: _SOURCE for name in law.parameter_names if name.startswith("tau_")}
    if "tau_other" in values:
        values["tau_other"] = _OTHER
    values |= given
    for name, other in law.ties.items():
        if name not in given:
            values[name] = values[other]
    if missing := [name for name in law.parameter_names if name not in values]:
        raise InputError(f"law {law.name!r}: no value for {', '.join(missing)}", hint="give parameters={...}")
    rest = [n for n in law.parameter_names if n not in given]
    numbers = ", ".join(f"{name} {values[name]:.3g}" for name in rest)
    return {name: float(values[name]) for name in law.parameter_names}, (
        [f"{told}: {numbers}."] if rest else ["Every number of the law was given."]
    )


def _core(law: ScalingLaw, allocation: Allocation) -> tuple[dict[str, float], str]:
    sizes = [scale.params for scale in published.model_scales()]
    rows = published.table_c1("multilingual", "monolingual", law.target) if law.target else ()
    if rows and sizes[0] <= allocation.params.min() and allocation.params.max() <= sizes[-1]:
        row = rows[0]
        values = {name: float(getattr(row, name)) for name in ("E", "A", "B", "alpha", "beta")}
        return values, f"Assumed, with E to beta from ATLAS's Table C.1 for {law.target}"
    N, D = (float(np.exp(np.mean(np.log(v)))) for v in (allocation.params, law.D(allocation)))
    values = {
        "E": _FLOOR,
        "A": _SIZE * N**EXPONENT,
        "B": _DATA * D**EXPONENT,
        "alpha": EXPONENT,
        "beta": EXPONENT,
    }
    return values, "Assumed, a rough law of loss 1 at the design's middle, half of it floor"
