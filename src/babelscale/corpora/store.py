"""TokenStore: the tokens of every language and split as flat memory-mapped files.

store.json            sizes, checksums, the tokenizer's and the corpus' hashes
token_bytes.bin       uint16 (V,): UTF-8 bytes each token stands for
<language>.train.bin  ids, uint16 where the vocabulary fits and uint32 otherwise, little endian
<language>.held_out.bin
<language>.counts.bin uint64 (V,): how often each token stands in the training part
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from babelscale.corpora.corpus import Corpus
from babelscale.corpora.tokenizer import Tokenizer
from babelscale.errors import InputError
from babelscale.files import new_folder

Progress = Callable[[str, int, int], None]

Split = Literal["train", "held_out"]

STORE = "store.json"
SPLITS: tuple[Split, ...] = ("train", "held_out")
_TOKEN_BYTES = "token_bytes.bin"
_BATCH_CHARACTERS = 1 << 20


class SplitFacts(BaseModel):
    """Size of one split of one language; bytes are of its UTF-8 text, newlines counted."""

    tokens: int
    bytes: int
    lines: int


class FileFacts(BaseModel):
    """Size and checksum of one file."""

    bytes: int
    sha256: str


class StoreRecord(BaseModel):
    """What store.json says. `tokenizer` and `corpus` are hashes; `languages` goes by code and split."""

    format: Literal["babelscale token store 1"] = "babelscale token store 1"
    dtype: Literal["<u2", "<u4"]
    vocabulary_size: int
    end_of_line: int
    tokenizer: str
    corpus: str
    languages: dict[str, dict[Split, SplitFacts]]
    files: dict[str, FileFacts]


class TokenStore:
    """Tokens of one corpus under one tokenizer, read only.

    Attributes:
        folder: where the files lie.
        record: what store.json says.
        hash: SHA-256 (hex) of the record, and so of every token through the checksums in it.
    """

    def __init__(self, folder: Path, record: StoreRecord) -> None:
        self.folder = folder
        self.record = record
        self.hash = hashlib.sha256(record.model_dump_json().encode()).hexdigest()
        self.dtype = np.dtype(record.dtype)
        self.vocabulary_size = record.vocabulary_size
        self.end_of_line = record.end_of_line
        self.tokenizer_hash = record.tokenizer
        self.corpus_fingerprint = record.corpus

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = False) -> "TokenStore":
        """Open a store; every file's size is checked, and with `verify` every checksum.

        Raises:
            InputError: no store in the folder, or a file that is missing, cut short or changed.
        """
        folder = Path(folder)
        path = folder / STORE
        try:
            record = StoreRecord.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError) as error:
            raise InputError(f"{path}: not a token store ({error})", hint="build the store again") from None
        for name, facts in record.files.items():
            _check_file(folder / name, facts, verify=verify)
        return cls(folder, record)

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.record.languages)

    @functools.cached_property
    def unique_tokens(self) -> Mapping[str, int]:
        """U by language: the tokens of its training part."""
        return MappingProxyType({code: self.count(code, "train") for code in self.languages})

    def count(self, language: str, split: Split) -> int:
        """Tokens of a language's split ("train" or "held_out")."""
        return self._facts(language)[split].tokens

    def bytes(self, language: str, split: Split) -> int:
        """UTF-8 bytes of a language's split, newlines counted."""
        return self._facts(language)[split].bytes

    def train(self, language: str) -> NDArray[np.unsignedinteger]:
        """(tokens,) memory-mapped training ids."""
        return self._mapped(language, "train")

    def held_out(self, language: str) -> NDArray[np.unsignedinteger]:
        """(tokens,) memory-mapped held-out ids."""
        return self._mapped(language, "held_out")

    @functools.cached_property
    def token_bytes(self) -> NDArray[np.uint16]:
        """(V,) UTF-8 bytes each token stands for."""
        return np.fromfile(self.folder / _TOKEN_BYTES, dtype="<u2")

    def unigram_nats(self, language: str) -> NDArray[np.float64]:
        """(V,) -log p of each token under the language's training unigram, add-one smoothed.

        p(v) = (c_v + 1) / (sum c + V), the reference of the unigram-normalised loss (Tao et al. 2024).
        """
        self._facts(language)
        counts = np.fromfile(self.folder / f"{language}.counts.bin", dtype="<u8").astype(np.float64)
        return np.log(counts.sum() + self.vocabulary_size) - np.log(counts + 1)

    def require(self, languages: Iterable[str], train_tokens: int = 1, held_out_tokens: int = 1) -> None:
        """Raise InputError naming the languages that are missing or hold fewer tokens than asked for."""
        for code in languages:
            for split, least in zip(SPLITS, (train_tokens, held_out_tokens), strict=True):
                if self.count(code, split) < least:
                    raise InputError(
                        f"token store {self.folder}: {code!r} holds {self.count(code, split):,} {split} tokens, "
                        f"{least:,} are needed",
                        hint="give the language more text, or ask for fewer tokens",
                    )

    def _facts(self, language: str) -> dict[Split, SplitFacts]:
        if language not in self.record.languages:
            raise InputError(
                f"token store {self.folder} has no {language!r}", hint=f"it holds {', '.join(self.languages)}"
            )
        return self.record.languages[language]

    def _mapped(self, language: str, split: Split) -> NDArray[np.unsignedinteger]:
        tokens = self._facts(language)[split].tokens
        return np.memmap(self.folder / f"{language}.{split}.bin", dtype=self.dtype, mode="r", shape=(tokens,))


