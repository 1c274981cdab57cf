"""Numbers of a law to suppose before anything was trained, good enough to judge a design by."""

import math
from collections.abc import Mapping

from babelscale import published
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.laws import ScalingLaw

_PRINTED = ("E", "A", "B", "alpha", "beta")


def default_parameters(
    law: ScalingLaw, allocation: Allocation, given: Mapping[str, float] | None = None
) -> tuple[dict[str, float], list[str]]:
    """A law's numbers and sentences that say where they come from.

    E, A, B, alpha and beta are those of ATLAS's Table C.1 (multilingual vocabulary, monolingual training) where the
    target has a row, the law has just these terms and the design's sizes lie among the published ones; every other
    number is the law's own default (`ScalingLaw.defaults`: a rough law of loss 1 at the design's middle, half of it E).

    Args:
        allocation: the design's allocations on which the law is defined, shape (n,).
        given: numbers that replace these.

    Raises:
        InputError: `given` names no parameter of the law, or lies outside its bounds.
    """
    given = dict(given or {})
    for name, value in given.items():
        low, high = law.bounds.get(name, (math.nan, math.nan))
        if not low <= value <= high:
            raise InputError(
                f"law {law.name!r} cannot have {name!r} at {value}",
                hint=f"parameters: {', '.join(f'{n} in [{a:g}, {b:g}]' for n, (a, b) in law.bounds.items())}",
            )
    printed = _printed(law, allocation)
    values = law.defaults(allocation) | printed | given
    for name, other in law.ties.items():
        if name not in given:
            values[name] = values[other]
    told = "Assumed values: a rough law with loss 1 at the middle of the design, half of it irreducible"
    if printed:
        told = f"Assumed values; E to beta are from ATLAS's Table C.1 for {law.target}"
    rest = [n for n in law.parameter_names if n not in given]
    numbers = ", ".join(f"{name} {values[name]:.3g}" for name in rest)
    return {name: float(values[name]) for name in law.parameter_names}, (
        [f"{told}: {numbers}."] if rest else ["All parameter values of the law were given."]
    )


def _printed(law: ScalingLaw, allocation: Allocation) -> dict[str, float]:
    """The printed coefficients of the law's target; empty where none apply."""
    sizes = [scale.params for scale in published.model_scales()]
    rows = published.table_c1("multilingual", "monolingual", law.target) if law.target else ()
    inside = sizes[0] <= allocation.params.min() and allocation.params.max() <= sizes[-1]
    same = {parameter.name for parameter in law.linear} == {"E", "A", "B"} and law.exponents == ("alpha", "beta")
    if not (rows and inside and same):
        return {}
    return {name: float(getattr(rows[0], name)) for name in _PRINTED}
