"""S_lambda: what repeated tokens are worth. ATLAS (arXiv 2510.22037), after Muennighoff et al. (2023), equation 5.

    S_lambda(D; U) = D                                              where D <= U
                   = U [1 + (1 - exp(-lambda (D/U - 1))) / lambda]  where D > U

The slope is 1 on both sides of one epoch, the limit of many epochs is U (1 + 1/lambda), and lambda = 1 / R_D* of
Muennighoff et al., whose R_D* = 15.387756 gives the default.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]  # float64, or complex128 where a derivative is checked by a complex step

LAMBDA = 1 / 15.387756
"""The value used where no run repeats its data: Muennighoff et al. (2023), section 5."""

_SERIES_BELOW = 0.3
_ORDER = 14


def effective_tokens(D: ArrayLike, U: ArrayLike, lam: ArrayLike) -> Array:
    """S_lambda(D; U), in tokens. The three broadcast; U may be infinite, lam may be 0 (repeats as good as new)."""
    fresh, unique, repeats = split(D, U)
    return fresh + unique * repeats * decay(np.asarray(lam) * repeats)[0]


def split(D: ArrayLike, U: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """First-epoch tokens min(D, U), U (0 where it does not matter) and repeats max(D/U - 1, 0)."""
    D, U = np.broadcast_arrays(1.0 * np.asarray(D), np.asarray(U, np.float64))
    over = D > U
    unique = np.where(over, U, 0.0)
    repeats = np.where(over, D / U - 1, 0.0)
    return np.minimum(D, U), unique, repeats


def decay(z: ArrayLike) -> tuple[Array, Array, Array]:
    """phi(z) = (1 - exp(-z)) / z with its first two derivatives; phi(0) = 1.

    The closed forms lose digits near 0, where the power series takes over.
    """
    z = np.asarray(z)
    small = np.real(z) < _SERIES_BELOW
    safe = np.where(small, 1.0, z)
    fading = np.exp(-safe)
    closed = -np.expm1(-safe) / safe
    first = (fading - closed) / safe
    second = -(fading + 2 * first) / safe
    if not small.any():
        return closed, first, second
    near = np.where(small, z, 0.0)
    series = _series(near)
    return (np.where(small, series[0], closed), np.where(small, series[1], first), np.where(small, series[2], second))


def _series(z: Array) -> tuple[Array, Array, Array]:
    """sum_k (-z)^k / (k + 1)! and its derivatives, by Horner's rule."""
    coefficients = [1.0]
    for k in range(1, _ORDER + 1):
        coefficients.append(-coefficients[-1] / (k + 1))
    value = np.zeros_like(z)
    first = np.zeros_like(z)
    second = np.zeros_like(z)
    for coefficient in reversed(coefficients):
        second = second * z + 2 * first
        first = first * z + value
        value = value * z + coefficient
    return value, first, second
