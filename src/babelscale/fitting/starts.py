"""Starts of a search: a grid over the shape parameters, with the coefficients solved exactly at each point.

For fixed shape parameters a law is linear in its coefficients, so only shape parameters need a grid (variable
projection); E, A and B come from non-negative least squares on relative residuals, which log residuals resemble.
"""

import itertools
from collections.abc import Mapping

import numpy as np

from babelscale.errors import InputError
from babelscale.fitting.objective import Array, FitProblem


def grid(problem: FitProblem) -> Array:
    """z at every grid point, coefficients solved, shape (points, size)."""
    return solved(problem, shape_grid(problem))


def solved(problem: FitProblem, shape: Array) -> Array:
    """z from the free shape parameters (points, ...) with the coefficients solved; points without a loss left out."""
    return np.concatenate([_solved(problem, shape[at]) for at in problem.blocks(len(shape))])


def _solved(problem: FitProblem, shape: Array) -> Array:
    k = len(problem.coefficients)
    z = np.hstack([np.ones((len(shape), k)), shape])
    parts = problem.terms(z)
    y = np.exp(problem.log_loss)
    remaining = np.ones((len(z), len(y)))
    for name, part in parts.items():
        if name in problem.fixed:
            remaining = remaining - part.coefficient * (part.basis / y)
    columns = [parts[name].basis / y for name in problem.coefficients]
    M = np.stack(columns, axis=1) if columns else np.empty((len(z), 0, len(y)))
    usable = np.isfinite(M).all(axis=(1, 2)) & np.isfinite(remaining).all(axis=1)
    z = z[usable]
    z[:, :k] = nonnegative(M[usable], remaining[usable])
    return z


def from_values(problem: FitProblem, values: Mapping[str, float]) -> Array:
    """z of one point, shape (1, size), from parameters in natural units; other coefficients are solved.

    Raises:
        InputError: a free shape parameter has no value, or the law has no loss there.
    """
    missing = [p.name for p in problem.free_shape if p.name not in values]
    if missing:
        raise InputError(f"the start has no value for {', '.join(missing)}", hint="name every free shape parameter")
    shape = np.array([[np.log(values[p.name]) if p.log else float(values[p.name]) for p in problem.free_shape]])
    z = solved(problem, shape)
    if not len(z):
        raise InputError(f"law {problem.law.name!r} has no loss at the start", hint=problem.law.domain)
    return problem.with_coefficients(z, values)


def shape_grid(problem: FitProblem) -> Array:
    """The product of the free shape parameters' starts, shape (points, parameters); a `grid_group` moves as one."""
    names = [parameter.grid_group or parameter.name for parameter in problem.free_shape]
    groups = list(dict.fromkeys(names))
    choices = [problem.free_shape[names.index(name)].starts for name in groups]
    values = np.array(list(itertools.product(*choices)), np.float64)[:, [groups.index(name) for name in names]]
    for at, parameter in enumerate(problem.free_shape):
        if parameter.log:
            values[:, at] = np.log(values[:, at])
    return values


def nonnegative(M: Array, y: Array) -> Array:
    """Least squares with coefficients >= 0 for many small problems: M (b, k, n), y (b, n), result (b, k).

    With k of about three, trying every set of positive coefficients is exact and needs no loop over problems.
    """
    b, k, _ = M.shape
    best = np.zeros((b, k))
    if not k:
        return best
    norm = np.sqrt(np.einsum("bki,bki->bk", M, M)) + 1e-300
    unit = M / norm[:, :, None]
    G = unit @ unit.transpose(0, 2, 1)
    v = np.einsum("bki,bi->bk", unit, y)
    gain = np.zeros(b)
    for count in range(1, k + 1):
        for chosen in itertools.combinations(range(k), count):
            at = list(chosen)
            # The ridge is far below any real column's independence and keeps twins solvable.
            A = G[:, at][:, :, at] + 1e-13 * np.eye(count)
            c = np.linalg.solve(A, v[:, at, None])[..., 0]
            explained = 2 * np.einsum("bk,bk->b", c, v[:, at]) - np.einsum("bk,bkm,bm->b", c, G[:, at][:, :, at], c)
            better = (c >= 0).all(axis=1) & (explained > gain)
            gain = np.where(better, explained, gain)
            full = np.zeros((b, k))
            full[:, at] = c
            best = np.where(better[:, None], full, best)
    return best / norm


def choose(z: Array, values: Array, count: int) -> Array:
    """The best half of `count` starts and as many more spread over the better half of the grid."""
    order = np.argsort(values, kind="stable")
    order = order[np.isfinite(values[order])]
    near = min(count // 2, len(order))
    rest = order[near : max(near, len(order) // 2)]
    spread = rest[np.unique(np.linspace(0, len(rest) - 1, count - near).astype(int))] if len(rest) else rest
    return z[np.concatenate([order[:near], spread])]
