"""Analysis of a transfer matrix: same against different script, family and branch, reciprocity, variance, clusters.

In the study's printed matrix 83 % of the variance is the target's own mean, so each figure is given raw, after removing
target means, and after removing target and source means. Pairs are not independent, so p-values permute the languages'
labels and intervals leave one language out at a time (`transfer.permutation`). Censored and predicted cells are not
measurements and are ignored.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.formatting import json_ready
from babelscale.transfer.bts import to_gain
from babelscale.transfer.matrix import TransferMatrix
from babelscale.transfer.permutation import (
    PERMUTATIONS,
    Regression,
    contrast_p,
    correlation,
    node_jackknife,
    reciprocity_p,
    regress,
)
from babelscale.transfer.relations import TRAITS, Relations, Trait, same

Array = NDArray[np.float64]

# Lineage stands for family and branch in a regression, because they are nearly collinear.
_REGRESSED = ("script", "lineage", "place")
# Share of pairs that must be known in one direction at least, and the fewest languages, for clusters.
_KNOWN, _FEWEST = 0.8, 4


@dataclass(frozen=True)
class Gap:
    """Mean score of pairs that share a trait less that of pairs that do not (BTS).

    Attributes:
        low, high: 90 % interval, from leaving one language out at a time.
        p: two-sided, from permuted labels.
    """

    same: float
    different: float
    low: float
    high: float
    p: float

    @property
    def gap(self) -> float:
        return self.same - self.different


@dataclass(frozen=True)
class Contrast:
    """One trait: the gap of the raw scores, less target means, and less target and source means."""

    trait: Trait
    raw: Gap
    centred: Gap
    double: Gap
    same_pairs: int
    different_pairs: int


@dataclass(frozen=True)
class Reciprocity:
    """Correlation of BTS(s -> t) with BTS(t -> s), and its two-sided p from permuted labels."""

    r: float
    p: float


@dataclass(frozen=True)
class Clusters:
    """Groups of languages, and an order of all of them in which similar languages are neighbours.

    Attributes:
        groups: languages of each, the largest first; a language alone is a group of one.
        order: leaves of the tree that the groups are cut from.
        inside, between: mean score (BTS) of pairs within a group and across two.
        silhouette: how distinct the groups are, -1 to 1; their number is the one that makes it largest.
    """

    groups: tuple[tuple[str, ...], ...]
    order: tuple[str, ...]
    inside: float
    between: float
    silhouette: float

    def __str__(self) -> str:
        listed = "; ".join(" ".join(group) for group in self.groups if len(group) > 1) or "none"
        alone = [group[0] for group in self.groups if len(group) == 1]
        rest = f"; in no cluster: {' '.join(alone)}" if alone else ""
        return (
            f"clusters (silhouette {self.silhouette:.2f}; mean score {self.inside:+.2f} inside, {self.between:+.2f} "
            f"between): {listed}{rest}"
        )


@dataclass(frozen=True)
class Analysis:
    """The analysis of one matrix.

    Attributes:
        target_variance: share of the variance that target means explain.
        source_variance: share of the rest that source means explain.
        regression: features of pairs together, where enough scores are known.
        clusters: languages that help each other, where enough pairs are known.
        scores, left_out: cells with a number that was measured or printed, and censored ones.
    """

    contrasts: tuple[Contrast, ...]
    reciprocity: Reciprocity
    reciprocity_centred: Reciprocity
    reciprocity_double: Reciprocity
    target_variance: float
    source_variance: float
    regression: Regression | None
    clusters: Clusters | None
    scores: int
    left_out: int
    permutations: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for strict JSON: null for what is unknown."""
        data = asdict(self)
        data["regression"] = self.regression.to_dict() if self.regression else None
        return json_ready(data)

    def __str__(self) -> str:
        lines = [
            f"{self.scores} scores (BTS); {self.left_out} censored scores are left out of means; p from "
            f"{self.permutations} permutations of the languages",
            f"{'':<8}{'pairs':>12}  {'same, different: gap (90 %; p)':<52}{'minus target means':<38}minus both means",
        ]
        for c in self.contrasts:
            count = f"{c.same_pairs}, {c.different_pairs}"
            raw = f"{_signed(c.raw.same)}, {_signed(c.raw.different)}: {_gap(c.raw)}"
            lines.append(f"{c.trait:<8}{count:>12}  {raw:<52}{_gap(c.centred):<38}{_gap(c.double)}")
        correlations = [self.reciprocity, self.reciprocity_centred, self.reciprocity_double]
        raw, centred, double = (f"r = {_signed(each.r, 2)} (p {_signed(each.p, 4, '')})" for each in correlations)
        lines.append(f"reciprocity {raw}; minus target means {centred}; minus both means {double}")
        lines.append(
            f"target means explain {_percent(self.target_variance)} of the variance, source means "
            f"{_percent(self.source_variance)} of the rest"
        )
        if self.regression is not None:
            lines.append(str(self.regression))
        if self.clusters is not None:
            lines.append(str(self.clusters))
        return "\n".join(lines)


