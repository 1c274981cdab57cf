"""Passages of one text in many languages: each is training text of one of them, or held out in all."""

import json
import tarfile
from pathlib import Path

import pytest

from babelscale import cli
from babelscale.corpora import deal_passages, is_verse_text, open_corpus
from babelscale.errors import InputError

CODES = ("en", "no", "ru", "sw")


def verse(code: str, passage: str, number: int) -> str:
    return f"{code} {passage} {number} maneno haya"


def write_text(folder: Path, *, books: int = 12, chapters: int = 10, without: tuple[tuple[str, str], ...] = ()) -> Path:
    """A text of `books` books, every chapter five to nine verses long; `without` lists (language, book)."""
    folder.mkdir()
    for code in CODES:
        lines = [
            f"B{b}.{c}.{v}\t{verse(code, f'B{b}.{c}', v)}\n"
            for b in range(books)
            for c in range(1, chapters + 1)
            for v in range(1, 6 + (b + c) % 5)
            if (code, f"B{b}") not in without
        ]
        (folder / f"{code}.tsv").write_text("".join(lines), encoding="utf-8")
    return folder


def passages_of(path: Path) -> set[str]:
    return {line.split()[1] for line in path.read_text(encoding="utf-8").splitlines()}


def test_no_passage_is_read_in_two_languages_or_on_both_sides_of_the_split(tmp_path):
    weights = {"en": 3, "no": 1, "ru": 1, "sw": 1}
    dealt = deal_passages(write_text(tmp_path / "text"), tmp_path / "out", weights, held_out_share=0.1)
    train = {code: passages_of(tmp_path / "out" / "train" / f"{code}.txt") for code in CODES}
    valid = {code: passages_of(tmp_path / "out" / "valid" / f"{code}.txt") for code in CODES}
    assert all(train[code] == set(dealt.train[code]) for code in CODES)
    assert sum(map(len, train.values())) == len(set().union(*train.values()))
    assert set(valid["en"]) == set(dealt.held_out)
    assert len({frozenset(held) for held in valid.values()}) == 1
    assert not set(dealt.held_out) & set().union(*train.values())
    assert set(dealt.held_out) | set().union(*train.values()) == {f"B{b}.{c}" for b in range(12) for c in range(1, 11)}
    shares = {code: (tmp_path / "out" / "train" / f"{code}.txt").read_text().count("\n") for code in CODES}
    total = sum(shares.values())
    for code, weight in weights.items():
        assert abs(shares[code] / total - weight / 6) < 9 / total
    assert json.loads((tmp_path / "out" / "passages.json").read_text())["train"]["no"] == list(dealt.train["no"])


def test_a_language_that_holds_part_of_the_text_gets_its_share_spread_over_that_part(tmp_path):
    missing = tuple(("sw", f"B{b}") for b in range(8))
    source = write_text(tmp_path / "text", without=missing)
    weights = dict.fromkeys(CODES, 1.0) | {"sw": 0.5}
    dealt = deal_passages(source, tmp_path / "out", weights, held_out_share=0.1)
    books = {passage.split(".")[0] for passage in dealt.train["sw"]}
    assert books == {"B8", "B9", "B10", "B11"}
    counts = {code: (tmp_path / "out" / "train" / f"{code}.txt").read_text().count("\n") for code in CODES}
    assert abs(counts["sw"] / sum(counts.values()) - 0.5 / 3.5) < 9 / sum(counts.values())
    for book in books:
        others = [code for code in CODES if any(p.startswith(f"{book}.") for p in dealt.train[code])]
        assert len(others) > 1


