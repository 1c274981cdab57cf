"""Table C.1 of the ATLAS study: the printed coefficients of L = E + A / N^alpha + B / D^beta by language."""

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from babelscale.published.figures import model_scales
from babelscale.published.source import LOSS_UNIT, STUDY, rows

if TYPE_CHECKING:
    from babelscale.fitting import Fit

Vocabulary = Literal["monolingual", "multilingual"]
Training = Literal["monolingual", "unimax"]

# Every coefficient of the table has two decimals.
ROUNDING = 0.005


@dataclass(frozen=True)
class LawRow:
    """One row of Table C.1. `vocabulary` and `training` name its block; `unique_tokens` is U of the language.

    E is 0 in seven of the eighteen rows, so no row carries far beyond the sizes it was fitted on.
    """

    vocabulary: str
    training: str
    language: str
    unique_tokens: float
    E: float
    log_A: float
    log_B: float
    alpha: float
    beta: float

    @property
    def A(self) -> float:
        return math.exp(self.log_A)

    @property
    def B(self) -> float:
        return math.exp(self.log_B)


@functools.cache
def _all() -> tuple[LawRow, ...]:
    text = ("vocabulary", "training", "language")
    return tuple(
        LawRow(**{name: cell if name in text else float(cell) for name, cell in row.items()})  # pyright: ignore[reportArgumentType]
        for row in rows("table_c1_laws")
    )


def table_c1(
    vocabulary: Vocabulary | None = None, training: Training | None = None, language: str | None = None
) -> tuple[LawRow, ...]:
    """The rows of Table C.1 that agree with every argument given."""
    return tuple(
        row
        for row in _all()
        if vocabulary in (None, row.vocabulary)
        and training in (None, row.training)
        and language in (None, row.language)
    )


def rounded(rng: np.random.Generator, value: float, draws: int, half: float = ROUNDING) -> NDArray[np.float64]:
    """Values that print as `value`: uniform within half a unit of the last digit, not below zero where it is not."""
    return np.maximum(value + rng.uniform(-half, half, draws), 0.0 if value >= 0 else -np.inf)


def laws(
    vocabulary: Vocabulary | None = None,
    training: Training | None = None,
    language: str | None = None,
    *,
    draws: int = 200,
    seed: int = 0,
) -> "tuple[Fit, ...]":
    """Table C.1 as fits of Chinchilla's form with alpha tied to beta.

    The study prints no intervals: draws and intervals here cover the rounding of the print (two decimals) and nothing
    else. The objective is not known.
    """
    from babelscale.fitting import Fit
    from babelscale.laws import Chinchilla

    sizes = [scale.params for scale in model_scales()]
    fits = []
    for row in table_c1(vocabulary, training, language):
        rng = np.random.default_rng(seed)
        E, A, B = rounded(rng, row.E, draws), *(np.exp(rounded(rng, v, draws)) for v in (row.log_A, row.log_B))
        alpha = rounded(rng, row.alpha, draws)
        log_A, log_B = ((math.exp(v - ROUNDING), math.exp(v + ROUNDING)) for v in (row.log_A, row.log_B))
        exponent = (row.alpha - ROUNDING, row.alpha + ROUNDING)
        fits.append(
            Fit(
                law=Chinchilla(row.language, tied=True),
                parameters={"E": row.E, "A": row.A, "B": row.B, "alpha": row.alpha, "beta": row.beta},
                draws=np.stack([E, A, B, alpha, alpha], axis=1),
                intervals={
                    "E": (max(row.E - ROUNDING, 0.0), row.E + ROUNDING),
                    "A": log_A,
                    "B": log_B,
                    "alpha": exponent,
                    "beta": exponent,
                },
                range={"params": (float(sizes[0]), float(sizes[-1]))},
                metric=LOSS_UNIT,
                target=row.language,
                notes=("printed coefficients: intervals cover the rounding of the print only",),
                provenance={"source": STUDY, "table": "C.1", "vocabulary": row.vocabulary, "training": row.training},
            )
        )
    return tuple(fits)
