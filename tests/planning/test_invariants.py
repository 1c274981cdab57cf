"""What any planner must obey, over random laws: hypothesis looks for a case that breaks it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_cases import transfer_fit

from babelscale.fitting import Fit
from babelscale.planning import plan

QUICK = {"draws": 0, "baselines": False}
tau = st.floats(0, 0.6)
unique = st.floats(7, 12)
compute = st.floats(17, 24)


def fits(first: float, second: float, third: float) -> list[Fit]:
    return [
        transfer_fit("sw", {"en": first, "yo": third}, draws=0),
        transfer_fit("en", {"sw": second}, B=2000.0, draws=0, alpha=0.36, beta=0.36),
    ]


@settings(max_examples=20)
@given(compute, st.floats(0.05, 3), tau, tau, tau, unique, unique)
def test_more_compute_never_raises_the_objective_and_no_plan_beats_its_bound(C, step, a, b, c, u, v):
    U = {"sw": 10**u, "en": 10**v}
    less, more = (plan(fits(a, b, c), compute=10**x, unique_tokens=U, **QUICK) for x in (C, C + step))
    assert more.objective <= less.objective * (1 + 1e-9)
    for one in (less, more):
        assert one.certificate is not None
        assert one.certificate.gap < 1e-6
        assert one.certificate.bound <= one.objective * (1 + 1e-12)
    # The plan for less compute is an allocation that more compute can pay for too.
    assert more.certificate.bound <= less.objective


@settings(max_examples=15)
@given(compute, tau, unique, st.sampled_from(["mean", "worst"]))
def test_a_helper_without_worth_gets_nothing(C, a, u, objective):
    sw = transfer_fit("sw", {"en": a, "fr": 0.0}, draws=0)
    best = plan(sw, compute=10**C, unique_tokens={"sw": 10**u, "en": 1e12, "fr": 1e12}, objective=objective, **QUICK)
    assert best.shares["fr"] == 0


@settings(max_examples=15)
@given(compute, tau, tau, tau, st.floats(0.01, 100), st.floats(0.01, 100))
def test_doubling_every_weight_changes_nothing(C, a, b, c, first, second):
    once, twice = (
        plan(
            fits(a, b, c),
            compute=10**C,
            unique_tokens={"sw": 1e8},
            weights={"sw": k * first, "en": k * second},
            **QUICK,
        )
        for k in (1, 2)
    )
    assert once.to_dict() == twice.to_dict()


@settings(max_examples=15)
@given(compute, tau, tau, unique)
def test_a_language_in_two_identical_halves_changes_nothing(C, a, b, u):
    # sw of U unique tokens, or sw and x-sw of U / 2 each that are worth the same to everyone (tau = 1).
    U = 10**u
    whole = [transfer_fit("sw", {"en": a}, draws=0), transfer_fit("en", {"sw": b}, B=2000.0, draws=0)]
    halves = [
        transfer_fit("sw", {"en": a, "x-sw": 1.0}, draws=0),
        transfer_fit("en", {"sw": b, "x-sw": b}, B=2000.0, draws=0),
    ]
    one = plan(whole, compute=10**C, unique_tokens={"sw": U, "en": 1e11}, **QUICK)
    two = plan(halves, compute=10**C, unique_tokens={"sw": U / 2, "x-sw": U / 2, "en": 1e11}, **QUICK)
    assert two.objective == pytest.approx(one.objective, rel=2e-7)
    for code, loss in one.losses.items():
        assert two.losses[code].loss == pytest.approx(loss.loss, rel=1e-4)
    if one.tokens["sw"] > U:
        assert two.tokens["sw"] + two.tokens["x-sw"] == pytest.approx(one.tokens["sw"], rel=0.02)


@settings(max_examples=10)
@given(compute, tau, tau, tau)
def test_more_freedom_is_never_worse(C, a, b, c):
    free = plan(fits(a, b, c), compute=10**C, unique_tokens={"sw": 1e9}, **QUICK)
    for bound in ({"max_epochs": {"sw": 2}}, {"min_share": {"yo": 0.2}}, {"max_share": {"sw": 0.3}}, {"ladder": True}):
        bounded = plan(fits(a, b, c), compute=10**C, unique_tokens={"sw": 1e9}, **bound, **QUICK)
        assert bounded.objective >= free.objective * (1 - 1e-9)


def test_regret_is_zero_for_one_target_and_shared_out_for_two():
    alone = plan(fits(0.1, 0.1, 0.0)[0], compute=1e20, objective="regret", **QUICK)
    assert abs(alone.objective) < 1e-6
    both = plan(fits(0.0, 0.0, 0.0), compute=1e20, objective="regret", **QUICK)
    least = [plan(one, compute=1e20, **QUICK).objective for one in fits(0.0, 0.0, 0.0)]
    regrets = np.array([both.losses[c].loss - at for c, at in zip(("sw", "en"), least, strict=True)])
    assert regrets.max() == pytest.approx(both.objective, abs=1e-6)
    assert regrets.min() == pytest.approx(regrets.max(), rel=1e-3)
