"""The order of training tokens: exact shares, and any step without replay."""

import hashlib
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelscale.errors import InputError
from babelscale.mixture import Mixture
from babelscale.training.batches import Batches, Stage, mixed, permuted, prefetched

WEIGHTS = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12)


def made(mixture: Mixture, seed: int = 0, batch_size: int = 4, length: int = 8, tokens: int = 170) -> Batches:
    streams = {code: np.arange(tokens, dtype=np.uint16) + 1000 * k for k, code in enumerate(mixture.languages)}
    return Batches(streams, mixture, seed, batch_size, length)


@settings(max_examples=60)
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


def test_the_bytes_of_a_run_of_one_stage_never_change():
    mixture = Mixture.of({"sw": 3, "yo": 2, "ha": 1.7, "om": 0.3})
    tokens = {c: (np.arange(170 + 40 * k) + 1000 * k).astype(np.uint16) for k, c in enumerate(mixture.languages)}
    batches = Batches(tokens, mixture, 5, 7, 8)
    digest = hashlib.sha256(b"".join(batches.at(step).astype("<i4").tobytes() for step in range(400)))
    assert digest.hexdigest() == "d4b13535536a9dd195e827bba31ecda5c41d38ad7b230234263ce52fb14c590e"


def staged(first: dict, second: dict, start: int, batch_size: int = 4, tokens: int = 170) -> Batches:
    codes = sorted({*first, *second})
    streams = {code: np.arange(tokens, dtype=np.uint16) + 1000 * k for k, code in enumerate(codes)}
    return Batches(streams, Mixture.of(first), 0, batch_size, 8, Stage(start, Mixture.of(second)))


