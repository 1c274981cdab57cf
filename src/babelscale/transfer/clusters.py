"""Clusters of languages that help each other more than their means would have it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from babelscale.transfer.bts import to_gain
from babelscale.transfer.matrix import TransferMatrix

Array = NDArray[np.float64]

# Share of pairs that must be known in one direction at least, and the fewest languages.
_KNOWN, _FEWEST = 0.8, 4


@dataclass(frozen=True)
class Clusters:
    """Groups of languages, and an order of all of them in which relatives stand side by side.

    Attributes:
        groups: languages of each, the largest first; a language alone is a group of one.
        order: of the tree the groups are cut from.
        inside, between: mean score (BTS) of pairs within a group and across two.
        silhouette: how distinct the groups are, -1 to 1; their number is the one that makes it largest.
    """

    groups: tuple[tuple[str, ...], ...]
    order: tuple[str, ...]
    inside: float
    between: float
    silhouette: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "groups": [list(group) for group in self.groups],
            "order": list(self.order),
            "inside": self.inside,
            "between": self.between,
            "silhouette": self.silhouette,
        }

    def __str__(self) -> str:
        shown = "; ".join(" ".join(group) for group in self.groups if len(group) > 1) or "none"
        alone = [group[0] for group in self.groups if len(group) == 1]
        rest = f"; in no cluster: {' '.join(alone)}" if alone else ""
        return (
            f"clusters (silhouette {self.silhouette:.2f}; mean score {self.inside:+.2f} inside, {self.between:+.2f} "
            f"between): {shown}{rest}"
        )


def clusters(matrix: TransferMatrix) -> Clusters | None:
    """Average-linkage clusters of mutual gain less target and source means; None where too few scores are known.

    A pair's closeness is the mean of its two directions; a pair known in neither stands at the mean.
    """
    from babelscale.transfer.analysis import less_both_means

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
