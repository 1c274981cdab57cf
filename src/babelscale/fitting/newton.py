"""Damped Newton with bounds, on many problems at once; for problems with parameters in common; for absolute deviations.

Huber's objective is piecewise smooth: with delta far below the residuals most rows pull with constant force, the
Hessian is often indefinite, and reweighted least squares crawl. Each step therefore solves
(|H| + mu S) s = -g in the scale S of the weighted least-squares problem, with |H| the Hessian's eigenvalues taken
positive; mu falls after a good step and rises after a bad one. Rows enter the quadratic zone from a wider delta.

Problems with parameters s in common minimise F(s, z_1 .. z_T) = sum_t F_t(s, z_t). The Hessian is an arrow, because
targets meet in s only. Eliminating each z_t leaves a system in s (Schur's complement), so that a step costs no more
than the targets' own steps. One problem is the case T = 1 without s.

Least absolute deviation, F(z) = sum_i w_i |r_i(z)|, ends exactly. At a minimum some residuals (p of them where the
problem is not curved otherwise) are zero. Huber's optimum with a small delta shows which: the rows inside delta, with
multipliers w r / delta. Newton on

    sum_{i not in A} w_i sign(r_i) grad r_i + sum_{i in A} lambda_i grad r_i = 0,     r_i = 0 for i in A

then gives the minimum to the last digit (Madsen and Nielsen 1993 for linear models; here with the curvature of r).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale.fitting.objective import Array, Evaluation, FitProblem

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Effort:
    """How hard to search: starts, the share of F below which a step's gain ends the search, the most steps.

    `wider`: multiples of delta to solve first, which keeps far starts from stalling on kinks.

    A table with few losses a parameter has kinked, nearly flat valleys that take hundreds of steps for the fourth
    digit of F; only the reported optimum needs that.
    """

    starts: int
    tolerance: float
    most: int
    wider: tuple[float, ...] = ()


EXACT = Effort(starts=8, tolerance=1e-15, most=600, wider=(64.0, 8.0))
QUICK = Effort(starts=3, tolerance=1e-5, most=60, wider=(16.0,))
RESAMPLE = Effort(starts=1, tolerance=1e-9, most=200)
ROUGH = Effort(starts=1, tolerance=1e-4, most=60)
PATH = Effort(starts=1, tolerance=1e-9, most=100)
_START = 1e-3  # Huber's delta from which least absolute deviation is approached
_LAST = 1e-7  # and the share of the typical residual at which the approach gives up
_STEPS = 8  # Newton steps on the exact conditions of least absolute deviation
_ZERO = 1e-11  # a log residual this small is met exactly
_FLAT = 1e-8  # share of the pulling rows' force that may be left at a minimum
_FAR = 0.1  # largest change of a log loss in one step of a good guess
_RIDGE = 1e-14  # keeps equal rows and parameters without effect solvable; they fail the check afterwards


@dataclass(frozen=True)
class Optimum:
    """z (b, p), objective (b,), and which problems met the tolerance."""

    z: Array
    value: Array
    converged: Mask


@dataclass(frozen=True)
class JointOptimum:
    """z by problem, each (b, p_t), the objectives (b, T), and which joint problems met the tolerance."""

    z: list[Array]
    value: Array
    converged: Mask


@dataclass(frozen=True)
class JointProblem:
    """Problems that share the parameters `names`.

    `columns[t]` are the places of the shared parameters in z of problem t (-1 where its law has none), `rest[t]` the
    other places; `low` and `high` bound the shared ones.
    """

    problems: Sequence[FitProblem]
    names: tuple[str, ...]
    columns: list[NDArray[np.intp]]
    rest: list[NDArray[np.intp]]
    low: Array
    high: Array

    @classmethod
    def of(cls, problems: Sequence[FitProblem], names: tuple[str, ...] = ()) -> "JointProblem":
        columns = [np.array([p.column.get(name, -1) for name in names], np.intp) for p in problems]
        rest = [np.setdiff1d(np.arange(p.size), at) for p, at in zip(problems, columns, strict=True)]
        low, high = np.full(len(names), -np.inf), np.full(len(names), np.inf)
        for problem, at in zip(problems, columns, strict=True):
            there = at >= 0
            low[there] = np.maximum(low[there], problem.bounds[0][at[there]])
            high[there] = np.minimum(high[there], problem.bounds[1][at[there]])
        return cls(problems, names, columns, rest, low, high)

    def put(self, z: Sequence[Array], s: Array) -> list[Array]:
        """z with the shared parameters s (b, k) in their places."""
        out = [one.copy() for one in z]
        for one, at in zip(out, self.columns, strict=True):
            one[:, at[at >= 0]] = s[:, at >= 0]
        return out

    def take(self, z: Sequence[Array]) -> Array:
        """The shared parameters, shape (b, k), from the first problem that has each."""
        s = np.empty((len(z[0]), len(self.names)))
        for k in range(len(self.names)):
            t = next(t for t, at in enumerate(self.columns) if at[k] >= 0)
            s[:, k] = z[t][:, self.columns[t][k]]
        return s

    def evaluate(self, z: Sequence[Array], weights: Sequence[Array], delta: float) -> list[Evaluation]:
        return [p.evaluate(one, w, delta) for p, one, w in zip(self.problems, z, weights, strict=True)]


def minimise(problem: FitProblem, z: Array, weights: Array, delta: float, effort: Effort = EXACT) -> Optimum:
    """Local minima of the objective from each row of z, shape (problems, size).

    delta = inf is least squares, delta = 0 least absolute deviation.
    """
    weights = np.broadcast_to(weights, (len(z), len(problem.log_loss)))
    first, last = (delta, effort) if delta > 0 else (_START, PATH)
    joint = minimise_jointly(JointProblem.of([problem]), [z], [weights], first, last, effort.wider)
    found = Optimum(joint.z[0], joint.value[:, 0], joint.converged)
    return found if delta > 0 else _absolute(problem, found, weights)


def minimise_jointly(
    joint: JointProblem,
    z: list[Array],
    weights: Sequence[Array],
    delta: float,
    effort: Effort,
    wider: Sequence[float] | None = None,
) -> JointOptimum:
    """Local minima of the sum of the problems' objectives; z by problem, each (b, p_t), weights each (b, n_t)."""
    if np.isfinite(delta):
        for factor in effort.wider if wider is None else wider:
            z = _descend(joint, z, weights, factor * delta, ROUGH).z
    return _descend(joint, z, weights, delta, effort)