@settings(max_examples=60)
@given(WEIGHTS, WEIGHTS, st.integers(0, 6), st.integers(1, 9), st.integers(1, 30), st.integers(0, 30))
def test_each_stage_holds_its_shares_and_counts_are_what_the_batches_held(one, two, moved, batch_size, start, more):
    first = {f"x-{k:02d}": weight for k, weight in enumerate(one)}
    second = {f"x-{k + moved:02d}": weight for k, weight in enumerate(two)}
    batches = staged(first, second, start, batch_size)
    held = dict.fromkeys(batches.languages, 0)
    for step in range(start + more):
        if step == start:
            before = dict(held)
        for row in batches.at(step):
            held[batches.languages[row[0] // 1000]] += 1
        assert batches.counts(step + 1) == held
    if not more:
        before = dict(held)
    for mixture, steps, found in (
        (batches.mixture, start, before),
        (Mixture.of(second), more, {code: held[code] - before[code] for code in held}),
    ):
        assert sum(found.values()) == steps * batch_size
        for code in held:
            share = mixture.shares.get(code, 0.0)
            assert abs(found[code] - share * steps * batch_size) <= 1 + share * len(mixture.shares) / 2


def test_stage_two_goes_on_in_each_languages_order_and_leaves_stage_one_as_it_is():
    batches = staged({"sw": 3, "yo": 1}, {"sw": 1, "ha": 2}, 11, batch_size=3)
    plain = Batches({c: batches.tokens[c] for c in ("sw", "yo")}, batches.mixture, 0, 3, 8)
    for step in range(11):
        np.testing.assert_array_equal(batches.at(step), plain.at(step))
    rows = np.concatenate([batches.at(step) for step in range(60)])
    for k, code in enumerate(batches.languages):
        alone = Batches({code: batches.tokens[code]}, Mixture({code: 1.0}), 0, 1, 8)
        own = rows[rows[:, 0] // 1000 == k]
        np.testing.assert_array_equal(own, [alone.at(step)[0] for step in range(len(own))])
    # Swahili has gone through its 21 sequences more than once.
    assert batches.counts(60)["sw"] > 2 * batches.sequences("sw")
    assert batches.counts(60)["yo"] == batches.counts(11)["yo"]
    assert batches.counts(11)["ha"] == 0


def test_any_step_of_two_stages_is_reached_without_replay():
    expected = [
        batch
        for batches in [staged({"sw": 3, "yo": 1}, {"ha": 1, "yo": 4}, 301)]
        for batch in map(batches.at, range(600))
    ]
    for step in (599, 302, 301, 300, 299, 0):
        np.testing.assert_array_equal(staged({"sw": 3, "yo": 1}, {"ha": 1, "yo": 4}, 301).at(step), expected[step])


def test_a_second_stage_that_starts_at_once_is_refused():
    with pytest.raises(InputError, match="stage two starts after 0 steps"):
        Stage(0, Mixture({"sw": 1.0}))


def test_too_few_tokens_for_one_sequence_names_the_language():
    with pytest.raises(InputError, match="'sw' has 8 training tokens"):
        made(Mixture({"sw": 1.0}), tokens=8)


def test_a_language_without_tokens_is_named():
    with pytest.raises(InputError, match="language 'yo' of the mixture has no training tokens"):
        Batches({"sw": np.zeros(100, np.uint16)}, Mixture({"sw": 0.5, "yo": 0.5}), 0, 4, 8)


@pytest.mark.parametrize("rows", [slice(0, 3), slice(3, 11), slice(None), slice(4, 4), slice(1, None, 2)])
def test_a_host_takes_its_rows_of_a_batch(rows):
    batches = made(Mixture({"sw": 0.7, "yo": 0.2, "ha": 0.1}), batch_size=11)
    for step in range(12):
        np.testing.assert_array_equal(batches.at(step, rows), batches.at(step)[rows])


def test_tokens_mapped_from_disk_give_the_same_batches(tmp_path: Path):
    stream = np.random.default_rng(0).integers(0, 60_000, 3000).astype(np.uint16)
    stream.tofile(tmp_path / "sw.bin")
    mapped = np.memmap(tmp_path / "sw.bin", np.uint16, "r")
    one, other = (Batches({"sw": tokens}, Mixture({"sw": 1.0}), 0, 4, 32) for tokens in (stream, mapped))
    for step in range(30):
        np.testing.assert_array_equal(one.at(step), other.at(step))


@settings(max_examples=60)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_a_permutation_holds_every_place_once(size, key):
    places = permuted(np.arange(size), np.full(size, size), np.full(size, key, np.uint64))
    assert sorted(places) == list(range(size))


@pytest.mark.parametrize("size", [2, 3, 5, 6])
def test_every_order_of_few_sequences_is_about_as_likely(size):
    expected, orders = 100, math.factorial(size)
    keys = mixed(np.arange(expected * orders, dtype=np.uint64))
    places = permuted(
        np.tile(np.arange(size), len(keys)), np.full(size * len(keys), size), np.repeat(keys, size)
    ).reshape(-1, size)
    found = Counter(map(tuple, places.tolist()))
    assert len(found) == orders
    # Chi-squared with orders - 1 degrees of freedom: mean 1 for each, standard deviation sqrt(2 / (orders - 1)).
    statistic = sum((count - expected) ** 2 / expected for count in found.values()) / (orders - 1)
    assert statistic < 1 + 4 * math.sqrt(2 / (orders - 1))


def test_neighbours_do_not_stay_together():
    size, epochs = 5000, 20
    keys = np.repeat(mixed(np.arange(epochs, dtype=np.uint64)), size)
    places = permuted(np.tile(np.arange(size), epochs), np.full(size * epochs, size), keys).reshape(epochs, size)
    # In a random order one neighbour in expectation follows the other, and one place is its own.
    assert (np.diff(places, axis=1) == 1).sum() < 3 * epochs
    assert (places == np.arange(size)).sum() < 3 * epochs
    assert abs(np.corrcoef(places[0], places[1])[0, 1]) < 5 / math.sqrt(size)


def test_a_huge_language_is_shuffled_without_a_list():
    sizes = np.full(1000, 3_000_000_000_000)
    places = permuted(np.arange(1000), sizes, np.zeros(1000, np.uint64))
    assert len(set(places.tolist())) == 1000
    assert places.min() >= 0
    assert 2e12 < places.max() < 3e12


def test_batches_read_ahead_come_in_order():
    batches = made(Mixture({"sw": 0.6, "yo": 0.4}), batch_size=6)
    ahead = list(prefetched(lambda step: batches.at(step, slice(2, 5)), 3, 20))
    assert len(ahead) == 17
    for step, batch in enumerate(ahead, start=3):
        np.testing.assert_array_equal(batch, batches.at(step, slice(2, 5)))
    assert list(prefetched(batches.at, 5, 5)) == []
    # A reader that stops early leaves no thread behind that reads on.
    partly = prefetched(batches.at, 0, 10**9)
    np.testing.assert_array_equal(next(partly), batches.at(0))
    partly.close()


def test_what_goes_wrong_ahead_is_raised_at_its_batch():
    class Broken(Batches):
        def at(self, step, rows=None):
            if step == 4:
                raise OSError("the disk went away")
            return super().at(step, rows)

    streams = {"sw": np.arange(200, dtype=np.uint16)}
    ahead = prefetched(Broken(streams, Mixture({"sw": 1.0}), 0, 2, 8).at, 0, 9)
    for _ in range(4):
        next(ahead)
    with pytest.raises(OSError, match="went away"):
        next(ahead)
