"""Intervals: the central 90 % of draws, and how often intervals hold what was measured.

Three rules say where an end lies between two draws. "interpolated" is NumPy's default. "outer" takes the draw further
out, so that an infinite draw stays infinite and makes no NaN; "interpolated" does so too in columns with an infinite
draw. "nearest" takes the nearer of the two.
"""

import math
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Interval = tuple[float, float]
Rule = Literal["interpolated", "outer", "nearest"]

LEVEL = 0.9
TAIL = 0.05
Z90 = 1.6448536269514722  # half of a normal 90 % interval, in standard deviations
_Z95 = 1.959963984540054


def central(values: ArrayLike, *, rule: Rule = "interpolated", including: ArrayLike | None = None) -> Array:
    """The central 90 % of draws along the first axis: lower and upper ends, shape (2, ...).

    Args:
        values: shape (draws, ...).
        including: numbers of shape (...) that the intervals are widened to hold, such as the fit's own.
    """
    values = np.asarray(values, np.float64)
    if rule == "nearest":
        ends = np.quantile(values, [TAIL, 1 - TAIL], axis=0, method="nearest")
    elif rule == "outer":
        ends = _outer(values)
    else:
        endless = np.isinf(values).any(0)
        ends = np.quantile(np.where(endless, 0.0, values), [TAIL, 1 - TAIL], axis=0)
        if endless.any():
            ends[:, endless] = _outer(values[:, endless])
    if including is not None:
        ends = np.stack([np.minimum(ends[0], including), np.maximum(ends[1], including)])
    return ends


def interval(values: ArrayLike, *, rule: Rule = "interpolated", including: float | None = None) -> Interval:
    """The central 90 % of the draws of one number; NaN twice where there are none."""
    values = np.asarray(values, np.float64)
    if not values.size:
        return math.nan, math.nan
    low, high = central(values, rule=rule, including=including)
    return float(low), float(high)


def intervals(values: ArrayLike, *, rule: Rule = "interpolated", including: ArrayLike | None = None) -> list[Interval]:
    """The central 90 % of every column of draws, shape (draws, columns)."""
    low, high = central(values, rule=rule, including=including)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _outer(values: Array) -> Array:
    return np.stack(
        [np.quantile(values, TAIL, axis=0, method="lower"), np.quantile(values, 1 - TAIL, axis=0, method="higher")]
    )


def normal_points(count: int) -> Array:
    """Mid-quantiles of the standard normal: noise added to draws without random numbers."""
    return np.array([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])


def normal_quantile(share: float) -> float:
    """The quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(share)


def holds(low: ArrayLike, high: ArrayLike, measured: ArrayLike) -> NDArray[np.bool_]:
    """Which intervals hold the measured value; a NaN end holds nothing."""
    return np.asarray((np.asarray(low) <= measured) & (np.asarray(measured) <= high))


def wilson(hits: int, count: int) -> Interval | tuple[None, None]:
    """The 95 % score interval of a share (Wilson 1927); None twice where nothing was counted."""
    if not count:
        return None, None
    share, z2 = hits / count, _Z95**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z95 / (1 + z2) * math.sqrt(share * (1 - share) / count + z2 / (4 * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)
