"""The phrasebook: text that needs no download, composed at run time from CLDR (through Babel) and number words.

It is a phrasebook and not prose: names of countries, languages, currencies, cities and units, dates, times, amounts and
number words, put together by each language's own patterns. It serves demonstrations and tests; conclusions about
languages need text that people wrote.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, Literal, Unpack

import numpy as np
from pydantic import BaseModel

from babelscale.corpora import numerals
from babelscale.corpora.corpus import Corpus, CorpusSettings
from babelscale.errors import InputError

# Languages for which CLDR, as Babel ships it, is rich in names and patterns of their own: 53 in 24 scripts. At
# least 94 % of the letters are of the language's own script, and at most 21 % of unit patterns are English's.
_CODES = """
am ar bg bn ca cs da de el en es et fa fi fr gu he hi hu hy id it ja ka kk km kn
ko lo ml mr ms my ne nl no pa pl pt ro ru si sv sw ta te th tr uk ur vi zh zu
"""
LANGUAGES = tuple(_CODES.split())
BYTES_PER_LANGUAGE = 1_000_000
_EDITION = 1
_SENTENCE = (
    "A phrasebook, not prose: sentences composed at run time from CLDR names and patterns (Babel) and number words "
    "(computed with num2words); good for demonstrations and tests, not for conclusions about languages."
)


class PhrasebookPart(BaseModel, frozen=True):
    """A language's composed lines, without end; `text_bytes` is how many of them are asked for."""

    kind: Literal["phrasebook"] = "phrasebook"
    language: str
    seed: int
    text_bytes: int

    @property
    def identity(self) -> str:
        return json.dumps([self.language, self.seed, _EDITION, _versions()])

    @property
    def is_of_this_process(self) -> bool:
        return False

    def documents(self) -> Iterator[str]:
        """Composed lines without end, each a document."""
        from babelscale.corpora.sentences import Composer

        data, words = _tables(self.language)
        rng = np.random.default_rng([self.seed, *self.language.encode()])
        composer = Composer(data, words, self.seed, rng)
        while True:
            yield composer.line()


class Phrasebook(Corpus):
    """Composed text in any of `LANGUAGES`, the same bytes for the same seed, language, size and library versions.

    A larger size continues a smaller one, and which other languages are asked for changes nothing.

    Raises:
        InputError: a language the phrasebook does not speak.
    """

    def __init__(self, languages: Iterable[str] = LANGUAGES, **settings: Unpack[CorpusSettings]) -> None:
        languages = tuple(languages)
        size = settings.get("bytes_per_language")
        if size is None:
            size = BYTES_PER_LANGUAGE
        elif isinstance(size, Mapping):
            size = dict.fromkeys(languages, BYTES_PER_LANGUAGE) | dict(size)
        super().__init__("phrasebook", languages, **(settings | {"bytes_per_language": size}))
        if unknown := [code for code in self.languages if code not in LANGUAGES]:
            raise InputError(
                f"the phrasebook does not have {', '.join(map(repr, unknown))}",
                hint=f"it has {' '.join(LANGUAGES)}; for other languages give a folder of text",
            )

    def parts(self, language: str) -> list["PhrasebookPart"]:
        self.require(language)
        return [PhrasebookPart(language=language, seed=self.seed, text_bytes=self._limits[language])]

    def size(self, language: str) -> int:
        return self._limits[language]

    def sample(self, language: str, size: int, seed: int = 0) -> Iterator[str]:
        """The first training lines: every line is composed alike, so no other sample is better."""
        return self._first_lines(language, size)

    def _fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self._settings(), sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        return self._settings() | {"sentence": _SENTENCE, "fingerprint": self.fingerprint}

    def _settings(self) -> dict[str, Any]:
        return {
            "kind": "phrasebook",
            "edition": _EDITION,
            "languages": sorted(self.languages),
            "bytes_per_language": {code: self._limits[code] for code in sorted(self.languages)},
            "held_out_share": self.held_out_share,
            "seed": self.seed,
            "versions": _versions(),
        } | ({} if self.held_out_tokens is None else {"held_out_tokens": self.held_out_tokens})


def _versions() -> dict[str, str]:
    """Releases that the text depends on: the installed Babel, and the num2words that computed the number words."""
    return {"babel": version("babel"), "num2words": numerals.NUM2WORDS}


@functools.cache
def _tables(language: str) -> tuple[Any, dict[int, str]]:
    from babelscale.corpora import cldr

    return cldr.read(language), numerals.words(language)
