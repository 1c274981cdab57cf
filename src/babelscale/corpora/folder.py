"""A folder of text as a corpus.

Two layouts, which may stand side by side: a file a language (`sw.txt`, `sw.txt.gz`, `sw.jsonl`, `sw.jsonl.gz`,
`sw.parquet`) or a folder a language (`sw/anything.txt`, read in the order of the names). Files of other endings are
left alone. A folder that holds no language itself but a `train` folder stands for that folder.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from babelscale import languages as known_languages
from babelscale.corpora.corpus import HELD_OUT_SHARE, Corpus
from babelscale.corpora.readers import ENDINGS, ending, read_lines
from babelscale.errors import InputError

_TRAIN = "train"


class FolderCorpus(Corpus):
    """Text files of a folder, a language each.

    Args:
        path: the folder.
        languages: codes wanted; None takes all in the folder. Files of other languages are then not looked at.

    Raises:
        InputError: no usable file, an unknown code as a name, a language twice, an empty file, a language missing.
    """

    def __init__(
        self,
        path: Path,
        languages: Iterable[str] | None = None,
        *,
        bytes_per_language: int | Mapping[str, int] | None = None,
        held_out_share: float = HELD_OUT_SHARE,
        seed: int = 0,
    ) -> None:
        self.path = path
        self.folder, found = _find(path)
        wanted = None if languages is None else known_languages.check(languages, f"corpus {str(path)!r}")
        self.files = _chosen(self.folder, found, wanted)
        super().__init__(
            str(path), self.files, bytes_per_language=bytes_per_language, held_out_share=held_out_share, seed=seed
        )
        self._sizes: dict[str, int] = {}

    def lines(self, language: str) -> Iterator[str]:
        """The lines of a language's files, file after file."""
        self.require(language)
        for file in self.files[language]:
            yield from read_lines(file)

    def size(self, language: str) -> int:
        """UTF-8 bytes of a language: the size on disk of plain text, else counted by one pass."""
        self.require(language)
        if language not in self._sizes:
            self._sizes[language] = sum(_text_bytes(file) for file in self.files[language])
        limit = self.limit(language)
        return self._sizes[language] if limit is None else min(limit, self._sizes[language])

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"folder 1 {self.seed} {self.held_out_share!r}".encode())
        for code in sorted(self.languages):
            digest.update(f"\n{code} {self.limit(code)}".encode())
            for file in self.files[code]:
                with file.open("rb") as opened:
                    digest.update(f" {ending(file)} {hashlib.file_digest(opened, 'sha256').hexdigest()}".encode())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "folder",
            "sentence": f"Text from the folder {self.folder}, {len(self.languages)} languages.",
            "path": str(self.path),
            "languages": list(self.languages),
            "bytes_per_language": {code: self.limit(code) for code in self.languages},
            "held_out_share": self.held_out_share,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
        }


def _find(path: Path) -> tuple[Path, dict[str, list[Path]]]:
    """The folder that holds the languages, and its files by name: `path` itself or its `train`."""
    if not path.exists():
        raise InputError(f"corpus {path}: no such folder", hint="name a folder of text, or 'phrasebook'")
    if not path.is_dir():
        raise InputError(f"corpus {path}: not a folder", hint="put the file into a folder, named after its language")
    found = _named(path)
    train = path / _TRAIN
    inner = _named(train) if train.is_dir() else {}
    if not inner:
        return path, found
    named = {name: files for name, files in found.items() if any(file.parent == path for file in files)}
    if named or any(name in known_languages.table() for name in found):
        raise InputError(
            f"corpus {path}: languages both in it and in its folder {_TRAIN!r}", hint=f"name {train} or move one away"
        )
    return train, inner


def _named(folder: Path) -> dict[str, list[Path]]:
    """Text files by the name that should be a language code."""
    named: dict[str, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            name, files = entry.name, [file for file in sorted(entry.iterdir()) if file.is_file() and ending(file)]
            files = [file for file in files if not file.name.startswith(".")]
        else:
            name, files = entry.name.removesuffix(ending(entry)), [entry] if ending(entry) else []
        if files and name in named:
            raise InputError(
                f"corpus {folder}: {name!r} stands twice ({named[name][0].relative_to(folder)} and "
                f"{files[0].relative_to(folder)})",
                hint=f"keep one, or put both files into a folder {name}/",
            )
        if files:
            named[name] = files
    return named


def _chosen(folder: Path, found: dict[str, list[Path]], wanted: tuple[str, ...] | None) -> dict[str, tuple[Path, ...]]:
    if not found:
        raise InputError(
            f"corpus {folder}: no text in it",
            hint=f"name files after language codes, with an ending of {', '.join(ENDINGS)}",
        )
    if wanted is None:
        for name, files in found.items():
            known_languages.check([name], str(files[0] if files[0].parent == folder else files[0].parent))
        wanted = tuple(sorted(found))
    if missing := [code for code in wanted if code not in found]:
        raise InputError(
            f"corpus {folder}: no file for {', '.join(map(repr, missing))}", hint=f"it holds {', '.join(sorted(found))}"
        )
    for code in wanted:
        for file in found[code]:
            if not file.stat().st_size:
                raise InputError(f"{file}: the file is empty", hint="fill the file or take it away")
    return {code: tuple(found[code]) for code in wanted}


def _text_bytes(file: Path) -> int:
    if ending(file) == ".txt":
        return file.stat().st_size
    return sum(len(line.encode()) + 1 for line in read_lines(file))