def _descend(
    joint: JointProblem, z: list[Array], weights: Sequence[Array], delta: float, effort: Effort
) -> JointOptimum:
    z = [np.clip(one, *problem.bounds) for one, problem in zip(z, joint.problems, strict=True)]
    z = joint.put(z, np.clip(joint.take(z), joint.low, joint.high))
    here = joint.evaluate(z, weights, delta)
    value = np.stack([e.value for e in here], axis=1)
    mu, converged = np.full(len(value), 1e-3), np.zeros(len(value), bool)
    active = np.asarray(np.isfinite(value).all(axis=1))
    for _ in range(effort.most):
        rows = np.flatnonzero(active)
        if not len(rows):
            break
        moved, promise, decrement = _step(joint, [one[rows] for one in z], [e.at(rows) for e in here], mu[rows])
        there = joint.evaluate(moved, [w[rows] for w in weights], delta)
        trial = np.stack([e.value for e in there], axis=1)
        total = value[rows].sum(axis=1)
        gain = total - trial.sum(axis=1)
        better = gain > 0
        accepted = rows[better]
        for t, one in enumerate(moved):
            z[t][accepted] = one[better]
            here[t].put(accepted, there[t].at(better))
        value[accepted] = trial[better]
        good = better & (gain > 0.25 * promise)
        mu[rows] = np.where(good, mu[rows] / 8, np.where(better, mu[rows], np.maximum(mu[rows], 1e-8) * 6))
        mu[rows] = np.clip(mu[rows], 1e-14, 1e14)
        done = decrement <= effort.tolerance * total
        # A step too small for the arithmetic to see its gain: the minimum as far as float64 can tell.
        done |= (~better & (decrement <= 1e-13 * total)) | (total <= 1e-28)
        converged[rows[done]] = True
        active[rows[done | (mu[rows] >= 1e14)]] = False
    return JointOptimum(z, value, converged)


