"""Corpus: lines of text by language, and the split into training and held-out text.

The split is a keyed hash of the line, so it depends neither on the order of the lines nor on the other languages, and
a line can never stand on both sides of it.
"""

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from babelscale import languages as known_languages
from babelscale.errors import InputError

HELD_OUT_SHARE = 0.05
PHRASEBOOK = "phrasebook"


class Corpus(ABC):
    """Text by language. Lines hold no newline; within a language none stands twice, whatever the split.

    Args:
        name: short readable name.
        languages: codes of the languages, checked against the language table.
        bytes_per_language: keep the first so many UTF-8 bytes of a language (newlines counted), one number for all
            or one a language; None keeps everything.
        held_out_share: share of the lines that training never sees.
        seed: key of the split.

    Raises:
        InputError: a code is unknown or stands twice, the share is not inside (0, 1), a size is not positive.
    """

    def __init__(
        self,
        name: str,
        languages: Iterable[str],
        *,
        bytes_per_language: int | Mapping[str, int] | None,
        held_out_share: float,
        seed: int,
    ) -> None:
        self.name = name
        self.languages = known_languages.check(languages, f"corpus {name!r}")
        self.held_out_share = held_out_share
        self.seed = seed
        if repeated := sorted({code for code in self.languages if self.languages.count(code) > 1}):
            raise InputError(f"corpus {name!r}: {', '.join(repeated)} asked for twice", hint="name each language once")
        if seed < 0:
            raise InputError(f"corpus {name!r}: seed {seed} is negative", hint="give 0 or more")
        if not self.languages:
            raise InputError(f"corpus {name!r} has no language", hint="name at least one")
        if not 0 < held_out_share < 1:
            raise InputError(f"corpus {name!r}: held-out share {held_out_share} must lie between 0 and 1")
        self._limits = _limits(name, self.languages, bytes_per_language)

    @abstractmethod
    def lines(self, language: str) -> Iterator[str]:
        """The raw lines of a language in order; they may repeat and may go on for ever."""

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

    def limit(self, language: str) -> int | None:
        """Upper bound on the UTF-8 bytes of a language, or None."""
        return self._limits.get(language)

    def split(self, language: str) -> Iterator[tuple[str, bool]]:
        """Every distinct line of a language with whether it is held out: one pass for both splits.

        Takes about 100 bytes of memory a line, to know the repeated ones.

        Raises:
            InputError: the language is not in the corpus, or too small for both splits to hold a line.
        """
        self.require(language)
        key = hashlib.sha256(f"split:{self.seed}".encode()).digest()
        threshold = int(self.held_out_share * 2**64)
        limit = self.limit(language)
        seen: set[int] = set()
        counts = [0, 0]
        used = 0
        for line in self.lines(language):
            data = line.encode()
            digest = int.from_bytes(hashlib.blake2b(data, digest_size=8, key=key).digest(), "little")
            if digest in seen:
                continue
            used += len(data) + 1
            if limit is not None and used > limit:
                break
            seen.add(digest)
            held_out = digest < threshold
            counts[held_out] += 1
            yield line, held_out
        if not all(counts):
            raise InputError(
                f"corpus {self.name!r}, language {language!r}: too small for its split ({counts[0]} training and "
                f"{counts[1]} held-out lines)",
                hint=f"give more text than now, or a held-out share above {self.held_out_share:g}",
            )

    def train(self, language: str) -> Iterator[str]:
        """Training lines of a language."""
        return (line for line, held_out in self.split(language) if not held_out)

    def held_out(self, language: str) -> Iterator[str]:
        """Held-out lines of a language; none of them is a training line."""
        return (line for line, held_out in self.split(language) if held_out)

    def sample(self, language: str, size: int, seed: int = 0) -> Iterator[str]:
        """Training lines of about `size` UTF-8 bytes altogether, spread evenly over the language.

        A line is taken by a keyed hash of it, since neighbouring lines often come from one source.
        """
        threshold = int(min(1.0, size / max(self.size(language), 1)) * 2**64)
        key = hashlib.sha256(f"sample:{seed}".encode()).digest()
        for line in self.train(language):
            digest = hashlib.blake2b(line.encode(), digest_size=8, key=key).digest()
            if int.from_bytes(digest, "little") < threshold:
                yield line

    def require(self, *languages: str) -> None:
        """Raise InputError naming the languages that the corpus lacks."""
        if missing := [code for code in languages if code not in self.languages]:
            raise InputError(
                f"corpus {self.name!r} has no {', '.join(map(repr, missing))}",
                hint=f"it holds {', '.join(self.languages)}",
            )


def _limits(
    name: str, languages: tuple[str, ...], bytes_per_language: int | Mapping[str, int] | None
) -> dict[str, int]:
    if bytes_per_language is None:
        return {}
    if isinstance(bytes_per_language, Mapping):
        limits = {code: bytes_per_language[code] for code in languages if code in bytes_per_language}
        if unknown := sorted(set(bytes_per_language) - set(languages)):
            raise InputError(f"corpus {name!r}: bytes_per_language names {', '.join(unknown)}, which it does not hold")
    else:
        limits = dict.fromkeys(languages, bytes_per_language)
    for code, limit in limits.items():
        if limit <= 0:
            raise InputError(f"corpus {name!r}: bytes_per_language of {code!r} is {limit}", hint="give a positive size")
    return limits


def open_corpus(
    spec: str | Path,
    *,
    languages: Iterable[str] | None = None,
    bytes_per_language: int | Mapping[str, int] | None = None,
    held_out_share: float = HELD_OUT_SHARE,
    seed: int = 0,
) -> Corpus:
    """The corpus a design names: "phrasebook", or the path of a folder of text.

    Args:
        spec: "phrasebook", or a folder (see `folder.FolderCorpus` for what may stand in it; "./phrasebook" for one of
            that name).
        languages: codes wanted; None takes all there are.
        bytes_per_language: at most so many UTF-8 bytes of each language; the phrasebook's default is 1 MB.
        held_out_share: share of the lines kept from training.
        seed: key of the split, and for the phrasebook of the text.

    Raises:
        InputError: names the file or the code that cannot be used, and what to do.
    """
    if spec == PHRASEBOOK:
        from babelscale.corpora.phrasebook import BYTES_PER_LANGUAGE, LANGUAGES, Phrasebook

        return Phrasebook(
            LANGUAGES if languages is None else languages,
            bytes_per_language=BYTES_PER_LANGUAGE if bytes_per_language is None else bytes_per_language,
            held_out_share=held_out_share,
            seed=seed,
        )
    from babelscale.corpora.folder import FolderCorpus

    return FolderCorpus(
        Path(spec), languages, bytes_per_language=bytes_per_language, held_out_share=held_out_share, seed=seed
    )
