"""Corpus: documents of text by language, and the split into training and held-out text.

A document is one string, its lines parted by newlines: a line of a text file, or a record of JSON lines or Parquet.
The split is a keyed hash of the document, so it depends neither on the order of the documents nor on the other
languages, and a document can never stand on both sides of it.
"""

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypedDict, Unpack

from babelscale import languages as known_languages
from babelscale.errors import InputError

HELD_OUT_SHARE = 0.05
# UTF-8 bytes a token of a 64k vocabulary, assumed where tokens are estimated before there is a tokenizer.
BYTES_PER_TOKEN = 4.0
# Digests are 64 bits: this threshold holds out every document, and 0 none.
EVERY_DOCUMENT, NO_DOCUMENT = 2**64 - 1, 0


class TextPart(Protocol):
    """A stretch of one language's text that one worker reads from its start.

    `identity` changes when the text does; `text_bytes` is about how much it holds; a part `is_of_this_process` when no
    other process could read it. Parts are Pydantic models, listed in `tokenising.AnyPart`.
    """

    @property
    def identity(self) -> str: ...
    @property
    def text_bytes(self) -> int: ...
    @property
    def is_of_this_process(self) -> bool: ...
    def documents(self) -> Iterator[str]: ...


class CorpusSettings(TypedDict, total=False):
    """What every corpus may be given.

    Attributes:
        bytes_per_language: keep the first so many UTF-8 bytes of a language (newlines counted), one number for all
            or one for each language; None keeps everything.
        held_out_share: share of the documents that training never sees.
        held_out_tokens: at most so many tokens of a language are held out: the share is then lowered to this number
            over the language's estimated tokens (`size` / `BYTES_PER_TOKEN`), and a token store drops what lies
            beyond it. None sets no bound.
        seed: key of the split.
    """

    bytes_per_language: int | Mapping[str, int] | None
    held_out_share: float
    held_out_tokens: int | None
    seed: int


