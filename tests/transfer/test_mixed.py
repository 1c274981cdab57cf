"""The mixed model against a Gaussian process written out, its slopes against differences, bounds against sampling."""

import math
from dataclasses import replace

import numpy as np
import pytest

from babelscale.transfer import mixed

VARIANCES = {"a": 0.7, "b": 0.2, "residual": 0.05, "rough": 0.1, "shared": 0.3, "mean": 4.0}


def problem(seed: int = 0, n: int = 30, bounded: int = 0) -> mixed.MixedProblem:
    rng = np.random.default_rng(seed)
    X = np.hstack([rng.normal(size=(n, 5)), np.ones((n, 1))])
    group = np.array([0, 0, 1, 1, 1, 2])
    R = rng.normal(size=(12, 4))
    shared = ((np.arange(7), R[:7] @ R[:7].T), (np.arange(10, 15), R[7:] @ R[7:].T))
    y = X @ rng.normal(size=6) + 0.3 * rng.normal(size=n)
    low, high = np.full(n, -np.inf), np.full(n, np.inf)
    for row in range(bounded):
        high[n - 1 - row] = y[n - 1 - row] - 0.2
        y[n - 1 - row] = np.nan
    noise = rng.uniform(0.01, 0.1, n)
    rough = rng.uniform(0, 2, n)
    return mixed.MixedProblem(X, group, ("a", "b", "mean"), y, noise, low, high, shared, {"mean": 4.0}, rough)


def covariance(p: mixed.MixedProblem) -> np.ndarray:
    """Of the observations, written out."""
    each = np.array([VARIANCES[p.names[g]] for g in p.group])
    K = (p.X * each) @ p.X.T + np.diag(p.noise + VARIANCES["residual"] + VARIANCES["rough"] * p.rough)
    for rows, block in p.shared:
        K[np.ix_(rows, rows)] += VARIANCES["shared"] * block
    return K


def test_evidence_and_effects_are_those_of_the_gaussian_process():
    p = problem()
    found, K = mixed.condition(p, VARIANCES), covariance(p)
    sign, logdet = np.linalg.slogdet(K)
    assert sign == 1
    expected = -0.5 * (p.y @ np.linalg.solve(K, p.y) + logdet + len(p.y) * math.log(2 * math.pi))
    assert found.evidence == pytest.approx(expected, rel=1e-10)
    each = np.array([VARIANCES[p.names[g]] for g in p.group])
    np.testing.assert_allclose(found.mean, each * (p.X.T @ np.linalg.solve(K, p.y)), rtol=1e-8, atol=1e-10)
    new = np.random.default_rng(1).normal(size=(3, 6))
    prior = (new * each) @ new.T
    cross = (new * each) @ p.X.T
    mean, variance = found.predict(new)
    np.testing.assert_allclose(mean, cross @ np.linalg.solve(K, p.y), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(variance, np.diag(prior - cross @ np.linalg.solve(K, cross.T)), rtol=1e-8)


def test_leaving_out_is_the_posterior_without_those_rows():
    p = problem()
    K = covariance(p)
    # Folds within one shared block, across two, and outside of both.
    folds = [np.array([0, 3]), np.array([2, 12, 20]), np.array([25])]
    for rows, (mean, variance) in zip(folds, mixed.condition(p, VARIANCES).leave_out(folds), strict=True):
        rest = np.setdiff1d(np.arange(len(p.y)), rows)
        solved = np.linalg.solve(K[np.ix_(rest, rest)], np.column_stack([p.y[rest], K[np.ix_(rest, rows)]]))
        np.testing.assert_allclose(mean, K[np.ix_(rows, rest)] @ solved[:, 0], rtol=1e-7, atol=1e-9)
        left = K[np.ix_(rows, rows)] - K[np.ix_(rows, rest)] @ solved[:, 1:]
        np.testing.assert_allclose(variance, np.diag(left), rtol=1e-7)


def test_slopes_agree_with_differences():
    p = problem()
    free = p.free
    assert free == ["a", "b", "shared", "rough", "residual"]
    _, slopes = mixed._slopes(p, VARIANCES)
    for name, slope in zip(free, slopes, strict=True):
        ends = [mixed._slopes(p, VARIANCES | {name: VARIANCES[name] * math.exp(h)})[0] for h in (-1e-4, 1e-4)]
        assert slope == pytest.approx((ends[1] - ends[0]) / 2e-4, rel=1e-5, abs=1e-6)


def test_planted_variances_are_found():
    rng = np.random.default_rng(3)
    n, groups = 600, 60
    X = np.hstack([np.eye(groups)[rng.integers(groups, size=n)], np.eye(groups)[rng.integers(groups, size=n)]])
    b = np.concatenate([rng.normal(0, 1.0, groups), rng.normal(0, 0.3, groups)])
    y = X @ b + rng.normal(0, 0.2, n)
    nothing = np.full(n, np.inf)
    p = mixed.MixedProblem(X, np.repeat([0, 1], groups), ("wide", "narrow"), y, np.zeros(n), -nothing, nothing)
    found = mixed.fit(p).variances
    assert math.sqrt(found["wide"]) == pytest.approx(1.0, rel=0.25)
    assert math.sqrt(found["narrow"]) == pytest.approx(0.3, rel=0.25)
    assert math.sqrt(found["residual"]) == pytest.approx(0.2, rel=0.1)


def test_bounds_give_what_sampling_gives():
    p = problem(bounded=3)
    stood = mixed._propagate(p, p, VARIANCES)
    found = mixed.condition(stood, VARIANCES)
    # Rejection: draw the bounded observations given the others, keep draws inside every bound.
    K = covariance(p)
    known, bounded = np.flatnonzero(~np.isnan(p.y)), np.flatnonzero(np.isnan(p.y))
    cross = np.linalg.solve(K[np.ix_(known, known)], np.column_stack([p.y[known], K[np.ix_(known, bounded)]]))
    mean = K[np.ix_(bounded, known)] @ cross[:, 0]
    cover = K[np.ix_(bounded, bounded)] - K[np.ix_(bounded, known)] @ cross[:, 1:]
    draws = np.random.default_rng(5).multivariate_normal(mean, cover, size=400_000)
    kept = draws[(draws <= p.high[bounded]).all(1)]
    assert len(kept) > 2000
    each = np.array([VARIANCES[p.names[g]] for g in p.group])
    y = p.y.copy()
    effects = []
    for draw in kept[:4000]:
        y[bounded] = draw
        effects.append(each * (p.X.T @ np.linalg.solve(K, y)))
    np.testing.assert_allclose(found.mean, np.mean(effects, axis=0), atol=0.02)


def test_a_bound_that_says_nothing_changes_nothing():
    p = problem(bounded=3)
    high = np.where(np.isnan(p.y), 50.0, np.inf)
    loose = mixed.condition(mixed._propagate(replace(p, high=high), p, VARIANCES), VARIANCES)
    without = mixed.condition(mixed._rows(p, np.flatnonzero(~np.isnan(p.y))), VARIANCES)
    np.testing.assert_allclose(loose.mean, without.mean, atol=1e-3)
