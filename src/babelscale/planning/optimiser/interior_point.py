"""Interior point: minimise a planning problem over shares and log N with a batched primal-dual Newton method.

    minimise  Phi_mu(L(p, n)) - mu [sum log p + log(n - low) + log(high - n) + sum log slack]   subject to  sum p = 1

All rows of a problem (the fit and its draws) move together; each weight mu of the barrier starts where the last one
ended. For fixed N and tau >= 0 the problem in the shares is convex; `certificate` bounds what is left, over N too. With
a negative tau it is not convex, and the best of many starts is taken.

Steps are primal-dual (Wright 1997, Primal-Dual Interior-Point Methods, chapter 1): the curvature of the barrier on p is
z / p with multipliers z of p >= 0, not mu / p^2, so that shares on their way to 0 get there in a few steps. In scaled
variables dp = p y that curvature is p z.

Bounds on tokens and shares are linear in the tokens D. With bounds the barrier is therefore on log D and on slacks in
tokens, and where N is searched a step moves along D (1 + t delta) with delta = y - dn / r and r = X / a. To first order
that is the same step; its curvature p'' = 2 p y dn / r, n'' = dn^2 adds q / r to the border and the slope by n to the
corner (q the scaled slopes by the shares).
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.optimiser import active_set
from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.optimiser.newton import Box, NewtonSystem

Array = NDArray[np.float64]
Result = TypeVar("Result")

# Weights of the barrier, relative to the objective: from far, and from nearby.
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
_SIZES = 33
# The last step of the active-set method in shares and log N, and the gap it leaves: what draws need, and cuts.
BRIEFLY, EXACTLY = (1e-4, 1e-3), (1e-3, 1e-9)
STARTS = 48
_BY_ROW = ("shares", "n", "objective", "weights", "at_edge")
# Smaller shares than this are left by the barrier and are planned as none.
NEGLIGIBLE = 1e-6
_BACKTRACKS = 40
# A level of the path is centred when the Newton decrement is this part of mu; the last one is followed to the end.
_CENTRED, _EXACT = 0.5, 1e-9
# How far p z may lie from mu at the end of a level, relative, and at most between steps.
_NEAR, _BAND = 0.5, 1e6


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

    @classmethod
    def none(cls, problem: LossEvaluator) -> "Solution":
        """Rows that have no solution."""
        R, K = problem.draws, len(problem.languages)
        weights = np.full(problem.weights.shape, np.nan)
        return cls(np.full((R, K), np.nan), np.full(R, np.nan), np.full(R, np.inf), weights, 1, np.zeros(R, bool))

    def at(self, rows: NDArray[np.intp]) -> "Solution":
        """Some of the rows; a solution of one row stands for all."""
        parts = {name: getattr(self, name) for name in _BY_ROW}
        return replace(self, **{k: v[rows if len(v) > 1 else 0 * rows] for k, v in parts.items()})

    def with_rows(self, rows: NDArray[np.intp], others: "Solution") -> "Solution":
        """The same with some rows of another."""
        parts = {name: getattr(self, name).copy() for name in _BY_ROW}
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
    box = None if box is None else Box.of(box, R)
    if start is not None:
        p = np.broadcast_to(start.shares, (R, len(problem.languages)))
        first = n if n is not None else np.broadcast_to(start.n, R).copy()
        return _follow_path(problem, *_interior(problem, p, first, box), box, _Path(levels or WARM, clean=clean))
    starts = _starts(problem, seed)
    rows = np.repeat(np.arange(R), len(starts))
    many, wide, p = problem.at(rows), None if box is None else box.at(rows), np.tile(starts, (R, 1))
    p, first = _scan(many, p, wide) if n is None else _interior(many, p, n[rows], None)
    found = _follow_path(many, p, first, wide, _Path(levels or COLD, clean=clean))
    if found is None:
        return None
    by_row = found.objective.reshape(R, -1)
    tried = int(np.isfinite(by_row).sum(1).max())
    return replace(found.at(np.arange(R) * len(starts) + by_row.argmin(1)), starts=tried)


def path_centre(problem: LossEvaluator, box: tuple[float, float] | None, solution: Solution) -> Solution:
    """The point of a solved problem's path from which `solve_near` follows the rows that lie further away."""
    n = solution.n if box is None else None
    return solve(problem, box, n=n, start=solution, levels=(CENTRE,), clean=False) or solution


