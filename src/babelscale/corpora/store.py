"""TokenStore: the tokens of every language and split as flat memory-mapped files.

store.json              sizes, checksums, the tokenizer's and the corpus' hashes
token_bytes.bin         uint16 (V,): UTF-8 bytes each token stands for
<language>.<split>.bin  ids, uint16 where the vocabulary fits and uint32 otherwise; splits are train, held_out and,
                        where a parallel test set was given and holds the language, parallel
<language>.<split>.documents.bin  uint64 (documents,): where each document's first token stands
<language>.counts.bin   uint64 (V,): how often each token stands in the training part

All little endian. `store_builder.build_store` writes one.
"""

import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from babelscale.corpora.hashed_writer import FileFacts, sha256
from babelscale.errors import InputError

Split = Literal["train", "held_out", "parallel"]

STORE = "store.json"
SPLITS: tuple[Split, ...] = ("train", "held_out")
TOKEN_BYTES = "token_bytes.bin"


class SplitFacts(BaseModel):
    """Size of one split of one language; bytes are of its UTF-8 text, newlines counted."""

    tokens: int
    bytes: int
    lines: int
    documents: int


class Dropped(BaseModel):
    """What of a language's text stands in neither split.

    `repeated_documents` stood before; `surplus_documents` with `surplus_tokens` lie beyond the bound on held-out
    tokens; `parallel_lines` are training lines that stand in the parallel test set too.
    """

    repeated_documents: int
    surplus_documents: int
    surplus_tokens: int
    parallel_lines: int


class StoreRecord(BaseModel):
    """What store.json says. `tokenizer`, `corpus` and `parallel` are hashes; `languages` goes by code and split."""

    format: Literal["babelscale token store 2"] = "babelscale token store 2"
    dtype: Literal["<u2", "<u4"]
    vocabulary_size: int
    end_of_line: int
    tokenizer: str
    corpus: str
    parallel: str | None
    languages: dict[str, dict[Split, SplitFacts]]
    dropped: dict[str, Dropped]
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
        """Tokens of a language's split ("train", "held_out" or "parallel")."""
        return self._split(language, split).tokens

    def bytes(self, language: str, split: Split) -> int:
        """UTF-8 bytes of a language's split, newlines counted."""
        return self._split(language, split).bytes

    def has_parallel(self, language: str) -> bool:
        """Whether the store holds the language's part of a parallel test set."""
        return "parallel" in self._facts(language)

    def train(self, language: str) -> NDArray[np.unsignedinteger]:
        """(tokens,) memory-mapped training ids."""
        return self._mapped(language, "train")

    def held_out(self, language: str) -> NDArray[np.unsignedinteger]:
        """(tokens,) memory-mapped held-out ids."""
        return self._mapped(language, "held_out")

    def parallel(self, language: str) -> NDArray[np.unsignedinteger]:
        """(tokens,) memory-mapped ids of the parallel test set, the same lines in the same order in every language."""
        return self._mapped(language, "parallel")

    def documents(self, language: str, split: Split) -> NDArray[np.uint64]:
        """(documents,) memory-mapped places of each document's first token, in order; a parallel line is one."""
        count = self._split(language, split).documents
        return np.memmap(self.folder / f"{language}.{split}.documents.bin", dtype="<u8", mode="r", shape=(count,))

    @functools.cached_property
    def token_bytes(self) -> NDArray[np.uint16]:
        """(V,) UTF-8 bytes each token stands for."""
        return np.fromfile(self.folder / TOKEN_BYTES, dtype="<u2")

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
                        f"token store {self.folder}: {code!r} has {self.count(code, split):,} {split} "
                        f"tokens, but {least:,} are needed",
                        hint="give the language more text, or request fewer tokens",
                    )

    def _facts(self, language: str) -> dict[Split, SplitFacts]:
        if language not in self.record.languages:
            raise InputError(
                f"token store {self.folder} has no {language!r}", hint=f"it has {', '.join(self.languages)}"
            )
        return self.record.languages[language]

    def _split(self, language: str, split: Split) -> SplitFacts:
        facts = self._facts(language)
        if split not in facts:
            raise InputError(
                f"token store {self.folder}: no parallel lines of {language!r}",
                hint="the parallel test set lacked the language when the store was built, or there was no parallel set",
            )
        return facts[split]

    def _mapped(self, language: str, split: Split) -> NDArray[np.unsignedinteger]:
        tokens = self._split(language, split).tokens
        return np.memmap(self.folder / f"{language}.{split}.bin", dtype=self.dtype, mode="r", shape=(tokens,))


def _check_file(path: Path, facts: FileFacts, *, verify: bool) -> None:
    if not path.is_file():
        raise InputError(f"{path}: missing from the token store", hint="build the store again")
    if path.stat().st_size != facts.bytes:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes, not {facts.bytes:,}", hint="build the store again")
    if verify and sha256(path) != facts.sha256:
        raise InputError(f"{path}: its checksum is not that of store.json", hint="build the store again")
