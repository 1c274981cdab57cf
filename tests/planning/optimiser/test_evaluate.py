"""Losses against the laws' own code, their derivatives against finite differences, and pairs against all weights."""

from dataclasses import replace

import numpy as np
import pytest
from planning_cases import random_problem

from babelscale.allocation import Allocation
from babelscale.laws import effective_tokens
from babelscale.laws.separable import SeparableForm
from babelscale.planning.optimiser import evaluate
from babelscale.planning.optimiser.evaluate import LossEvaluator, saturated
from babelscale.planning.optimiser.risk import RiskMeasure
from babelscale.planning.optimiser.setting import Setting

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
    at, K = P.derivatives(p, n, mu), p.shape[1]
    by_p, border, corner = P.hessian(at)
    H = np.zeros((len(n), K + 1, K + 1))
    H[:, :K, :K] = by_p[:, :, None] * np.eye(K) if P.diagonal else by_p
    H[:, :K, K] = H[:, K, :K] = border
    H[:, K, K] = corner
    return np.concatenate([at.by_p, at.by_n[:, None]], axis=1), H


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


@pytest.mark.parametrize("gamma", [0.0, 0.1])
@pytest.mark.parametrize("sparse", [0.0, 1.0])
def test_losses_are_those_of_the_laws(gamma: float, sparse: float, monkeypatch):
    monkeypatch.setattr(evaluate, "_SPARSE", sparse)
    rng, codes, R = np.random.default_rng(5), ("sw", "en", "yo", "ha"), 3
    everyone = {"sw": frozenset(["en", "yo", "ha"]), "en": frozenset(["sw", "ha"])}

    def form(target: str, helper: str) -> SeparableForm:
        def numbers(low: float, high: float) -> np.ndarray:
            return rng.uniform(low, high, R)

        worth = {
            frozenset([target]): np.ones(R),
            frozenset([helper]): numbers(-0.01, 0.3),
            everyone[target]: numbers(0, 0.1),
        }
        return SeparableForm(
            E=numbers(0, 1),
            A=numbers(100, 900),
            alpha=numbers(0.3, 0.5),
            B=numbers(900, 4000),
            beta=numbers(0.3, 0.5),
            gamma=np.full(R, gamma),
            lam=numbers(0.05, 0.2),
            size_cap=np.full(R, 1e9),
            size_lam=numbers(0.1, 0.3),
            worth=worth,
        )

    laws = {"sw": form("sw", "yo"), "en": form("en", "ha")}
    unique = {"sw": 1e8, "en": 1e11, "yo": 3e9}
    P = LossEvaluator.of(laws, Setting(codes, {"sw": 0.5, "en": 0.5}, unique, 1e21, served=1e9))
    p, n = shares_and_sizes(P, 5)
    X = P.budget(n)[0]
    assert (P.pairs is None) == (sparse == 0.0)
    for r in range(R):
        tokens = {code: np.array([p[r, k] * X[r]]) for k, code in enumerate(codes)}
        allocation = Allocation(np.exp(n[[r]]), tokens, unique)
        wanted = [law.loss(target, allocation)[r, 0] for target, law in laws.items()]
        np.testing.assert_allclose(P.losses(p, n)[r], wanted, rtol=1e-12)


@pytest.mark.parametrize("lam", [None, 1e-5, 0.0])
@pytest.mark.parametrize("kind", [{}, {"pool": True, "cap": True}, {"price": True}, {"alone": True, "K": 5, "T": 3}])
def test_pairs_give_what_all_weights_give(kind: dict, lam: float | None, monkeypatch):
    monkeypatch.setattr(evaluate, "_SPARSE", 1.0)
    P = random_problem(3, **kind)
    if lam is not None:
        P = replace(P, lam=np.full_like(P.lam, lam))
    T, K = len(P.target_index), len(P.languages)
    weight = np.zeros((P.draws, T, K))
    weight[:, np.arange(T), P.target_index] = 1.0
    full = replace(P, transfer_weight=weight, pairs=None) if P.pairs is not None else P
    few = P if P.pairs is not None else P.compact()
    assert full.pairs is None
    assert few.pairs is not None
    p, n = shares_and_sizes(P, 1)
    one, two = few.derivatives(p, n), full.derivatives(p, n)
    for name in ("value", "by_p", "by_n", "loss", "data"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-9, atol=1e-14)
    H = few.hessian(one)[0]
    H = H[:, :, None] * np.eye(K) if few.diagonal else H
    wanted = full.hessian(two)
    np.testing.assert_allclose(H, wanted[0], rtol=1e-8, atol=1e-10 * np.abs(wanted[0]).max())
    for mine, other in zip(few.hessian(one)[1:], wanted[1:], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-8, atol=1e-10 * np.abs(other).max())
