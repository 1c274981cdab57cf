"""ParallelSet: the same lines in many languages, one file each, as a second test set.

The layouts it knows by the names of the files:

    arb_Arab.devtest               FLORES-200 (its folder, or the one above it)
    ara.devtest, zho_simpl.devtest FLORES-101
    newstest2019-ref.arb.txt       NTREX-128, with newstest2019-src.eng.txt for English
    ar.txt                         plain: our codes
"""

import csv
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from babelscale import languages as known_languages
from babelscale.corpora.locations import FolderEntry, TextFile, entries, settled
from babelscale.corpora.readers import FilePart, numbered_lines
from babelscale.errors import InputError

_FLORES = re.compile(r"(?P<code>[a-z]{3})(?:_(?P<script>[A-Z][a-z]{3})|_(?P<style>simpl|trad))?\.devtest")
_NTREX = re.compile(
    r"newstest2019-(?:src\.(?P<source>eng)|ref\.(?P<code>[a-z]{3})(?:-(?P<script>[A-Z][a-z]{3})|-(?P<region>[A-Z]{2}))?)\.txt"
)
_PLAIN = re.compile(r"(?P<code>[A-Za-z0-9-]+)\.txt")
_FOLDERS = ("devtest", "NTREX-128")
_STYLES = {"simpl": "Hans", "trad": "Hant"}
_HINT = "give a folder of FLORES (devtest), of NTREX (NTREX-128) or of files such as sw.txt"
# Codes of the sets that neither the table nor the standard leads to ours.
_OWN = {"tgl": "fil"}


class ParallelSet:
    """Line-aligned text.

    Attributes:
        name: where it lies.
        languages: codes it holds, of those asked for.
        missing: codes asked for that it lacks.
    """

    def __init__(self, name: str, lines: Mapping[str, tuple[str, ...]], missing: Iterable[str]) -> None:
        self.name = name
        self.languages = tuple(sorted(lines))
        self.missing = tuple(missing)
        self._lines = dict(lines)

    def holds(self, language: str) -> bool:
        """Whether the set holds a language."""
        return language in self._lines

    def lines(self, language: str) -> tuple[str, ...]:
        """The lines of a language, as many as in every other.

        Raises:
            InputError: the set lacks the language.
        """
        if language not in self._lines:
            raise InputError(
                f"parallel set {self.name} has no {language!r}", hint=f"it holds {', '.join(self.languages)}"
            )
        return self._lines[language]

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the lines of all languages."""
        digest = hashlib.sha256(b"parallel 1")
        for code in self.languages:
            digest.update("\n".join([f"\n{code} {len(self._lines[code])}", *self._lines[code]]).encode())
        return digest.hexdigest()


def open_parallel(location: str | Path, languages: Iterable[str]) -> ParallelSet:
    """The part of a parallel test set in some languages, from a path or a location of fsspec's.

    Languages that the set lacks are left out and named in `missing`. Of several scripts of a language the table's is
    taken.

    Raises:
        InputError: no such folder, no file of these languages, a file that is empty or no UTF-8 text, or files of
            different numbers of lines.
    """
    place = settled(location)
    wanted = known_languages.check(languages, f"parallel set {place}")
    found = _find(place)
    files = {code: file for code in sorted(set(wanted)) if (file := _file_of(code, found)) is not None}
    if not files:
        raise InputError(
            f"parallel set {place}: none of {', '.join(map(repr, wanted))} in it",
            hint=f"it holds {', '.join(sorted({entry.name for entry in found}))}",
        )
    lines = {code: _read(file) for code, file in files.items()}
    first = next(iter(lines))
    for code, held in lines.items():
        if len(held) != len(lines[first]):
            raise InputError(
                f"{files[code].place}: it has {len(held):,} lines, but {files[first].place} has {len(lines[first]):,}",
                hint="the files of a parallel set must have the same lines in the same order: download them again",
            )
    return ParallelSet(place, lines, [code for code in wanted if code not in lines])


class _Named(NamedTuple):
    """A file and the language and script its name says; `own` when that is our code already."""

    name: str
    code: str
    script: str | None
    own: bool
    file: TextFile


def _find(place: str) -> list[_Named]:
    what = f"parallel set {place}"
    listed = entries(place, what, _HINT)
    if found := _named(listed):
        return found
    for entry in listed:
        if entry.file is None and entry.name in _FOLDERS and (found := _named(entries(entry.place, what, _HINT))):
            return found
    raise InputError(f"{what}: there are no parallel files in it", hint=_HINT)


def _named(listed: Iterable[FolderEntry]) -> list[_Named]:
    """The files of the first layout that any file has."""
    files = [entry.file for entry in listed if entry.file is not None]
    found = []
    for file in files:
        if match := _FLORES.fullmatch(file.name):
            script = match["script"] or _STYLES.get(match["style"] or "")
            found.append(_Named(file.name, match["code"], script, False, file))
        elif (match := _NTREX.fullmatch(file.name)) and match["region"] in (None, "CN"):
            script = "Hans" if match["region"] else match["script"]
            found.append(_Named(file.name, match["source"] or match["code"], script, False, file))
    if found:
        return found
    plain = ((file, _PLAIN.fullmatch(file.name)) for file in files)
    return [_Named(file.name, match["code"], None, True, file) for file, match in plain if match]


def _file_of(code: str, found: list[_Named]) -> TextFile | None:
    """The file of one of our languages: by its own three-letter code, else by the one its macro-language has."""
    if own := [named.file for named in found if named.own and named.code == code]:
        return own[0]
    others = [named for named in found if not named.own]
    for matches in (
        [named for named in others if code in _by_iso().get(named.code, ())],
        [named for named in others if _usual(named.code, macro=False) == code],
        [named for named in others if named.code not in _by_iso() and _usual(named.code, macro=True) == code],
    ):
        if len(matches) > 1:
            matches = [named for named in matches if named.script == known_languages.lookup(code).script]
        if len(matches) == 1:
            return matches[0].file
    return None


def _usual(code: str, *, macro: bool) -> str:
    import langcodes

    if code in _OWN:
        return _OWN[code]
    return langcodes.standardize_tag(code, macro=macro) if langcodes.tag_is_valid(code) else ""


@functools.cache
def _by_iso() -> Mapping[str, frozenset[str]]:
    """Our codes by ISO 639-3 code: `nob` is both `no` and `nb`."""
    text = resources.files("babelscale").joinpath("languages.csv").read_text(encoding="utf-8")
    codes: dict[str, set[str]] = {}
    for row in csv.DictReader(text.splitlines()):
        codes.setdefault(row["iso639_3"], set()).add(row["code"])
    return {iso: frozenset(held) for iso, held in codes.items()}


def _read(file: TextFile) -> tuple[str, ...]:
    lines = tuple(line for _, block in numbered_lines(FilePart(file=file)) for line in block)
    if not any(line.strip() for line in lines):
        raise InputError(f"{file.place}: it contains no line of text", hint="fetch the file again")
    return lines
