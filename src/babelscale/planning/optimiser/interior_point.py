"""Minimise a planning problem over shares and log N: a batched interior-point Newton method.

All rows of a problem (the fit and its draws) move together; each weight of the barrier starts where the last one ended.
For fixed N and tau >= 0 the problem in the shares is convex; `certificate` bounds what is left, over N too. With
negative tau it is not convex, and the best of many starts is taken.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.optimiser.active_set import Near, near, suits
from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.optimiser.newton import Box, barriered, follow
from babelscale.planning.optimiser.streams import PairEvaluator

Array = NDArray[np.float64]
Part = TypeVar("Part")

COLD = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12)
WARM = (1e-4, 1e-6, 1e-8, 1e-10, 1e-12)
# For draws, from the point of the fit's own path at `CENTRE`: a few steps a level. Shares end within about 1e-3 of the
# best ones (docs/performance.md), far finer than their intervals.
CENTRE = 1e-2
NEAR = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
# For cuts at other sizes, whose own gap counts: on to the end.
EXACT = (*NEAR, 1e-8, 1e-9, 1e-10)
BOUNDED = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
_STEPS, _FEW, _FIRST, _LAST = 60, 15, 3, 4
_CACHED, _LARGE = 160_000, 40_000
_SIZES, _FEW_ROWS = 33, 4
# The last step of Newton's method in shares and log N, and the gap it leaves (see `near`): what draws need, and cuts.
BRIEFLY, EXACTLY = (1e-4, 1e-3), (1e-3, 1e-9)
STARTS = 48
BY_ROW = ("shares", "n", "objective", "weights", "at_edge")
# Smaller shares than this are the barrier's shadow and are planned as none.
NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class Solution:
    """Shares (R, K), n = log N (R,), the objective (R,) and the weights of its dual (R, T).

    `starts` were tried; `at_edge` where N stopped at its box. Rows without any allocation inside the laws' domain hold
    an infinite objective.
    """

    shares: Array
    n: Array
    objective: Array
    weights: Array
    starts: int
    at_edge: NDArray[np.bool_]

    def at(self, rows: NDArray[np.intp]) -> "Solution":
        """Some of the rows; a solution of one row stands for all."""
        parts = {name: getattr(self, name) for name in BY_ROW}
        return replace(self, **{k: v[rows if len(v) > 1 else 0 * rows] for k, v in parts.items()})

    def with_rows(self, rows: NDArray[np.intp], others: "Solution") -> "Solution":
        """The same with some rows of another."""
        parts = {name: getattr(self, name).copy() for name in BY_ROW}
        for name, values in parts.items():
            values[rows] = getattr(others, name)
        return replace(self, **parts)

    @property
    def params(self) -> Array:
        return np.exp(self.n)


def solve(
    problem: LossEvaluator,
    box: tuple[float, float] | Box | None,
    *,
    n: Array | None = None,
    start: Solution | None = None,
    seed: int = 0,
    levels: tuple[float, ...] | None = None,
    clean: bool = True,
) -> Solution | None:
    """The best shares and N for every row; None where no start lies inside the laws' domain.

    Args:
        box: the interval of N searched, or None where `n` gives log N of each row.
        start: a solution nearby, of one row or as many as the problem has; then only from there.
        levels: weights of the barrier, relative to the objective (default: from far, or from nearby with `start`).
    """
    R = problem.draws
    box = _wide(box, R)
    if start is not None:
        p = np.broadcast_to(start.shares, (R, len(problem.languages)))
        first = n if n is not None else np.broadcast_to(start.n, R).copy()
        p, first = _interior(problem, p, first, box)
        return _finish(problem, p, first, box, levels or WARM, 1, clean)
    spread = _starts(problem, seed)
    many = problem.at(np.repeat(np.arange(R), len(spread)))
    wide = None if box is None else box.at(np.repeat(np.arange(R), len(spread)))
    p = np.tile(spread, (R, 1))
    p, first = _scan(many, p, wide) if n is None else _interior(many, p, np.repeat(n, len(spread)), None)
    found = _finish(many, p, first, wide, levels or COLD, 1, clean)
    if found is None:
        return None
    by_row = found.objective.reshape(R, -1)
    tried = int(np.isfinite(by_row).sum(1).max())
    best = np.arange(R) * len(spread) + by_row.argmin(1)
    return replace(found.at(best), starts=tried)


@dataclass(frozen=True)
class Solved:
    """A solved problem of one row, from which its draws and its other sizes are reached. `box` None: N was given."""

    problem: LossEvaluator
    box: tuple[float, float] | None
    solution: Solution

    @cached_property
    def centre(self) -> Solution:
        """The point of the barrier's path from which rows are followed that are not near enough."""
        n = self.solution.n if self.box is None else None
        middle = solve(self.problem, self.box, n=n, start=self.solution, levels=(CENTRE,), clean=False)
        return self.solution if middle is None else middle