def build_store(
    corpus: Corpus,
    tokenizer: Tokenizer,
    languages: Iterable[str],
    folder: str | Path,
    *,
    progress: Progress | None = None,
) -> TokenStore:
    """Tokenize the languages of a corpus into `folder`, which appears whole or not at all.

    Raises:
        InputError: a language is not in the corpus or too small for its split, a file of the corpus is broken, or
            the folder exists.
    """
    languages = tuple(sorted(set(languages)))
    corpus.require(*languages)
    folder = Path(folder)
    with new_folder(folder) as partial:
        record = StoreRecord(
            dtype="<u2" if tokenizer.dtype.itemsize == 2 else "<u4",
            vocabulary_size=tokenizer.vocabulary_size,
            end_of_line=tokenizer.end_of_line,
            tokenizer=tokenizer.hash,
            corpus=corpus.fingerprint,
            languages={},
            files={},
        )
        for done, code in enumerate(languages):
            if progress:
                progress(f"tokenizing {code}", done, len(languages))
            record.languages[code] = _write_language(corpus, tokenizer, code, partial)
        tokenizer.token_bytes.astype("<u2").tofile(partial / _TOKEN_BYTES)
        for path in sorted(partial.iterdir()):
            record.files[path.name] = FileFacts(bytes=path.stat().st_size, sha256=_sha256(path))
        (partial / STORE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if progress:
        progress("tokenizing", len(languages), len(languages))
    return TokenStore.open(folder)


def _write_language(corpus: Corpus, tokenizer: Tokenizer, language: str, folder: Path) -> dict[Split, SplitFacts]:
    facts: dict[Split, SplitFacts] = {split: SplitFacts(tokens=0, bytes=0, lines=0) for split in SPLITS}
    counts = np.zeros(tokenizer.vocabulary_size, dtype=np.uint64)
    with (
        (folder / f"{language}.train.bin").open("wb") as train,
        (folder / f"{language}.held_out.bin").open("wb") as held_out,
    ):
        files: dict[Split, BinaryIO] = {"train": train, "held_out": held_out}
        for split, lines in _batches(corpus.split(language)):
            ids = tokenizer.encode_lines(lines)
            ids.tofile(files[split])
            facts[split].tokens += len(ids)
            facts[split].bytes += int(tokenizer.token_bytes[ids].sum(dtype=np.int64))
            facts[split].lines += len(lines)
            if split == "train":
                counts += np.bincount(ids, minlength=len(counts)).astype(np.uint64)
    counts.astype("<u8").tofile(folder / f"{language}.counts.bin")
    return facts


def _batches(lines: Iterable[tuple[str, bool]]) -> Iterator[tuple[Split, list[str]]]:
    """Lines of one split at a time, in order, about a megabyte together."""
    waiting: dict[Split, list[str]] = {split: [] for split in SPLITS}
    sizes = dict.fromkeys(SPLITS, 0)
    for line, held_out in lines:
        split: Split = "held_out" if held_out else "train"
        waiting[split].append(line)
        sizes[split] += len(line) + 1
        if sizes[split] >= _BATCH_CHARACTERS:
            yield split, waiting[split]
            waiting[split], sizes[split] = [], 0
    yield from waiting.items()


def _check_file(path: Path, facts: FileFacts, *, verify: bool) -> None:
    if not path.is_file():
        raise InputError(f"{path}: missing from the token store", hint="build the store again")
    if path.stat().st_size != facts.bytes:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes, not {facts.bytes:,}", hint="build the store again")
    if verify and _sha256(path) != facts.sha256:
        raise InputError(f"{path}: its checksum is not that of store.json", hint="build the store again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
