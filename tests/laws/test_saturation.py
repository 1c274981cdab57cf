"""S_lambda: equal to D within one epoch, slope 1 on both sides of it, U (1 + 1/lambda) in the limit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelscale.laws.saturation import decay, effective_tokens

amounts = st.floats(1.0, 1e15)
rates = st.floats(1e-6, 1e3)


@given(amounts, rates)
def test_fresh_tokens_count_in_full(U: float, lam: float) -> None:
    assert effective_tokens(0.5 * U, U, lam) == 0.5 * U
    assert effective_tokens(U, U, lam) == U


@given(amounts, rates)
def test_slope_is_one_at_one_epoch(U: float, lam: float) -> None:
    step = 1e-6 / max(lam, 1)
    gained = (effective_tokens(U * (1 + step), U, lam) - U) / (U * step)
    assert gained == pytest.approx(1, abs=1e-5)


@given(amounts, st.floats(1e-3, 1e3))
def test_limit_of_many_epochs(U: float, lam: float) -> None:
    assert effective_tokens(U * (1 + 800 / lam), U, lam) == pytest.approx(U * (1 + 1 / lam), rel=1e-12)


@given(amounts, st.floats(1.0, 100.0), rates, rates)
def test_repeats_are_worth_less_the_larger_lambda(U: float, epochs: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    slow, fast = effective_tokens(U * epochs, U, [low, high])
    assert fast <= slow * (1 + 1e-12)
    assert fast * (1 + 1e-12) >= U
    assert slow <= U * epochs * (1 + 1e-12)


@given(amounts, st.floats(1.0, 1e3))
def test_lambda_to_zero_is_no_loss(U: float, epochs: float) -> None:
    assert effective_tokens(U * epochs, U, 0.0) == pytest.approx(U * epochs, rel=1e-14)
    assert effective_tokens(U * epochs, U, 1e-12) == pytest.approx(U * epochs, rel=1e-8)


def test_unknown_unique_tokens_never_saturate() -> None:
    assert effective_tokens(1e15, np.inf, 1.0) == 1e15


def test_series_and_closed_form_meet() -> None:
    below, above = decay(np.array([0.3 - 1e-12])), decay(np.array([0.3 + 1e-12]))
    for a, b in zip(below, above, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11)
    for value, limit in zip(decay(np.zeros(1)), (1, -1 / 2, 1 / 3), strict=True):
        assert value[0] == pytest.approx(limit, rel=1e-15)
