"""Scenarios: the draws of a fit as one problem, for plans that answer to many possible laws; and worst languages.

mean    minimise over (N, D) the mean of the objective over draws
cvar    minimise its mean over the worst `tail` of draws
worst   minimise the largest L_t, or the largest regret L_t - L_t*, L_t* the least loss of t for the same budget
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.planning.optimiser.risk import RiskMeasure
from babelscale.planning.optimiser.solver import PlanProblem
from babelscale.planning.request import Objective, Robust

Array = NDArray[np.float64]


def worst(problem: PlanProblem) -> PlanProblem:
    """The same problem with the largest loss (less its offset) of any target as its objective."""
    targets = np.arange(problem.weights.shape[1])
    return replace(problem, weights=np.ones_like(problem.weights), risk=RiskMeasure(targets, 2.0))


def scenarios(drawn: PlanProblem, robust: Robust, tail: float, objective: Objective) -> PlanProblem:
    """All draws of a problem as the targets of one row.

    Raises:
        InputError: a tail outside (0, 1], or CVaR of a worst language.
    """
    S, T = drawn.weights.shape
    if robust == "cvar" and objective != "mean":
        raise InputError(f"robust='cvar' with objective={objective!r}", hint="take robust='mean', or objective='mean'")
    if not 0 < tail <= 1:
        raise InputError(f"tail is {tail}", hint="a share of the draws, such as 0.1 for the worst tenth")
    weights, outer = drawn.weights.reshape(1, S * T), RiskMeasure()
    if robust == "cvar":
        outer = RiskMeasure(np.repeat(np.arange(S), T), 1 / (tail * S))
    elif objective == "mean":
        weights = weights / S
    else:
        weights, outer = np.full((1, S * T), 1 / S), RiskMeasure(np.tile(np.arange(T), S), 2.0)
    return replace(drawn, **drawn.as_scenarios(), weights=weights, risk=outer)