def solve_near(
    problem: LossEvaluator,
    box: tuple[float, float] | Box | None,
    start: Solution,
    centre: Callable[[], Solution],
    *,
    n: Array | None = None,
    exact: bool = False,
) -> Solution | None:
    """Rows near a solved one: by the active-set method from there, or along the barrier's path from its centre.

    Args:
        start: a solution of one row, or one for every row. centre: `path_centre` of the solved problem.
        n: log N of each row where it is given (`box` None), or where to start.
        exact: to the end, not only as far as draws need.
    """
    R, K = problem.draws, len(problem.languages)
    box = None if box is None else Box.of(box, R)

    def place(at: Solution) -> tuple[Array, Array]:
        return np.broadcast_to(at.shares, (R, K)), np.broadcast_to(at.n, R) if n is None else n

    found, rest = Solution.none(problem), np.arange(R)
    if active_set.applies(problem):
        found, solved = _by_active_set(problem, box, *place(start), *(EXACTLY if exact else BRIEFLY))
        rest = np.flatnonzero(~solved)
    if not len(rest):
        return found
    p, sizes = place(centre())
    edges = None if box is None else box.at(rest)
    others = _from_centre(problem.at(rest), edges, p[rest].copy(), sizes[rest].copy(), n is None, exact)
    if others is None:
        return found if len(rest) < R else None
    found = found.with_rows(rest, others)
    if active_set.applies(problem):
        sharper, solved = _by_active_set(problem.at(rest), edges, others.shares, others.n, *BRIEFLY)
        found = found.with_rows(rest[solved], sharper.at(np.flatnonzero(solved)))
    return found


def _by_active_set(
    problem: LossEvaluator, box: Box | None, p: Array, n: Array, short: float, gap: float
) -> tuple[Solution, NDArray[np.bool_]]:
    """Rows solved by the active-set method, and which they are."""

    def part(rows: slice) -> active_set.ActiveSetResult:
        edges = None if box is None else box.at(rows)
        return active_set.follow(problem.at(rows), p[rows], n[rows], edges, short, gap)

    # Small matrices spend their time in NumPy's calls, which threads only contend for.
    threads = _threads(problem) if problem.weights.shape[1] * len(problem.languages) > _LARGE else 1
    parts = in_pieces(problem, part, threads)
    shares, n, value, solved = (np.concatenate(each) for each in zip(*parts, strict=True))
    edge = np.zeros(len(n), bool)
    return Solution(shares, n, np.where(solved, value, np.inf), problem.weights, 1, edge), solved


def _from_centre(
    problem: LossEvaluator, box: Box | None, p: Array, n: Array, free: bool, exact: bool
) -> Solution | None:
    """Rows from the centre of a solved problem's path; those that lie outside there start anew."""
    bounded = problem.constraints.any
    if bounded or not free:
        p, n = _interior(problem, p, n, box)
    levels = BOUNDED if bounded else EXACT if exact else NEAR
    path = _Path(levels, clean=not exact, quick=not bounded)

    def part(rows: slice) -> Solution:
        some = problem.at(rows)
        edges = None if box is None else box.at(rows)
        return _follow_path(some, p[rows], n[rows], edges, path) or Solution.none(some)

    parts = in_pieces(problem, part, _threads(problem))
    whole = {name: np.concatenate([getattr(each, name) for each in parts]) for name in _BY_ROW}
    return replace(parts[0], **whole) if np.isfinite(whole["objective"]).any() else None


