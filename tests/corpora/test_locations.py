"""Text at any location fsspec knows reads as a local folder does, and what cannot be reached says why."""

import gzip
import json

import fsspec
import polars as pl
import pytest

from babelscale.corpora import build_store, open_corpus
from babelscale.corpora.locations import TextFile, entries, inside, settled
from babelscale.errors import InputError

LINES = [f"mstari wa {n}: habari ya {n * n % 101} «é世»" for n in range(400)]
TEXT = "".join(line + "\n" for line in LINES).encode()


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_a_remote_folder_reads_as_a_local_one(memory, tmp_path, tokenizer):
    records = "".join(json.dumps({"text": line}) + "\n" for line in LINES).encode()
    pl.DataFrame({"text": LINES}).write_parquet(tmp_path / "table")
    files = {
        "sw.txt": TEXT,
        "en.txt.gz": gzip.compress(TEXT, mtime=0),
        "no/a.jsonl": records,
        "zh.parquet": (tmp_path / "table").read_bytes(),
        "README.md": b"about",
        ".hidden.txt": b"no",
    }
    for name, data in files.items():
        memory.pipe(f"/texts/train/{name}", data)
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).write_bytes(data)
    remote, local = open_corpus("memory://texts/"), open_corpus(tmp_path)
    assert remote.languages == local.languages == ("en", "no", "sw", "zh")
    for code in local.languages:
        assert list(remote.split(code)) == list(local.split(code))
    assert remote.size("sw") == local.size("sw") == len(TEXT)
    store = build_store(remote, tokenizer, remote.languages, tmp_path / "store", workers=2)
    assert tokenizer.decode(store.train("no")) == "".join(line + "\n" for line in local.train("no"))


def test_local_locations_are_paths(tmp_path):
    (tmp_path / "sw.txt").write_bytes(TEXT)
    assert open_corpus(f"file://{tmp_path}").fingerprint == open_corpus(tmp_path).fingerprint


def test_remote_fingerprints_follow_name_size_and_checksum(memory):
    memory.pipe("/a/sw.txt", TEXT)
    memory.pipe("/b/sw.txt", TEXT)
    a, b = open_corpus("memory://a").fingerprint, open_corpus("memory://b").fingerprint
    assert a == b
    memory.pipe("/b/sw.txt", TEXT + b"more\n")
    assert open_corpus("memory://b").fingerprint != a
    marks = {TextFile(place="s3://x/sw.txt", bytes=9, mark=mark).identity for mark in ("", "one", "two")}
    assert len(marks) == 3


def test_checksums_of_stores_are_found(monkeypatch):
    infos = [
        {"ETag": '"abc"'},
        {"md5Hash": "def"},
        {"lfs": {"sha256": "0123", "size": 3}, "blob_id": "short"},
        {"lfs": None, "blob_id": "4567"},
        {},
    ]
    listed = [{"name": f"x/{n}.txt", "size": 3, "type": "file"} | info for n, info in enumerate(infos)]

    class System:
        def ls(self, path, detail):
            return listed

    monkeypatch.setattr("babelscale.corpora.locations._system", lambda place: (System(), "x"))
    marks = [entry.file.mark for entry in entries("s3://x", "corpus", "") if entry.file]
    assert marks == ["abc", "def", "0123", "4567", ""]


@pytest.mark.parametrize(
    ("place", "message", "hint"),
    [
        ("memory://nowhere", "corpus memory://nowhere: no such folder", "phrasebook"),
        ("memory://a/sw.txt", "not a folder", "put the file"),
        ("teapot://x", "teapot://x: not a location", "hf://"),
    ],
)
def test_faults(memory, place, message, hint):
    memory.pipe("/a/sw.txt", TEXT)
    with pytest.raises(InputError, match=message) as caught:
        open_corpus(place)
    assert hint in str(caught.value.hint)


def test_a_kind_of_location_that_is_not_installed(monkeypatch):
    def lacks(place):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", lacks)
    with pytest.raises(InputError, match="Install s3fs") as caught:
        open_corpus("s3://mine/texts")
    assert "pip install s3fs" in str(caught.value.hint)


def test_a_connection_that_breaks_names_the_file(memory, monkeypatch):
    memory.pipe("/a/sw.txt", TEXT)
    corpus = open_corpus("memory://a")
    memory.rm("/a/sw.txt")
    with pytest.raises(InputError, match=r"memory://a/sw.txt: cannot be read"):
        list(corpus.train("sw"))


def test_names():
    assert settled("memory://texts//") == "memory://texts"
    assert settled("/") == "/"
    assert settled("file:///home/texts/") == "/home/texts"
    assert inside("s3://a/b", "c.txt") == "s3://a/b/c.txt"
    assert inside("zip://a::s3://b.zip", "c.txt") == "zip://a/c.txt::s3://b.zip"
    assert TextFile(place="zip://a/c.txt::s3://b.zip", bytes=1).name == "c.txt"
