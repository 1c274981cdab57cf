"""The glossary names code that exists, and the words that it rules out stand in no document and no printed text."""

import ast
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "babelscale"
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
TERMS, AVOIDED = GLOSSARY.split("## Words that this project does not use")
# The full name of the effect (and the title of the ATLAS paper); a file of saved analyses, which keeps its name.
FIELD_TERM = re.compile(r"curse of multilinguality|walk\.json", re.IGNORECASE)


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of every table, without headings and rules."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith(("| term |", "| word |")):
            yield [cell.strip() for cell in line.strip("|").split("|")]


CODE_NAMES = sorted({name for row in rows(TERMS) for name in re.findall(r"`([^`]+)`", row[-1])})
WORDS = [row[0] for row in rows(AVOIDED)]
WORD = re.compile(rf"\b({'|'.join(WORDS)})(s|ed|ing)?\b", re.IGNORECASE)


def printed_texts(path: Path) -> Iterator[str]:
    """The texts of a file: strings with a space for Python, otherwise everything but code and markup."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        strings = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
        yield from (string for string in strings if isinstance(string, str) and " " in string)
    elif path.suffix == ".md":
        text = text.replace(AVOIDED, "")
        yield re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.DOTALL)
    elif path.suffix == ".html":
        yield re.sub(r"<[^>]*>|{[{%].*?[%}]}", " ", text, flags=re.DOTALL)
    else:
        yield text


def avoided_words(path: Path) -> list[str]:
    return [
        found[0] for text in printed_texts(path) for found in WORD.finditer(FIELD_TERM.sub("", " ".join(text.split())))
    ]


@pytest.mark.parametrize("name", CODE_NAMES)
def test_a_code_name_of_the_glossary_exists(name: str) -> None:
    assert pkgutil.resolve_name(f"babelscale.{name}") is not None


def test_the_tables_of_the_glossary_are_complete() -> None:
    for row in rows(TERMS):
        assert len(row) == 4, row
        assert row[0], row
        assert row[1].endswith("."), row
    for section in TERMS.split("\n## ")[1:]:
        terms = [row[0].lower() for row in rows(section)]
        assert len(terms) == len(set(terms)), terms
    assert all(len(row) == 3 and all(row) for row in rows(AVOIDED))


DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
TEXTS = [path for ending in ("py", "html", "toml") for path in SRC.rglob(f"*.{ending}")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_avoids_private_words(path: Path) -> None:
    assert avoided_words(path) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_files_that_a_document_names_exist(path: Path) -> None:
    text = re.sub(r"```.*?```", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = re.findall(r"(?<![\w./-])((?:[\w-]+/)+[\w.-]+\.(?:py|md|toml|png|svg))\b", text)
    places = (ROOT, SRC, SRC.parent, path.parent)
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_the_texts_of_the_package_avoid_private_words() -> None:
    assert [(str(path.relative_to(SRC)), word) for path in TEXTS for word in avoided_words(path)] == []


def test_a_private_word_is_found(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text('"""A walk, for\nwho likes it."""\nwalk = {"walk.json": "the curse of multilinguality"}\n')
    assert avoided_words(source) == ["walk", "for who"]
    document = tmp_path / "page.md"
    document.write_text("The Waist, and `walk.json`.\n")
    assert avoided_words(document) == ["Waist"]
