"""Sensitivity: a law's loss with its derivatives by N and by the tokens of each language, for any law.

Complex steps lose no digits and need no further equation. A law whose code drops imaginary parts gets central
differences instead; `complex_steps_hold` decides which of the two a law uses.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from babelscale.allocation import Allocation
from babelscale.laws.base import Array, ScalingLaw

_STEP = 1e-30
_DIFFERENCE = 1e-6
_AGREEMENT = 1e-4


class Sensitivity(NamedTuple):
    """The loss, dL / d log N and dL / d D_l, the last with the languages as its first axis."""

    loss: Array
    by_log_N: Array
    by_tokens: Array


Sensitive = Callable[[ScalingLaw, Mapping[str, Array], Allocation, Sequence[str]], Sensitivity]


def by_complex_steps(
    law: ScalingLaw, parameters: Mapping[str, Array], allocation: Allocation, languages: Sequence[str]
) -> Sensitivity:
    """Exact to rounding; every derivative comes from one evaluation of a batch."""
    total = np.real(allocation.total_tokens)
    count = len(languages) + 2
    N = np.repeat(np.asarray(allocation.params, complex)[None], count, 0)
    N[1] *= 1 + 1j * _STEP
    tokens = {code: np.repeat(allocation.D(code)[None].astype(complex), count, 0) for code in allocation.languages}
    for k, code in enumerate(languages):
        tokens[code][k + 2] += 1j * _STEP * total
    loss = law.evaluate(parameters, Allocation(N, tokens, *_rest(allocation)))
    slopes = np.imag(loss) / _STEP
    return Sensitivity(np.real(loss[0]), slopes[1], slopes[2:] / total)


def by_differences(
    law: ScalingLaw, parameters: Mapping[str, Array], allocation: Allocation, languages: Sequence[str]
) -> Sensitivity:
    """Central differences, one-sided at zero tokens; good to about eight digits."""
    total = np.real(allocation.total_tokens)
    count = 2 * len(languages) + 3
    N = np.repeat(np.asarray(allocation.params)[None], count, 0)
    N[1], N[2] = N[1] * np.exp(_DIFFERENCE), N[2] * np.exp(-_DIFFERENCE)
    tokens = {code: np.repeat(allocation.D(code)[None], count, 0) for code in allocation.languages}
    widths = []
    for k, code in enumerate(languages):
        D = allocation.D(code)
        step = _DIFFERENCE * np.maximum(D, 0.1 * total)
        below = np.where(step < D, step, 0.0)
        tokens[code][2 * k + 3] += step
        tokens[code][2 * k + 4] -= below
        widths.append(step + below)
    loss = law.evaluate(parameters, Allocation(N, tokens, *_rest(allocation)))
    by_tokens = [(loss[2 * k + 3] - loss[2 * k + 4]) / width for k, width in enumerate(widths)]
    return Sensitivity(loss[0], (loss[1] - loss[2]) / (2 * _DIFFERENCE), np.array(by_tokens))


def complex_steps_hold(
    law: ScalingLaw, parameters: Mapping[str, Array], allocation: Allocation, languages: Sequence[str]
) -> bool:
    """Whether complex steps give the derivatives that central differences give."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            ours = by_complex_steps(law, parameters, allocation, languages)
        except (TypeError, ValueError, np.exceptions.ComplexWarning):
            return False  # the law's code does not accept complex numbers, which is not an error
        theirs = by_differences(law, parameters, allocation, languages)
    total = np.real(allocation.total_tokens)
    return agree(ours.by_log_N, theirs.by_log_N, ours.loss) and agree(
        ours.by_tokens * total, theirs.by_tokens * total, ours.loss
    )


def agree(ours: Array, theirs: Array, loss: Array) -> bool:
    """Whether two sets of elasticities are the same as far as differences can tell, where the loss is finite."""
    inside: NDArray[np.bool_] = np.isfinite(loss) & np.isfinite(theirs)
    scale = np.maximum(np.abs(theirs), 1e-2 * np.abs(loss))
    return bool((np.abs(ours - theirs) <= _AGREEMENT * scale)[inside].all())


def _rest(allocation: Allocation) -> tuple[dict[str, Array], dict[str, Array]]:
    """U and the covariates, with an axis for the steps."""
    unique = {code: allocation.U(code)[None] for code in allocation.languages}
    return unique, {name: value[None] for name, value in allocation.covariates.items()}
