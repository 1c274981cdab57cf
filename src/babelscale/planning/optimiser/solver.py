"""Solvers: separable problems go to the certified interior-point method, all others to the general search."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.optimiser import certificate as certified
from babelscale.planning.optimiser import general_search as searched
from babelscale.planning.optimiser import interior_point as separable
from babelscale.planning.optimiser.certificate import Certificate
from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.optimiser.general_search import GeneralProblem
from babelscale.planning.optimiser.interior_point import Solution, Solved
from babelscale.planning.optimiser.newton import Box

Array = NDArray[np.float64]
PlanProblem = LossEvaluator | GeneralProblem


@dataclass(frozen=True)
class SolvedProblem:
    """A solved problem of one row, from which its draws and its other sizes are reached. `box` None: N was given."""

    problem: PlanProblem
    box: tuple[float, float] | None
    solution: Solution

    @cached_property
    def path(self) -> Solved:
        """The same for a separable problem, with its barrier's path."""
        assert isinstance(self.problem, LossEvaluator)
        return Solved(self.problem, self.box, self.solution)


def solve(
    problem: PlanProblem,
    box: tuple[float, float] | Box | None,
    *,
    n: Array | None = None,
    start: Solution | None = None,
    seed: int = 0,
) -> Solution | None:
    """The best shares and N for every row; None where no start lies inside the laws' domain."""
    if isinstance(problem, GeneralProblem):
        return searched.solve(problem, box, n=n, start=start, seed=seed)
    return separable.solve(problem, box, n=n, start=start, seed=seed)


def solve_near(
    problem: PlanProblem,
    box: tuple[float, float] | Box | None,
    known: SolvedProblem,
    *,
    n: Array | None = None,
    start: Solution | None = None,
) -> Solution | None:
    """Rows near a solved one; `n` is log N of each row where it is given (`box` None), or where to start."""
    if isinstance(problem, GeneralProblem):
        return searched.solve(problem, box, n=n, start=start or known.solution)
    return separable.solve_near(problem, box, known.path, n=n, start=start)


def losses_at(problem: PlanProblem, shares: Array, n: Array) -> Array:
    """Losses of every row at one allocation, or of one row at several; `shares` (1, K) or (R, K), `n` alike."""
    if isinstance(problem, GeneralProblem):
        R = max(problem.draws, len(n))
        many = problem if problem.draws == R else problem.at(np.zeros(R, np.intp))
        return many.losses(np.broadcast_to(shares, (R, shares.shape[1])), np.broadcast_to(n, R))
    return separable.losses_at(problem, shares, n)


def improved(problem: PlanProblem, found: Solution, box: tuple[float, float] | None) -> tuple[Solution, Certificate]:
    """A solution and what is certified of it; a better one where the certificate comes across it."""
    if isinstance(problem, GeneralProblem):
        return found, searched.certificate(problem, found, box)
    return certified.improved(problem, found, box)
