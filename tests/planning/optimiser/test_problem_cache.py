"""Stacked laws are kept by what they are, and a kept one answers as a new one does."""

import numpy as np
import pytest

from babelscale.fitting import Fit
from babelscale.laws import AdaptiveTransfer
from babelscale.planning import plan
from babelscale.planning.fitted_laws import FittedLaws
from babelscale.planning.optimiser import problem_cache
from babelscale.planning.optimiser.setting import Setting


def made(seed: int) -> list[Fit]:
    rng = np.random.default_rng(seed)
    fits = []
    for code, other in (("sw", "yo"), ("yo", "sw")):
        law = AdaptiveTransfer(code, (other,), other=False)
        p = {"E": 0.6, "A": 400.0, "B": 900.0, "alpha": 0.4, "beta": 0.4, "lambda": 0.06, f"tau_{other}": 0.2}
        row = np.array([p[name] for name in law.parameter_names])
        draws = row * np.exp(0.02 * rng.standard_normal((40, len(row))))
        fits.append(Fit(law, p, draws=draws, target=code, metric="bits_per_byte", residual_sd=0.003))
    return fits


@pytest.fixture(autouse=True)
def nothing_kept():
    problem_cache._cache.clear()
    yield
    problem_cache._cache.clear()


def test_a_kept_stack_gives_the_same_plan_at_any_budget() -> None:
    fits = made(0)
    first = [plan(fits, compute=C, draws=40).to_dict() for C in (1e18, 1e20)]
    assert problem_cache._cache
    assert [plan(fits, compute=C, draws=40).to_dict() for C in (1e18, 1e20)] == first
    problem_cache._cache.clear()
    assert plan(fits, compute=1e20, draws=40).to_dict() == first[1]


def test_other_laws_weights_and_unique_tokens_are_other_stacks() -> None:
    fits = made(0)
    base = plan(fits, compute=1e19, draws=40)
    for changed in (
        plan(made(1), compute=1e19, draws=40),
        plan(fits, compute=1e19, draws=40, weights={"sw": 3, "yo": 1}),
        plan(fits, compute=1e19, draws=40, unique_tokens={"sw": 1e6}),
        plan(fits, compute=1e19, draws=40, max_epochs=2, unique_tokens={"sw": 1e8, "yo": 1e8}),
        plan(fits, compute=1e19, draws=40, inference_tokens=1e10),
        plan(fits, compute=1e19, draws=40, seed=1),
    ):
        assert changed.to_dict() != base.to_dict()


def test_what_is_kept_is_bounded_and_cannot_be_written() -> None:
    for seed in range(12):
        plan(made(seed), compute=1e19, draws=10, baselines=False)
    assert len(problem_cache._cache) <= problem_cache._MOST_PROBLEMS
    setting = Setting(("sw", "yo"), {"sw": 0.5, "yo": 0.5}, {}, 1e19)
    one = problem_cache.at_draws(FittedLaws.of(made(0)), setting, 10, 0)
    assert one is not None
    with pytest.raises(ValueError, match="read-only"):
        one.A[0, 0] = 1.0


def test_large_stacks_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem_cache, "_LARGEST", 8)
    plan(made(0), compute=1e19, draws=10, baselines=False)
    assert not problem_cache._cache
