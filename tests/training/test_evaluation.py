"""Held-out losses as totals, of the validation text and of the parallel set."""

import numpy as np
import pytest

from babelscale.errors import InputError
from babelscale.training.evaluation import HeldOut

BYTES = np.arange(64, dtype=np.uint16) % 5
UNIGRAM = np.linspace(1, 8, 64)


def made(tokens: int, most: int | None = 100, **options) -> HeldOut:
    stream = (np.arange(tokens) * 7 % 64).astype(np.uint16)
    return HeldOut.of("sw", stream, BYTES, UNIGRAM, 16, most, **options)


def test_totals_are_over_the_predicted_tokens():
    part = made(1000)
    assert (part.tokens, part.split) == (96, "validation")
    predicted = np.arange(1, 97) * 7 % 64
    assert part.bytes == BYTES[predicted].sum()
    assert part.unigram_nats == pytest.approx(UNIGRAM[predicted].sum())


def test_a_parallel_set_is_taken_as_a_whole():
    part = made(1000, split="parallel")
    assert (part.tokens, part.split) == (62 * 16, "parallel")
    assert made(1000, None).tokens == 62 * 16


def test_totals_do_not_depend_on_how_sequences_are_batched():
    part = made(1000, split="parallel")

    def nats(sequences):
        return sequences[:, 1:].sum(axis=1).astype(float)

    assert part.measure(nats, 7) == part.measure(nats, 64)
    assert part.measure(nats, 7)["nats"] == part.sequences[:, 1:].sum()


def test_too_few_tokens_name_the_language_and_the_split():
    with pytest.raises(InputError, match="'sw' has 16 held-out tokens, fewer than one sequence of 16"):
        made(16)
    with pytest.raises(InputError, match="'sw' has 9 tokens in the parallel set"):
        made(9, split="parallel")
    with pytest.raises(InputError, match="'sw' has 10 held-out tokens to be measured on"):
        made(1000, 10)


def test_a_token_outside_the_vocabulary_names_the_language():
    stream = np.full(100, 64, np.uint16)
    with pytest.raises(InputError, match="'sw' has token 64 in its validation text, the vocabulary ends at 63"):
        HeldOut.of("sw", stream, BYTES, UNIGRAM, 16, 100)
