"""Cross-lingual transfer: scores from learning curves, the matrix of them, and what it says."""

from babelscale.transfer.analysis import Analysis, analyse
from babelscale.transfer.bts import TransferScore, combine, from_gain, from_tau, score, to_gain, to_tau
from babelscale.transfer.curve import LearningCurve
from babelscale.transfer.matrix import Helper, TransferMatrix
from babelscale.transfer.relations import Relations, same

__all__ = [
    "Analysis",
    "Helper",
    "LearningCurve",
    "Relations",
    "TransferMatrix",
    "TransferScore",
    "analyse",
    "combine",
    "from_gain",
    "from_tau",
    "same",
    "score",
    "to_gain",
    "to_tau",
]
