"""Cross-lingual transfer: scores from learning curves, the matrix of them, and what it says."""

from babelscale.transfer.analysis import Analysis, analyse
from babelscale.transfer.bts import Score, combine, from_tau, score, to_tau
from babelscale.transfer.curve import LearningCurve
from babelscale.transfer.matrix import Helper, TransferMatrix

__all__ = [
    "Analysis",
    "Helper",
    "LearningCurve",
    "Score",
    "TransferMatrix",
    "analyse",
    "combine",
    "from_tau",
    "score",
    "to_tau",
]
