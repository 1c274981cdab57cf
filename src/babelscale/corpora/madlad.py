"""MADLAD-400 (Kudugunta et al. 2023, arXiv 2309.04662) as a corpus, in the layout of its place on the Hugging Face hub.

    data/<code>/<code>_clean_0000.jsonl.gz              and _noisy_: a folder a language, shards numbered from 0
    data-v1p5/<code>/clean_docs_v2-00000-of-00010.jsonl.gz   the later edition; empty shards are left out there

A shard's line is {"text": ...}, a document whose newlines are written as a backslash and an n. The codes of the folders
are BCP-47 with underscores and some of them legacy (`iw`); a folder that is no language of our table stands under a
private code (`zh_Latn` under `x-zh-Latn`), taken only when asked for by that name.

Nothing is fetched that is not read: sizes are estimated from those of the shards.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Unpack

from babelscale import languages as known_languages
from babelscale.corpora.corpus import Corpus, CorpusSettings
from babelscale.corpora.locations import FolderEntry, TextFile, entries, inside, settled
from babelscale.corpora.readers import FilePart, about_text_bytes, parts_of
from babelscale.errors import InputError

HUB = "hf://datasets/allenai/MADLAD-400"
EDITIONS = ("data", "data-v1p5")
SUBSETS = ("clean", "noisy")
# The test rule of the ATLAS study (arXiv 2510.22037): min(20M tokens, 20 %) of a language.
HELD_OUT_SHARE, HELD_OUT_TOKENS = 0.2, 20_000_000
_LEGACY = {"iw": "he", "in": "id", "ji": "yi", "jw": "jv", "tl": "fil", "mo": "ro"}
_SHARD = re.compile(
    r"(?:(?P<code>\w+)_)?(?P<subset>clean|noisy)_(?:docs(?:_v2)?-)?(?P<number>\d+)(?:-of-\d+)?\.jsonl\.gz"
)
_HINT = "give a copy in the layout of the hub: a folder that contains data/, or data/ itself"


class Madlad400(Corpus):
    """One subset of MADLAD-400.

    Args:
        subset: "clean" or "noisy".
        location: a copy of the hub's layout, or one edition's folder in it (`.../data-v1p5`); None is the hub.
        languages: codes of our table, or private ones; None takes all of the table that are there.

    Raises:
        InputError: no such subset or location, a language that is not there, a shard missing or empty.
    """

    def __init__(
        self,
        subset: str = "clean",
        location: str | None = None,
        languages: Iterable[str] | None = None,
        **settings: Unpack[CorpusSettings],
    ) -> None:
        if subset not in SUBSETS:
            raise InputError(f"madlad-400 has no part {subset!r}", hint=f"it has {' and '.join(SUBSETS)}")
        self.subset = subset
        self.location = settled(location or HUB)
        self.folder, found = _find(self.location)
        name = f"madlad-400:{subset}@{self.folder}"
        wanted = [code for code in found if not known_languages.is_private(code)] if languages is None else languages
        wanted = _check(name, tuple(wanted), found)
        self.shards = {code: _shards(found[code], subset) for code in wanted}
        test_rule: CorpusSettings = {"held_out_share": HELD_OUT_SHARE, "held_out_tokens": HELD_OUT_TOKENS}
        super().__init__(name, wanted, **(test_rule | settings))

    def parts(self, language: str) -> list[FilePart]:
        self.require(language)
        return [part for shard in self.shards[language] for part in parts_of(shard, escaped=True)]

    def size(self, language: str) -> int:
        """About how many UTF-8 bytes a language holds, estimated from the size of its shards."""
        self.require(language)
        size = sum(about_text_bytes(shard) for shard in self.shards[language])
        limit = self.limit(language)
        return size if limit is None else min(limit, size)

    def sample(self, language: str, size: int, seed: int = 0) -> Iterator[str]:
        """The first training lines: a sample from all over a language would fetch all of it."""
        return self._first_lines(language, size)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"madlad-400 1 {self.seed} {self.held_out_share!r}{self._rule()}".encode())
        for code in sorted(self.languages):
            digest.update(f"\n{code} {self.limit(code)}".encode())
            for shard in self.shards[code]:
                digest.update(f" {shard.name} {shard.identity}".encode())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "madlad-400",
            "sentence": f"The {self.subset} part of MADLAD-400 from {self.folder}, {len(self.languages)} languages.",
            "subset": self.subset,
            "location": self.folder,
            **self._described(),
        }


def code_of(name: str) -> str:
    """Our code of one of MADLAD-400's: the table's where it holds the language, a private one otherwise."""
    code = name.replace("_", "-")
    code = _LEGACY.get(code, code)
    return code if code in known_languages.table() else f"x-{name.replace('_', '-')}"


def _find(location: str) -> tuple[str, dict[str, FolderEntry]]:
    """The folder that holds the languages, and the languages' folders by our code."""
    what = f"madlad-400 at {location}"
    found = {entry.name: entry for entry in entries(location, what, _HINT) if entry.file is None}
    for edition in EDITIONS:
        if edition in found:
            return _find(found[edition].place)
    named: dict[str, FolderEntry] = {}
    for name, entry in found.items():
        code = code_of(name)
        if code in named:
            raise InputError(f"{what}: {named[code].name} and {name} are both {code!r}", hint="remove one of them")
        named[code] = entry
    if not named:
        raise InputError(f"{what}: there is no folder of a language in it", hint=_HINT)
    return location, named


def _check(what: str, wanted: tuple[str, ...], found: Mapping[str, FolderEntry]) -> tuple[str, ...]:
    private = sorted(code for code in found if known_languages.is_private(code))
    also = f"; under private codes {', '.join(private)}" if private else ""
    for code in wanted:
        if (own := f"x-{code.replace('_', '-')}") in private:
            raise InputError(f"{what}: {code!r} is a code that only MADLAD-400 uses", hint=f"write {own!r}")
    checked = known_languages.check(wanted, what)
    if missing := [code for code in checked if code not in found]:
        held = sorted(code for code in found if code not in private)
        raise InputError(
            f"{what}: no folder of {', '.join(map(repr, missing))}", hint=f"it holds {', '.join(held)}{also}"
        )
    return checked


def _shards(folder: FolderEntry, subset: str) -> tuple[TextFile, ...]:
    """A language's shards of one subset, in order."""
    what = folder.place
    found: dict[int, TextFile] = {}
    numbered = False
    for entry in entries(folder.place, what, _HINT):
        match = _SHARD.fullmatch(entry.name)
        if match is None or entry.file is None or match["subset"] != subset:
            continue
        numbered |= match["code"] is not None
        if not entry.file.bytes:
            raise InputError(f"{entry.place}: the shard is empty", hint="download it again")
        found[int(match["number"])] = entry.file
    if not found:
        raise InputError(
            f"{what}: no {subset} shard in it", hint=f"shards are named as {folder.name}_{subset}_0000.jsonl.gz"
        )
    if numbered and (gap := next((number for number in range(max(found)) if number not in found), None)) is not None:
        raise InputError(
            f"{inside(what, f'{folder.name}_{subset}_{gap:04d}.jsonl.gz')}: the shard is missing",
            hint=f"download it: there are others up to {max(found):04d}",
        )
    return tuple(found[number] for number in sorted(found))