class Corpus(ABC):
    """Text by language. Lines hold no newline; within a language no document stands twice, whatever the split.

    Args:
        name: short readable name.
        languages: codes of the languages, checked against the language table.
        settings: see `CorpusSettings`.

    Raises:
        InputError: a code is unknown or stands twice, the share is not inside (0, 1), a size is not positive.
    """

    def __init__(self, name: str, languages: Iterable[str], **settings: Unpack[CorpusSettings]) -> None:
        self.name = name
        self.languages = known_languages.check(languages, f"corpus {name!r}")
        self.held_out_share = held_out_share = settings.get("held_out_share", HELD_OUT_SHARE)
        self.held_out_tokens = held_out_tokens = settings.get("held_out_tokens")
        self.seed = seed = settings.get("seed", 0)
        if repeated := sorted({code for code in self.languages if self.languages.count(code) > 1}):
            raise InputError(f"corpus {name!r}: {', '.join(repeated)} is given twice", hint="give each language once")
        if seed < 0:
            raise InputError(f"corpus {name!r}: seed {seed} is negative", hint="give 0 or more")
        if not self.languages:
            raise InputError(f"corpus {name!r} has no language", hint="give at least one")
        if not 0 < held_out_share < 1:
            raise InputError(f"corpus {name!r}: held-out share {held_out_share} must lie between 0 and 1")
        if held_out_tokens is not None and held_out_tokens <= 0:
            raise InputError(f"corpus {name!r}: held-out tokens {held_out_tokens}", hint="give a positive number")
        self._limits = _limits(name, self.languages, settings.get("bytes_per_language"))

    @abstractmethod
    def parts(self, language: str) -> Sequence[TextPart]:
        """The parts of a language's text, in order."""

    @abstractmethod
    def size(self, language: str) -> int:
        """About how many UTF-8 bytes the language holds, both splits together."""

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything that determines the text and its split."""
        return self._fingerprint()

    @abstractmethod
    def _fingerprint(self) -> str: ...

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the corpus is, for a study's design.json: `kind`, `sentence` and the settings."""

    def _described(self) -> dict[str, Any]:
        """The part of `describe` that is the same for every corpus of files."""
        return {
            "languages": list(self.languages),
            "bytes_per_language": {code: self.limit(code) for code in self.languages},
            "held_out_share": self.held_out_share,
            "held_out_tokens": self.held_out_tokens,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
        }

    def _rule(self) -> str:
        """What the fingerprint says of a bound on held-out tokens; nothing where there is none."""
        return "" if self.held_out_tokens is None else f" at most {self.held_out_tokens}"

    def documents(self, language: str) -> Iterator[str]:
        """The raw documents of a language in order; they may repeat and may go on for ever."""
        for part in self.parts(language):
            yield from part.documents()

    def _documents(self, language: str) -> Iterator[tuple[str, int]]:
        """The raw documents of a language in order, each with the threshold of its part."""
        for part in self.parts(language):
            threshold = self.threshold(language, part)
            for document in part.documents():
                yield document, threshold

    def limit(self, language: str) -> int | None:
        """Upper bound on the UTF-8 bytes of a language, or None."""
        return self._limits.get(language)

    @property
    def split_key(self) -> bytes:
        """Key of the hash that splits the documents and knows the repeated ones."""
        return hashlib.sha256(f"split:{self.seed}".encode()).digest()

    def threshold(self, language: str, part: TextPart) -> int:
        """Documents of a part whose digest lies below it are held out, of 2^64."""
        share = self.held_out_share
        if self.held_out_tokens is not None:
            share = min(share, self.held_out_tokens * BYTES_PER_TOKEN / max(self.size(language), 1))
        return int(share * 2**64)

    def split(self, language: str) -> Iterator[tuple[str, bool]]:
        """Every distinct document of a language with whether it is held out: one pass for both splits.

        Takes about 70 bytes of memory a document, to know the repeated ones.

        Raises:
            InputError: the language is not in the corpus, or too small for both splits to hold a document.
        """
        self.require(language)
        key, limit = self.split_key, self.limit(language)
        seen: set[int] = set()
        counts = [0, 0]
        used = 0
        for document, threshold in self._documents(language):
            data = document.encode()
            number = digest(data, key)
            if number in seen:
                continue
            used += len(data) + 1
            if limit is not None and used > limit:
                break
            seen.add(number)
            held_out = number < threshold
            counts[held_out] += 1
            yield document, held_out
        self.require_both(language, *counts)

    def require_both(self, language: str, train: int, held_out: int) -> None:
        """Raise InputError unless both splits hold a document."""
        if not (train and held_out):
            raise InputError(
                f"corpus {self.name!r}, language {language!r}: the text is too small for its split ({train} "
                f"training and {held_out} held-out documents)",
                hint=f"give more text, or a held-out share above {self.held_out_share:g}",
            )

    def train(self, language: str) -> Iterator[str]:
        """Training lines of a language."""
        return (line for document, held_out in self.split(language) if not held_out for line in document.split("\n"))

    def held_out(self, language: str) -> Iterator[str]:
        """Held-out lines of a language; no document of theirs is a training document."""
        return (line for document, held_out in self.split(language) if held_out for line in document.split("\n"))

    def sample(self, language: str, size: int, seed: int = 0) -> Iterator[str]:
        """Training lines of about `size` UTF-8 bytes altogether, spread evenly over the language.

        A document is taken by a keyed hash of it, since neighbouring ones often come from one source. Without a limit
        on the language only the documents taken are remembered, so that memory goes with the sample.
        """
        self.require(language)
        threshold = int(min(1.0, size / max(self.size(language), 1)) * 2**64)
        key = hashlib.sha256(f"sample:{seed}".encode()).digest()
        if self.limit(language) is None:
            documents = self._sampled(language, threshold, key)
        else:
            training = (document for document, held_out in self.split(language) if not held_out)
            documents = (document for document in training if digest(document.encode(), key) < threshold)
        for document in documents:
            yield from document.split("\n")

    def _first_lines(self, language: str, size: int) -> Iterator[str]:
        """The first training lines, of at most `size` UTF-8 bytes altogether."""
        used = 0
        for line in self.train(language):
            used += len(line.encode()) + 1
            if used > size:
                return
            yield line

    def _sampled(self, language: str, threshold: int, key: bytes) -> Iterator[str]:
        """Training documents whose digest lies below a threshold; those that repeat have one digest."""
        split_key = self.split_key
        seen: set[int] = set()
        for document, held_out in self._documents(language):
            data = document.encode()
            number = digest(data, key)
            if number < threshold and number not in seen:
                seen.add(number)
                if digest(data, split_key) >= held_out:
                    yield document

    def require(self, *languages: str) -> None:
        """Raise InputError naming the languages that the corpus lacks."""
        if missing := [code for code in languages if code not in self.languages]:
            raise InputError(
                f"corpus {self.name!r} has no {', '.join(map(repr, missing))}",
                hint=f"it has {', '.join(self.languages)}",
            )


def digest(data: bytes, key: bytes) -> int:
    """A keyed hash, uniform over 64 bits."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=key).digest(), "little")


def _limits(
    name: str, languages: tuple[str, ...], bytes_per_language: int | Mapping[str, int] | None
) -> dict[str, int]:
    if bytes_per_language is None:
        return {}
    if isinstance(bytes_per_language, Mapping):
        limits = {code: bytes_per_language[code] for code in languages if code in bytes_per_language}
        if unknown := sorted(set(bytes_per_language) - set(languages)):
            raise InputError(
                f"corpus {name!r}: bytes_per_language names {', '.join(unknown)}, which the corpus does not have"
            )
    else:
        limits = dict.fromkeys(languages, bytes_per_language)
    for code, limit in limits.items():
        if limit <= 0:
            raise InputError(f"corpus {name!r}: bytes_per_language of {code!r} is {limit}", hint="give a positive size")
    return limits
