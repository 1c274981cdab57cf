"""Solver: the one door to the optimiser.

Laws of separable form go to the certified interior-point method, all others to the general search.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.optimiser import certificate, general_search, interior_point
from babelscale.planning.optimiser.certificate import Certificate
from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.optimiser.general_search import GeneralProblem
from babelscale.planning.optimiser.interior_point import Solution
from babelscale.planning.optimiser.newton import Box

Array = NDArray[np.float64]
PlanProblem = LossEvaluator | GeneralProblem


@dataclass(frozen=True)
class SolvedProblem:
    """A problem, with its compute, and its solution.

    From one row its draws and its other sizes are reached, and `box` is then the interval of N that was searched, None
    where N was fixed.
    """

    problem: PlanProblem
    solution: Solution
    box: tuple[float, float] | None = None

    @cached_property
    def centre(self) -> Solution:
        """The point of the barrier's path from which distant rows are followed; separable laws only."""
        assert isinstance(self.problem, LossEvaluator)
        return interior_point.path_centre(self.problem, self.box, self.solution)


def solve(
    problem: PlanProblem,
    box: tuple[float, float] | Box | None,
    *,
    n: Array | None = None,
    start: Solution | None = None,
    seed: int = 0,
) -> Solution | None:
    """The best shares and N for every row; None where no start lies inside the laws' domain.

    Args:
        box: the interval of N searched, or None where `n` gives log N of each row.
        start: a solution nearby, of one row or as many as the problem has; then only from there.
    """
    if isinstance(problem, GeneralProblem):
        return general_search.solve(problem, box, n=n, start=start, seed=seed)
    return interior_point.solve(problem, box, n=n, start=start, seed=seed)


def solve_near(
    problem: PlanProblem,
    box: tuple[float, float] | Box | None,
    known: SolvedProblem,
    *,
    n: Array | None = None,
    start: Solution | None = None,
) -> Solution | None:
    """Rows near a solved one; `n` is log N of each row where it is given (`box` None), or where to start."""
    start = start or known.solution
    if isinstance(problem, GeneralProblem):
        return general_search.solve(problem, box, n=n, start=start)
    return interior_point.solve_near(problem, box, start, lambda: known.centre, n=n)


def losses_at(problem: PlanProblem, shares: Array, n: Array) -> Array:
    """Losses of every row at one allocation, or of one row at several; `shares` (1, K) or (R, K), `n` alike."""
    if isinstance(problem, GeneralProblem):
        R = max(problem.draws, len(n))
        many = problem if problem.draws == R else problem.at(np.zeros(R, np.intp))
        return many.losses(np.broadcast_to(shares, (R, shares.shape[1])), np.broadcast_to(n, R))
    if problem.draws == 1:
        return problem.losses(shares, n)

    def losses(rows: slice) -> Array:
        return problem.at(rows).losses(*((shares, n) if len(n) == 1 else (shares[rows], n[rows])))

    return np.concatenate(interior_point.in_pieces(problem, losses))


def improved(problem: PlanProblem, found: Solution, box: tuple[float, float] | None) -> tuple[Solution, Certificate]:
    """A solution and what is certified of it; a better one where the certificate comes across it."""
    if isinstance(problem, GeneralProblem):
        return found, general_search.certificate(problem, found, box)
    return certificate.improved(problem, found, box)