def _step(joint: JointProblem, z: list[Array], now: list[Evaluation], mu: Array) -> tuple[list[Array], Array, Array]:
    """Where the damped Newton step inside the bounds leads, the decrease it promises, and the decrease without damping.

    The last tells how far the minimum is; the promise shrinks with damping and would end a search that is merely slow.
    """
    if not joint.names:
        return _step_alone(joint.problems[0], z[0], now[0], mu)
    k = len(joint.names)
    shared = _Block(np.zeros((len(mu), k)), np.zeros((len(mu), k, k)), np.zeros((len(mu), k)))
    blocks: list[_Block] = []
    across: list[Array] = []
    for problem, one, e, at, rest in zip(joint.problems, z, now, joint.columns, joint.rest, strict=True):
        there = np.flatnonzero(at >= 0)
        columns = at[there]
        shared.gradient[:, there] += e.gradient[:, columns]
        shared.scale[:, there] += e.scale[:, columns]
        shared.hessian[:, there[:, None], there] += e.hessian[:, columns[:, None], columns]
        blocks.append(_Block(e.gradient[:, rest], e.hessian[:, rest[:, None], rest], e.scale[:, rest]))
        blocks[-1].constrain(one[:, rest], problem.bounds[0][rest], problem.bounds[1][rest])
        across.append(np.zeros((len(mu), len(rest), k)))
        across[-1][:, :, there] = e.hessian[:, rest[:, None], columns]
    s = joint.take(z)
    shared.constrain(s, joint.low, joint.high)
    for block, part in zip(blocks, across, strict=True):
        part /= block.root[:, :, None] * shared.root[:, None, :]
        part[block.at_bound[:, :, None] | shared.at_bound[:, None, :]] = 0.0
        block.decompose()
    moves, of_shared, promise = _solve(blocks, across, shared, mu, 1e-12)
    new = joint.put(z, np.clip(s + of_shared, joint.low, joint.high))
    for t, (problem, rest) in enumerate(zip(joint.problems, joint.rest, strict=True)):
        low, high = problem.bounds
        new[t][:, rest] = np.clip(z[t][:, rest] + moves[t], low[rest], high[rest])
    return new, promise, _solve(blocks, across, shared, np.zeros(len(mu)), 1e-10)[2]


def _step_alone(problem: FitProblem, z: Array, now: Evaluation, mu: Array) -> tuple[list[Array], Array, Array]:
    """`_step` of one problem, without the parts that several problems need."""
    low, high = problem.bounds
    block = _Block(now.gradient, now.hessian, now.scale)
    block.constrain(z, low, high)
    block.decompose()
    along = np.einsum("bpk,bp->bk", block.vectors, block.gradient)
    size = np.abs(block.values)
    curved = np.maximum(size, 1e-12) + mu[:, None]
    move = -np.einsum("bpk,bk->bp", block.vectors, along / curved)
    promise = 0.5 * (along**2 / curved).sum(axis=1)
    decrement = 0.5 * (along**2 / np.maximum(size, 1e-10)).sum(axis=1)
    return [np.clip(z + move / block.root, low, high)], promise, decrement


def _solve(
    blocks: list["_Block"], across: list[Array], shared: "_Block", mu: Array, floor: float
) -> tuple[list[Array], Array, Array]:
    """The moves of each problem's own parameters, that of the shared ones, and the decrease they promise.

    All diagonal blocks are taken positive, which leaves the whole matrix positive.
    """
    reduced = _Block(shared.gradient, shared.hessian, shared.scale)
    promise = np.zeros(len(mu))
    eliminated = []
    for block, part in zip(blocks, across, strict=True):
        solved = block.solve(np.concatenate([block.gradient[:, :, None], part], axis=2), mu, floor)
        promise += 0.5 * np.einsum("bp,bp->b", block.gradient, solved[:, :, 0])
        if shared.gradient.size:
            back = part.transpose(0, 2, 1) @ solved
            reduced.gradient = reduced.gradient - np.where(shared.at_bound, 0.0, back[:, :, 0])
            reduced.hessian = reduced.hessian - back[:, :, 1:]
        eliminated.append(solved)
    answer = np.zeros_like(shared.gradient)
    if answer.size:
        reduced.decompose()
        answer = reduced.solve(reduced.gradient[:, :, None], mu, floor)[:, :, 0]
        promise += 0.5 * np.einsum("bk,bk->b", reduced.gradient, answer)
    moves = [
        (-solved[:, :, 0] + (solved[:, :, 1:] @ answer[:, :, None])[:, :, 0]) / block.root
        for block, solved in zip(blocks, eliminated, strict=True)
    ]
    return moves, -answer / shared.root, promise