def renumber(path: Path, book: str, by: int) -> None:
    """Chapters of a book under the numbers of their neighbours, as some translations count the Psalms."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        name, text = line.split("\t")
        b, c, v = name.split(".")
        lines.append(f"{b}.{int(c) + by if b == book else c}.{v}\t{text}\n")
    path.write_text("".join(lines), encoding="utf-8")


def test_a_book_that_a_language_numbers_in_its_own_way_is_not_dealt_to_it(tmp_path):
    source = write_text(tmp_path / "text")
    renumber(source / "ru.tsv", "B3", 1)
    dealt = deal_passages(source, tmp_path / "out", dict.fromkeys(CODES, 1.0))
    assert not [p for p in dealt.train["ru"] if p.startswith("B3.")]
    assert [p for p in dealt.train["en"] if p.startswith("B3.")]
    assert not [p for p in dealt.held_out if p.startswith("B3.")]
    assert dealt.left_out == ("B3.11",)


def test_a_verse_moved_to_the_next_chapter_takes_both_chapters_from_that_language(tmp_path):
    source = write_text(tmp_path / "text")
    text = (source / "ru.tsv").read_text(encoding="utf-8")
    (source / "ru.tsv").write_text(text.replace("B0.4.1\t", "B0.3.99\t"), encoding="utf-8")
    dealt = deal_passages(source, tmp_path / "out", {"ru": 20, "en": 1, "no": 1, "sw": 1})
    assert not {"B0.3", "B0.4"} & {*dealt.train["ru"], *dealt.held_out}


def test_same_seed_same_bytes_and_archives_are_folders(tmp_path):
    source = write_text(tmp_path / "text")
    with tarfile.open(tmp_path / "text.tar.xz", "w:xz") as archive:
        archive.add(source, "bible")
    weights = dict.fromkeys(CODES, 1.0)
    for name, place, seed in (("a", source, 0), ("b", tmp_path / "text.tar.xz", 0), ("c", source, 1)):
        assert is_verse_text(place)
        deal_passages(place, tmp_path / name, weights, seed=seed)
    read = {name: (tmp_path / name / "passages.json").read_bytes() for name in "abc"}
    assert read["a"] == read["b"] != read["c"]
    assert not is_verse_text(tmp_path / "a")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("B0.1.1\tagain\n", "occurs twice"),
        ("no tab\n", "is not a verse"),
        ("B0\tno passage\n", "is not a verse"),
        ("B0.1.99\t \n", "is not a verse"),
    ],
)
def test_bad_lines_are_named_with_file_and_line(tmp_path, line, message):
    source = write_text(tmp_path / "text")
    with (source / "no.tsv").open("a", encoding="utf-8") as file:
        file.write(line)
    count = (source / "no.tsv").read_text(encoding="utf-8").count("\n")
    with pytest.raises(InputError, match=rf"no\.tsv, line {count}.*{message}"):
        deal_passages(source, tmp_path / "out", dict.fromkeys(CODES, 1.0))
    assert not (tmp_path / "out").exists()


def test_sources_that_are_none(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"not an archive")
    with pytest.raises(InputError, match="neither a folder nor a whole tar archive"):
        deal_passages(tmp_path / "x.tar", tmp_path / "out", {"en": 1})
    source = write_text(tmp_path / "text")
    with pytest.raises(InputError, match=r"no file fi\.tsv"):
        deal_passages(source, tmp_path / "out", {"fi": 1, "en": 1})
    with pytest.raises(InputError, match="weight"):
        deal_passages(source, tmp_path / "out", {"en": 0.0})


def test_a_folder_with_its_own_held_out_text(tmp_path):
    deal_passages(write_text(tmp_path / "text"), tmp_path / "out", dict.fromkeys(CODES, 1.0), held_out_share=0.1)
    with (tmp_path / "out" / "train" / "no.txt").open("a", encoding="utf-8") as file:
        repeated = (tmp_path / "out" / "valid" / "no.txt").read_text(encoding="utf-8").splitlines()[3]
        file.write(repeated + "\n")
    corpus = open_corpus(tmp_path / "out")
    assert corpus.languages == tuple(sorted(CODES))
    held_out = list(corpus.held_out("no"))
    assert held_out == (tmp_path / "out" / "valid" / "no.txt").read_text(encoding="utf-8").splitlines()
    assert repeated not in list(corpus.train("no"))
    assert repeated not in list(corpus.sample("no", 10**9))
    with pytest.raises(InputError, match="held_out_share"):
        open_corpus(tmp_path / "out", held_out_share=0.1)
    (tmp_path / "out" / "valid" / "sw.txt").unlink()
    with pytest.raises(InputError, match="no file for 'sw'"):
        open_corpus(tmp_path / "out")


def test_the_command_deals_by_a_design(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text")
    (tmp_path / "d.toml").write_text(
        'name = "d"\nlanguages = ["en", "no"]\n[corpus.passages]\nweights.no = 3\n[sizes]\n"0" = { scale = 0 }\n'
        '[[groups]]\nname = "g"\nmixture = "monolingual"\nsizes = ["0"]\nsteps = [1]\n'
    )
    with pytest.raises(SystemExit, match="0"):
        cli.main(["study", "text", "d.toml", "text", "--out", "dealt", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert len(said["train"]["no"]) > 2 * len(said["train"]["en"])
    assert (tmp_path / "dealt" / "valid" / "no.txt").exists()
