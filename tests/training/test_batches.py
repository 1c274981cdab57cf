"""The order of training tokens: exact shares, and any step without replay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelscale.errors import InputError
from babelscale.mixture import Mixture
from babelscale.training.batches import Batches

WEIGHTS = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12)


def made(mixture: Mixture, seed: int = 0, batch_size: int = 4, length: int = 8, tokens: int = 170) -> Batches:
    streams = {code: np.arange(tokens, dtype=np.uint16) + 1000 * k for k, code in enumerate(mixture.languages)}
    return Batches(streams, mixture, seed, batch_size, length)


@settings(deadline=None, max_examples=60)
@given(WEIGHTS, st.integers(1, 9), st.integers(0, 40))
def test_counts_of_a_step_are_what_the_batches_before_it_held(weights, batch_size, steps):
    mixture = Mixture.of({f"x-{k}": weight for k, weight in enumerate(weights)})
    batches = made(mixture, batch_size=batch_size)
    held = dict.fromkeys(mixture.languages, 0)
    for step in range(steps):
        for row in batches.at(step):
            held[mixture.languages[row[0] // 1000]] += 1
    assert batches.counts(steps) == held
    for code, share in mixture.shares.items():
        assert abs(held[code] - share * steps * batch_size) <= 1 + share * len(weights) / 2


def test_equal_shares_of_many_languages_tie_nowhere():
    # Shares whose beats fall at equal times must be merged the same way from wherever counting starts.
    mixture = Mixture.of(dict.fromkeys((f"x-{k:02d}" for k in range(12)), 1.0))
    batches = made(mixture, batch_size=8)
    for step in range(60):
        assert sum(batches.counts(step).values()) == 8 * step
        assert max(batches.counts(step).values()) - min(batches.counts(step).values()) <= 1


def test_an_epoch_holds_every_sequence_once_and_the_next_another_order():
    batches = made(Mixture({"sw": 1.0}), batch_size=3)
    assert batches.sequences("sw") == 21
    assert batches.unique_tokens("sw") == 168
    firsts = np.concatenate([batches.at(step)[:, 0] for step in range(14)])
    one, two = firsts[:21], firsts[21:]
    assert sorted(one) == sorted(two) == list(range(0, 168, 8))
    assert list(one) != list(two)


def test_a_batch_depends_on_mixture_seed_and_step_alone():
    mixture = Mixture({"sw": 0.75, "yo": 0.25})
    forwards = made(mixture)
    expected = [forwards.at(step) for step in range(30)]
    backwards = made(mixture)
    for step in reversed(range(30)):
        np.testing.assert_array_equal(backwards.at(step), expected[step])
    assert not np.array_equal(made(mixture, seed=1).at(0), expected[0])


def test_a_language_keeps_its_order_whatever_it_is_mixed_with():
    alone = made(Mixture({"sw": 1.0}), batch_size=1)
    mixed = made(Mixture({"sw": 0.5, "yo": 0.5}), batch_size=1)
    of_sw = [mixed.at(step)[0] for step in range(20)]
    of_sw = [row for row in of_sw if row[0] < 1000]
    np.testing.assert_array_equal(of_sw, [alone.at(step)[0] for step in range(len(of_sw))])


def test_too_few_tokens_for_one_sequence_names_the_language():
    with pytest.raises(InputError, match="'sw' has 8 training tokens"):
        made(Mixture({"sw": 1.0}), tokens=8)
