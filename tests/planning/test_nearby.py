"""Rows near a solved problem: slopes by pairs, Newton's method on the trained languages, and what it hands back."""

from dataclasses import replace

import numpy as np
import pytest
from planning_cases import BOX, random_problem, transfer_fit

import babelscale as bs
from babelscale.planning.optimiser import interior_point as solving
from babelscale.planning.optimiser import streams
from babelscale.planning.optimiser.active_set import near, suits
from babelscale.planning.optimiser.constraints import ConstraintSet
from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.optimiser.interior_point import Solution, Solved, losses_at, solve, solve_near
from babelscale.planning.optimiser.newton import Box, barriered
from babelscale.planning.optimiser.risk import RiskMeasure
from babelscale.planning.optimiser.streams import PairEvaluator
from babelscale.planning.optimiser.token_space_newton import advance


def scattered(P: LossEvaluator, rows: int, noise: float, seed: int) -> LossEvaluator:
    """SeparableForm around a problem of one row."""
    rng, many = np.random.default_rng(seed), P.at(np.zeros(rows, np.intp))
    drawn = {name: getattr(many, name) for name in ("A", "B", "transfer_weight", "group_weight", "lam")}
    return replace(many, **{name: v * np.exp(noise * rng.standard_normal(v.shape)) for name, v in drawn.items()})


def solved(P: LossEvaluator) -> Solution:
    found = solve(P, BOX)
    assert found is not None
    return found


