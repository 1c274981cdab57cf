"""Folders of text: every ending gives the same lines, and every fault is named with its place."""

import gzip
import json
import tarfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelscale.corpora import open_corpus, readers
from babelscale.errors import InputError

LINES = [f"mstari wa {n}: habari ya {n * n % 101} «é世»" for n in range(400)]
MINI12 = Path(__file__).parents[3] / "shared" / "corpora" / "mini12.tar.xz"


def write(path: Path, lines: list[str]) -> None:
    text = "".join(line + "\n" for line in lines)
    records = "".join(json.dumps({"text": line, "n": 1}) + "\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".parquet"):
        pl.DataFrame({"id": range(len(lines)), "text": lines}).write_parquet(path, row_group_size=64)
    else:
        data = (records if ".jsonl" in path.name else text).encode()
        path.write_bytes(gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)


@pytest.mark.parametrize("ending", ["txt", "txt.gz", "jsonl", "jsonl.gz", "parquet"])
def test_every_ending_gives_the_same_lines(tmp_path, ending):
    write(tmp_path / f"sw.{ending}", LINES)
    corpus = open_corpus(tmp_path)
    train, held_out = list(corpus.train("sw")), list(corpus.held_out("sw"))
    assert corpus.languages == ("sw",)
    assert sorted(train + held_out) == sorted(LINES)
    assert set(held_out) == {line for line, out in corpus.split("sw") if out}
    assert corpus.size("sw") == sum(len(line.encode()) + 1 for line in LINES)


def test_codes_that_look_like_missing_values_survive(tmp_path):
    for code in ("no", "nan"):
        write(tmp_path / f"{code}.txt", LINES)
    assert open_corpus(tmp_path).languages == ("nan", "no")


def test_a_folder_a_language_reads_its_files_in_order(tmp_path):
    write(tmp_path / "sw" / "b.jsonl", LINES[200:])
    write(tmp_path / "sw" / "a.txt.gz", LINES[:200])
    write(tmp_path / "en.txt", LINES)
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "languages.tsv").write_text("en\tEnglish")
    (tmp_path / "sw" / "notes.md").write_text("about")
    corpus = open_corpus(tmp_path)
    assert corpus.languages == ("en", "sw")
    assert [line for line, _ in corpus.split("sw")] == LINES


def test_split_does_not_depend_on_order_and_repeated_lines_go(tmp_path):
    write(tmp_path / "a" / "sw.txt", LINES)
    write(tmp_path / "b" / "sw.txt", [*LINES[::-1], *LINES])
    a, b = open_corpus(tmp_path / "a"), open_corpus(tmp_path / "b")
    assert set(a.held_out("sw")) == set(b.held_out("sw"))
    assert len(list(b.train("sw"))) == len(list(a.train("sw")))
    assert set(a.held_out("sw")) != set(open_corpus(tmp_path / "a", seed=1).held_out("sw"))


def test_line_ends_blank_lines_and_byte_order_mark(tmp_path):
    data = "".join(f"{line}\r\n\r\n  \n" for line in LINES).encode()
    (tmp_path / "sw.txt").write_bytes(b"\xef\xbb\xbf" + data.removesuffix(b"\r\n\r\n  \n"))
    assert [line for line, _ in open_corpus(tmp_path).split("sw")] == LINES


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
def test_a_record_is_a_document_and_stays_whole(tmp_path, ending):
    texts = ["\n".join(LINES[i : i + 4]) for i in range(0, 400, 4)]
    messy = [text.replace("\n", "\r\n \n\n") + "\n" for text in texts]
    write(tmp_path / f"sw.{ending}", [*messy, texts[7]])
    corpus = open_corpus(tmp_path, held_out_share=0.2)
    assert [document for document, _ in corpus.split("sw")] == texts
    held_out = list(corpus.held_out("sw"))
    assert len(held_out) % 4 == 0
    starts = [LINES.index(held_out[place]) for place in range(0, len(held_out), 4)]
    assert held_out == [LINES[start + n] for start in starts for n in range(4)]
    assert sorted([*corpus.train("sw"), *held_out]) == sorted(LINES)


