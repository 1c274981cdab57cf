"""A small tokenizer over a phrasebook, shared by the tests of the room."""

import pytest

from babelscale.corpora import Corpus, Tokenizer, open_corpus, train_tokenizer

CODES = ("ar", "en", "hi", "no", "sv", "zh")


@pytest.fixture(scope="session")
def book() -> Corpus:
    return open_corpus("phrasebook", languages=CODES, bytes_per_language=150_000)


@pytest.fixture(scope="session")
def tokenizer(book, tmp_path_factory) -> Tokenizer:
    return train_tokenizer(book, CODES, 1500, tmp_path_factory.mktemp("tokenizer") / "tokenizer")
