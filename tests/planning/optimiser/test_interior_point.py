"""The interior-point method: its gradient and curvature in tokens, its optima, and rows from a solved problem."""

from dataclasses import replace

import numpy as np
import pytest
from planning_cases import BOX, random_problem, scattered

from babelscale.planning.optimiser import interior_point
from babelscale.planning.optimiser.constraints import ConstraintSet
from babelscale.planning.optimiser.interior_point import advance, barriered, newton_system, solve
from babelscale.planning.optimiser.newton import Box
from babelscale.planning.optimiser.solver import SolvedProblem, losses_at, solve_near


def test_alone_is_the_dense_problem_without_help():
    alone = random_problem(3, K=4, T=4, alone=True)
    dense = replace(alone, transfer_weight=np.repeat(np.eye(4)[None], 3, 0), pairs=None)
    rng = np.random.default_rng(3)
    p, n = rng.dirichlet(np.ones(4), 3), np.log(10 ** rng.uniform(8, 10, 3))
    np.testing.assert_allclose(alone.losses(p, n), dense.losses(p, n), rtol=1e-14)
    one, two = solve(alone, BOX), solve(dense, BOX)
    assert one is not None
    assert two is not None
    np.testing.assert_allclose(one.objective, two.objective, rtol=1e-11)
    np.testing.assert_allclose(one.shares, two.shares, atol=1e-6)


@pytest.mark.parametrize(("seed", "low"), [(0, 0.0), (1, 0.0), (2, -0.3), (3, -0.3)])
def test_no_nearby_allocation_is_better(seed: int, low: float):
    P = random_problem(seed, low=low)
    found = solve(P, (1e6, 1e13))
    assert found is not None
    rng = np.random.default_rng(seed)
    for scale in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(100):
            shares = found.shares * np.exp(scale * rng.standard_normal(found.shares.shape))
            shares = shares + scale * 1e-3 * rng.random(shares.shape)
            shares /= shares.sum(1, keepdims=True)
            n = found.n + scale * rng.standard_normal(len(found.n))
            assert (P.objective(shares, n) >= found.objective * (1 - 1e-9)).all()


def test_draws_that_follow_from_the_fit_end_where_a_whole_search_ends():
    P = random_problem(5, K=8, T=4, R=1, pool=True)
    many = P.at(np.zeros(30, np.intp))
    rng = np.random.default_rng(5)
    many = replace(many, B=many.B * np.exp(0.05 * rng.standard_normal(many.B.shape)))
    point = solve(P, BOX)
    assert point is not None
    quick, slow = solve_near(many, BOX, SolvedProblem(P, point, BOX)), solve(many, BOX)
    assert quick is not None
    assert slow is not None
    # Shares to a thousandth, the objective to a hundred-thousandth: what the intervals of a plan need.
    assert np.abs(quick.shares - slow.shares).max() < 2e-3
    assert np.abs(quick.objective / slow.objective - 1).max() < 1e-5


@pytest.mark.parametrize("by_share", [False, True])
def test_the_barrier_in_tokens_is_the_one_its_gradient_belongs_to(by_share: bool):
    """Along D (1 + t delta) the barriered value falls as fast, and bends as much, as `newton_system` says."""
    free, none = np.ones(4), np.zeros(4)
    shares = (np.full(4, 0.02), np.full(4, 0.9)) if by_share else (none, free)
    tokens = (none, np.full(4, np.inf)) if by_share else (np.full(4, 1e6), np.full(4, np.inf))
    P = random_problem(4, R=1, limits=ConstraintSet(*tokens, *shares))
    box, mu = Box(np.array([np.log(BOX[0])]), np.array([np.log(BOX[1])])), np.array([0.1])
    p, n, delta = np.array([[0.1, 0.2, 0.3, 0.4]]), np.array([21.0]), np.array([[0.3, -0.2, 0.1, 0.5]])

    def value(t: float) -> float:
        return float(barriered(P, *advance(P, p, n, delta, np.array([t])), mu, box)[0])

    system = newton_system(P, p, n, np.ones_like(p), mu, box)
    # In the shares and n the step is y = delta - sum p delta and dn = -r sum p delta.
    X, a = P.budget(n)
    grown = (p * delta).sum(1)
    y, dn = delta - grown[:, None], -X / a * grown
    slope = (value(1e-6) - value(-1e-6)) / 2e-6
    assert slope == pytest.approx(float((system.g * y).sum() + (system.g_n * dn).sum()), rel=1e-6)
    # With z = mu / p the curvature is that of the barrier itself.
    H, border, corner = newton_system(P, p, n, mu[:, None] / p, mu, box)[:3]
    H = np.einsum("rk,kl->rkl", H, np.eye(4)) if H.ndim == 2 else H
    curve = (value(1e-3) - 2 * value(0) + value(-1e-3)) / 1e-6
    wanted = y[0] @ H[0] @ y[0] + 2 * (border[0] @ y[0]) * dn[0] + corner[0] * dn[0] ** 2
    assert curve == pytest.approx(float(wanted), rel=1e-4)


def test_draws_are_worked_off_in_pieces_that_change_nothing(monkeypatch):
    P = random_problem(6, K=8, T=8, R=1)
    many, point = scattered(P, 24, 0.03, 6), solve(P, BOX)
    assert point is not None
    whole = solve_near(many, BOX, SolvedProblem(P, point, BOX))
    monkeypatch.setattr(interior_point, "_CACHED", 64 * 5)
    pieces = solve_near(many, BOX, SolvedProblem(P, point, BOX))
    assert whole is not None
    assert pieces is not None
    np.testing.assert_allclose(pieces.shares, whole.shares, atol=1e-9)


@pytest.mark.parametrize("kind", [{}, {"pool": True}, {"alone": True}, {"price": True}])
def test_losses_of_many_rows_at_one_place_and_of_one_row_at_many(kind: dict):
    P, rng = random_problem(8, R=5, **kind), np.random.default_rng(0)
    p, n = rng.dirichlet(np.ones(4), 5), np.log(10 ** rng.uniform(8, 10, 5))
    wanted = P.losses(np.repeat(p[:1], 5, 0), np.repeat(n[:1], 5))
    np.testing.assert_allclose(losses_at(P, p[:1], n[:1]), wanted, rtol=1e-11)
    one = P.at(np.zeros(1, np.intp))
    np.testing.assert_allclose(losses_at(one, p, n), P.at(np.zeros(5, np.intp)).losses(p, n), rtol=1e-11)
