"""Number words: what the data file holds, whether num2words agrees, and what a damaged file says."""

import gzip
import json
import subprocess
import sys
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from babelscale.corpora import numerals
from babelscale.corpora.phrasebook import LANGUAGES
from babelscale.errors import InputError

TOOL = Path(__file__).parents[2] / "tools" / "build_number_words.py"
CONTENT = {"version": 1, "num2words": numerals.NUM2WORDS, "numbers": [0, 1], "words": {"no": ["null", "en"]}}


def packed(**changes) -> bytes:
    return gzip.compress(json.dumps(CONTENT | changes).encode(), mtime=0)


def test_words_by_language():
    assert numerals.words("no")[21] == "tjueen"
    assert numerals.words("ru")[2] == "два"
    assert numerals.words("sw") == {}
    assert numerals.words("fil") == {}
    assert 1200 in numerals.words("kk")
    assert len(numerals.words("am")) == 1138
    assert sum(bool(numerals.words(code)) for code in LANGUAGES) == 32


def test_a_whole_file_is_read():
    assert numerals.parse(packed()).words == {"no": ["null", "en"]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (packed(version=2), r"number_words.json.gz: version"),
        (packed(num2words="0.6.0"), r"number_words.json.gz: num2words"),
        (packed(numbers=[0, "1"]), r"number_words.json.gz: numbers.1"),
        (packed(words={"no": ["null"]}), r"words of 'no': 1 entries for 2 numbers"),
        (packed(note="x"), r"number_words.json.gz: note"),
        (packed()[:-9], r"not a whole gzip file"),
        (b"{}", r"not a whole gzip file"),
    ],
)
def test_a_damaged_file_is_refused(data, message):
    with pytest.raises(InputError, match=message):
        numerals.parse(data)


def test_it_is_compact():
    data = resources.files("babelscale.corpora").joinpath(numerals.FILE).read_bytes()
    assert len(data) < 200_000
    assert set(numerals.parse(data).words) <= set(LANGUAGES)


def test_num2words_agrees():
    try:
        found = version("num2words")
    except PackageNotFoundError:
        pytest.skip("num2words, with which the file was computed, is not installed")
    if found != numerals.NUM2WORDS:
        pytest.skip(f"num2words {found} is installed, and {numerals.NUM2WORDS} computed the file")
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