def solve_near(
    problem: LossEvaluator,
    box: tuple[float, float] | Box | None,
    known: Solved,
    *,
    n: Array | None = None,
    start: Solution | None = None,
    exact: bool = False,
) -> Solution | None:
    """Rows near a solved one: by Newton's method from its optimum, or along the barrier's path from its centre.

    Args:
        n: log N of each row where it is given (`box` None), or where to start.
        start: nearer solutions of every row, where there are any.
        exact: to the end, not only as far as draws need.
    """
    R, K = problem.draws, len(problem.languages)
    box = _wide(box, R)
    first = known.solution if start is None else start
    p, sizes = np.broadcast_to(first.shares, (R, K)), np.broadcast_to(first.n, R) if n is None else n
    found, rest = _blank(problem), np.arange(R)
    if suits(problem):
        found, solved = _by_newton(problem, box, p, sizes, *(EXACTLY if exact else BRIEFLY))
        rest = np.flatnonzero(~solved)
    if len(rest):
        centre = known.centre
        p, sizes = np.broadcast_to(centre.shares, (R, K)), np.broadcast_to(centre.n, R) if n is None else n
        edges = None if box is None else box.at(rest)
        levels = EXACT if exact else NEAR
        others = _from_centre(problem.at(rest), edges, p[rest].copy(), sizes[rest].copy(), n is None, levels)
        if others is None:
            return found if len(rest) < R else None
        found = found.with_rows(rest, others)
        if suits(problem):
            sharper, solved = _by_newton(problem.at(rest), edges, others.shares, others.n, *BRIEFLY)
            found = found.with_rows(rest[solved], sharper.at(np.flatnonzero(solved)))
    return found


def _by_newton(
    problem: LossEvaluator, box: Box | None, p: Array, n: Array, short: float, gap: float
) -> tuple[Solution, NDArray[np.bool_]]:
    """Rows solved by `nearby`, and which they are."""

    def part(rows: slice) -> Near:
        return near(problem.at(rows), p[rows], n[rows], None if box is None else box.at(rows), short, gap)

    # Small matrices spend their time in NumPy's calls, which threads only contend for.
    threads = _threads(problem) if problem.weights.shape[1] * len(problem.languages) > _LARGE else 1
    parts = _in_pieces(problem, part, threads)
    shares, n, value, solved = (np.concatenate(each) for each in zip(*parts, strict=True))
    edge = np.zeros(len(n), bool)
    return Solution(shares, n, np.where(solved, value, np.inf), problem.weights, 1, edge), solved


def _from_centre(
    problem: LossEvaluator, box: Box | None, p: Array, n: Array, free: bool, levels: tuple[float, ...]
) -> Solution | None:
    """Rows from the point's centre; those that lie outside there start anew."""
    if problem.constraints.any or not free:
        p, n = _interior(problem, p, n, box)

    def part(rows: slice) -> Solution:
        edges = None if box is None else box.at(rows)
        quick = not problem.constraints.any
        how = levels if quick else BOUNDED
        some = problem.at(rows)
        return _finish(some, p[rows], n[rows], edges, how, 1, levels is NEAR, quick=quick) or _blank(some)

    parts = _in_pieces(problem, part, _threads(problem))
    whole = {name: np.concatenate([getattr(each, name) for each in parts]) for name in BY_ROW}
    return replace(parts[0], **whole) if np.isfinite(whole["objective"]).any() else None