@pytest.mark.parametrize("lam", [None, 1e-5, 0.0])
@pytest.mark.parametrize(
    "kind", [{}, {"pool": True, "cap": True}, {"alone": True, "K": 5, "T": 3}, {"alone": True, "pool": True}]
)
@pytest.mark.parametrize("sparse", [0.0, 1.0])
def test_slopes_by_pairs_are_the_problems(kind: dict, lam: float | None, sparse: float, monkeypatch):
    monkeypatch.setattr(streams, "_SPARSE", sparse)
    P, rng = random_problem(3, **kind), np.random.default_rng(1)
    if lam is not None:
        P = replace(P, lam=np.full_like(P.lam, lam))
    p, n = rng.dirichlet(np.ones(len(P.languages)), P.draws), np.log(10 ** rng.uniform(8, 10, P.draws))
    part, s = PairEvaluator.of(P), P.slopes(p, n, np.ones(P.draws))
    at = part.point(p, n)
    H, border, corner = part.hessian(at, p, n)
    np.testing.assert_allclose(part.losses(p, n), P.losses(p, n), rtol=1e-11)
    np.testing.assert_allclose(at.value, P.objective(p, n), rtol=1e-11)
    np.testing.assert_allclose(at.by_p, s.by_p, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(at.by_n, s.by_n, rtol=1e-9)
    wanted = s.diagonal if s.dense is None else s.dense / p[:, :, None] / p[:, None, :]
    np.testing.assert_allclose(H, wanted, rtol=1e-8, atol=1e-10 * np.abs(wanted).max())
    np.testing.assert_allclose(border, s.border, rtol=1e-8, atol=1e-10 * np.abs(s.border).max())
    np.testing.assert_allclose(corner, s.corner, rtol=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [{"K": 10, "T": 10}, {"K": 8, "T": 4, "pool": True}, {"K": 9, "T": 6, "alone": True}])
def test_draws_end_where_a_whole_search_ends(kind: dict, seed: int):
    P = random_problem(seed, R=1, **kind)
    many = scattered(P, 30, 0.05, seed)
    quick, slow = solve_near(many, BOX, Solved(P, BOX, solved(P))), solved(many)
    assert quick is not None
    assert np.abs(quick.shares - slow.shares).max() < 1e-3
    assert np.abs(quick.objective / slow.objective - 1).max() < 5e-6


def test_most_draws_take_newton_steps_alone_and_the_same_bytes_come_again():
    P = random_problem(7, K=10, T=10, R=1)
    many, point = scattered(P, 40, 0.03, 7), solved(P)
    at = np.repeat(point.shares, 40, 0), np.repeat(point.n, 40)
    box = Box(np.full(40, np.log(BOX[0])), np.full(40, np.log(BOX[1])))
    first, again = near(many, *at, box, 1e-4), near(many, *at, box, 1e-4)
    assert first.solved.mean() > 0.9
    assert all(one.tobytes() == two.tobytes() for one, two in zip(first, again, strict=True))


def test_rows_that_newton_hands_back_follow_the_path(monkeypatch):
    P = random_problem(5, K=8, T=4, R=1, pool=True)
    many, point = scattered(P, 20, 0.05, 5), solved(P)
    monkeypatch.setattr("babelscale.planning.optimiser.active_set._STEPS", 0)
    quick, slow = solve_near(many, BOX, Solved(P, BOX, point)), solved(many)
    assert quick is not None
    assert np.abs(quick.shares - slow.shares).max() < 2e-3
    assert np.abs(quick.objective / slow.objective - 1).max() < 1e-5


def test_draws_far_from_the_fit_are_not_taken_for_solved():
    P = random_problem(2, K=6, T=6, R=1)
    many = replace(random_problem(11, K=6, T=6, R=25), unique=P.unique)
    quick, slow = solve_near(many, BOX, Solved(P, BOX, solved(P))), solved(many)
    assert quick is not None
    assert np.quantile(np.abs(quick.objective / slow.objective - 1), 0.9) < 1e-5


def test_what_newton_cannot_judge_is_left_to_the_path():
    assert suits(random_problem(0))
    assert suits(random_problem(0, alone=True))
    assert not suits(random_problem(0, low=-0.2))
    assert not suits(random_problem(0, price=True))
    assert not suits(replace(random_problem(0), risk=RiskMeasure(np.arange(2), 2.0)))
    four, free = np.zeros(4), np.ones(4)
    assert not suits(random_problem(0, limits=ConstraintSet(four, np.full(4, 1e12), four, free)))


def test_a_language_comes_back_from_nothing_and_another_leaves():
    P = random_problem(9, K=4, T=2, R=1)
    dear, cheap = P.transfer_weight.copy(), P.transfer_weight.copy()
    dear[..., 2], cheap[..., 2] = 0.0, 5.0
    without, with_it = replace(P, transfer_weight=dear), replace(P, transfer_weight=cheap)
    for start, end in ((without, with_it), (with_it, without)):
        found, best = solve_near(end, BOX, Solved(start, BOX, solved(start))), solved(end)
        assert found is not None
        assert found.objective[0] <= best.objective[0] * (1 + 1e-6)
        np.testing.assert_allclose(found.shares, best.shares, atol=1e-3)


@pytest.mark.parametrize("by_share", [False, True])
def test_the_barrier_in_tokens_is_the_one_its_gradient_belongs_to(by_share: bool):
    """Along D (1 + t delta) the barriered value falls as fast as `tokens_step` reckons from its gradient."""
    free, none = np.ones(4), np.zeros(4)
    shares = (np.full(4, 0.02), np.full(4, 0.9)) if by_share else (none, free)
    tokens = (none, np.full(4, np.inf)) if by_share else (np.full(4, 1e6), np.full(4, np.inf))
    P = random_problem(4, R=1, limits=ConstraintSet(*tokens, *shares))
    box, mu = Box(np.array([np.log(BOX[0])]), np.array([np.log(BOX[1])])), np.array([0.1])
    p, n, delta = np.array([[0.1, 0.2, 0.3, 0.4]]), np.array([21.0]), np.array([[0.3, -0.2, 0.1, 0.5]])

    def value(t: float) -> float:
        return float(barriered(P, *advance(P, p, n, delta, np.array([t])), mu, box)[0])

    s, (X, a) = P.slopes(p, n, mu), P.budget(n)
    g_n = s.by_n + mu * (1 / (box.high - n) - 1 / (n - box.low))
    q = s.by_p * p
    g = q - (q.sum(1) + X / a * g_n)[:, None] * p - mu
    for k, slack, sign, _, _, share in P.constraints.slacks(p, X):
        pull = mu / slack * sign
        g[:, k] -= pull * p[:, k]
        if share is not None:
            g += (pull * share).sum(1)[:, None] * p
    slope = (value(1e-6) - value(-1e-6)) / 2e-6
    assert slope == pytest.approx(float((g * delta).sum()), rel=1e-6)


@pytest.mark.parametrize("kappa", [2.0, 0.5, 0.05])
@pytest.mark.parametrize("mu", [1e-2, 1e-6, 1e-10])
def test_weights_of_the_tail_sum_to_one(kappa: float, mu: float):
    outer, f = RiskMeasure(np.arange(40), kappa), np.random.default_rng(0).uniform(0.5, 3, (30, 40))
    z = outer._z(f, np.full(30, mu))
    q, _ = outer._q(f - z[:, None], np.full((30, 1), mu))
    np.testing.assert_allclose(q.sum(1), 1, rtol=1e-5)


def test_a_worst_regret_is_certified():
    codes = ("en", "sw", "yo")
    several = [
        transfer_fit(code, {other: tau for other in codes if other != code}, lam=lam, A=A)
        for code, tau, lam, A in zip(codes, (0.05, 0.3, 0.2), (0.1, 0.07, 0.2), (500.0, 900.0, 1500.0), strict=True)
    ]
    unique = {"en": 1e12, "sw": 8e8, "yo": 2e8}
    made = bs.plan(several, compute=1e21, unique_tokens=unique, objective="regret", draws=0, baselines=False)
    assert made.certificate.gap <= 1e-6


def test_draws_are_worked_off_in_pieces_that_change_nothing(monkeypatch):
    P = random_problem(6, K=8, T=8, R=1)
    many, point = scattered(P, 24, 0.03, 6), solved(P)
    whole = solve_near(many, BOX, Solved(P, BOX, point))
    monkeypatch.setattr(solving, "_CACHED", 64 * 5)
    pieces = solve_near(many, BOX, Solved(P, BOX, point))
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
