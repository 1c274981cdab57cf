"""The token store holds exactly the text, checks itself, and appears whole or not at all."""

import json
import subprocess
import sys

import numpy as np
import pytest

from babelscale.corpora import TokenStore, build_store, open_corpus
from babelscale.errors import InputError


@pytest.fixture(scope="module")
def store(book, tokenizer, tmp_path_factory) -> TokenStore:
    return build_store(book, tokenizer, book.languages, tmp_path_factory.mktemp("store") / "store")


def test_it_holds_exactly_the_text_of_both_splits(book, tokenizer, store):
    for code in book.languages:
        for split in ("train", "held_out"):
            text = "".join(line + "\n" for line in getattr(book, split)(code))
            ids = getattr(store, split)(code)
            assert tokenizer.decode(ids) == text
            assert store.token_bytes[ids].sum() == len(text.encode()) == store.bytes(code, split)
            assert store.record.languages[code][split].lines == text.count("\n")


def test_arrays_are_read_only_maps_of_the_counted_length(book, store):
    assert store.languages == tuple(sorted(book.languages))
    for code in store.languages:
        assert isinstance(store.train(code), np.memmap)
        assert len(store.train(code)) == store.unique_tokens[code] == store.count(code, "train")
        assert len(store.held_out(code)) == store.count(code, "held_out")
    with pytest.raises(ValueError, match="read-only"):
        store.train("en")[0] = 1


def test_unigram_is_the_add_one_smoothed_frequency(store):
    counts = np.bincount(store.train("hi"), minlength=store.vocabulary_size)
    nats = store.unigram_nats("hi")
    assert nats.dtype == np.float64
    np.testing.assert_allclose(np.exp(-nats).sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(nats, -np.log((counts + 1) / (counts.sum() + len(counts))), rtol=1e-12)


def test_building_again_gives_the_same_hash_and_the_text_decides_it(book, tokenizer, store, tmp_path):
    again = build_store(book, tokenizer, book.languages, tmp_path / "again")
    assert again.hash == store.hash == TokenStore.open(tmp_path / "again", verify=True).hash
    other = open_corpus("phrasebook", languages=book.languages, bytes_per_language=150_000, seed=1)
    assert build_store(other, tokenizer, book.languages, tmp_path / "other").hash != store.hash
    assert (again.tokenizer_hash, again.corpus_fingerprint) == (tokenizer.hash, book.fingerprint)


def test_more_than_65536_tokens_take_four_bytes(store, tokenizer, book, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer, "dtype", np.dtype("<u4"))
    monkeypatch.setattr(tokenizer, "_known", {})
    wide = build_store(book, tokenizer, ["en"], tmp_path / "wide")
    assert wide.train("en").dtype == np.uint32
    np.testing.assert_array_equal(wide.train("en"), store.train("en"))


def test_documents_are_marked_at_their_first_token(tokenizer, tmp_path):
    texts = [f"title {n}\nsome words about {n * n}\nthe end" if n % 3 else f"short {n}" for n in range(600)]
    (tmp_path / "en.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    corpus = open_corpus(tmp_path)
    store = build_store(corpus, tokenizer, ["en"], tmp_path / "store")
    for split, wanted in (("train", False), ("held_out", True)):
        ids, starts = getattr(store, split)("en"), store.documents("en", split)
        assert starts.dtype == np.uint64
        found = [tokenizer.decode(part) for part in np.split(ids, starts[1:].astype(np.int64))]
        assert found == [document + "\n" for document, out in corpus.split("en") if out == wanted]
        assert store.record.languages["en"][split].documents == len(found) == len(starts)
        assert store.record.languages["en"][split].lines == sum(text.count("\n") for text in found)


def test_a_line_of_text_is_a_document(store):
    ends = np.flatnonzero(store.train("hi") == store.end_of_line) + 1
    np.testing.assert_array_equal(store.documents("hi", "train"), [0, *ends[:-1]])


def test_what_was_left_out_is_counted(tokenizer, tmp_path):
    lines = [f"line {n} of some" for n in range(2000)]
    (tmp_path / "en.txt").write_text("\n".join([*lines, *lines[:30], lines[0]]))
    record = build_store(open_corpus(tmp_path), tokenizer, ["en"], tmp_path / "store").record
    assert record.dropped["en"].repeated_documents == 31
    assert sum(record.languages["en"][split].documents for split in ("train", "held_out")) == 2000


def test_require(store):
    store.require(["en", "sv"], train_tokens=1000, held_out_tokens=100)
    with pytest.raises(InputError, match="no 'sw'"):
        store.require(["en", "sw"])
    with pytest.raises(InputError, match=r"'sv' has [\d,]+ train tokens, but 1,000,000,000 are needed"):
        store.require(["sv"], train_tokens=10**9)
    with pytest.raises(InputError, match=r"'sv' has .* held_out tokens"):
        store.require(["sv"], held_out_tokens=10**9)


def test_it_never_writes_over_anything(book, tokenizer, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "precious").write_text("x")
    with pytest.raises(InputError, match="exists already"):
        build_store(book, tokenizer, ["en"], tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    with pytest.raises(InputError, match="no 'sw'"):
        build_store(book, tokenizer, ["en", "sw"], tmp_path / "other")


def test_damage_is_found(book, tokenizer, tmp_path):
    folder = tmp_path / "store"
    build_store(book, tokenizer, ["en", "no"], folder)
    data = (folder / "no.train.bin").read_bytes()
    (folder / "no.train.bin").write_bytes(data[:-2])
    with pytest.raises(InputError, match=r"no.train.bin: [\d,]+ bytes, not"):
        TokenStore.open(folder)
    (folder / "no.train.bin").write_bytes(bytes([data[0] ^ 1]) + data[1:])
    TokenStore.open(folder)
    with pytest.raises(InputError, match=r"no.train.bin: its checksum"):
        TokenStore.open(folder, verify=True)
    (folder / "no.train.bin").unlink()
    with pytest.raises(InputError, match=r"no.train.bin: missing"):
        TokenStore.open(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "something else"}'])
def test_a_record_that_is_none(tmp_path, text):
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(InputError, match="not a token store"):
        TokenStore.open(tmp_path)


def test_no_store_at_all(tmp_path):
    with pytest.raises(InputError, match="not a token store"):
        TokenStore.open(tmp_path / "none")


def test_record_is_plain_json(store):
    record = json.loads((store.folder / "store.json").read_text())
    assert record["languages"]["no"]["train"]["tokens"] == store.unique_tokens["no"]
    assert record["tokenizer"] == store.tokenizer_hash
    assert len(record["files"]["no.train.bin"]["sha256"]) == 64


def test_the_room_needs_no_jax():
    script = (
        "import sys, babelscale.corpora.sentences, babelscale.corpora.phrasebook, babelscale.corpora.folder\n"
        "print([name for name in ('jax', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