def test_long_text_files_are_read_in_stretches_that_change_nothing(tmp_path, monkeypatch):
    write(tmp_path / "sw.txt", LINES)
    (tmp_path / "en.txt").write_bytes(b"\n\n" + "\r\n".join(LINES).encode())
    whole = {code: list(open_corpus(tmp_path).split(code)) for code in ("en", "sw")}
    for span in (1, 7, 1000, 1 << 20):
        monkeypatch.setattr(readers, "_SPAN", span)
        corpus = open_corpus(tmp_path)
        assert len(corpus.parts("sw")) == -(-corpus.size("sw") // span)
        assert {code: list(corpus.split(code)) for code in ("en", "sw")} == whole


@given(span=st.integers(1, 60), place=st.integers(0, 19))
def test_a_fault_in_a_later_stretch_names_its_line(tmp_path_factory, span, place):
    folder = tmp_path_factory.mktemp("text")
    lines = [b"line " + str(n).encode() for n in range(20)]
    lines[place] = b"\xff"
    (folder / "sw.txt").write_bytes(b"\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_SPAN", span)
        with pytest.raises(InputError, match=f"sw.txt, line {place + 1}: byte .* is not UTF-8"):
            list(open_corpus(folder).split("sw"))


def test_bytes_per_language_keeps_the_start(tmp_path):
    write(tmp_path / "sw.txt", LINES)
    corpus = open_corpus(tmp_path, bytes_per_language=5000)
    kept = [line for line, _ in corpus.split("sw")]
    assert kept == LINES[: len(kept)]
    assert 4900 < sum(len(line.encode()) + 1 for line in kept) <= 5000 == corpus.size("sw")


def test_fingerprint_follows_content_not_place(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / name / "sw.txt", LINES)
    write(tmp_path / "c" / "sw.txt", LINES[1:])
    a, b, c = (open_corpus(tmp_path / name).fingerprint for name in "abc")
    assert a == b != c
    assert a != open_corpus(tmp_path / "a", seed=1).fingerprint
    assert a != open_corpus(tmp_path / "a", bytes_per_language=5000).fingerprint
    described = open_corpus(tmp_path / "a").describe()
    assert described["kind"] == "folder"
    assert described["fingerprint"] == a


def test_train_folder_stands_for_the_whole(tmp_path):
    write(tmp_path / "train" / "sw.txt", LINES)
    write(tmp_path / "flores_devtest" / "sw.txt", LINES)
    (tmp_path / "languages.tsv").write_text("sw\tSwahili")
    assert [file.place for file in open_corpus(tmp_path).files["sw"]] == [str(tmp_path / "train" / "sw.txt")]
    write(tmp_path / "en.txt", LINES)
    with pytest.raises(InputError, match="both in the folder and in its folder 'train'"):
        open_corpus(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("sw.txt", b"", "sw.txt: the file is empty"),
        ("sw.txt.gz", gzip.compress(b"", mtime=0), "sw.txt.gz: it contains no line of text"),
        ("sw.txt", b" \n\n", "sw.txt: it contains no line of text"),
        ("sw.txt", b"good\nba\xe9d\n", r"sw.txt, line 2: byte 7 of the text \(0xe9\) is not UTF-8"),
        ("sw.txt", "sawa\n".encode("utf-16"), "sw.txt, line 1"),
        ("sw.txt", "sawa\n".encode("utf-16-le"), "line 1: a NUL byte at 1"),
        ("sw.txt.gz", b"plain text\n", "sw.txt.gz: broken gzip"),
        ("sw.txt.gz", gzip.compress("".join(LINES).encode() * 9, mtime=0)[:-30], "sw.txt.gz: broken gzip"),
        ("sw.jsonl", b'{"text": "a"}\n{"text": \n', "sw.jsonl, line 2: not JSON"),
        ("sw.jsonl", b"[" * 100_000, "sw.jsonl, line 1: not JSON"),
        ("sw.jsonl", b'{"text": "a"}\n\n{"body": "b"}\n', "sw.jsonl, line 3: no field 'text' .found fields body"),
        ("sw.jsonl", b'["a"]\n', "sw.jsonl, line 1: no field 'text' .found a list"),
        ("sw.jsonl", b'{"text": 3}\n', "sw.jsonl, line 1: 'text' is a int"),
        ("sw.jsonl", b'{"text": "a\\ud800b"}\n', "sw.jsonl, line 1: .* surrogate"),
        ("sw.parquet", b"PAR1 not really", "sw.parquet: not a Parquet file"),
        ("sw.txt", b"one line\n", "'sw': the text is too small for its split"),
    ],
)
def test_faults_inside_a_file(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        list(open_corpus(tmp_path).train("sw"))
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["a", "b"]}, "no text column 'text' .found body"),
        ({"text": [1, 2]}, "no text column 'text' .found text .Int64"),
        ({"text": ["a", None]}, "sw.parquet, row 2: 'text' is a NoneType"),
    ],
)
def test_faults_in_parquet(tmp_path, columns, message):
    pl.DataFrame(columns).write_parquet(tmp_path / "sw.parquet")
    with pytest.raises(InputError, match=message):
        list(open_corpus(tmp_path).train("sw"))


@pytest.mark.parametrize(
    ("names", "languages", "message"),
    [
        ([], None, "no text in it"),
        (["notes.md", "sw.tsv"], None, "no text in it"),
        (["swahili.txt"], None, "swahili.txt: unknown language code 'swahili'"),
        (["sw.txt", "qqqq/a.txt"], None, "qqqq: unknown language code 'qqqq'"),
        (["sw.txt", "sw.jsonl"], None, r"'sw' occurs twice \(sw.jsonl and sw.txt\)"),
        (["sw.txt", "sw/a.txt"], None, "'sw' occurs twice"),
        (["sw.txt"], ["sw", "en"], "no file for 'en'"),
        (["sw.txt"], ["zzzzz"], "unknown language code 'zzzzz'"),
    ],
)
def test_faults_of_the_folder(tmp_path, names, languages, message):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("".join(line + "\n" for line in LINES))
    with pytest.raises(InputError, match=message) as caught:
        open_corpus(tmp_path, languages=languages)
    assert caught.value.hint


def test_no_such_folder_and_not_a_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_corpus(tmp_path / "none")
    write(tmp_path / "sw.txt", LINES)
    with pytest.raises(InputError, match="not a folder"):
        open_corpus(tmp_path / "sw.txt")
    with pytest.raises(InputError, match=r"corpus .*phrasebook: no such folder"):
        open_corpus(tmp_path / "phrasebook")


@pytest.mark.skipif(not MINI12.is_file(), reason=f"{MINI12} is not there")
def test_mini12_opens_at_its_root(tmp_path):
    with tarfile.open(MINI12) as archive:
        archive.extractall(tmp_path, filter="data")
    corpus = open_corpus(tmp_path / "mini12")
    assert corpus.languages == tuple(sorted(["en", "fr", "es", "sv", "da", "ru", "ar", "hi", "zh", "sw", "id", "ms"]))
    for code in corpus.languages:
        parts = [[], []]
        for line, held_out in corpus.split(code):
            parts[held_out].append(line)
        assert 0.03 < len(parts[1]) / len(parts[0]) < 0.07
        assert not set(parts[0]) & set(parts[1])
    assert open_corpus(tmp_path / "mini12" / "train").fingerprint == corpus.fingerprint
