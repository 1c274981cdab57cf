"""Partitions of the languages over several models, searched guided by the transfer matrix.

Up to `EXHAUSTIVE` languages every partition is tried. Above, languages are merged by average linkage of their scores
(the mean of both directions), which gives one partition of every number of models; from the best of these and from one
model for all, languages are moved to the models they have most in common with, models merged and languages set apart,
as long as the objective falls.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from babelscale.transfer import TransferMatrix

Array = NDArray[np.float64]
Block = frozenset[str]
Partition = tuple[Block, ...]
EXHAUSTIVE = 6
_NEAREST = 3


def affinity(codes: Sequence[str], matrix: TransferMatrix | None) -> Array:
    """Mean score of both directions, shape (K, K); the mean of all known ones where a pair has none."""
    K = len(codes)
    found = np.full((K, K), np.nan)
    for i, a in enumerate(codes):
        for j, b in enumerate(codes):
            if matrix is not None and i != j and a in matrix.languages and b in matrix.languages:
                x, y = matrix.languages.index(a), matrix.languages.index(b)
                both = np.array([matrix.values[x, y], matrix.values[y, x]])
                found[i, j] = both[np.isfinite(both)].mean() if np.isfinite(both).any() else np.nan
    known = found[np.isfinite(found)]
    return np.where(np.isfinite(found), found, known.mean() if len(known) else 0.0)


def ordered(blocks: Iterable[Block]) -> Partition:
    return tuple(sorted((block for block in blocks if block), key=lambda block: sorted(block)))


def every(codes: Sequence[str]) -> Iterator[Partition]:
    """Every partition of a few languages."""
    if not codes:
        yield ()
        return
    first, rest = codes[0], codes[1:]
    for smaller in every(rest):
        yield ordered([frozenset([first]), *smaller])
        for i, block in enumerate(smaller):
            yield ordered([*smaller[:i], block | {first}, *smaller[i + 1 :]])


def linkage(codes: Sequence[str], near: Array) -> list[Partition]:
    """One partition of every number of models, from all apart to all together, by average linkage."""
    blocks = [frozenset([i]) for i in range(len(codes))]
    found = []
    while True:
        found.append(ordered(frozenset(codes[i] for i in block) for block in blocks))
        if len(blocks) == 1:
            return found
        pairs = [(i, j) for i in range(len(blocks)) for j in range(i)]
        i, j = max(pairs, key=lambda pair: (_between(blocks[pair[0]], blocks[pair[1]], near), -pair[0], -pair[1]))
        blocks = [b for k, b in enumerate(blocks) if k not in (i, j)] + [blocks[i] | blocks[j]]


def _between(a: Iterable[int], b: Iterable[int], near: Array) -> float:
    return float(near[np.ix_(list(a), list(b))].mean())


def neighbours(partition: Partition, codes: Sequence[str], near: Array, models: int | None) -> Iterator[Partition]:
    """Partitions one move away: a language to one of the models nearest to it, or alone; two models merged."""
    index = {code: i for i, code in enumerate(codes)}
    for block in partition:
        for code in sorted(block):
            rest = [other for other in partition if other is not block]
            left = block - {code}
            ranked = sorted(rest, key=lambda other: -_between([index[code]], [index[c] for c in other], near))
            for other in ranked[:_NEAREST]:
                moved = ordered([left, other | {code}, *(b for b in rest if b is not other)])
                if models is None or len(moved) == models:
                    yield moved
            if left and models is None:
                yield ordered([left, frozenset([code]), *rest])
    if models is None:
        for i, a in enumerate(partition):
            for b in partition[:i]:
                yield ordered([a | b, *(c for c in partition if c is not a and c is not b)])


def search(
    codes: Sequence[str],
    cost: Callable[[Partition], float],
    matrix: TransferMatrix | None,
    models: int | None,
    most: int,
) -> tuple[Partition, int, bool]:
    """The best partition found, how many were tried, and whether that was all of them.

    Args:
        models: how many models; None for any number. most: partitions to try at most where not all are.
    """
    tried: dict[Partition, float] = {}

    def judged(partition: Partition) -> float:
        if partition not in tried:
            tried[partition] = cost(partition)
        return tried[partition]

    fits = [p for p in every(codes) if len(p) > 1 and models in (None, len(p))] if len(codes) <= EXHAUSTIVE else None
    if fits is not None:
        return min(fits, key=judged), len(tried), True
    near = affinity(codes, matrix)
    starts = [p for p in linkage(codes, near) if models in (None, len(p))]
    best = min(starts, key=judged)
    improved = True
    while improved and len(tried) < most:
        improved = False
        for other in neighbours(best, codes, near, models):
            if judged(other) < judged(best) * (1 - 1e-9):
                best, improved = other, True
                break
            if len(tried) >= most:
                break
    return best, len(tried), False
