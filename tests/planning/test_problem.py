"""The planner's derivatives and saturation against finite differences and the laws' own code."""

from dataclasses import replace

import numpy as np
import pytest
from planning_cases import BOX, random_problem

from babelscale.laws import effective_tokens
from babelscale.planning.optimiser.evaluate import LossEvaluator, saturated
from babelscale.planning.optimiser.interior_point import Solved, solve, solve_near
from babelscale.planning.optimiser.risk import RiskMeasure

KINDS = [
    {"price": True, "cap": True},
    {"pool": True},
    {"low": -0.1},
    {"alone": True, "K": 3, "T": 3},
    {"alone": True, "pool": True},
]


def shares_and_sizes(P: LossEvaluator, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(len(P.languages)), P.draws), np.log(10 ** rng.uniform(8, 10, P.draws))


def whole_hessian(P: LossEvaluator, p: np.ndarray, n: np.ndarray, mu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s, K = P.slopes(p, n, mu), p.shape[1]
    H = np.zeros((len(n), K + 1, K + 1))
    if s.dense is not None:
        H[:, :K, :K] = s.dense / p[:, :, None] / p[:, None, :]
    H[:, range(K), range(K)] += s.diagonal
    H[:, :K, K] = H[:, K, :K] = s.border
    H[:, K, K] = s.corner
    return np.concatenate([s.by_p, s.by_n[:, None]], axis=1), H


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tail", [None, 2.0, 0.7])
def test_derivatives(kind: dict, tail: float | None):
    P = random_problem(1, **kind)
    if tail is not None:
        P = replace(P, risk=RiskMeasure(np.arange(len(P.target_index)), tail), weights=np.ones_like(P.weights))
    mu = np.full(P.draws, 0.05)
    p, n = shares_and_sizes(P, 1)
    gradient, hessian = whole_hessian(P, p, n, mu)
    K = p.shape[1]
    for k in range(K + 1):
        step = np.zeros(K + 1)
        step[k] = 1e-6
        (pa, na), (pb, nb) = ((p + sign * step[:K], n + sign * step[K]) for sign in (1, -1))
        slope = (P.objective(pa, na, mu) - P.objective(pb, nb, mu)) / 2e-6
        np.testing.assert_allclose(slope, gradient[:, k], rtol=1e-6, atol=1e-8 * np.abs(gradient).max())
        bend = (whole_hessian(P, pa, na, mu)[0] - whole_hessian(P, pb, nb, mu)[0]) / 2e-6
        np.testing.assert_allclose(bend, hessian[:, k], rtol=1e-5, atol=1e-6 * np.abs(hessian).max())


def test_saturation_is_the_laws():
    D, U, lam = np.array([[1e8, 5e9, 3e10]]), np.array([1e9, 1e9, np.inf]), np.array([[0.065]])
    np.testing.assert_allclose(saturated(D, U, lam)[0], effective_tokens(D, U, 0.065), rtol=1e-14)
    for value in (0.0, 1e-9, 0.065):
        np.testing.assert_allclose(saturated(D, U, np.array([[value]]))[0], effective_tokens(D, U, value), rtol=1e-14)


def test_alone_is_the_dense_problem_without_help():
    alone = random_problem(3, K=4, T=4, alone=True)
    dense = replace(alone, transfer_weight=np.repeat(np.eye(4)[None], 3, 0), transfer_mask=None)
    p, n = shares_and_sizes(alone, 3)
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
    quick, slow = solve_near(many, BOX, Solved(P, BOX, point)), solve(many, BOX)
    assert quick is not None
    assert slow is not None
    # Shares to a thousandth, the objective to a hundred-thousandth: what the intervals of a plan need.
    assert np.abs(quick.shares - slow.shares).max() < 2e-3
    assert np.abs(quick.objective / slow.objective - 1).max() < 1e-5