def _in_pieces(problem: LossEvaluator, work: Callable[[slice], Part], threads: int) -> list[Part]:
    """Work done on few enough rows at a time that their matrices stay in the caches, in threads where it is much; never
    by the number of cores, so that a plan has the same bytes on every machine of a kind."""
    (R, T), K = problem.weights.shape, len(problem.languages)
    rows_at_once = max(2, int(_LARGE / K) if problem.separable else int(_CACHED / (K * max(T, 1))))
    pieces = -(-R // rows_at_once)
    chunks = [slice(R * i // pieces, R * (i + 1) // pieces) for i in range(pieces)]
    if len(chunks) == 1 or threads == 1:
        return [work(chunk) for chunk in chunks]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, chunks))


def losses_at(problem: LossEvaluator, shares: Array, n: Array) -> Array:
    """Losses of every row at one allocation, or of one row at several; `shares` (1, K) or (R, K), `n` alike."""

    def losses(some: LossEvaluator, rows: slice) -> Array:
        at = shares[rows if len(n) > 1 else slice(1)], n[rows if len(n) > 1 else slice(1)]
        if some.gamma.any():
            R = max(some.draws, len(at[1]))
            same = some if some.draws == R else some.at(np.zeros(R, np.intp))
            return same.losses(np.broadcast_to(at[0], (R, shares.shape[1])), np.broadcast_to(at[1], R))
        return PairEvaluator.of(some).losses(*at)

    if problem.draws == 1:
        return losses(problem, slice(None))
    return np.concatenate(_in_pieces(problem, lambda rows: losses(problem.at(rows), rows), 1))


def _wide(box: tuple[float, float] | Box | None, R: int) -> Box | None:
    """The same interval of N for every row."""
    if box is None or isinstance(box, Box):
        return box
    return Box(np.full(R, np.log(box[0])), np.full(R, np.log(box[1])))


def _threads(problem: LossEvaluator) -> int:
    """SeparableForm are independent, and NumPy's loops let go of the interpreter: large problems use every core."""
    K = len(problem.languages)
    large = problem.draws >= 16 and problem.draws * (K if problem.separable else K**2) > _LARGE
    return min(os.cpu_count() or 1, 8) if large else 1


def _blank(problem: LossEvaluator) -> Solution:
    R, K = problem.draws, len(problem.languages)
    nothing = np.full(R, np.nan)
    weights = np.full(problem.weights.shape, np.nan)
    return Solution(np.full((R, K), np.nan), nothing, np.full(R, np.inf), weights, 1, np.zeros(R, bool))


def _finish(
    problem: LossEvaluator,
    p: Array,
    n: Array,
    box: Box | None,
    levels: tuple[float, ...],
    starts: int,
    clean: bool,
    quick: bool = False,
) -> Solution | None:
    """Follow the path through the levels, from where the rows are, and judge where they end."""
    value = _value(problem, p, n)
    rows = np.flatnonzero(np.isfinite(value))
    if not len(rows):
        return None
    part, edges = problem.at(rows), None if box is None else box.at(rows)
    losses = part.losses(p[rows], n[rows])
    scale = (part.weights * losses).sum(1) / part.weights.sum(1)
    p_end, n_end = p[rows], n[rows]
    z = (levels[0] * scale)[:, None] / p_end
    if quick:
        z *= CENTRE / levels[0]
    for level in levels:
        last = level == levels[-1]
        steps = _STEPS
        if quick and levels is NEAR:
            steps = _LAST if last else _FIRST
        elif quick or levels is BOUNDED:
            steps = _FEW
        p_end, n_end, z = follow(part, p_end, n_end, z, edges, level * scale, steps, last and not quick)
    end = _value(part, p_end, n_end)
    # The dual's weights are read off differences as small as mu, which cleaning would drown.
    losses = part.losses(p_end, n_end) - part.least_loss
    if clean:
        p_end = _cleaned(part, p_end, n_end, end, scale)
        end = _value(part, p_end, n_end)
    shares, found_n, best, weights, _, _ = vars(_blank(problem)).values()
    shares[rows], found_n[rows], best[rows] = p_end, n_end, end
    weights[rows] = part.risk.multipliers(part.weights, losses, levels[-1] * scale)
    edge = np.zeros(len(n), bool)
    if box is not None:
        edge = (found_n < box.low + 1e-3) | (found_n > box.high - 1e-3)
    return Solution(shares, found_n, best, weights, starts, edge)


def _value(problem: LossEvaluator, p: Array, n: Array) -> Array:
    """The objective, infinite where the budget buys nothing, outside the domain, or where there is no interior."""
    inside = np.isfinite(p).all(1) & np.isfinite(n)
    value = np.full(len(n), np.inf)
    rows = np.flatnonzero(inside)
    if len(rows):
        some = problem.at(rows)
        positive = some.budget(n[rows])[0] > 0
        with np.errstate(invalid="ignore", over="ignore"):
            value[rows] = np.where(positive, some.objective(p[rows], n[rows]), np.inf)
    return np.where(np.isnan(value), np.inf, value)


def _starts(problem: LossEvaluator, seed: int) -> Array:
    """Even shares; where transfer may be negative also the targets alone and random shares. Shape (starts, K)."""
    K = len(problem.languages)
    even = np.full(K, 1 / K)
    if problem.convex or K == 1:
        return even[None]
    own = np.zeros(K)
    own[problem.target_index] = 1 / len(set(problem.target_index.tolist()))
    rng = np.random.default_rng(seed)
    random = []
    for i in range(STARTS):
        away, sharp = (0.5, 0.2, 0.8)[i % 3], (0.5, 1.0, 0.2)[i % 3]
        random.append(away * own + (1 - away) * rng.dirichlet(np.full(K, sharp)))
    alone = [0.05 * own + 0.95 * np.eye(K)[k] for k in dict.fromkeys(problem.target_index.tolist())][:16]
    return np.stack([0.999 * shares + 0.001 / K for shares in [even, own, *alone, *random]])


def _interior(problem: LossEvaluator, p: Array, n: Array, box: Box | None) -> tuple[Array, Array]:
    """Points strictly inside every bound near the given ones; NaN where there is none."""
    p = 0.999 * p / p.sum(1, keepdims=True) + 0.001 / p.shape[1]
    n = n.copy()
    if box is not None:
        margin = 1e-3 * (box.high - box.low)
        n = np.clip(n, box.low + margin, box.high - margin)
    bad = ~np.isfinite(barriered(problem, p, n, np.full(len(n), 1e-6), box))
    if bad.any() and problem.constraints.any:
        p = p.copy()
        X = problem.budget(n)[0]
        for r in np.flatnonzero(bad):
            p[r] = _blended(problem, p[r], float(X[r]))
    return p, n


def _blended(problem: LossEvaluator, p: Array, X: float) -> Array:
    """As near to p as the bounds let an interior point be; NaN where they leave no room."""
    inside = problem.constraints.inside(X) if X > 0 else None
    if inside is None:
        return np.full(len(p), np.nan)
    for part in (0.1, 0.5, 0.9):
        mixed = (1 - part) * p + part * inside
        if np.isfinite(problem.constraints.barrier(mixed[None], np.array([X])))[0]:
            return mixed
    return inside


def _scan(problem: LossEvaluator, p: Array, box: Box | None) -> tuple[Array, Array]:
    """The best N of a grid for given shares (or for shares inside the bounds)."""
    assert box is not None
    if len(p) <= _FEW_ROWS and not problem.constraints.any:
        parts = np.arange(1, _SIZES + 1) / (_SIZES + 1)
        sizes = box.low[:, None] + (box.high - box.low)[:, None] * parts
        rows = np.repeat(np.arange(len(p)), _SIZES)
        values = _value(problem.at(rows), p[rows], sizes.ravel()).reshape(sizes.shape)
        chosen = values.argmin(1)
        found = np.isfinite(values.min(1))
        return np.where(found[:, None], p, np.nan), np.where(found, sizes[np.arange(len(p)), chosen], np.nan)
    best, best_p, best_n = np.full(len(p), np.inf), np.full(p.shape, np.nan), np.full(len(p), np.nan)
    for i in range(1, _SIZES + 1):
        n = box.low + (box.high - box.low) * i / (_SIZES + 1)
        p_try, n_try = _interior(problem, p, n, box) if problem.constraints.any else (p, n)
        value = _value(problem, p_try, n_try)
        better = value < best
        best[better], best_p[better], best_n[better] = value[better], p_try[better], n_try[better]
    return best_p, best_n


def _cleaned(problem: LossEvaluator, shares: Array, n: Array, best: Array, scale: Array) -> Array:
    """Drop the barrier's shadow, tiny shares, where that costs nothing; of targets only if they can do without."""
    found = shares
    for spare_targets in (True, False):
        tiny = shares < NEGLIGIBLE
        if spare_targets:
            tiny[:, problem.target_index] = False
        if problem.constraints.any:
            K = len(problem.constraints.tokens_low)
            tiny[:, :K] &= (problem.constraints.tokens_low <= 0) & (problem.constraints.share_low <= 0)
        clean = np.where(tiny, 0.0, shares)
        clean /= clean.sum(1, keepdims=True)
        with np.errstate(invalid="ignore"):
            free = _value(problem, clean, n) <= best + 1e-9 * scale
        found = np.where(free[:, None], clean, found)
    return found
