"""Which languages to add first, by the transfer matrix: what a language gives to those there are, and gets from them.

The multilinguality law knows how many languages there are and not which. The transfer score BTS(s -> t) knows:
candidates are taken one by one, each time the one whose mean of both directions with all languages so far is largest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from babelscale.errors import InputError
from babelscale.transfer import TransferMatrix


@dataclass(frozen=True)
class Addition:
    """One language to add: mean scores with the languages before it, and the (low, high) of their mean.

    `gives` is what it does for them, `gets` what they do for it; NaN where the matrix has no score.
    """

    language: str
    gives: float
    gets: float
    low: float
    high: float
    known: int

    HEADER: ClassVar[tuple[str, ...]] = ("language", "gives", "gets", "mean within", "scores")

    def row(self) -> list[str]:
        within = "unknown" if math.isnan(self.low) else f"{self.low:+.2f} to {self.high:+.2f}"
        return [self.language, f"{self.gives:+.2f}", f"{self.gets:+.2f}", within, str(self.known)]


def first_to_add(
    matrix: TransferMatrix,
    have: Sequence[str],
    candidates: Sequence[str] | None = None,
    most: int = 10,
    rounding: float = 0.0,
) -> tuple[Addition, ...]:
    """Candidates in the order in which to add them, at most `most`.

    Args:
        candidates: codes (default: every other language of the matrix).
        rounding: half a unit of the last digit where the matrix holds no intervals.

    Raises:
        InputError: none of the languages at hand is in the matrix.
    """
    known = [code for code in have if code in matrix.languages]
    if not known:
        raise InputError(
            f"none of {', '.join(have)} is in the transfer matrix", hint=f"it has {', '.join(matrix.languages)}"
        )
    rest = [code for code in (candidates or matrix.languages) if code in matrix.languages and code not in known]
    found: list[Addition] = []
    while rest and len(found) < most:
        scored = [_scored(matrix, known, code, rounding) for code in rest]
        scored = [one for one in scored if one.known]
        if not scored:
            break
        best = max(scored, key=lambda one: (np.nanmean([one.gives, one.gets]), -rest.index(one.language)))
        found.append(best)
        known.append(best.language)
        rest.remove(best.language)
    return tuple(found)


def _scored(matrix: TransferMatrix, known: Sequence[str], code: str, rounding: float) -> Addition:
    i, others = matrix.languages.index(code), [matrix.languages.index(other) for other in known]
    gives, gets = matrix.values[others, i], matrix.values[i, others]
    both = np.concatenate([gives, gets])
    there = np.isfinite(both)
    low = np.concatenate([matrix.low[others, i], matrix.low[i, others]])
    high = np.concatenate([matrix.high[others, i], matrix.high[i, others]])
    low = np.where(np.isfinite(low), low, both - rounding if rounding else np.nan)
    high = np.where(np.isfinite(high), high, both + rounding if rounding else np.nan)

    def mean(values: np.ndarray) -> float:
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else math.nan

    return Addition(code, mean(gives), mean(gets), mean(low[there]), mean(high[there]), int(there.sum()))
