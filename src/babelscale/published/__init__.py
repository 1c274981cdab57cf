"""What the ATLAS study printed, typed, with its table numbers; facts, not fits of ours."""

from babelscale.published.coefficients import LawRow, laws, table_c1
from babelscale.published.figures import (
    PRINTED_MULTIPLIERS,
    R2,
    SATURATION_EPOCHS,
    ModelScale,
    Multipliers,
    PrintedCrossover,
    PrintedMultilinguality,
    crossover,
    model_scales,
    multilinguality,
    r2_table,
)
from babelscale.published.source import LOSS_UNIT, STUDY
from babelscale.published.transfer import transfer_matrix

__all__ = [
    "LOSS_UNIT",
    "PRINTED_MULTIPLIERS",
    "R2",
    "SATURATION_EPOCHS",
    "STUDY",
    "LawRow",
    "ModelScale",
    "Multipliers",
    "PrintedCrossover",
    "PrintedMultilinguality",
    "crossover",
    "laws",
    "model_scales",
    "multilinguality",
    "r2_table",
    "table_c1",
    "transfer_matrix",
]
