import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelscale import mixture
from babelscale.errors import InputError
from babelscale.mixture import Mixture

SIZES = st.dictionaries(
    st.sampled_from(["en", "sw", "no", "nan", "yo", "zh", "fr"]), st.floats(1.0, 1e12), min_size=1, max_size=7
)


@given(SIZES, st.floats(0.2, 200.0))
def test_every_constructor_gives_shares_that_sum_to_one(sizes: dict[str, float], T: float):
    made = [
        mixture.uniform(sizes),
        mixture.proportional(sizes),
        mixture.temperature(sizes, T),
        mixture.unimax(sizes, 1e9, 4.0),
    ]
    for one in made:
        assert math.fsum(one.shares.values()) == pytest.approx(1, abs=1e-12)
        assert list(one.shares) == sorted(one.shares)


@given(SIZES)
def test_temperature_runs_from_proportional_to_uniform(sizes: dict[str, float]):
    assert mixture.temperature(sizes, 1.0).shares == pytest.approx(mixture.proportional(sizes).shares)
    assert mixture.temperature(sizes, 1e9).shares == pytest.approx(mixture.uniform(sizes).shares, abs=1e-6)


@given(SIZES, st.floats(1e3, 1e12), st.floats(0.5, 20))
def test_unimax_keeps_every_language_under_its_epochs_or_uses_all_it_can(sizes, budget, epochs):
    shares = mixture.unimax(sizes, budget, epochs).shares
    capacity = math.fsum(sizes.values()) * epochs
    for code, share in shares.items():
        # Where the caps cannot hold the budget, shares are those of the caps themselves.
        assert share * min(budget, capacity) <= sizes[code] * epochs * (1 + 1e-9)


def test_unimax_by_hand():
    # Budget 12 over sizes 1, 2, 100 with one epoch: 1 and 2 are used up, the rest goes to the third.
    shares = mixture.unimax({"sw": 1.0, "yo": 2.0, "en": 100.0}, 12.0, 1.0).shares
    assert shares == pytest.approx({"sw": 1 / 12, "yo": 2 / 12, "en": 9 / 12})


def test_unimax_pins_a_share():
    shares = mixture.unimax({"sw": 1e9, "yo": 1e9, "en": 1e12}, 1e9, 4.0, pinned={"en": 0.05}).shares
    assert shares == pytest.approx({"en": 0.05, "sw": 0.475, "yo": 0.475})


@pytest.mark.parametrize("shares", [{}, {"sw": 0.5}, {"sw": 1.5, "yo": -0.5}, {"sw": math.nan}, {"sw": 0.0, "en": 1.0}])
def test_bad_shares_are_refused(shares: dict[str, float]):
    with pytest.raises(InputError):
        Mixture(shares)


def test_bilingual_needs_two():
    with pytest.raises(InputError, match="twice"):
        mixture.bilingual("sw", "sw")