@dataclass
class _Block:
    """A diagonal block of the Newton system: gradient (b, p), hessian (b, p, p), scale (b, p)."""

    gradient: Array
    hessian: Array
    scale: Array

    def constrain(self, z: Array, low: Array, high: Array) -> None:
        """Divide by the scale; a coordinate that presses against a bound gets an equation of its own without force."""
        self.at_bound = ((z <= low) & (self.gradient > 0)) | ((z >= high) & (self.gradient < 0))
        most = self.scale.max(axis=1, keepdims=True, initial=0.0)
        self.root = np.sqrt(np.maximum(self.scale, 1e-12 * most + 1e-300))
        self.gradient = np.where(self.at_bound, 0.0, self.gradient / self.root)
        H = self.hessian / (self.root[:, :, None] * self.root[:, None, :])
        self.hessian = np.where(self.at_bound[:, :, None] | self.at_bound[:, None, :], 0.0, H)
        k = np.arange(z.shape[1])
        self.hessian[:, k, k] += self.at_bound

    def decompose(self) -> None:
        self.values, self.vectors = np.linalg.eigh(self.hessian)

    def solve(self, right: Array, mu: Array, floor: float) -> Array:
        """(|H| + mu)^-1 right, eigenvalues taken as `floor` at least."""
        curved = np.maximum(np.abs(self.values), floor) + mu[:, None]
        return self.vectors @ ((self.vectors.transpose(0, 2, 1) @ right) / curved[:, :, None])


def _absolute(problem: FitProblem, found: Optimum, weights: Array) -> Optimum:
    """Least absolute deviation from a Huber optimum: delta falls until the rows inside it are those met exactly."""
    z, proved = found.z.copy(), np.zeros(len(found.z), bool)
    best = int(np.argmin(np.where(np.isfinite(found.value), found.value, np.inf)))
    typical = float(np.median(np.abs(problem.residual(found.z[best]))))
    delta = min(typical / 4, _START)
    active = np.isfinite(found.value)
    joint = JointProblem.of([problem])
    while active.any() and delta > max(_LAST * typical, 1e-12):
        rows = np.flatnonzero(active)
        part = _descend(joint, [z[rows]], [weights[rows]], delta, PATH)
        for at in problem.blocks(len(rows)):
            z[rows[at]], proved[rows[at]] = _polish(problem, part.z[0][at], weights[rows[at]], delta)
        active = active & ~proved
        delta /= 4
    end = problem.evaluate(z, weights, 0.0)
    return Optimum(z, end.value, proved | (end.value <= 1e-9 * weights.sum(axis=1)))


@dataclass
class _Guess:
    """Which rows are zero: `index` (b, p) their places, `member` (b, p) which of these count, `sign` of the others."""

    index: NDArray[np.intp]
    member: Mask
    sign: Array
    at_bound: Mask


def _polish(problem: FitProblem, z: Array, weights: Array, delta: float) -> tuple[Array, Mask]:
    """From Huber's optima z (b, p) with a small delta to minima of sum w |r|, and which were proved."""
    low, high = problem.bounds
    residual = np.stack([problem.residual(one) for one in z])
    guess = _guess(problem, z, residual, weights, delta)
    usable = (np.abs(residual) <= delta).astype(float)
    usable = (usable * (weights > 0)).sum(axis=1) + guess.at_bound.sum(axis=1) <= problem.size
    near = np.take_along_axis(residual * weights, guess.index, axis=1)
    force = np.where(guess.member, near / delta, 0.0)
    here = z.copy()
    for _ in range(_STEPS):
        move, force, _ = _exact_step(problem, here, weights, guess, force)
        here = np.clip(here + move, low, high)
    proved = usable & _proved(problem, here, weights, guess, force)
    return np.where(proved[:, None], here, z), proved


def _guess(problem: FitProblem, z: Array, residual: Array, weights: Array, delta: float) -> _Guess:
    (low, high), size = problem.bounds, z.shape[1]
    distance = np.where(weights > 0, np.abs(residual), np.inf)
    index = np.argsort(distance, axis=1, kind="stable")[:, :size]
    member = np.take_along_axis(distance, index, axis=1) <= delta
    inside = distance <= delta
    return _Guess(index, member, np.where(inside, 0.0, np.sign(residual)), (z <= low) | (z >= high))


