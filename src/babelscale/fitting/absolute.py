"""The exact end of a least absolute deviation fit: which losses are met exactly, and proof that it is a minimum.

F(z) = sum_i w_i |r_i(z)|. At a minimum some residuals (p of them where the problem is not curved otherwise) are zero.
Huber's optimum with a small delta shows which: the rows inside delta, with multipliers w r / delta. Newton on

    sum_{i not in A} w_i sign(r_i) grad r_i + sum_{i in A} lambda_i grad r_i = 0,     r_i = 0 for i in A

then gives the minimum to the last digit (Madsen and Nielsen 1993 for linear models; here with the curvature of r).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale.fitting.objective import Array, FitProblem

_STEPS = 8
_ZERO = 1e-11  # a log residual this small is met exactly
_FLAT = 1e-8  # share of the pulling rows' force that may be left at a minimum
_FAR = 0.1  # change of a log loss in one step that no good guess asks for
_RIDGE = 1e-14  # keeps twins (two equal rows, a parameter without effect) solvable; they fail the check afterwards


@dataclass
class _Guess:
    """Which rows are zero: `index` (b, p) their places, `member` (b, p) which of these count, `sign` of the others."""

    index: NDArray[np.intp]
    member: NDArray[np.bool_]
    sign: Array
    held: NDArray[np.bool_]


def polish(
    problem: FitProblem, z: Array, weights: Array, delta: float, low: Array, high: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """From Huber's optima z (b, p) with a small delta to minima of sum w |r|, and which were proved."""
    found = [_polish(problem, z[at], weights[at], delta, low[at], high[at]) for at in problem.blocks(len(z))]
    return np.concatenate([one for one, _ in found]), np.concatenate([proved for _, proved in found])


def _polish(
    problem: FitProblem, z: Array, weights: Array, delta: float, low: Array, high: Array
) -> tuple[Array, NDArray[np.bool_]]:
    residual = np.stack([problem.residual(one) for one in z])
    guess = _guess(z, residual, weights, delta, low, high)
    usable = (np.abs(residual) <= delta).astype(float)
    usable = (usable * (weights > 0)).sum(axis=1) + guess.held.sum(axis=1) <= problem.size
    near = np.take_along_axis(residual * weights, guess.index, axis=1)
    force = np.where(guess.member, near / delta, 0.0)
    here = z.copy()
    for _ in range(_STEPS):
        move, force, _ = _newton(problem, here, weights, guess, force)
        here = np.clip(here + move, low, high)
    proved = usable & _proved(problem, here, weights, guess, force, low, high)
    return np.where(proved[:, None], here, z), proved


def _guess(z: Array, residual: Array, weights: Array, delta: float, low: Array, high: Array) -> _Guess:
    size = z.shape[1]
    distance = np.where(weights > 0, np.abs(residual), np.inf)
    index = np.argsort(distance, axis=1, kind="stable")[:, :size]
    member = np.take_along_axis(distance, index, axis=1) <= delta
    inside = distance <= delta
    return _Guess(index, member, np.where(inside, 0.0, np.sign(residual)), (z <= low) | (z >= high))


def _newton(
    problem: FitProblem, z: Array, weights: Array, guess: _Guess, force: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """One Newton step: the move of z, the new multipliers, and where the minimum is one to second order."""
    b, size = z.shape
    slope = weights * guess.sign
    np.put_along_axis(slope, guess.index, np.where(guess.member, force, _at(slope, guess.index)), axis=1)
    residual, J, H = problem.lagrangian(z, slope)
    root = np.sqrt(np.einsum("bpi,bi->bp", J * J, weights)) + 1e-30
    J = np.where(guess.held[:, :, None], 0.0, J / root[:, :, None])
    H = np.where(guess.held[:, :, None] | guess.held[:, None, :], 0.0, H / (root[:, :, None] * root[:, None, :]))
    J, H = np.nan_to_num(J), np.nan_to_num(H)
    rows = np.take_along_axis(J, guess.index[:, None, :], axis=2).transpose(0, 2, 1)
    rows = np.where(guess.member[:, :, None], rows, 0.0)
    k = np.arange(size)
    K = np.zeros((b, 2 * size, 2 * size))
    K[:, :size, :size] = H
    K[:, k, k] += guess.held + _RIDGE
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


def _proved(
    problem: FitProblem, z: Array, weights: Array, guess: _Guess, force: Array, low: Array, high: Array
) -> NDArray[np.bool_]:
    """First- and second-order conditions of a minimum, bounds included."""
    _, force, minimum = _newton(problem, z, weights, guess, force)
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
    inside = ((z >= low) & (z <= high) & (guess.held == (at_low | at_high))).all(axis=1)
    return minimum & flat & pulled & met & sides & inside


def _at(values: Array, index: NDArray[np.intp]) -> Array:
    return np.take_along_axis(values, index, axis=1)
