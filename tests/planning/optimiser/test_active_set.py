"""Rows near a solved problem: Newton's method on the trained languages, and the rows that it leaves to the path."""

from dataclasses import replace

import numpy as np
import pytest
from planning_cases import BOX, random_problem, scattered

from babelscale.planning.optimiser.active_set import applies, follow
from babelscale.planning.optimiser.constraints import ConstraintSet
from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.optimiser.interior_point import Solution, solve
from babelscale.planning.optimiser.newton import Box
from babelscale.planning.optimiser.risk import RiskMeasure
from babelscale.planning.optimiser.solver import SolvedProblem, solve_near


def solved(P: LossEvaluator) -> Solution:
    found = solve(P, BOX)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [{"K": 10, "T": 10}, {"K": 8, "T": 4, "pool": True}, {"K": 9, "T": 6, "alone": True}])
def test_draws_end_where_a_whole_search_ends(kind: dict, seed: int):
    P = random_problem(seed, R=1, **kind)
    many = scattered(P, 30, 0.05, seed)
    quick, slow = solve_near(many, BOX, SolvedProblem(P, solved(P), BOX)), solved(many)
    assert quick is not None
    assert np.abs(quick.shares - slow.shares).max() < 1e-3
    assert np.abs(quick.objective / slow.objective - 1).max() < 5e-6


def test_most_draws_take_newton_steps_alone_and_the_same_bytes_come_again():
    P = random_problem(7, K=10, T=10, R=1)
    many, point = scattered(P, 40, 0.03, 7), solved(P)
    at = np.repeat(point.shares, 40, 0), np.repeat(point.n, 40)
    box = Box(np.full(40, np.log(BOX[0])), np.full(40, np.log(BOX[1])))
    first, again = follow(many, *at, box, 1e-4), follow(many, *at, box, 1e-4)
    assert first.solved.mean() > 0.9
    assert all(one.tobytes() == two.tobytes() for one, two in zip(first, again, strict=True))


def test_rows_that_newton_hands_back_follow_the_path(monkeypatch):
    P = random_problem(5, K=8, T=4, R=1, pool=True)
    many, point = scattered(P, 20, 0.05, 5), solved(P)
    monkeypatch.setattr("babelscale.planning.optimiser.active_set._STEPS", 0)
    quick, slow = solve_near(many, BOX, SolvedProblem(P, point, BOX)), solved(many)
    assert quick is not None
    assert np.abs(quick.shares - slow.shares).max() < 2e-3
    assert np.abs(quick.objective / slow.objective - 1).max() < 1e-5


def test_draws_far_from_the_fit_are_not_taken_for_solved():
    P = random_problem(2, K=6, T=6, R=1)
    many = replace(random_problem(11, K=6, T=6, R=25), unique=P.unique)
    quick, slow = solve_near(many, BOX, SolvedProblem(P, solved(P), BOX)), solved(many)
    assert quick is not None
    assert np.quantile(np.abs(quick.objective / slow.objective - 1), 0.9) < 1e-5


def test_what_newton_cannot_judge_is_left_to_the_path():
    assert applies(random_problem(0))
    assert applies(random_problem(0, alone=True))
    assert not applies(random_problem(0, low=-0.2))
    assert not applies(random_problem(0, price=True))
    assert not applies(replace(random_problem(0), risk=RiskMeasure(np.arange(2), 2.0)))
    four, free = np.zeros(4), np.ones(4)
    assert not applies(random_problem(0, limits=ConstraintSet(four, np.full(4, 1e12), four, free)))


def test_a_language_comes_back_from_nothing_and_another_leaves():
    P = random_problem(9, K=4, T=2, R=1)
    dear, cheap = P.transfer_weight.copy(), P.transfer_weight.copy()
    dear[..., 2], cheap[..., 2] = 0.0, 5.0
    without, with_it = replace(P, transfer_weight=dear), replace(P, transfer_weight=cheap)
    for start, end in ((without, with_it), (with_it, without)):
        found, best = solve_near(end, BOX, SolvedProblem(start, solved(start), BOX)), solved(end)
        assert found is not None
        assert found.objective[0] <= best.objective[0] * (1 + 1e-6)
        np.testing.assert_allclose(found.shares, best.shares, atol=1e-3)
