"""The phrasebook: deterministic, wide, split without leaks, and honest about what it is."""

import hashlib
import itertools
import os
import subprocess
import sys
import unicodedata
from importlib.metadata import version

import pytest

from babelscale import languages
from babelscale.corpora import open_corpus
from babelscale.corpora.phrasebook import LANGUAGES, Phrasebook
from babelscale.errors import InputError

MINI12 = ["en", "fr", "es", "sv", "da", "ru", "ar", "hi", "zh", "sw", "id", "ms"]
SCRIPTS = {
    "Latn": ["LATIN"],
    "Cyrl": ["CYRILLIC"],
    "Grek": ["GREEK"],
    "Arab": ["ARABIC"],
    "Hebr": ["HEBREW"],
    "Deva": ["DEVANAGARI"],
    "Beng": ["BENGALI"],
    "Taml": ["TAMIL"],
    "Telu": ["TELUGU"],
    "Mlym": ["MALAYALAM"],
    "Thai": ["THAI"],
    "Laoo": ["LAO"],
    "Khmr": ["KHMER"],
    "Mymr": ["MYANMAR"],
    "Hang": ["HANGUL"],
    "Kore": ["HANGUL"],
    "Jpan": ["CJK", "HIRAGANA", "KATAKANA"],
    "Hans": ["CJK"],
    "Ethi": ["ETHIOPIC"],
    "Geor": ["GEORGIAN"],
    "Armn": ["ARMENIAN"],
    "Gujr": ["GUJARATI"],
    "Guru": ["GURMUKHI"],
    "Knda": ["KANNADA"],
    "Sinh": ["SINHALA"],
}


def digest(lines) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_at_least_24_languages_of_8_scripts_and_those_of_mini12():
    assert len(LANGUAGES) >= 24
    assert len({languages.lookup(code).script for code in LANGUAGES}) >= 8
    assert set(MINI12) <= set(LANGUAGES)


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_speaks_its_own_script_in_clean_lines(code):
    book = Phrasebook([code], bytes_per_language=60_000)
    lines = [line for line, _ in book.split(code)]
    assert len(lines) == len(set(lines)) > 300
    assert all(line and line == line.strip("\n") and "\n" not in line and not line.isspace() for line in lines)
    assert not any(hole in line for line in lines for hole in ("{0}", "{1}", "%s", "%(", "¤", "None"))
    names = [unicodedata.name(letter, "?").split()[0] for letter in "".join(lines) if letter.isalpha()]
    own = SCRIPTS[languages.lookup(code).script]
    assert sum(name in own for name in names) / len(names) > 0.9


def test_size_is_what_was_asked_and_few_raw_lines_repeat():
    book = Phrasebook(["sw"], bytes_per_language=300_000)
    lines = [line for line, _ in book.split("sw")]
    assert 295_000 < sum(len(line.encode()) + 1 for line in lines) <= 300_000
    raw = list(itertools.islice(book.documents("sw"), len(lines)))
    assert len(set(raw)) > 0.85 * len(raw)


def test_split_shares_no_line_and_has_about_its_share():
    book = open_corpus("phrasebook", languages=["en"], bytes_per_language=300_000, held_out_share=0.1)
    train, held_out = list(book.train("en")), list(book.held_out("en"))
    assert not set(train) & set(held_out)
    assert 0.08 < len(held_out) / (len(train) + len(held_out)) < 0.12


def test_a_larger_size_continues_a_smaller_one_and_neighbours_change_nothing():
    small = list(Phrasebook(["no"], bytes_per_language=20_000).train("no"))
    large = list(Phrasebook(["da", "no"], bytes_per_language={"no": 50_000}).train("no"))
    assert large[: len(small)] == small
    assert list(Phrasebook(["no"], bytes_per_language=20_000, seed=1).train("no")) != small


def test_bytes_do_not_depend_on_hash_seed_nor_on_what_babel_did_before():
    script = """
import sys, hashlib
from babel import Locale
if sys.argv[1] == "after":
    for code in ("sw", "hi", "zh", "ar"):
        locale = Locale.parse(code)
        for table in (locale.quarters, locale.months, locale.days, locale.eras, locale.day_periods):
            [inner for outer in table.values() for inner in getattr(outer, "values", list)()]
from babelscale.corpora.phrasebook import Phrasebook
book = Phrasebook(["hi", "ar", "zh"], bytes_per_language=30_000)
codes = book.languages if sys.argv[1] == "after" else book.languages[::-1]
found = {code: hashlib.sha256("\\n".join(line for line, _ in book.split(code)).encode()).hexdigest() for code in codes}
print(sorted(found.items()), book.fingerprint)
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script, when],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for when, seed in (("first", "1"), ("after", "2"))
    }
    assert len(outputs) == 1


@pytest.mark.skipif(version("babel") != "2.18.0", reason="the text belongs to Babel 2.18.0")
def test_text_of_this_edition():
    """When this fails on purpose, raise `_EDITION`: stores tell texts apart by it."""
    book = Phrasebook(bytes_per_language=20_000)
    assert book.describe()["edition"] == 1
    text = (line for code in LANGUAGES for line, _ in book.split(code))
    assert digest(text) == "dbb01eca4605054b14c033d0000e035d8d34e5753630576148db4742cb0ccc9a"


def test_fingerprint_tells_texts_apart():
    prints = {
        Phrasebook(**settings).fingerprint
        for settings in (
            {"languages": ["en"]},
            {"languages": ["en", "sv"]},
            {"languages": ["en"], "seed": 1},
            {"languages": ["en"], "bytes_per_language": 10},
            {"languages": ["en"], "held_out_share": 0.1},
        )
    }
    assert len(prints) == 5
    assert Phrasebook(["en", "sv"]).fingerprint == Phrasebook(["sv", "en"]).fingerprint


def test_it_says_that_it_is_a_phrasebook():
    described = open_corpus("phrasebook", languages=["en"]).describe()
    assert described["kind"] == "phrasebook"
    assert "phrasebook" in described["sentence"]
    assert "not prose" in described["sentence"]
    assert described["versions"]["babel"]


def test_number_agrees_with_its_unit():
    lines = list(Phrasebook(["en"], bytes_per_language=400_000).train("en"))
    text = "\n".join(lines)
    assert "1 kilometer" in text or "1 joule" in text
    assert " 1 kilometers" not in text
    assert " 2 kilometer " not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"languages": ["ha"]}, "does not have 'ha'"),
        ({"languages": ["xx-nope"]}, "unknown language code"),
        ({"languages": ["en", "en"]}, "twice"),
        ({"languages": []}, "no language"),
        ({"languages": ["en"], "held_out_share": 1.0}, "between 0 and 1"),
        ({"languages": ["en"], "bytes_per_language": 0}, "positive"),
        ({"languages": ["en"], "bytes_per_language": {"sw": 10}}, "sw"),
        ({"languages": ["en"], "seed": -1}, "negative"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        open_corpus("phrasebook", **arguments)


def test_too_small_for_its_split():
    book = Phrasebook(["en"], bytes_per_language=200)
    with pytest.raises(InputError, match="'en': the text is too small for its split"):
        list(book.train("en"))


def test_a_language_that_is_not_in_it():
    with pytest.raises(InputError, match="no 'sw'"):
        list(Phrasebook(["en"]).train("sw"))