def in_pieces(problem: LossEvaluator, work: Callable[[slice], Result], threads: int = 1) -> list[Result]:
    """Work done on few enough rows at a time that their matrices stay in the caches, in threads where it is much.

    The pieces do not depend on the number of cores, so that a plan has the same bytes on every machine of a kind.
    """
    (R, T), K = problem.weights.shape, len(problem.languages)
    rows_at_once = max(2, int(_LARGE / K) if problem.separable else int(_CACHED / (K * max(T, 1))))
    pieces = -(-R // rows_at_once)
    chunks = [slice(R * i // pieces, R * (i + 1) // pieces) for i in range(pieces)]
    if len(chunks) == 1 or threads == 1:
        return [work(chunk) for chunk in chunks]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, chunks))


def _threads(problem: LossEvaluator) -> int:
    """Draws are independent, and NumPy's loops release the interpreter lock: large problems use every core."""
    K = len(problem.languages)
    large = problem.draws >= 16 and problem.draws * (K if problem.separable else K**2) > _LARGE
    return min(os.cpu_count() or 1, 8) if large else 1


@dataclass(frozen=True)
class _Path:
    """Weights of the barrier; `clean`: drop tiny shares at the end; `quick`: a few steps a level, from a centre."""

    levels: tuple[float, ...]
    clean: bool
    quick: bool = False

    def steps(self, level: float) -> int:
        if self.quick and self.levels is NEAR:
            return _LAST if level == self.levels[-1] else _FIRST
        return _FEW if self.quick or self.levels is BOUNDED else _STEPS


def _follow_path(problem: LossEvaluator, p: Array, n: Array, box: Box | None, path: _Path) -> Solution | None:
    """Follow the path through the levels, from where the rows are, and evaluate where they end."""
    rows = np.flatnonzero(np.isfinite(_value(problem, p, n)))
    if not len(rows):
        return None
    part, edges = problem.at(rows), None if box is None else box.at(rows)
    losses = part.losses(p[rows], n[rows])
    scale = (part.weights * losses).sum(1) / part.weights.sum(1)
    p_end, n_end = p[rows], n[rows]
    z = ((CENTRE if path.quick else path.levels[0]) * scale)[:, None] / p_end
    for level in path.levels:
        exact = level == path.levels[-1] and not path.quick
        p_end, n_end, z = follow(part, (p_end, n_end, z), edges, level * scale, path.steps(level), exact)
    end = _value(part, p_end, n_end)
    # The dual's weights are read off differences as small as mu, which cleaning would drown.
    losses = part.losses(p_end, n_end) - part.least_loss
    if path.clean:
        p_end = _without_tiny_shares(part, p_end, n_end, end, scale)
        end = _value(part, p_end, n_end)
    found = Solution.none(problem)
    found.shares[rows], found.n[rows], found.objective[rows] = p_end, n_end, end
    found.weights[rows] = part.risk.multipliers(part.weights, losses, path.levels[-1] * scale)
    if box is not None:
        found.at_edge[:] = (found.n < box.low + 1e-3) | (found.n > box.high - 1e-3)
    return found


Iterate = tuple[Array, Array, Array]


def follow(problem: LossEvaluator, start: Iterate, box: Box | None, mu: Array, steps: int, exact: bool) -> Iterate:
    """Newton's method at one weight mu (R,) of the barrier, from an interior point: p, n and the multipliers z."""
    p, n, z = (each.copy() for each in start)
    value = barriered(problem, p, n, mu, box)
    active = np.flatnonzero(np.isfinite(value))
    target = (1e-16 * np.abs(value) if exact else 0.0) + (_EXACT if exact else _CENTRED) * mu
    for _ in range(steps):
        part = problem if len(active) == len(n) else problem.at(active)
        edges = None if box is None else box.at(active)
        m, old = mu[active], p[active]
        y, dn, decrement = _direction(part, old, n[active], z[active], m, edges)
        now = old, n[active], value[active]
        p[active], n[active], value[active], moved = _line_search(part, now, (y, dn, decrement), m, edges)
        middle = m[:, None] / p[active]
        z[active] = np.clip(m[:, None] / old - z[active] * y, middle / _BAND, middle * _BAND)
        centred = np.abs(z[active] * p[active] / m[:, None] - 1).max(1) < _NEAR
        done = (decrement <= target[active]) & (centred | ~moved)
        active = active[~done & (moved | ~centred)]
        if not len(active):
            break
    return p, n, z


def barriered(problem: LossEvaluator, p: Array, n: Array, mu: Array, box: Box | None) -> Array:
    """The barrier problem's value, shape (R,); infinite outside."""
    with np.errstate(divide="ignore", invalid="ignore"):
        barrier, X = np.log(p).sum(1), problem.budget(n)[0]
        if box is not None:
            barrier = barrier + np.log(n - box.low) + np.log(box.high - n)
        if problem.constraints.any:
            barrier = barrier + problem.constraints.barrier(p, X)
            if box is not None:
                # On log D and on slacks in tokens, in which the steps are.
                barrier = barrier + (p.shape[1] + problem.constraints.count) * np.log(X)
        inside = np.isfinite(barrier) & (X > 0)
        value = np.full(len(n), np.inf)
        if inside.all():
            value = problem.objective(p, n, mu) - mu * barrier
        elif inside.any():
            rows = np.flatnonzero(inside)
            value[rows] = problem.at(rows).objective(p[rows], n[rows], mu[rows]) - mu[rows] * barrier[rows]
    return np.where(np.isfinite(value), value, np.inf)


def newton_system(problem: LossEvaluator, p: Array, n: Array, z: Array, mu: Array, box: Box | None) -> NewtonSystem:
    """Gradient and Hessian of the barrier problem at interior points, by y = dp / p and dn."""
    at = problem.derivatives(p, n, mu)
    H, border, corner = problem.hessian(at)
    H = H * p**2 if problem.diagonal else H * p[:, :, None] * p[:, None, :]
    q, border, r, k = at.by_p * p, border * p, at.X / at.a, np.arange(p.shape[1])
    g, g_n, stiff = q - mu[:, None], at.by_n, p * z
    diagonal = H if problem.diagonal else np.einsum("rkk->rk", H)  # a view that can be written to
    diagonal += stiff
    if box is not None:
        g_n = g_n + mu * (1 / (box.high - n) - 1 / (n - box.low))
        corner = corner + mu * (1 / (n - box.low) ** 2 + 1 / (box.high - n) ** 2)
    if box is not None and problem.constraints.any:
        border = border + (q - stiff) / r[:, None]
        corner = corner + g_n + stiff.sum(1) / r**2
        g_n = g_n + mu * len(k) / r
    for bound in problem.constraints.slacks(p, at.X) if problem.constraints.any else ():
        # The slopes of log(slack X), which is linear in the tokens: by y of its languages, y of the last one, and n.
        by_y = bound.sign * p[:, bound.languages] / bound.slack
        by_n = (bound.over / (at.X[:, None] * bound.slack) - 1) / r[:, None]
        weight = mu[:, None]
        g[:, bound.languages] -= weight * by_y
        diagonal[:, bound.languages] += weight * by_y**2
        border[:, bound.languages] += weight * by_y * by_n
        g_n, corner = g_n - (weight * by_n).sum(1), corner + (weight * by_n**2).sum(1)
        if bound.last.any():
            if H.ndim == 2:
                H = H[:, :, None] * np.eye(len(k))
                diagonal = np.einsum("rkk->rk", H)
            by_last = bound.last * p[:, -1:] / bound.slack
            g[:, -1] -= (weight * by_last).sum(1)
            diagonal[:, -1] += (weight * by_last**2).sum(1)
            border[:, -1] += (weight * by_last * by_n).sum(1)
            mixed = weight * by_y * by_last
            H[:, bound.languages, -1] += mixed
            H[:, -1, bound.languages] += mixed
    return NewtonSystem(H, border, corner, g, g_n, p)


def _direction(
    problem: LossEvaluator, p: Array, n: Array, z: Array, mu: Array, box: Box | None
) -> tuple[Array, Array, Array]:
    """A descent direction and the decrease it promises at first order: y = dp / p and dn, or delta = dD / D and dn."""
    s = newton_system(problem, p, n, z, mu, box)
    s = s if box is not None else s.with_fixed_size()
    y, dn = s.step()
    descent = -(s.g * y).sum(1) - s.g_n * dn
    poor = ~(np.isfinite(y).all(1) & np.isfinite(dn) & (descent > 0))
    if poor.any():
        y, dn = y.copy(), dn.copy()
        y[poor], dn[poor] = s.at(poor).step_downhill()
        descent = -(s.g * y).sum(1) - s.g_n * dn
    if box is not None and problem.constraints.any:
        X, a = problem.budget(n)
        y = y - (dn * a / X)[:, None]
    return y, dn, np.maximum(descent, 0.0)


def advance(problem: LossEvaluator, p: Array, n: Array, delta: Array, t: Array) -> tuple[Array, Array]:
    """Shares and n after D (1 + t delta)."""
    X, a = problem.budget(n)
    D = p * (1 + t[:, None] * delta)
    grown = D.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_more = np.log((X * grown + problem.served / 3) / a)
        return D / grown[:, None], n - log_more


def _line_search(
    problem: LossEvaluator, now: Iterate, step: Iterate, mu: Array, box: Box | None
) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    """Backtrack from the largest step inside the bounds until the value falls; rows that cannot stay put."""
    (p, n, value), (y, dn, descent) = now, step
    in_tokens = box is not None and problem.constraints.any
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(y < 0, -1 / y, np.inf).min(1)
        if box is not None and not in_tokens:
            room = np.where(dn < 0, (box.low - n) / dn, (box.high - n) / dn)
            t = np.minimum(t, np.where(dn == 0, np.inf, room))
    t = np.minimum(1.0, 0.99 * t)
    p_new, n_new, v_new = p.copy(), n.copy(), value.copy()
    rows = np.arange(len(n))
    for _ in range(_BACKTRACKS):
        whole = len(rows) == len(n)
        part, edges = problem if whole else problem.at(rows), box if whole or box is None else box.at(rows)
        if in_tokens:
            p_try, n_try = advance(part, p[rows], n[rows], y[rows], t[rows])
        else:
            p_try, n_try = p[rows] * (1 + t[rows, None] * y[rows]), n[rows] + t[rows] * dn[rows]
        v_try = barriered(part, p_try, n_try, mu[rows], edges)
        good = v_try <= value[rows] - 1e-4 * t[rows] * descent[rows] + 4e-16 * np.abs(value[rows])
        taken = rows[good]
        p_new[taken], n_new[taken], v_new[taken] = p_try[good], n_try[good], v_try[good]
        rows = rows[~good]
        t[rows] *= 0.4
        if not len(rows):
            break
    moved = np.ones(len(n), bool)
    moved[rows] = False
    return p_new, n_new, v_new, moved


def _value(problem: LossEvaluator, p: Array, n: Array) -> Array:
    """The objective, infinite where the budget buys nothing, outside the domain, or where there is no interior."""
    value = np.full(len(n), np.inf)
    rows = np.flatnonzero(np.isfinite(p).all(1) & np.isfinite(n))
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
    targets = list(dict.fromkeys(problem.target_index.tolist()))
    own = np.zeros(K)
    own[targets] = 1 / len(targets)
    rng = np.random.default_rng(seed)
    random = []
    for i in range(STARTS):
        away, sharp = (0.5, 0.2, 0.8)[i % 3], (0.5, 1.0, 0.2)[i % 3]
        random.append(away * own + (1 - away) * rng.dirichlet(np.full(K, sharp)))
    alone = [0.05 * own + 0.95 * np.eye(K)[k] for k in targets[:16]]
    return np.stack([0.999 * shares + 0.001 / K for shares in [even, own, *alone, *random]])


def _interior(problem: LossEvaluator, p: Array, n: Array, box: Box | None) -> tuple[Array, Array]:
    """Points strictly inside every bound near the given ones; NaN where there is none."""
    p = 0.999 * p / p.sum(1, keepdims=True) + 0.001 / p.shape[1]
    n = n.copy()
    if box is not None:
        margin = 1e-3 * (box.high - box.low)
        n = np.clip(n, box.low + margin, box.high - margin)
    if problem.constraints.any:
        X = problem.budget(n)[0]
        for r in np.flatnonzero(~np.isfinite(barriered(problem, p, n, np.full(len(n), 1e-6), box))):
            p[r] = problem.constraints.nearest_inside(p[r], float(X[r]))
    return p, n


def _scan(problem: LossEvaluator, p: Array, box: Box | None) -> tuple[Array, Array]:
    """The best N of a grid for given shares (or for shares inside the bounds)."""
    assert box is not None
    R, parts = len(p), np.arange(1, _SIZES + 1) / (_SIZES + 1)
    rows, n = np.repeat(np.arange(R), _SIZES), (box.low[:, None] + (box.high - box.low)[:, None] * parts).ravel()
    many, p = problem.at(rows), p[rows]
    if problem.constraints.any:
        p, n = _interior(many, p, n, box.at(rows))
    values = np.concatenate(in_pieces(many, lambda piece: _value(many.at(piece), p[piece], n[piece])))
    best = np.arange(R) * _SIZES + values.reshape(R, _SIZES).argmin(1)
    found = np.isfinite(values[best])
    return np.where(found[:, None], p[best], np.nan), np.where(found, n[best], np.nan)


def _without_tiny_shares(problem: LossEvaluator, shares: Array, n: Array, best: Array, scale: Array) -> Array:
    """Set to 0 the tiny shares that the barrier leaves, where that costs nothing; of targets only if it can be done."""
    found, bounds = shares, problem.constraints
    for spare_targets in (True, False):
        tiny = shares < NEGLIGIBLE
        if spare_targets:
            tiny[:, problem.target_index] = False
        if bounds.any:
            tiny[:, : len(bounds.tokens_low)] &= (bounds.tokens_low <= 0) & (bounds.share_low <= 0)
        clean = np.where(tiny, 0.0, shares)
        clean /= clean.sum(1, keepdims=True)
        with np.errstate(invalid="ignore"):
            free = _value(problem, clean, n) <= best + 1e-9 * scale
        found = np.where(free[:, None], clean, found)
    return found
