"""What a transfer matrix says: same against different script and branch, reciprocity, variance of target means.

In the study's printed matrix 83 % of the variance is the target's own mean, so each figure is given raw and after
removing target means. Pairs are not independent: these are descriptions, not tests. Censored cells are no numbers and
enter nothing.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.languages import Language, lookup
from babelscale.transfer.matrix import TransferMatrix

Trait = Literal["script", "branch"]

# Depth of the branch that counts as the same: family, then the two broadest subgroups (Germanic, Italic, ...).
_DEPTH = 2


@dataclass(frozen=True)
class Contrast:
    """Mean score of pairs that share a trait and of those that do not, raw and less the target's mean (BTS)."""

    trait: Trait
    same: float
    different: float
    same_centred: float
    different_centred: float
    same_pairs: int
    different_pairs: int


@dataclass(frozen=True)
class Analysis:
    """Contrasts by trait, correlation of BTS(s -> t) with BTS(t -> s), and share of variance of target means."""

    contrasts: tuple[Contrast, ...]
    reciprocity: float
    reciprocity_centred: float
    target_variance: float
    scores: int
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["contrasts"] = [dict(each) for each in data["contrasts"]]
        return _json(data)

    def __str__(self) -> str:
        lines = [f"{self.scores} scores (BTS); {self.left_out} censored cells are in no mean"]
        for c in self.contrasts:
            lines.append(
                f"  same {c.trait:<7}{_said(c.same)} ({c.same_pairs} pairs), different {_said(c.different)} "
                f"({c.different_pairs}); less target means {_said(c.same_centred)} and {_said(c.different_centred)}"
            )
        lines.append(
            f"  reciprocity r = {_said(self.reciprocity)}, less target means {_said(self.reciprocity_centred)}; "
            f"target means hold {100 * self.target_variance:.0f} % of the variance"
        )
        return "\n".join(lines)


def analyse(matrix: TransferMatrix) -> Analysis:
    """Contrasts, reciprocity and variance share of one matrix; figures without enough pairs are NaN.

    Raises:
        InputError: the matrix holds no uncensored score, or a language is unknown.
    """
    raw = matrix.values
    known = np.isfinite(raw)
    if not known.any():
        raise InputError("the transfer matrix holds no uncensored score")
    counts = known.sum(1, keepdims=True)
    means = np.where(known, raw, 0).sum(1, keepdims=True) / np.maximum(counts, 1)
    centred = raw - means
    variance = float(np.var(raw[known]))
    return Analysis(
        contrasts=tuple(_contrast(matrix, centred, trait) for trait in ("script", "branch")),
        reciprocity=_reciprocity(raw),
        reciprocity_centred=_reciprocity(centred),
        target_variance=1 - float(np.var(centred[known])) / variance if variance > 0 else math.nan,
        scores=int(known.sum()),
        left_out=int((matrix.status == "censored").sum()),
    )


def _contrast(matrix: TransferMatrix, centred: NDArray[np.float64], trait: Trait) -> Contrast:
    kinds = [_kind(lookup(code), trait) for code in matrix.languages]
    known = np.isfinite(matrix.values)
    same = np.array([[a == b for b in kinds] for a in kinds]) & known
    other = known & ~same
    means = [
        float(grid[mask].mean()) if mask.any() else math.nan
        for grid in (matrix.values, centred)
        for mask in (same, other)
    ]
    return Contrast(trait, means[0], means[1], means[2], means[3], int(same.sum()), int(other.sum()))


def _kind(language: Language, trait: Trait) -> tuple[str, ...]:
    if trait == "script":
        return (language.script,)
    return (language.family or language.code, *language.branch[:_DEPTH])


def _reciprocity(grid: NDArray[np.float64]) -> float:
    """Correlation of a score with its reverse, each unordered pair once in the order of the matrix."""
    rows, columns = np.triu_indices(len(grid), 1)
    there, back = grid[rows, columns], grid[columns, rows]
    both = np.isfinite(there) & np.isfinite(back)
    if both.sum() < 3 or np.ptp(there[both]) == 0 or np.ptp(back[both]) == 0:
        return math.nan
    return float(np.corrcoef(there[both], back[both])[0, 1])


def _said(x: float) -> str:
    return "unknown" if math.isnan(x) else f"{x:+.3f}"


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
