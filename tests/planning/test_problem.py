"""The planner's derivatives and saturation against finite differences and the laws' own code."""

import numpy as np
import pytest

from babelscale.laws import effective_tokens
from babelscale.planning.problem import Problem, saturated
from babelscale.planning.solve import solve


def problem(seed: int, K: int = 4, T: int = 2, R: int = 3, *, low: float = 0.0, price: bool = True) -> Problem:
    rng = np.random.default_rng(seed)
    worth = rng.uniform(low, 0.5, (R, T, K))
    worth[:, np.arange(T), np.arange(T)] = 1
    groups = np.eye(K)
    groups[-1, :] = 1
    return Problem(
        languages=tuple(f"x-{k}" for k in range(K)),
        weights=np.full(T, 1 / T),
        E=rng.uniform(0, 1, (R, T)),
        A=np.exp(rng.uniform(5, 9, (R, T))),
        alpha=rng.uniform(0.3, 0.6, (R, T)),
        B=np.exp(rng.uniform(6, 12, (R, T))),
        beta=rng.uniform(0.3, 0.6, (R, T)),
        gamma=rng.uniform(0, 0.2, (R, T)) if price else np.zeros((R, T)),
        worth=worth,
        lam=rng.uniform(0.05, 0.3, (R, T)),
        size_cap=np.full((R, T), 1e9),
        size_lam=rng.uniform(0.1, 0.3, (R, T)),
        groups=groups,
        unique=10 ** rng.uniform(8, 12, K),
        own=np.arange(T),
        compute=1e21,
    )


@pytest.mark.parametrize("seed", range(4))
def test_derivatives(seed: int):
    P = problem(seed)
    rng = np.random.default_rng(seed)
    z = np.concatenate([rng.dirichlet(np.ones(4), 3), np.log(10 ** rng.uniform(8, 10, (3, 1)))], axis=1)
    gradient, hessian = P.derivatives(z[:, :4], z[:, 4])
    for k in range(5):
        step = np.zeros(5)
        step[k] = 1e-6
        ahead, behind = z + step, z - step
        slope = (P.objective(ahead[:, :4], ahead[:, 4]) - P.objective(behind[:, :4], behind[:, 4])) / 2e-6
        np.testing.assert_allclose(slope, gradient[:, k], rtol=1e-6, atol=1e-8 * np.abs(gradient).max())
        bend = (P.derivatives(ahead[:, :4], ahead[:, 4])[0] - P.derivatives(behind[:, :4], behind[:, 4])[0]) / 2e-6
        np.testing.assert_allclose(bend, hessian[:, k], rtol=1e-5, atol=1e-6 * np.abs(hessian).max())


def test_saturation_is_the_laws():
    D, U, lam = np.array([[1e8, 5e9, 3e10]]), np.array([1e9, 1e9, np.inf]), np.array([[0.065]])
    np.testing.assert_allclose(saturated(D, U, lam)[0][:, 0], effective_tokens(D, U, 0.065), rtol=1e-14)
    several = saturated(D, U, np.array([[0.0, 1e-9, 0.065]]))[0][0]
    for value, found in zip((0.0, 1e-9, 0.065), several, strict=True):
        np.testing.assert_allclose(found, effective_tokens(D, U, value)[0], rtol=1e-14)


@pytest.mark.parametrize(("seed", "low"), [(0, 0.0), (1, 0.0), (2, -0.3), (3, -0.3)])
def test_no_nearby_allocation_is_better(seed: int, low: float):
    P = problem(seed, low=low, price=False)
    found = solve(P, (1e6, 1e13))
    assert found is not None
    rng = np.random.default_rng(seed)
    for scale in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(100):
            shares = found.shares * np.exp(scale * rng.standard_normal(found.shares.shape))
            shares = shares + scale * 1e-3 * rng.random(shares.shape)
            shares /= shares.sum(1, keepdims=True)
            n = np.log(found.params) + scale * rng.standard_normal(len(found.params))
            assert (P.objective(shares, n) >= found.objective * (1 - 1e-9)).all()
