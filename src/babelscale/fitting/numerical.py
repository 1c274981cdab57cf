"""Derivatives of terms that were written without them: complex steps, which lose no digits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from babelscale.laws import ScalingLaw, Term
from babelscale.laws.base import Array

_COMPLEX_STEP = 1e-30
_REAL_STEP = 1e-5


def differentiated(law: ScalingLaw, values: Mapping[str, Array], x: Any) -> dict[str, Term]:
    """The law's terms, each with its derivatives by the shape parameters."""
    terms = dict(law.terms(values, x))
    bare = [name for name, term in terms.items() if term.gradient is None]
    if not bare:
        return terms
    names = [parameter.name for parameter in law.shape]
    first = gradients(law, values, x)
    second: dict[str, dict[tuple[str, str], Array]] = {name: {} for name in bare}
    for i, b in enumerate(names):
        step = _REAL_STEP * np.maximum(np.abs(values[b]), 0.1)
        up = gradients(law, {**values, b: values[b] + step}, x)
        down = gradients(law, {**values, b: values[b] - step}, x)
        for term in bare:
            for a in names[: i + 1]:
                second[term][a, b] = (up[term][a] - down[term][a]) / (2 * step)
    return {
        name: replace(term, gradient=first[name], hessian=second[name]) if name in bare else term
        for name, term in terms.items()
    }


def gradients(law: ScalingLaw, values: Mapping[str, Array], x: Any) -> dict[str, dict[str, Array]]:
    """d term / d parameter for every term and shape parameter, by one complex step each."""
    found: dict[str, dict[str, Array]] = {}
    for parameter in law.shape:
        a = parameter.name
        stepped = law.terms({**values, a: values[a] + 1j * _COMPLEX_STEP}, x)
        for name, term in stepped.items():
            found.setdefault(name, {})[a] = np.imag(term.value) / _COMPLEX_STEP
    return found
