"""The tokenizer loses no byte, counts bytes by a table, and trains to the same bytes."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelscale.corpora import Tokenizer, open_corpus, train_tokenizer
from babelscale.corpora.phrasebook import LANGUAGES, Phrasebook
from babelscale.corpora.tokenizer import _quotas
from babelscale.errors import InputError


def check_round_trip(tokenizer: Tokenizer, lines: list[str]) -> None:
    text = "".join(line + "\n" for line in lines)
    ids = tokenizer.encode_lines(lines)
    assert ids.dtype == tokenizer.dtype
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes[ids].sum() == len(text.encode())
    assert (ids == tokenizer.end_of_line).sum() == len(lines)


@pytest.mark.parametrize("code", LANGUAGES)
def test_loses_nothing_in_any_language(tokenizer, code):
    """Most of these languages the tokenizer has never seen: byte fallback spells them."""
    check_round_trip(tokenizer, [line for line, _ in Phrasebook([code], bytes_per_language=20_000).split(code)])


@settings(max_examples=200)
@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=40), max_size=5))
def test_loses_nothing_of_any_text(tokenizer, lines):
    check_round_trip(tokenizer, lines)


@pytest.mark.parametrize(
    "line",
    [
        "",
        " ",
        "   two  spaces ",
        "\t\ttabs",
        "▁",
        "a▁ ▁b▁",
        "▅",
        "\x00",
        "\r",
        "\u2028\u2029\x85",
        "\ufeffmark",
        "<s></s><unk><0x0A>",
        "e\u0301 é ﬁ ①",
        "👩\u200d👩\u200d👧",
        "\U0010ffff",
        "क्ष\u200cत्र",
    ],
)
def test_awkward_lines(tokenizer, line):
    check_round_trip(tokenizer, ["before", line, "after"])


def test_no_line_and_a_newline(tokenizer):
    assert len(tokenizer.encode_lines([])) == 0
    with pytest.raises(InputError, match="line 1 contains a newline"):
        tokenizer.encode_lines(["a", "b\nc"])


def test_a_cut_character_is_marked(tokenizer):
    ids = tokenizer.encode_lines(["\U0001f9ff"])
    assert tokenizer.decode(ids[:-2]).endswith("\ufffd")


def test_vocabulary_is_exact_and_small_ids_fit(tokenizer):
    assert tokenizer.vocabulary_size == 1500 == len(tokenizer.token_bytes)
    assert tokenizer.dtype == np.dtype("<u2")
    assert tokenizer.token_bytes[tokenizer.end_of_line] == 1
    assert (tokenizer.token_bytes == 0).sum() == 1


def test_training_is_deterministic_and_blind_to_the_order_of_languages(book, tokenizer, tmp_path):
    again = train_tokenizer(book, reversed(book.languages), 1500, tmp_path / "again")
    assert again.hash == tokenizer.hash
    assert again.model == tokenizer.model
    assert Tokenizer.load(tmp_path / "again").hash == tokenizer.hash


def test_every_language_compresses(book, tokenizer):
    for code in book.languages:
        ids = tokenizer.encode_lines(book.held_out(code))
        assert tokenizer.token_bytes[ids].mean() > 1.5, code


def test_too_many_tokens_names_the_largest_and_that_can_be_had(tmp_path):
    small = Phrasebook(["en"], bytes_per_language=20_000)
    with pytest.raises(InputError, match="supports at most") as caught:
        train_tokenizer(small, ["en"], 60_000, tmp_path / "t")
    assert list(tmp_path.iterdir()) == []
    largest = int(re.findall(r"at most (\d+)", str(caught.value))[0])
    assert 500 < largest < 60_000
    assert train_tokenizer(small, ["en"], largest, tmp_path / "t").vocabulary_size == largest


@pytest.mark.parametrize("vocabulary", [-1, 0, 258])
def test_too_few_tokens(book, tmp_path, vocabulary):
    with pytest.raises(InputError, match="reserved"):
        train_tokenizer(book, ["en"], vocabulary, tmp_path / "t")


def test_faults(book, tmp_path):
    with pytest.raises(InputError, match="no 'sw'"):
        train_tokenizer(book, ["en", "sw"], 400, tmp_path / "t")
    with pytest.raises(InputError, match="has no complete line"):
        train_tokenizer(book, ["en"], 400, tmp_path / "t", sample_bytes=5)
    with pytest.raises(InputError, match="no such file"):
        Tokenizer.load(tmp_path / "t")
    train_tokenizer(book, ["en"], 400, tmp_path / "t")
    with pytest.raises(InputError, match="exists already"):
        train_tokenizer(book, ["en"], 400, tmp_path / "t")
    record = tmp_path / "t" / "tokenizer.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"hash": "0"}))
    with pytest.raises(InputError, match="not the tokenizer that"):
        Tokenizer.load(tmp_path / "t")
    (tmp_path / "t" / "tokenizer.model").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not the tokenizer that"):
        Tokenizer.load(tmp_path / "t")
    for model in (b"nonsense", b""):
        with pytest.raises(InputError, match="SentencePiece"):
            Tokenizer(model)


def test_words_one_by_one_are_encoded_as_whole_lines_are(book, tokenizer):
    """What makes it quick changes no token: no token crosses the front of a word."""
    import sentencepiece

    whole = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    lines = [*(line for code in book.languages for line, _ in book.split(code)), "  a  b ", "", "   ", "\tx\u3000y z"]
    expected = [token for ids in whole.encode(lines, add_eos=True) for token in ids]
    np.testing.assert_array_equal(tokenizer.encode_lines(lines), expected)


def test_few_known_words_are_enough(tokenizer, monkeypatch):
    lines = [f"word {n} of many {n * n}" for n in range(500)]
    expected = tokenizer.encode_lines(lines)
    monkeypatch.setattr("babelscale.corpora.tokenizer._MOST_KNOWN", 10)
    np.testing.assert_array_equal(np.concatenate([tokenizer.encode_lines([line]) for line in lines]), expected)


def test_character_coverage(tmp_path):
    """As many kinds of characters get a token as the coverage asks for, whatever room that leaves."""
    text = Phrasebook(["zh", "en"], bytes_per_language=200_000)
    kinds = {}
    for coverage in (None, 0.9, 0.999995):
        made = train_tokenizer(text, ["zh", "en"], 4000, tmp_path / str(coverage), character_coverage=coverage)
        pieces = [made._processor.id_to_piece(token) for token in range(258, 4000)]
        kinds[coverage] = sum(len(piece) == 1 for piece in pieces)
        record = json.loads((tmp_path / str(coverage) / "tokenizer.json").read_text())
        assert record["character_coverage"] == coverage
    assert kinds[0.9] < kinds[None] < kinds[0.999995]
    with pytest.raises(InputError, match=r"coverage of 0.999995 takes [\d,]+ tokens of the 142"):
        train_tokenizer(text, ["zh"], 400, tmp_path / "t", character_coverage=0.999995)
    for coverage in (0, 1.5, -1):
        with pytest.raises(InputError, match="must be above 0"):
            train_tokenizer(text, ["zh"], 400, tmp_path / "t", character_coverage=coverage)


def test_it_prints_nothing(book, tmp_path, capfd):
    train_tokenizer(book, ["en"], 400, tmp_path / "t")
    with pytest.raises(InputError):
        train_tokenizer(book, ["en"], 400_000, tmp_path / "u")
    assert capfd.readouterr() == ("", "")


def test_progress_counts_up_to_its_total(book, tmp_path):
    seen = []
    train_tokenizer(book, ["en", "sv"], 400, tmp_path / "t", progress=lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == [0, 1, 2, 3]
    assert {total for _, _, total in seen} == {3}


@given(
    st.dictionaries(st.sampled_from(LANGUAGES), st.integers(1, 10**9), min_size=1),
    st.integers(1, 10**9),
    st.floats(1, 1000),
)
def test_quotas_spend_the_sample_and_ask_nobody_for_more_than_it_has(sizes, total, temperature):
    quotas = _quotas(sizes, total, temperature)
    assert quotas.keys() == sizes.keys()
    assert all(0 <= quotas[code] <= sizes[code] for code in sizes)
    spent = min(total, sum(sizes.values()))
    assert spent - len(sizes) - 1e-6 * spent <= sum(quotas.values()) <= spent + 1


def test_temperature_one_follows_size():
    assert _quotas({"en": 900, "sw": 100}, 100, 1.0) == {"en": 90, "sw": 10}


def test_sampling_a_folder_takes_lines_from_all_over_it(tmp_path):
    lines = [f"line {n} of a long file about {n * 7919 % 1000}" for n in range(20_000)]
    (tmp_path / "en.txt").write_text("\n".join(lines))
    corpus = open_corpus(tmp_path)
    taken = list(corpus.sample("en", corpus.size("en") // 10))
    numbers = [int(line.split()[1]) for line in taken]
    assert 1500 < len(taken) < 2500
    assert min(numbers) < 500
    assert max(numbers) > 19_500
    assert not set(taken) & set(corpus.held_out("en"))


def test_a_sample_is_the_same_with_and_without_a_limit(tmp_path):
    """A limit that cuts nothing takes the other way through the text."""
    lines = [f"line {n} of a long file about {n * 7919 % 1000}" for n in range(3000)]
    (tmp_path / "en.txt").write_text("\n".join([*lines, *lines[::3]]))
    free, bound = open_corpus(tmp_path), open_corpus(tmp_path, bytes_per_language=10**9)
    size = free.size("en") // 4
    taken = list(free.sample("en", size, seed=3))
    assert taken == list(bound.sample("en", size, seed=3))
    assert len(taken) == len(set(taken)) > 500
