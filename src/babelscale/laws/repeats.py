"""Repeated data: which runs repeat their data, and how few of them identify a parameter."""

from collections.abc import Sequence

import numpy as np

from babelscale.allocation import Allocation
from babelscale.laws.base import Support

REPEATS = "runs that repeat their data more"
_FEW = 4  # fewer runs can agree by chance on a number that is far off, and on a narrow interval around it


def repeating(parameter: str, codes: Sequence[str], allocation: Allocation) -> Support:
    """The runs that repeat tokens of some languages, which determine `parameter`."""
    rows = np.any([allocation.D(code) > allocation.U(code) for code in codes], axis=0)
    sentence = f"{parameter} is hardly identified: it depends on {{runs}} with repeated data; more would identify it."
    return Support(parameter, rows, _FEW, sentence)
