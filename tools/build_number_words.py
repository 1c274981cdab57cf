"""Rebuild src/babelscale/corpora/number_words.json.gz, the number words of the phrasebook.

Usage: python tools/build_number_words.py [--check]

It needs babelscale and num2words 0.5.14 (`pip install num2words==0.5.14`), which is no dependency of babelscale. With
--check it writes nothing and exits with status 1 where the file holds something else than num2words says.
"""

import gzip
import json
import sys
from importlib.metadata import version
from pathlib import Path

from num2words import CONVERTER_CLASSES, num2words

from babelscale.corpora import numerals
from babelscale.corpora.phrasebook import LANGUAGES

FILE = Path(__file__).parents[1] / "src" / "babelscale" / "corpora" / numerals.FILE
NUMBERS = (*range(1200), *range(1200, 10_000, 37), *range(10_000, 1_000_000, 7_919))
# num2words cuts an unknown code to two letters (it counts fil in Finnish), so only exact names are asked for.
NAMES = {"kk": "kz"}


def say(number: int, name: str) -> str | None:
    try:
        return " ".join(num2words(number, lang=name).split())
    except TypeError:  # Amharic beyond a thousand (num2words 0.5.14)
        return None


def content() -> bytes:
    names = {code: NAMES.get(code, code) for code in LANGUAGES}
    words = {
        code: [say(number, name) for number in NUMBERS] for code, name in names.items() if name in CONVERTER_CLASSES
    }
    table = {"version": 1, "num2words": version("num2words"), "numbers": NUMBERS, "words": words}
    return json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()


def main() -> int:
    if version("num2words") != numerals.NUM2WORDS:
        print(
            f"num2words is {version('num2words')}, and babelscale/corpora/numerals.py names {numerals.NUM2WORDS}. "
            "For another release change it there, and raise the phrasebook's edition.",
            file=sys.stderr,
        )
        return 2
    made = content()
    if "--check" in sys.argv:
        same = gzip.decompress(FILE.read_bytes()) == made
        print(f"{FILE.name}: {'agrees with' if same else 'differs from'} num2words {numerals.NUM2WORDS}")
        return 0 if same else 1
    FILE.write_bytes(gzip.compress(made, 9, mtime=0))
    print(f"{FILE.name}: {len(made)} bytes of text, {FILE.stat().st_size} on disk")
    return 0


if __name__ == "__main__":
    sys.exit(main())