def analyse(
    matrix: TransferMatrix, relations: Relations | None = None, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Analysis:
    """Contrasts, reciprocity, variance, regression and clusters of one matrix; figures without enough pairs are NaN.

    Args:
        relations: features of the languages; what was measured of them (shares of the vocabulary, overlap of words)
            is added to the regression, because script is confounded with it.
        permutations: of the languages' labels, for every p-value.
        seed: of the permutations.

    Raises:
        InputError: the matrix holds no measured score, or a language is unknown.
    """
    raw = np.where(np.isin(matrix.status, ("measured", "printed")), matrix.values, np.nan)
    known = np.isfinite(raw)
    if not known.any():
        raise InputError("the transfer matrix has no uncensored score")
    relations = (relations or Relations.of(matrix.languages)).at(matrix.languages)
    centred = raw - _means(raw, 1)
    double = less_both_means(raw)
    grids, rng = [raw, centred, double], np.random.default_rng(seed)
    rs, ps = [_reciprocity(grid) for grid in grids], reciprocity_p(grids, rng, permutations)
    variance, rest = float(np.var(raw[known])), float(np.var(centred[known]))
    return Analysis(
        tuple(_contrast(matrix, grids, trait, rng, permutations) for trait in TRAITS),
        Reciprocity(rs[0], ps[0]),
        Reciprocity(rs[1], ps[1]),
        Reciprocity(rs[2], ps[2]),
        target_variance=1 - rest / variance if variance > 0 else math.nan,
        source_variance=1 - float(np.var(double[known])) / rest if rest > 0 else math.nan,
        regression=_regression(raw, relations, permutations, seed),
        clusters=clusters(matrix),
        scores=int(known.sum()),
        left_out=int((matrix.status == "censored").sum()),
        permutations=permutations,
    )


def clusters(matrix: TransferMatrix) -> Clusters | None:
    """Average-linkage clusters of mutual gain less target and source means; None where too few scores are known.

    A pair's closeness is the mean of its two directions; a pair known in neither stands at the mean.
    """
    n = len(matrix.languages)
    gain = to_gain(matrix.values)
    rest = less_both_means(gain) if np.isfinite(gain).any() else gain
    both = np.stack([rest, rest.T])
    known = np.isfinite(both).any(0)
    if n < _FEWEST or known.sum() < _KNOWN * n * (n - 1):
        return None
    near = np.nansum(both, 0) / np.maximum(np.isfinite(both).sum(0), 1)
    near = np.where(known, near, near[known].mean())
    return _cut(matrix, near)


def _cut(matrix: TransferMatrix, near: Array) -> Clusters:
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    codes, n = matrix.languages, len(near)
    distance = near.max() - near
    distance = (distance + distance.T) / 2
    np.fill_diagonal(distance, 0.0)
    condensed = squareform(distance, checks=False)
    tree = optimal_leaf_ordering(linkage(condensed, "average"), condensed)
    cuts = [fcluster(tree, k, "maxclust") for k in range(2, n)]
    scored = [(_silhouette(distance, labels), -len(np.unique(labels))) for labels in cuts]
    best = max(range(len(cuts)), key=lambda k: scored[k])
    labels = cuts[best]
    order = [int(k) for k in leaves_list(tree)]
    groups: dict[int, list[str]] = {}
    for k in order:
        groups.setdefault(int(labels[k]), []).append(codes[k])
    together = (labels[:, None] == labels) & np.isfinite(matrix.values)
    apart = (labels[:, None] != labels) & np.isfinite(matrix.values)
    inside = float(matrix.values[together].mean()) if together.any() else float("nan")
    ranked = sorted(groups.values(), key=lambda group: -len(group))
    return Clusters(
        tuple(map(tuple, ranked)),
        tuple(codes[k] for k in order),
        inside,
        float(matrix.values[apart].mean()),
        scored[best][0],
    )


def _silhouette(distance: Array, labels: NDArray[np.int64]) -> float:
    """Mean silhouette (Rousseeuw 1987); a language alone counts 0."""
    number = np.unique(labels, return_inverse=True)[1]
    member = np.eye(number.max() + 1)[number]
    sizes = member.sum(0)
    total = distance @ member
    own = total[np.arange(len(labels)), number] / np.maximum(sizes[number] - 1, 1)
    others = np.where(member > 0, np.inf, total / sizes).min(1)
    widths = (others - own) / np.maximum(np.maximum(own, others), 1e-300)
    return float(np.where(sizes[number] > 1, widths, 0.0).mean())


def less_both_means(grid: Array) -> Array:
    """A grid less the row and column effects that fit it best, NaN where it is; shape (n, n)."""
    rest = grid.copy()
    # Alternating means converge to least squares, in a few rounds where few cells are missing.
    for _ in range(200):
        before = rest
        rest = rest - _means(rest, 1)
        rest = rest - _means(rest, 0)
        if np.nanmax(np.abs(rest - before)) < 1e-12:
            break
    return rest


def _means(grid: Array, axis: int) -> Array:
    known = np.isfinite(grid)
    return np.where(known, grid, 0).sum(axis, keepdims=True) / np.maximum(known.sum(axis, keepdims=True), 1)


def _contrast(
    matrix: TransferMatrix, grids: list[Array], trait: Trait, rng: np.random.Generator, permutations: int
) -> Contrast:
    alike = same(matrix.languages, trait)
    ps = contrast_p(grids, alike, rng, permutations)
    known = np.isfinite(grids[0])
    raw, centred, double = (_gap_of(grid, alike, p) for grid, p in zip(grids, ps, strict=True))
    return Contrast(trait, raw, centred, double, int((alike & known).sum()), int((~alike & known).sum()))


def _gap_of(grid: Array, alike: NDArray[np.bool_], p: float) -> Gap:
    def means(members: NDArray[np.int64]) -> tuple[float, float]:
        part, labels = grid[np.ix_(members, members)], alike[np.ix_(members, members)]
        known = np.isfinite(part)
        inside, outside = part[labels & known], part[~labels & known]
        return (float(inside.mean()) if len(inside) else math.nan, float(outside.mean()) if len(outside) else math.nan)

    def gap(members: NDArray[np.int64]) -> float:
        inside, outside = means(members)
        return inside - outside

    value, half = node_jackknife(gap, len(grid))
    return Gap(*means(np.arange(len(grid))), value - half, value + half, p)


def _reciprocity(grid: Array) -> float:
    """Correlation of a score with its reverse, each unordered pair once in the order of the matrix."""
    rows, columns = np.triu_indices(len(grid), 1)
    there, back = grid[rows, columns], grid[columns, rows]
    both = np.isfinite(there) & np.isfinite(back)
    return correlation(there[both], back[both])


def _regression(raw: Array, relations: Relations, permutations: int, seed: int) -> Regression | None:
    """Script, lineage and place, and what was measured, together; less target means, so traits are the source's."""
    table = Relations.of(relations.languages)
    features = {name: relations.pairs[name] for name in _REGRESSED}
    features |= {name: grid for name, grid in relations.pairs.items() if name not in table.pairs}
    n = len(raw)
    for name, row in relations.traits.items():
        features[f"{name} of source"] = np.broadcast_to(row, (n, n))
    try:
        return regress(raw, features, permutations=permutations, seed=seed)
    except InputError:
        return None


def _signed(x: float, decimals: int = 3, sign: str = "+") -> str:
    return "unknown" if math.isnan(x) else f"{x:{sign}.{decimals}f}"


def _gap(gap: Gap) -> str:
    return f"{_signed(gap.gap)} ({_signed(gap.low)} to {_signed(gap.high)}; {_signed(gap.p, 4, '')})"


def _percent(share: float) -> str:
    return "an unknown share" if math.isnan(share) else f"{100 * share:.0f} %"
