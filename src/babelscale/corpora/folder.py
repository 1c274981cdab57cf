"""A folder of text as a corpus, local or at any location fsspec knows.

Two layouts, which may stand side by side: a file a language (`sw.txt`, `sw.txt.gz`, `sw.jsonl`, `sw.jsonl.gz`,
`sw.parquet`) or a folder a language (`sw/anything.txt`, read in the order of the names). Files of other endings are
left alone. A folder that holds no language itself but a `train` folder stands for that folder; a `valid` folder of the
same layout beside `train` is then the held-out text, and no text of `train` is held out.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Unpack

from babelscale import languages as known_languages
from babelscale.corpora.corpus import EVERY_DOCUMENT, NO_DOCUMENT, Corpus, CorpusSettings, TextPart
from babelscale.corpora.locations import TextFile, entries, inside, settled
from babelscale.corpora.readers import ENDINGS, FilePart, about_text_bytes, ending, parts_of
from babelscale.errors import InputError

_TRAIN, _VALID = "train", "valid"


class FolderCorpus(Corpus):
    """Text files of a folder, a language each.

    Args:
        path: the folder, a path or a location of fsspec's.
        languages: codes wanted; None takes all in the folder. Files of other languages are then not looked at.
        held_out_share: of the documents; by default `HELD_OUT_SHARE`. It is not given where a `valid` folder is there.

    Raises:
        InputError: no usable file, an unknown code as a name, a language twice, an empty file, a language missing; a
            `valid` folder without one of the languages, or beside a `held_out_share`.
    """

    def __init__(
        self, path: str | Path, languages: Iterable[str] | None = None, **settings: Unpack[CorpusSettings]
    ) -> None:
        self.path = settled(path)
        self.folder, found, held_out = _find(self.path)
        wanted = None if languages is None else known_languages.check(languages, f"corpus {self.path!r}")
        self.files = _chosen(self.folder, found, wanted)
        self.valid: dict[str, tuple[TextFile, ...]] = {}
        if held_out is not None:
            if "held_out_share" in settings:
                raise InputError(
                    f"corpus {self.path}: held_out_share is given, but the folder {_VALID!r} is the held-out text",
                    hint="leave out held_out_share, or remove the folder",
                )
            self.valid = _chosen(inside(self.path, _VALID), held_out, tuple(self.files))
        super().__init__(self.path, self.files, **settings)
        self._sizes: dict[str, int] = {}

    def parts(self, language: str) -> list[FilePart]:
        self.require(language)
        # Held-out text comes first: what repeats in the training text is dropped there.
        files = (*self.valid.get(language, ()), *self.files[language])
        return [part for file in files for part in parts_of(file)]

    def threshold(self, language: str, part: TextPart) -> int:
        if not self.valid:
            return super().threshold(language, part)
        held_out = isinstance(part, FilePart) and part.file in self.valid[language]
        return EVERY_DOCUMENT if held_out else NO_DOCUMENT

    def size(self, language: str) -> int:
        """UTF-8 bytes of a language's `files`: the size of plain text; else counted by one pass where the file is
        local, and estimated from its size where it is not."""
        self.require(language)
        if language not in self._sizes:
            self._sizes[language] = sum(_text_bytes(file) for file in self.files[language])
        limit = self.limit(language)
        return self._sizes[language] if limit is None else min(limit, self._sizes[language])

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"folder 1 {self.seed} {self.held_out_share!r}{self._rule()}".encode())
        for code in sorted(self.languages):
            digest.update(f"\n{code} {self.limit(code)}".encode())
            for part, files in (("valid", self.valid.get(code, ())), ("", self.files[code])):
                for file in files:
                    kind = ending(file.name)
                    # Records became documents, which moves their split; lines of text did not change.
                    documents = "" if ".txt" in kind else " documents"
                    digest.update(f"{part} {kind}{documents} {file.identity}".encode())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "folder",
            "sentence": f"Text from the folder {self.folder}, {len(self.languages)} languages.",
            "path": self.path,
            **self._described(),
            **({"held_out_share": None} if self.valid else {}),
        }


def _find(path: str) -> tuple[str, dict[str, list[TextFile]], dict[str, list[TextFile]] | None]:
    """The folder that holds the languages, its files by name, and those of held-out text: `path` itself, or its `train`
    and its `valid`."""
    found, folders = _named(path)
    inner = _named(folders[_TRAIN])[0] if _TRAIN in folders else {}
    if not inner:
        return path, found, None
    if any(name not in folders or name in known_languages.table() for name in found):
        raise InputError(
            f"corpus {path}: there are languages both in the folder and in its folder {_TRAIN!r}",
            hint=f"give {folders[_TRAIN]} or move one of them away",
        )
    return folders[_TRAIN], inner, _named(folders[_VALID])[0] if _VALID in folders else None


def _named(folder: str) -> tuple[dict[str, list[TextFile]], dict[str, str]]:
    """Text files by the name that should be a language code, and the folders by name."""
    named: dict[str, list[TextFile]] = {}
    folders: dict[str, str] = {}
    first: dict[str, str] = {}
    what = f"corpus {folder}"
    for entry in entries(folder, what, "give a folder of text, or 'phrasebook'"):
        if entry.file is None:
            name, folders[entry.name] = entry.name, entry.place
            inner = entries(entry.place, what, "")
            files = [each.file for each in inner if each.file is not None and ending(each.name)]
            shown = [f"{entry.name}/{file.name}" for file in files]
        else:
            name = entry.name.removesuffix(ending(entry.name))
            files = [entry.file] if ending(entry.name) else []
            shown = [file.name for file in files]
        if files and name in named:
            raise InputError(
                f"{what}: {name!r} occurs twice ({first[name]} and {shown[0]})",
                hint=f"keep one, or put both files into a folder {name}/",
            )
        if files:
            named[name], first[name] = files, shown[0]
    return named, folders


def _chosen(
    folder: str, found: dict[str, list[TextFile]], wanted: tuple[str, ...] | None
) -> dict[str, tuple[TextFile, ...]]:
    if not found:
        raise InputError(
            f"corpus {folder}: there is no text in it",
            hint=f"name files after language codes, with an ending of {', '.join(ENDINGS)}",
        )
    if wanted is None:
        for name, files in found.items():
            alone = files[0].place == inside(folder, files[0].name)
            known_languages.check([name], files[0].place if alone else inside(folder, name))
        wanted = tuple(sorted(found))
    if missing := [code for code in wanted if code not in found]:
        raise InputError(
            f"corpus {folder}: no file for {', '.join(map(repr, missing))}", hint=f"it holds {', '.join(sorted(found))}"
        )
    for code in wanted:
        for file in found[code]:
            if not file.bytes:
                raise InputError(f"{file.place}: the file is empty", hint="put text into the file or remove it")
    return {code: tuple(found[code]) for code in wanted}


def _text_bytes(file: TextFile) -> int:
    if ending(file.name) == ".txt" or file.is_remote:
        return about_text_bytes(file)
    return sum(len(document.encode()) + 1 for document in FilePart(file=file).documents())
