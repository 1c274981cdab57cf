"""The tokenizer in Hugging Face's format against the tokenizer itself, read by a small BPE of its own."""

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from babelscale.corpora import Tokenizer, open_corpus, train_tokenizer
from babelscale.errors import InputError
from babelscale.model import Shape, huggingface, huggingface_tokenizer

CODES = ("ar", "en", "hi", "no", "sv", "zh")
AWKWARD = [
    "",
    " ",
    "  two  spaces  ",
    "</s> <unk> <0x41> <s>",
    "\u2581 the mark of a space \u2581\u2581x",
    "\u2585\x00\x01\r\t\x7f\u00a0\u2028\ufeff",
    "e\u0301 ﬁ Å ½ 𝒳 👩\u200d👩\u200d👧",
    "aaaaaaaaaaaaa ......... 0000000 ----- !!!!!!!",
    "ⴰⵎⴰⵣⵉⵖ ᚠᚢᚦ 漢字かな交じり文",
]


@pytest.fixture(scope="module")
def book():
    return open_corpus("phrasebook", languages=CODES, bytes_per_language=60_000)


@pytest.fixture(scope="module")
def trained(book, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    train_tokenizer(book, CODES, 1200, folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(trained: Path) -> Tokenizer:
    return Tokenizer.load(trained)


@pytest.fixture(scope="module")
def told(tokenizer) -> dict[str, Any]:
    return json.loads(json.dumps(huggingface_tokenizer.fast(tokenizer.model)))


def encode(told: dict[str, Any], text: str) -> list[int]:
    """What tokenizer.json means: cut at the added token, then join the pair of the lowest rank, leftmost first."""
    (added,) = told["added_tokens"]
    vocabulary, ranks = told["model"]["vocab"], {tuple(pair): i for i, pair in enumerate(told["model"]["merges"])}
    ids: list[int] = []
    for position, part in enumerate(text.split(added["content"])):
        ids += [added["id"]] if position else []
        pieces = list(part)
        while len(pieces) > 1:
            found = [(ranks.get(pair, len(ranks)), i) for i, pair in enumerate(itertools.pairwise(pieces))]
            rank, i = min(found)
            if rank == len(ranks):
                break
            pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
        for piece in pieces:
            spelt = [vocabulary[f"<0x{byte:02X}>"] for byte in piece.encode()]
            ids += [vocabulary[piece]] if piece in vocabulary else spelt
    return ids


def assert_same(tokenizer: Tokenizer, told: dict[str, Any], lines: list[str]) -> None:
    ours = tokenizer.encode_lines(lines).tolist()
    assert [*encode(told, "\n".join(lines)), tokenizer.end_of_line] == ours


def test_every_language_gets_the_same_ids(tokenizer, told, book):
    for code in CODES:
        assert_same(tokenizer, told, list(book.sample(code, 4000, seed=1)))


@pytest.mark.parametrize("line", AWKWARD)
def test_awkward_lines_get_the_same_ids(tokenizer, told, line):
    assert_same(tokenizer, told, [line])


@settings(max_examples=150)
@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20), max_size=3))
def test_any_lines_get_the_same_ids(tokenizer, told, lines):
    assert_same(tokenizer, told, [*lines, "end"])


@settings(max_examples=100)
@given(st.data())
def test_pieces_in_any_order_get_the_same_ids(tokenizer, told, data):
    pieces = st.sampled_from([piece for piece in told["model"]["vocab"] if piece[0] not in "<\n"])
    assert_same(tokenizer, told, ["".join(data.draw(st.lists(pieces, max_size=8)))])


def test_every_id_is_held_once(tokenizer, told):
    assert sorted(told["model"]["vocab"].values()) == list(range(tokenizer.vocabulary_size))


def test_an_exported_folder_holds_the_tokenizer_and_its_end_of_line(trained, tokenizer, tmp_path):
    shape = Shape(layers=1, heads=1, d_model=8, d_ff=8, d_head=8, vocabulary=1250, block="sequential")
    parameters = {name: np.ones(size, np.float32) for name, size in huggingface.sizes(shape).items()}
    folder = huggingface.export(parameters, shape, tmp_path / "model", tokenizer=trained, sequence_length=64)
    assert (folder / "tokenizer.model").read_bytes() == tokenizer.model
    for name in ("config.json", "generation_config.json"):
        assert json.loads((folder / name).read_text())["eos_token_id"] == tokenizer.end_of_line
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == "\n"
    assert settings["model_max_length"] == 64


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(trained, tmp_path):
    shape = Shape(layers=1, heads=1, d_model=8, d_ff=8, d_head=8, vocabulary=600, block="sequential")
    parameters = {name: np.ones(size, np.float32) for name, size in huggingface.sizes(shape).items()}
    with pytest.raises(InputError, match="1,200 tokens, the model has 600"):
        huggingface.export(parameters, shape, tmp_path / "model", tokenizer=trained)
    with pytest.raises(InputError, match="cannot be read"):
        huggingface.export(parameters, shape, tmp_path / "model", tokenizer=tmp_path / "none")


BPE = {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "add_dummy_prefix": False,
    "remove_extra_whitespaces": False,
    "eos_id": 0,
    "unk_id": 1,
    "bos_id": -1,
    "minloglevel": 2,
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "unigram"}, "not BPE"),
        ({"user_defined_symbols": ["<mask>"]}, "not BPE"),
        ({"byte_fallback": False}, "lacks byte fallback"),
        ({"eos_id": -1}, "lacks byte fallback or an end-of-line token"),
        ({"normalization_rule_name": "nfkc"}, "changes text"),
        ({"add_dummy_prefix": True}, "changes text"),
        ({"remove_extra_whitespaces": True}, "changes text"),
    ],
)
def test_a_tokenizer_that_cannot_be_written_exactly_is_refused(book, change, told):
    model = io.BytesIO()
    lines = iter(book.sample("en", 40_000, seed=0))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=model, vocab_size=400, **(BPE | change)
    )
    with pytest.raises(InputError, match=told):
        huggingface_tokenizer.fast(model.getvalue())


def test_what_is_no_tokenizer_is_refused():
    with pytest.raises(InputError, match="not a SentencePiece model"):
        huggingface_tokenizer.fast(b"no model")
