"""Parameters to assume for a law before any run is trained, good enough to judge a design by."""

import math
from collections.abc import Mapping

from babelscale import published
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.laws import ScalingLaw

_PRINTED = ("E", "A", "B", "alpha", "beta")


def default_parameters(
    law: ScalingLaw, allocation: Allocation, fixed: Mapping[str, float] | None = None
) -> tuple[dict[str, float], list[str]]:
    """A law's parameters, and sentences that name their source.

    E, A, B, alpha and beta are those of ATLAS's Table C.1 (multilingual vocabulary, monolingual training) where the
    target has a row, the law has exactly these terms and the design's sizes lie among the published ones; every other
    parameter is the law's default (`ScalingLaw.defaults`: a rough law of loss 1 at the design's middle, half of it E).

    Args:
        allocation: the design's allocations on which the law is defined, shape (n,).
        fixed: values that replace these.

    Raises:
        InputError: `fixed` names no parameter of the law, or a value lies outside its bounds.
    """
    fixed = dict(fixed or {})
    for name, value in fixed.items():
        low, high = law.bounds.get(name, (math.nan, math.nan))
        if not low <= value <= high:
            raise InputError(
                f"law {law.name!r} cannot have {name!r} at {value}",
                hint=f"parameters: {', '.join(f'{n} in [{a:g}, {b:g}]' for n, (a, b) in law.bounds.items())}",
            )
    printed = _printed(law, allocation)
    values = law.defaults(allocation) | printed | fixed
    values |= {name: values[other] for name, other in law.ties.items() if name not in fixed}
    values = {name: float(values[name]) for name in law.parameter_names}
    source = "Assumed: a rough law of loss 1 at the design's middle, half of it the irreducible loss"
    if printed:
        source = f"Assumed, with E to beta from ATLAS's Table C.1 for {law.target}"
    numbers = ", ".join(f"{name} {value:.3g}" for name, value in values.items() if name not in fixed)
    return values, [f"{source}: {numbers}." if numbers else "All parameters of the law were given."]


def _printed(law: ScalingLaw, allocation: Allocation) -> dict[str, float]:
    """The published coefficients of the law's target; empty where they do not apply."""
    sizes = [scale.params for scale in published.model_scales()]
    rows = published.table_c1("multilingual", "monolingual", law.target) if law.target else ()
    inside = sizes[0] <= allocation.params.min() and allocation.params.max() <= sizes[-1]
    same = {parameter.name for parameter in law.linear} == {"E", "A", "B"} and law.exponents == ("alpha", "beta")
    return {name: float(getattr(rows[0], name)) for name in _PRINTED} if rows and inside and same else {}
