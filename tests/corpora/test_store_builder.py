"""Building a store: the same bytes from any number of workers and after any stop, and nothing half there."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from babelscale.corpora import Corpus, TokenStore, build_store, open_corpus, readers, store_builder
from babelscale.errors import BabelscaleError, InputError

CODES = ("en", "no", "sw")


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> Corpus:
    """Three languages in several files and stretches, with repeated documents across them."""
    monkeypatch.setattr(readers, "_SPAN", 20_000)
    for code in CODES:
        folder = tmp_path / "text" / code
        folder.mkdir(parents=True)
        lines = [f"{code} line {n} says {n * 7919 % 1009}" for n in range(4000)]
        (folder / "a.txt").write_text("\n".join(lines[:3000]))
        texts = ["\n".join(lines[start : start + 5]) for start in range(3000, 4000, 5)]
        (folder / "b.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in [*texts, *lines[:50]]))
    return open_corpus(tmp_path / "text")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_number_of_workers_changes_no_byte(corpus, tokenizer, tmp_path):
    stores = [build_store(corpus, tokenizer, CODES, tmp_path / str(n), workers=n) for n in (1, 2, 3)]
    assert len({store.hash for store in stores}) == 1
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "3")
    assert stores[0].record.dropped["sw"].repeated_documents == 50
    for code in CODES:
        assert tokenizer.decode(stores[0].train(code)) == "".join(line + "\n" for line in corpus.train(code))


@pytest.mark.parametrize("limit", [1, 3000, 50_000, 70_000, 10**9])
def test_a_limit_cuts_where_the_corpus_cuts(corpus, tokenizer, tmp_path, limit):
    part = open_corpus(tmp_path / "text", bytes_per_language=limit)
    if limit == 1:
        with pytest.raises(InputError, match="too small for its split"):
            build_store(part, tokenizer, ["sw"], tmp_path / "store")
        return
    store = build_store(part, tokenizer, ["sw"], tmp_path / "store")
    for split in ("train", "held_out"):
        assert tokenizer.decode(getattr(store, split)("sw")) == "".join(x + "\n" for x in getattr(part, split)("sw"))


def test_parts_beyond_the_limit_are_not_read(corpus, tokenizer, tmp_path):
    (tmp_path / "text" / "sw" / "c.txt").write_bytes(b"\xff")
    build_store(open_corpus(tmp_path / "text", bytes_per_language=50_000), tokenizer, ["sw"], tmp_path / "store")
    with pytest.raises(InputError, match=r"c.txt, line 1: .*language 'sw'"):
        build_store(open_corpus(tmp_path / "text"), tokenizer, ["sw"], tmp_path / "other")


def name(job) -> str:
    return f"{job.language}.{job.index}"


class Stopped(Exception):
    """A stand-in for whatever ends a build."""


def test_stopped_builds_go_on_from_what_is_finished(corpus, tokenizer, tmp_path, monkeypatch):
    whole = build_store(corpus, tokenizer, CODES, tmp_path / "whole")
    tokenised: list[str] = []
    real = store_builder.tokenise

    def stops(job, *rest):
        if len(tokenised) % 3 == 2:
            tokenised.append("stop")
            raise Stopped
        tokenised.append(name(job))
        return real(job, *rest)

    monkeypatch.setattr(store_builder, "tokenise", stops)
    for _ in range(20):
        try:
            store = build_store(corpus, tokenizer, CODES, tmp_path / "store", workers=1)
            break
        except Stopped:
            assert not (tmp_path / "store").exists()
    done = [stem for stem in tokenised if stem != "stop"]
    assert len(done) == len(set(done)) == sum(len(corpus.parts(code)) for code in CODES)
    assert store.hash == whole.hash
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")
    assert not list(tmp_path.glob(".store*"))


def test_damaged_or_outdated_parts_are_done_again(corpus, tokenizer, tmp_path, monkeypatch):
    real = store_builder.tokenise
    seen: list[str] = []

    def stops_at_the_end(job, *rest):
        if name(job) == "sw.4":
            raise Stopped
        seen.append(name(job))
        return real(job, *rest)

    monkeypatch.setattr(store_builder, "tokenise", stops_at_the_end)
    with pytest.raises(Stopped):
        build_store(corpus, tokenizer, CODES, tmp_path / "store", workers=1)
    parts = tmp_path / ".store.building" / "parts"
    (tokens,) = parts.glob("en.000001.*.tokens.bin")
    data = tokens.read_bytes()
    tokens.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    next(parts.glob("no.000000.*.documents.bin")).unlink()
    next(parts.glob("en.000000.*.json")).write_text("{")
    with (tmp_path / "text" / "sw" / "a.txt").open("a") as file:
        file.write("\none line more")
    monkeypatch.setattr(store_builder, "tokenise", lambda job, *rest: seen.append(name(job)) or real(job, *rest))
    seen.clear()
    changed = open_corpus(tmp_path / "text")
    store = build_store(changed, tokenizer, CODES, tmp_path / "store", workers=1)
    expected = ["en.0", "en.1", "no.0", *(f"sw.{n}" for n in range(len(changed.parts("sw"))))]
    assert sorted(seen) == sorted(expected)
    assert store.hash == build_store(changed, tokenizer, CODES, tmp_path / "fresh").hash


BUILD = """
import sys
from babelscale.corpora import Tokenizer, build_store, open_corpus, readers
readers._SPAN = 20_000
text, model, store, workers = sys.argv[1:]
corpus = open_corpus(text)
build_store(corpus, Tokenizer.load(model), corpus.languages, store, workers=int(workers))
"""


@pytest.fixture
def model(tokenizer, tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(tokenizer.model)
    (folder / "tokenizer.json").write_text(json.dumps({"hash": tokenizer.hash}))
    return folder


def test_killed_builds_go_on(corpus, tokenizer, model, tmp_path):
    """Killed outright as soon as something is finished, twice, then left to end."""
    command = [sys.executable, "-c", BUILD, str(tmp_path / "text"), str(model), str(tmp_path / "store"), "2"]
    for finished in (1, 6):
        child = subprocess.Popen(command, start_new_session=True)
        while child.poll() is None and len(list(tmp_path.glob(".store.building/*/*.json"))) < finished:
            time.sleep(0.001)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    subprocess.run(command, check=True)
    store = TokenStore.open(tmp_path / "store", verify=True)
    assert store.hash == build_store(corpus, tokenizer, CODES, tmp_path / "whole").hash
    assert not list(tmp_path.glob(".store*"))


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("most", [100, 3_000, 30_000])
def test_a_full_disk_is_named_and_loses_nothing(corpus, tokenizer, model, tmp_path, workers, most):
    command = [sys.executable, "-c", BUILD, str(tmp_path / "text"), str(model), str(tmp_path / "store"), workers]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )
    assert done.returncode != 0
    assert "store.building" in done.stderr
    assert "cannot be written, the disk is full" in done.stderr
    assert not (tmp_path / "store").exists()
    assert not list(tmp_path.glob(".store.building/*/*.partial"))
    store = build_store(corpus, tokenizer, CODES, tmp_path / "store")
    assert store.hash == build_store(corpus, tokenizer, CODES, tmp_path / "whole").hash


def test_a_worker_that_dies_is_told(corpus, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"), prepend=os.pathsep)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sentencepiece.py").write_text("raise SystemExit('no such luck')")
    with pytest.raises(BabelscaleError, match=r"language '\w+': the process that tokenised it ended. no such luck"):
        build_store(corpus, tokenizer, CODES, tmp_path / "store", workers=2)
    assert not (tmp_path / "store").exists()


def test_a_broken_language_leaves_the_others_done(corpus, tokenizer, tmp_path):
    (tmp_path / "text" / "sw" / "a.txt").write_bytes(b"mstari\n\xff\xfe\n")
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"a.txt, line 2: .*language 'sw'"):
            build_store(open_corpus(tmp_path / "text"), tokenizer, CODES, tmp_path / "store", workers=workers)
        assert not (tmp_path / "store").exists()
    (tmp_path / "text" / "sw" / "a.txt").unlink()
    build_store(open_corpus(tmp_path / "text"), tokenizer, CODES, tmp_path / "store")


def test_two_builds_of_one_store_do_not_mix(corpus, tokenizer, tmp_path):
    def second(*_) -> None:
        build_store(corpus, tokenizer, CODES, tmp_path / "store", workers=1)

    with pytest.raises(InputError, match="another process is building it"):
        build_store(corpus, tokenizer, CODES, tmp_path / "store", workers=1, progress=second)


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_bytes_up_to_its_total(corpus, tokenizer, tmp_path, workers):
    seen = []
    build_store(corpus, tokenizer, CODES, tmp_path / "store", workers=workers, progress=lambda *step: seen.append(step))
    labels, done, totals = zip(*seen, strict=True)
    assert set(totals) == {sum(part.text_bytes for code in CODES for part in corpus.parts(code))}
    assert list(done) == sorted(done)
    assert done[-1] == totals[-1]
    assert all(label.startswith("tokenizing") for label in labels)
    assert any("sw" in label for label in labels)
    assert "MB/s" in labels[-1]


def test_an_interruption_stops_the_workers(corpus, tokenizer, tmp_path):
    def stop(*_) -> None:
        raise KeyboardInterrupt

    for workers in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            build_store(corpus, tokenizer, CODES, tmp_path / "store", workers=workers, progress=stop)
    assert not (tmp_path / "store").exists()


def test_workers_must_be_some(corpus, tokenizer, tmp_path):
    with pytest.raises(InputError, match="workers 0"):
        build_store(corpus, tokenizer, CODES, tmp_path / "store", workers=0)


def test_offsets_of_nothing():
    from babelscale.corpora.merge_shards import offsets

    assert offsets(np.array([], dtype=np.uint32)).tolist() == []
    assert offsets(np.array([3, 1, 2], dtype=np.uint32)).tolist() == [0, 3, 4]


def test_held_out_tokens_are_cut_at_a_document_and_the_rest_is_dropped(corpus, tokenizer, tmp_path):
    loose = open_corpus(tmp_path / "text", held_out_share=0.2)
    whole = build_store(loose, tokenizer, ["sw"], tmp_path / "whole")
    most = whole.count("sw", "held_out") // 2 + 1
    # As many bytes a token as this text has, so that the share stays and the bound alone cuts.
    bound = open_corpus(tmp_path / "text", held_out_share=0.2, held_out_tokens=most)
    bound.size = lambda language: 1
    store = build_store(bound, tokenizer, ["sw"], tmp_path / "store")
    assert store.count("sw", "train") == whole.count("sw", "train")
    np.testing.assert_array_equal(store.train("sw"), whole.train("sw"))
    starts = whole.documents("sw", "held_out")
    count = store.count("sw", "held_out")
    assert most - 60 < count <= most
    assert count in starts
    assert starts[np.searchsorted(starts, count) + 1] > most
    np.testing.assert_array_equal(store.held_out("sw"), whole.held_out("sw")[:count])
    dropped = store.record.dropped["sw"]
    assert dropped.surplus_tokens == whole.count("sw", "held_out") - count
    assert dropped.surplus_documents == len(starts) - store.record.languages["sw"]["held_out"].documents


def test_a_bound_below_the_share_lowers_it(corpus, tokenizer, tmp_path):
    bound = open_corpus(tmp_path / "text", held_out_share=0.5, held_out_tokens=1000)
    assert bound.threshold("sw", bound.parts("sw")[0]) == int(1000 * 4 / bound.size("sw") * 2**64)
    store = build_store(bound, tokenizer, ["sw"], tmp_path / "store")
    assert 0 < store.count("sw", "held_out") <= 1000
    assert bound.describe()["held_out_tokens"] == 1000
    assert bound.fingerprint != open_corpus(tmp_path / "text", held_out_share=0.5).fingerprint
    with pytest.raises(InputError, match="held-out tokens 0"):
        open_corpus(tmp_path / "text", held_out_tokens=0)
