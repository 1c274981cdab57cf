"""Worst languages, regrets, plans for many draws, and what simpler mixtures lose."""

import math

import numpy as np
import pytest
from planning_cases import transfer_fit

from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.planning import plan

UNIQUE = {"sw": 5e8, "en": 1e12}
FITS = [
    transfer_fit("sw", {"en": 0.2}, spread=0.05, draws=30),
    transfer_fit("en", {"sw": 0.1}, B=2000.0, spread=0.05, draws=30),
]


def over_draws(p) -> np.ndarray:
    """The mean loss of a plan under every draw, by the laws' own code, in the planner's order."""
    one = Allocation(np.full(30, p.params), {code: np.full(30, D) for code, D in p.tokens.items()}, UNIQUE)
    losses = []
    for fit in FITS:
        order = np.random.default_rng([0, *(fit.target or "").encode()]).permutation(30)
        losses.append(fit.law.evaluate(dict(zip(fit.law.parameter_names, fit.draws.T, strict=True)), one)[order])
    return np.mean(losses, axis=0)


def test_the_worst_language_is_evened_out():
    mean, worst = (plan(FITS, compute=1e20, unique_tokens=UNIQUE, objective=o, draws=0) for o in ("mean", "worst"))
    highest = [max(loss.loss for loss in p.losses.values()) for p in (mean, worst)]
    assert highest[1] < highest[0]
    assert worst.objective == pytest.approx(highest[1], rel=1e-6)
    assert worst.certificate is not None
    assert worst.certificate.gap < 1e-6


def test_a_robust_plan_is_the_best_for_what_it_is_robust_to():
    plain, mean, cvar = (
        plan(FITS, compute=1e20, unique_tokens=UNIQUE, robust=r, draws=30, tail=0.2) for r in (None, "mean", "cvar")
    )
    under = [over_draws(p) for p in (plain, mean, cvar)]
    tails = [np.sort(values)[-6:].mean() for values in under]
    assert under[1].mean() == pytest.approx(mean.objective, rel=1e-9)
    assert tails[2] == pytest.approx(cvar.objective, rel=1e-6)
    assert under[1].mean() <= min(u.mean() for u in under) * (1 + 1e-9)
    assert tails[2] <= min(tails) * (1 + 1e-7)
    assert tails[2] < tails[0]
    for p in (mean, cvar):
        assert p.certificate is not None
        assert p.certificate.gap < 1e-6
        assert p.params_interval is None
    with pytest.raises(InputError, match="cvar"):
        plan(FITS, compute=1e20, robust="cvar", objective="worst")
    with pytest.raises(InputError, match="tail is 2"):
        plan(FITS, compute=1e20, robust="cvar", tail=2)
    with pytest.raises(InputError, match="needs draws"):
        plan(FITS, compute=1e20, robust="mean", draws=0)


def test_simpler_mixtures_lose_and_the_interval_is_of_the_difference():
    best = plan(FITS, compute=1e20, unique_tokens=UNIQUE, draws=30)
    assert {b.name for b in best.baselines} == {"uniform", "proportional", "temperature", "unimax", "monolingual"}
    for b in best.baselines:
        at, low, high = b.loss
        assert low <= at <= high
        assert at == pytest.approx(b.objective - best.objective, abs=1e-9)
        if b.name != "monolingual":
            assert at > 0
            a = Allocation(b.params, dict(b.tokens), UNIQUE)
            assert b.objective == pytest.approx(np.mean([float(f.law.loss(f.parameters, a)) for f in FITS]), rel=1e-9)
            # Paired: the difference is known far better than either loss.
            assert high - low < 0.5 * (np.quantile(over_draws(best), 0.95) - np.quantile(over_draws(best), 0.05))
            assert 6 * b.params * sum(b.tokens.values()) == pytest.approx(1e20)
    uniform = next(b for b in best.baselines if b.name == "uniform")
    assert uniform.tokens["sw"] == pytest.approx(uniform.tokens["en"])
    shares = {b.name: b.tokens["sw"] / sum(b.tokens.values()) for b in best.baselines}
    assert shares["proportional"] == pytest.approx(5e8 / (1e12 + 5e8))
    assert shares["proportional"] < shares["temperature"] < 0.5
    alone = next(b for b in best.baselines if b.name == "monolingual")
    each = [
        plan(
            f,
            compute=5e19,
            unique_tokens={"sw": 5e8} if f.target == "sw" else {"en": 1e12},
            draws=0,
            languages=[f.target or ""],
        ).objective
        for f in FITS
    ]
    assert alone.objective == pytest.approx(np.mean(each), rel=1e-8)


def test_baselines_are_left_out_where_unique_tokens_are_unknown_or_there_is_one_language():
    named = {b.name for b in plan(FITS, compute=1e20, draws=0).baselines}
    assert named == {"uniform", "monolingual"}
    alone = transfer_fit("sw", {})
    assert plan(alone, compute=1e20, languages=["sw"], draws=0).baselines == ()


def test_intervals_of_shares_and_unknown_ones():
    best = plan(FITS, compute=1e20, unique_tokens=UNIQUE, draws=30, baselines=False)
    for code, (low, high) in best.shares_interval.items():
        assert 0 <= low < best.shares[code] < high <= 1
    silent = plan(FITS, compute=1e20, unique_tokens=UNIQUE, draws=0)
    assert silent.shares_interval == {}
    assert all(math.isnan(b.loss[1]) for b in silent.baselines)


def test_a_worst_regret_is_certified():
    codes = ("en", "sw", "yo")
    several = [
        transfer_fit(code, {other: tau for other in codes if other != code}, lam=lam, A=A)
        for code, tau, lam, A in zip(codes, (0.05, 0.3, 0.2), (0.1, 0.07, 0.2), (500.0, 900.0, 1500.0), strict=True)
    ]
    unique = {"en": 1e12, "sw": 8e8, "yo": 2e8}
    made = plan(several, compute=1e21, unique_tokens=unique, objective="regret", draws=0, baselines=False)
    assert made.certificate.gap <= 1e-6