def _exact_step(
    problem: FitProblem, z: Array, weights: Array, guess: _Guess, force: Array
) -> tuple[Array, Array, Mask]:
    """One Newton step: the move of z, the new multipliers, and where the minimum is one to second order."""
    b, size = z.shape
    slope = weights * guess.sign
    np.put_along_axis(slope, guess.index, np.where(guess.member, force, _at(slope, guess.index)), axis=1)
    residual, J, H = problem.lagrangian(z, slope)
    root = np.sqrt(np.einsum("bpi,bi->bp", J * J, weights)) + 1e-30
    J = np.where(guess.at_bound[:, :, None], 0.0, J / root[:, :, None])
    H = np.where(
        guess.at_bound[:, :, None] | guess.at_bound[:, None, :], 0.0, H / (root[:, :, None] * root[:, None, :])
    )
    J, H = np.nan_to_num(J), np.nan_to_num(H)
    rows = np.take_along_axis(J, guess.index[:, None, :], axis=2).transpose(0, 2, 1)
    rows = np.where(guess.member[:, :, None], rows, 0.0)
    k = np.arange(size)
    K = np.zeros((b, 2 * size, 2 * size))
    K[:, :size, :size] = H
    K[:, k, k] += guess.at_bound + _RIDGE
    K[:, size:, :size] = rows
    K[:, :size, size:] = rows.transpose(0, 2, 1)
    K[:, size + k, size + k] = np.where(guess.member, -_RIDGE, 1.0)
    rest = np.einsum("bpi,bi->bp", J, weights * guess.sign)
    met = np.where(guess.member, _at(residual, guess.index), 0.0)
    answer = np.asarray(np.linalg.solve(K, -np.concatenate([rest, met], axis=1)[..., None])[..., 0], np.float64)
    move = answer[:, :size]
    # A guess that sends some loss far away is a wrong guess: it stays where it is and fails the check.
    sane = np.abs(np.einsum("bp,bpi->bi", move, J)).max(axis=1) <= _FAR
    move = np.asarray(np.where(sane[:, None], move / root, 0.0), np.float64)
    # As many negative eigenvalues as zero residuals: the rest of the directions curve upwards.
    minimum = (np.linalg.eigvalsh(K) < 0).sum(axis=1) == guess.member.sum(axis=1)
    return move, answer[:, size:], minimum


def _proved(problem: FitProblem, z: Array, weights: Array, guess: _Guess, force: Array) -> Mask:
    """First- and second-order conditions of a minimum, bounds included."""
    low, high = problem.bounds
    _, force, minimum = _exact_step(problem, z, weights, guess, force)
    slope = weights * guess.sign
    np.put_along_axis(slope, guess.index, np.where(guess.member, force, _at(slope, guess.index)), axis=1)
    residual, J, _ = problem.lagrangian(z, slope)
    total = np.einsum("bi,bi->b", np.abs(J).max(axis=1), weights)
    gradient = np.einsum("bpi,bi->bp", J, slope)
    scale = np.einsum("bpi,bi->bp", np.abs(J), weights) + 1e-300 * total[:, None]
    at_low, at_high = z <= low, z >= high
    outward = np.where(at_low, gradient >= -_FLAT * scale, True) & np.where(at_high, gradient <= _FLAT * scale, True)
    flat = np.where(at_low | at_high, outward, np.abs(gradient) <= _FLAT * scale).all(axis=1)
    strength = np.where(guess.member, _at(weights, guess.index), np.inf)
    pulled = (np.abs(force) <= strength * (1 + 1e-9)).all(axis=1)
    met = (np.abs(np.where(guess.member, _at(residual, guess.index), 0.0)) <= _ZERO).all(axis=1)
    sides = (guess.sign * weights * residual >= 0).all(axis=1)
    inside = ((z >= low) & (z <= high) & (guess.at_bound == (at_low | at_high))).all(axis=1)
    return minimum & flat & pulled & met & sides & inside


def _at(values: Array, index: NDArray[np.intp]) -> Array:
    return np.take_along_axis(values, index, axis=1)
