"""Tokenising one part of a language's text: the work of a worker, which needs no other part.

Every document of the part that is new in it is tokenised, and described by a row of `DOCUMENT`; which of them stay (a
document may stand in an earlier part too) and on which side of the split is decided where all rows are together.
"""

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from babelscale.corpora.corpus import digest
from babelscale.corpora.hashed_writer import FileFacts, Output, write
from babelscale.corpora.phrasebook import PhrasebookPart
from babelscale.corpora.readers import FilePart
from babelscale.corpora.tokenizer import Tokenizer
from babelscale.errors import InputError

AnyPart = Annotated[FilePart | PhrasebookPart, Field(discriminator="kind")]
# `size` is the document's UTF-8 bytes with its newlines, `bytes` what is left of them without the `dropped` lines.
DOCUMENT = np.dtype(
    [("digest", "<u8"), ("size", "<u8"), ("bytes", "<u8"), ("tokens", "<u4"), ("lines", "<u4"), ("dropped", "<u4")]
)
_BATCH_CHARACTERS = 1 << 20


class TokeniseJob(BaseModel, frozen=True):
    """One part to tokenise, and all that its result depends on.

    Attributes:
        key: of the documents' hash, hex.
        threshold: documents whose digest lies below it are held out; lines of `aligned` stay in those.
        limit: stop before the documents hold more bytes than this.
        aligned: name of a file with lines (a JSON list) that are no training text; its name holds their checksum.
    """

    language: str
    index: int
    part: AnyPart
    identity: str
    tokenizer: str
    key: str
    threshold: int
    limit: int | None
    aligned: str | None

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the job: a finished part is one of the same hash."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def stem(self) -> str:
        """How the names of its files begin: no two jobs write the same file, should one outlive its build."""
        return f"{self.language}.{self.index:06d}.{self.hash[:12]}"


class PartRecord(BaseModel):
    """What a finished part says of itself.

    `size` is the UTF-8 bytes of its documents, `repeated` how many stood before in the part, `full` whether the limit
    ended it.
    """

    job: str
    full: bool
    size: int
    repeated: int
    files: dict[str, FileFacts]


def finished(job: TokeniseJob, folder: Path) -> PartRecord | None:
    """The record of a part that was done before, its files checked; None where it has to be done."""
    try:
        record = PartRecord.model_validate_json((folder / f"{job.stem}.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    if record.job == job.hash and all(facts.hold(folder / name) for name, facts in record.files.items()):
        return record
    return None


def tokenise(job: TokeniseJob, tokenizer: Tokenizer, folder: Path, heard: Callable[[int], None]) -> PartRecord:
    """Write a part's tokens and table of documents into `folder`, its record last.

    Args:
        heard: told the bytes of text done since it was told last.

    Raises:
        InputError: the text cannot be read.
        BabelscaleError: the disk is full.
    """
    part = _PartReader(job, tokenizer, frozenset(_aligned(job, folder)))
    names = [f"{job.stem}.tokens.bin", f"{job.stem}.documents.bin"]
    try:
        with Output(folder / names[0]) as tokens, Output(folder / names[1]) as table:
            for ids, rows in part.batches():
                tokens.write(ids)
                table.write(rows)
                heard(int(rows["size"].sum()))
    except InputError as error:
        raise InputError(f"{error.message} (language {job.language!r})", hint=error.hint) from None
    record = PartRecord(
        job=job.hash,
        full=part.full,
        size=part.size,
        repeated=part.repeated,
        files=dict(zip(names, (tokens.facts, table.facts), strict=True)),
    )
    write(folder / f"{job.stem}.json", record.model_dump_json().encode())
    return record


def _aligned(job: TokeniseJob, folder: Path) -> list[str]:
    return json.loads((folder / job.aligned).read_text(encoding="utf-8")) if job.aligned else []


class _PartReader:
    """The documents of a part in batches; `size`, `repeated` and `full` are known when they are through."""

    def __init__(self, job: TokeniseJob, tokenizer: Tokenizer, aligned: frozenset[str]) -> None:
        self.job, self.tokenizer, self.aligned = job, tokenizer, aligned
        self.size = self.repeated = 0
        self.full = False

    def batches(self):
        """(ids, rows of `DOCUMENT`), about a megabyte of text each."""
        job, key, aligned = self.job, bytes.fromhex(self.job.key), self.aligned
        seen: set[int] = set()
        rows: list[tuple[int, int, int, int, int, int]] = []
        lines: list[str] = []
        waiting = 0
        for document in job.part.documents():
            data = document.encode()
            number = digest(data, key)
            if number in seen:
                self.repeated += 1
                continue
            size = len(data) + 1
            if job.limit is not None and self.size + size > job.limit:
                self.full = True
                break
            seen.add(number)
            self.size += size
            held = kept = document.split("\n") if "\n" in document else [document]
            left = size
            if aligned and number >= job.threshold and not aligned.isdisjoint(held):
                kept = [line for line in held if line not in aligned]
                left = sum(len(line.encode()) + 1 for line in kept)
            rows.append((number, size, left, 0, len(kept), len(held) - len(kept)))
            lines += kept
            waiting += size
            if waiting >= _BATCH_CHARACTERS:
                yield self._encoded(lines, rows)
                lines, rows, waiting = [], [], 0
        if rows:
            yield self._encoded(lines, rows)

    def _encoded(self, lines: list[str], rows: list[tuple[int, int, int, int, int, int]]):
        ids = self.tokenizer.encode_lines(lines)
        table = np.array(rows, dtype=DOCUMENT)
        # A line ends where its end-of-line token stands, a document where its last line does.
        ends = np.concatenate(([0], np.flatnonzero(ids == self.tokenizer.end_of_line) + 1))
        table["tokens"] = np.diff(ends[np.cumsum(table["lines"], dtype=np.int64)], prepend=0)
        return ids, table
