"""Tests and intervals for matrices of pairs, which are not independent: two pairs that share a language are similar.

The quadratic assignment procedure (QAP; Hubert 1987) asks how often a statistic is as large when the languages' labels
are permuted, rows and columns together. Intervals come from leaving one language out at a time (the jackknife of
vertices; Snijders and Borgatti 1999). Regressions use double semi-partialing (Dekker, Krackhardt and Snijders 2007),
which holds its level when predictors are related, as script, branch and shares of a vocabulary are.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.intervals import Z90

Array = NDArray[np.float64]

PERMUTATIONS = 2000


def node_jackknife(statistic: Callable[[NDArray[np.int64]], float], n: int) -> tuple[float, float]:
    """A statistic of all n languages, and half the width of its 90 % interval (normal, from leaving each one out).

        se^2 = (n - 2) / (2 n) sum_i (z_-i - mean z)^2     (Snijders and Borgatti 1999, equation 2)

    Args:
        statistic: of the languages with the given numbers; NaN where it is not defined.
    """
    whole = np.arange(n)
    value = statistic(whole)
    each = np.array([statistic(np.delete(whole, k)) for k in whole])
    each = each[np.isfinite(each)]
    if len(each) < 3:
        return value, math.nan
    return value, Z90 * math.sqrt((n - 2) / (2 * n) * float(np.sum((each - each.mean()) ** 2)))


def contrast_p(
    grids: Sequence[Array], same: NDArray[np.bool_], rng: np.random.Generator, permutations: int
) -> list[float]:
    """Two-sided QAP p-values of mean(same) - mean(different), one a grid of scores (NaN where there is none).

    The observed labelling counts as one of the permutations, so p is never 0.
    """
    n = len(same)
    known = [np.isfinite(grid) & ~np.eye(n, dtype=bool) for grid in grids]
    filled = [np.where(mask, grid, 0.0) for grid, mask in zip(grids, known, strict=True)]
    orders = [np.arange(n), *(rng.permutation(n) for _ in range(permutations))]
    gaps = np.full((len(grids), len(orders)), np.nan)
    for k, order in enumerate(orders):
        labels = same[np.ix_(order, order)]
        for g, (grid, mask) in enumerate(zip(filled, known, strict=True)):
            inside, outside = labels & mask, ~labels & mask
            if inside.any() and outside.any():
                gaps[g, k] = grid[inside].mean() - grid[outside].mean()
    return [_two_sided(row) for row in gaps]


def reciprocity_p(grids: Sequence[Array], rng: np.random.Generator, permutations: int) -> list[float]:
    """Two-sided QAP p-values of the correlation of a score with its reverse, one a grid."""
    n = len(grids[0])
    orders = [np.arange(n), *(rng.permutation(n) for _ in range(permutations))]
    found = []
    for grid in grids:
        values = []
        for order in orders:
            back = grid[np.ix_(order, order)].T
            both = np.isfinite(grid) & np.isfinite(back) & ~np.eye(n, dtype=bool)
            values.append(correlation(grid[both], back[both]))
        found.append(_two_sided(np.array(values)))
    return found


@dataclass(frozen=True)
class RegressionTerm:
    """One predictor of a regression: change of the score (BTS) per standard deviation of it, and its p-value."""

    name: str
    weight: float
    p: float


@dataclass(frozen=True)
class Regression:
    """A score explained by several features of the pair at once, tested by permuting languages.

    Attributes:
        terms: by feature.
        R2: share of the variance explained, after target means are removed if `centred`.
        scores: how many.
        centred: whether target means were removed first.
    """

    terms: tuple[RegressionTerm, ...]
    R2: float
    scores: int
    centred: bool

    def to_dict(self) -> dict[str, Any]:
        terms = {term.name: {"weight": term.weight, "p": term.p} for term in self.terms}
        return {"terms": terms, "R2": self.R2, "scores": self.scores, "centred": self.centred}

    def __str__(self) -> str:
        taken = "minus target means, " if self.centred else ""
        lines = [
            f"regression on all features ({taken}{self.scores} scores, R2 {self.R2:.2f}): change of BTS per standard "
            "deviation"
        ]
        width = max((len(term.name) for term in self.terms), default=0) + 2
        lines += [f"  {term.name:<{width}}{term.weight:+.3f}  p = {term.p:.4f}" for term in self.terms]
        return "\n".join(lines)


def regress(
    grid: Array, features: Mapping[str, Array], *, centred: bool = True, permutations: int = PERMUTATIONS, seed: int = 0
) -> Regression:
    """Regression of scores on features of pairs, with p-values by double semi-partialing.

    Each feature's part that the others do not explain is permuted over languages, and its t-value compared.

    Args:
        grid: scores, shape (n, n), NaN where there is none.
        features: by name, shape (n, n); unknown entries stand at the mean.
        centred: remove target means from scores and features first.

    Raises:
        InputError: fewer than three scores a feature.
    """
    n = len(grid)
    known = np.isfinite(grid) & ~np.eye(n, dtype=bool)
    names, columns = [], []
    for name, feature in features.items():
        scaled = _scaled(feature, known, centred)
        if scaled is not None:
            names.append(name)
            columns.append(scaled)
    if known.sum() < 3 * (len(names) + 1):
        raise InputError(f"{int(known.sum())} scores are too few for {len(names)} features")
    y = _centred_rows(grid, known) if centred else grid
    y = y[known] - y[known].mean()
    X = np.stack([column[known] for column in columns], 1)
    weights, t = _t_values(X, y)
    rng = np.random.default_rng(seed)
    terms = []
    for k, name in enumerate(names):
        others = np.delete(np.arange(len(names)), k)
        rest = np.stack([columns[j].ravel() for j in others], 1) if len(others) else np.zeros((n * n, 0))
        off = ~np.eye(n, dtype=bool).ravel()
        own = columns[k].ravel().copy()
        if len(others):
            own[off] -= rest[off] @ np.linalg.lstsq(rest[off], own[off], rcond=None)[0]
        part = own.reshape(n, n)
        values = [abs(t[k])]
        for _ in range(permutations):
            order = rng.permutation(n)
            trial = np.column_stack([part[np.ix_(order, order)][known], X[:, others]])
            values.append(abs(_t_values(trial, y)[1][0]))
        p = float(np.mean(np.array(values) >= values[0] - 1e-12))
        terms.append(RegressionTerm(name, float(weights[k]), p))
    residual = y - X @ weights
    return Regression(tuple(terms), 1 - float(residual @ residual) / float(y @ y), int(known.sum()), centred)


def _scaled(feature: Array, known: NDArray[np.bool_], centred: bool) -> Array | None:
    """Standardised over the known pairs, unknown entries at the mean; None where it is unknown or constant."""
    off, given = ~np.eye(len(feature), dtype=bool), known & np.isfinite(feature)
    if not given.any():
        return None
    filled = np.where(np.isfinite(feature), feature, feature[given].mean())
    if centred:
        filled = _centred_rows(filled, off)
    sd = filled[known].std()
    return None if not sd > 1e-12 else np.where(off, (filled - filled[known].mean()) / sd, 0.0)


def _centred_rows(grid: Array, known: NDArray[np.bool_]) -> Array:
    counts = np.maximum(known.sum(1, keepdims=True), 1)
    return grid - np.where(known, grid, 0.0).sum(1, keepdims=True) / counts


def _t_values(X: Array, y: Array) -> tuple[Array, Array]:
    """Least-squares weights and their t-values."""
    gram = X.T @ X
    inverse = np.linalg.pinv(gram, hermitian=True)
    weights = inverse @ (X.T @ y)
    residual = y - X @ weights
    variance = float(residual @ residual) / max(len(y) - X.shape[1] - 1, 1)
    return weights, weights / np.sqrt(np.maximum(variance * np.diag(inverse), 1e-300))


def correlation(a: Array, b: Array) -> float:
    """Pearson's r; NaN with fewer than three pairs, or where one side is constant."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _two_sided(values: Array) -> float:
    """Share of permutations, the observed one (the first) among them, at least as far from their mean."""
    if not math.isfinite(values[0]):
        return math.nan
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return math.nan
    away = np.abs(known - known[1:].mean())
    return float(np.mean(away >= away[0] - 1e-12))
