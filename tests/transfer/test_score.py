"""Scores from planted curves, censoring, and the refusal to mix learning-rate states."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelscale.errors import InputError
from babelscale.transfer import LearningCurve, TransferScore, combine, from_gain, from_tau, score, to_gain, to_tau
from babelscale.transfer.bts import SeedNoise

D = np.geomspace(1e6, 1e8, 12)


def curve(share: float = 1.0, tau: float = 0.0, *, noise: float = 0.0, seed: int = 0, end: float = 1e8):
    """Loss 1 + 50 D_eff^-0.3 of a mixture with `share` of the target, others worth tau."""
    tokens = D * end / 1e8
    loss = 1 + 50 * (tokens * (share + (1 - share) * tau)) ** -0.3
    rng = np.random.default_rng(seed)
    return LearningCurve("sw", tokens, loss * np.exp(noise * rng.standard_normal(len(tokens))), "stable", f"r{seed}")


@pytest.mark.parametrize("tau", [-0.1, 0.0, 0.25, 1.0])
def test_score_reads_a_planted_tau(tau: float):
    # D_eff of the 50/50 model is d (1 + tau) / 2, so it needs 2 / (1 + tau) times the tokens: BTS = 2 tau / (1 + tau).
    found = score(curve(), curve(0.5, tau))
    assert found.status == "measured"
    assert found.value == pytest.approx(from_tau(tau), abs=0.01)
    assert found.low <= found.value <= found.high
    assert found.d_mono == pytest.approx(0.4e8)


def test_a_curve_against_itself_scores_one():
    noisy = curve(noise=0.01)
    assert score(noisy, noisy).value == pytest.approx(1.0, abs=1e-9)


def test_learning_rate_states_are_never_mixed():
    # A decayed loss is lower than a stable one of the same model: mixing them would fake transfer.
    decayed = LearningCurve("sw", D, curve().loss * 0.97, "decayed", "other")
    with pytest.raises(InputError, match="stable losses of run 'r0' against decayed losses of run 'other'"):
        score(curve(), decayed)


def test_languages_are_never_mixed():
    with pytest.raises(InputError, match="must have one language"):
        score(curve(), LearningCurve("yo", D, curve().loss))


def test_never_reached_is_an_interval_open_below():
    found = score(curve(), curve(0.5, -0.9))
    assert found.status == "censored"
    assert math.isnan(found.value)
    assert found.low == -math.inf
    assert found.high == pytest.approx(2 - 1e8 / 0.4e8)
    assert math.isinf(found.d_bi)


def test_reached_before_the_first_checkpoint_is_an_interval_from_below():
    found = score(curve(), LearningCurve("sw", [3e7, 1e8], [1.01, 1.005]))
    assert found.status == "censored"
    assert (found.low, found.high) == (pytest.approx(2 - 3e7 / 0.4e8), 2.0)
    assert math.isnan(found.value)


def test_noise_widens_the_interval_and_covers_the_truth():
    truth, inside, widths = from_tau(0.2), 0, []
    for seed in range(60):
        found = score(curve(noise=0.003, seed=2 * seed), curve(0.5, 0.2, noise=0.003, seed=2 * seed + 1))
        inside += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    assert inside >= 50
    quiet = score(curve(), curve(0.5, 0.2))
    assert np.median(widths) > 3 * (quiet.high - quiet.low)


def test_few_checkpoints_leave_the_noise_unknown():
    few = LearningCurve("sw", [1e6, 1e7, 1e8], [3.0, 2.0, 1.5])
    found = score(few, few)
    assert math.isnan(found.low)
    assert "too few" in found.interval


def test_anchor_in_tokens_and_outside_the_curve():
    assert score(curve(), curve(0.5, 0.5), tokens=2e7).d_mono == 2e7
    with pytest.raises(InputError, match="outside the stable checkpoints"):
        score(curve(), curve(0.5), tokens=1e9)
    with pytest.raises(InputError, match="anchor"):
        score(curve(), curve(0.5), anchor=1.5)


@settings(max_examples=60)
@given(st.lists(st.floats(0.5, 10), min_size=2, max_size=15), st.floats(0.0, 1.0))
def test_reading_a_curve_both_ways_agrees(losses: list[float], where: float):
    c = LearningCurve("sw", np.geomspace(1e5, 1e7, len(losses)), losses)
    x, y = c.knots
    assert (np.diff(y) < 0).all()
    tokens = math.exp(x[0] + where * (x[-1] - x[0]))
    tokens = min(max(tokens, c.tokens[0]), c.tokens[-1])
    loss = c.at(tokens)
    assert y[-1] - 1e-12 <= loss <= y[0] + 1e-12
    # Flat stretches have many readings of the same loss; the loss at the reading is what must agree.
    back = c.tokens_to(loss)
    if 0 < back < math.inf:
        assert c.at(min(max(back, c.tokens[0]), c.tokens[-1])) == pytest.approx(loss, rel=1e-6)


@given(st.floats(-0.95, 50))
def test_tau_and_score_are_inverse(tau: float):
    assert to_tau(from_tau(tau)) == pytest.approx(tau, rel=1e-6, abs=1e-9)
    assert from_tau(tau) < 2


def test_tau_has_a_domain():
    with pytest.raises(InputError):
        to_tau(2.0)
    with pytest.raises(InputError):
        from_tau(-1.0)


def test_seeds_combine_and_censoring_wins():
    a, b = (TransferScore(v, v - 0.05, v + 0.05, "measured", 1.0, 1.0, "checkpoint noise") for v in (0.1, 0.3))
    both = combine([a, b])
    # Seeds are averaged in log gain: the geometric mean of d_bi / d_mono, here 1.9 and 1.7.
    assert both.value == pytest.approx(2 - math.sqrt(1.9 * 1.7))
    sd = abs(math.log(1.9 / 1.7)) / math.sqrt(2)
    assert to_gain(both.high) - to_gain(both.value) == pytest.approx(6.3138 * sd / math.sqrt(2), rel=1e-3)
    # Known from many pairs, the scatter of seeds is told far better.
    noise = SeedNoise(sd, 60)
    pooled = combine([a, b], noise)
    assert to_gain(pooled.high) - to_gain(pooled.value) == pytest.approx(1.6706 * sd / math.sqrt(2), rel=1e-3)
    assert combine([a], noise).high > a.high
    assert combine([a]) == a
    censored = combine([a, TransferScore(math.nan, -math.inf, -0.5, "censored", 1.0, math.inf, "")])
    assert censored.status == "censored"
    assert math.isnan(censored.value)
    assert (censored.low, censored.high) == (-math.inf, pytest.approx(0.15))
    alike = combine([a, a])
    # Seeds that agree leave the noise of checkpoints, over the root of two.
    for end in ("low", "high"):
        one, two = (to_gain(getattr(each, end)) - to_gain(each.value) for each in (a, alike))
        assert two == pytest.approx(one / math.sqrt(2), rel=1e-9)


def test_scatter_of_seeds_is_pooled_over_pairs():
    def at(*gains):
        return [TransferScore(float(from_gain(g)), math.nan, math.nan, "measured", 1.0, 1.0, "") for g in gains]

    censored = TransferScore(math.nan, -math.inf, -0.5, "censored", 1.0, math.inf, "")
    noise = SeedNoise.pooled([at(0.1, 0.3), at(-0.2, -0.1, 0.0), at(0.5), [*at(0.2), censored]])
    assert noise.degrees == 3
    assert noise.sd == pytest.approx(math.sqrt((0.02 + 0.02) / 3))
    assert SeedNoise.pooled([at(0.5), [censored]]) is None


def test_gain_and_score_are_inverse():
    for bts in (-3.0, -0.5, 0.0, 0.7, 1.99):
        assert float(from_gain(to_gain(bts))) == pytest.approx(bts)
        assert float(to_gain(bts)) == pytest.approx(math.log1p(to_tau(bts)))


@pytest.mark.parametrize(
    ("tokens", "loss", "said"),
    [
        ([1.0], [1.0], "two or more"),
        ([1.0, 1.0], [2.0, 1.0], "increase"),
        ([1.0, 2.0], [2.0, math.nan], "finite"),
        ([1.0, 2.0], [2.0], "shape"),
    ],
)
def test_bad_curves_are_refused(tokens, loss, said):
    with pytest.raises(InputError, match=said):
        LearningCurve("sw", tokens, loss)
