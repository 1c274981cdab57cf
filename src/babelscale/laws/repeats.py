"""What runs say about repetition: which of them repeat their data, and how few of them identify a parameter."""

from collections.abc import Sequence

import numpy as np

from babelscale.allocation import Allocation
from babelscale.laws.base import Support

REPEATS = "runs that repeat their data more"
_FEW = 4  # fewer runs can agree by chance on a number that is far off, and on a narrow interval around it


def repeating(parameter: str, codes: Sequence[str], allocation: Allocation) -> Support:
    """The runs that repeat tokens of some languages, on which `parameter` rests."""
    rows = np.any([allocation.D(code) > allocation.U(code) for code in codes], axis=0)
    said = f"{parameter} is hardly identified: it rests on {{count}} {{who}} data; more such runs would identify it."
    return Support(
        parameter,
        rows,
        _FEW,
        said.format(count=1, who="run that repeats its"),
        said.format(count="{count}", who="runs that repeat their"),
    )
