"""Merging the parts of one language: which documents stay, on which side of the split, in the order of the text.

Repeated documents are found by sorting their digests: memory is about 60 bytes a document, in flat arrays.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from babelscale.corpora.hashed_writer import FileFacts, Output, write
from babelscale.corpora.store import SPLITS, Dropped, Split, SplitFacts
from babelscale.corpora.tokenising import DOCUMENT, TokeniseJob
from babelscale.corpora.tokenizer import Tokenizer

_DOCUMENTS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class MergedLanguage:
    """A language's files in a store."""

    splits: dict[Split, SplitFacts]
    dropped: Dropped
    files: dict[str, FileFacts]


def distinct_bytes(jobs: Sequence[TokeniseJob], parts: Path) -> int:
    """UTF-8 bytes of the distinct documents of finished parts."""
    table = _table(jobs, parts)
    return int(table["size"][_first(table)].sum())


def assemble(
    jobs: Sequence[TokeniseJob],
    repeated: int,
    held_out_tokens: int | None,
    tokenizer: Tokenizer,
    parts: Path,
    store: Path,
) -> MergedLanguage:
    """Write a language's files into `store` from its finished parts.

    Args:
        jobs: of the finished parts, in order.
        repeated: documents that the parts left out, as they stood before in the same part.
        held_out_tokens: most tokens of the held-out split; documents beyond it are dropped.
    """
    code = jobs[0].language
    table = _table(jobs, parts)
    thresholds = np.repeat([np.uint64(job.threshold) for job in jobs], [_documents(job, parts) for job in jobs])
    chosen, dropped = _choose(table, thresholds, jobs[0].limit, held_out_tokens)
    dropped.repeated_documents += repeated
    counts = np.zeros(tokenizer.vocabulary_size, dtype=np.uint64)
    files: dict[str, FileFacts] = {}
    with ExitStack() as stack:
        outputs: dict[Split, Output] = {
            split: stack.enter_context(Output(store / f"{code}.{split}.bin")) for split in SPLITS
        }
        place = 0
        for job in jobs:
            with (parts / f"{job.stem}.tokens.bin").open("rb") as tokens:
                end = place + _documents(job, parts)
                for start in range(place, end, _DOCUMENTS_AT_ONCE):
                    rows = slice(start, min(end, start + _DOCUMENTS_AT_ONCE))
                    lengths = table["tokens"][rows]
                    ids = np.fromfile(tokens, dtype=tokenizer.dtype, count=int(lengths.sum(dtype=np.int64)))
                    for split, output in outputs.items():
                        taken = ids[np.repeat(chosen[split][rows], lengths)]
                        output.write(taken)
                        if split == "train":
                            counts += np.bincount(taken, minlength=len(counts)).astype(np.uint64)
                place = end
    for split, output in outputs.items():
        files[output.path.name] = output.facts
        name = f"{code}.{split}.documents.bin"
        files[name] = write(store / name, offsets(table["tokens"][chosen[split]]))
    files[f"{code}.counts.bin"] = write(store / f"{code}.counts.bin", counts.astype("<u8"))
    return MergedLanguage({split: _facts(table[chosen[split]]) for split in SPLITS}, dropped, files)


def offsets(lengths: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Where each document's first token stands, from the documents' lengths."""
    ends = np.cumsum(lengths, dtype="<u8")
    return np.concatenate((np.zeros(min(1, len(ends)), dtype="<u8"), ends[:-1]))


def _documents(job: TokeniseJob, parts: Path) -> int:
    return (parts / f"{job.stem}.documents.bin").stat().st_size // DOCUMENT.itemsize


def _table(jobs: Sequence[TokeniseJob], parts: Path) -> NDArray[np.void]:
    """The rows of all parts, read into one array."""
    table = np.empty(sum(_documents(job, parts) for job in jobs), dtype=DOCUMENT)
    place = 0
    for job in jobs:
        rows = table[place : place + _documents(job, parts)]
        rows[:] = np.fromfile(parts / f"{job.stem}.documents.bin", dtype=DOCUMENT)
        place += len(rows)
    return table


def _first(table: NDArray[np.void]) -> NDArray[np.bool_]:
    """Whether a document is the first with its digest."""
    digests = table["digest"]
    order = np.argsort(digests, kind="stable")
    first = np.ones(len(table), dtype=bool)
    for start in range(1, len(table), _DOCUMENTS_AT_ONCE):
        here = order[start : start + _DOCUMENTS_AT_ONCE]
        before = order[start - 1 : start - 1 + len(here)]
        first[here[digests[here] == digests[before]]] = False
    return first


def _choose(
    table: NDArray[np.void], thresholds: NDArray[np.uint64], limit: int | None, held_out_tokens: int | None
) -> tuple[dict[Split, NDArray[np.bool_]], Dropped]:
    kept = first = _first(table)
    if limit is not None:
        reached = np.cumsum(np.where(first, table["size"], 0)) <= limit
        kept, first = first & reached, first | ~reached
    held_out = kept & (table["digest"] < thresholds)
    train = kept & ~held_out & (table["tokens"] > 0)
    inside = held_out
    if held_out_tokens is not None:
        inside = held_out & (np.cumsum(np.where(held_out, table["tokens"], 0), dtype=np.int64) <= held_out_tokens)
    surplus = table["tokens"][held_out & ~inside]
    dropped = Dropped(
        repeated_documents=int((~first).sum()),
        surplus_documents=len(surplus),
        surplus_tokens=int(surplus.sum(dtype=np.int64)),
        parallel_lines=int(table["dropped"][kept].sum(dtype=np.int64)),
    )
    return {"train": train, "held_out": inside}, dropped


def _facts(rows: NDArray[np.void]) -> SplitFacts:
    sums = {name: int(rows[name].sum(dtype=np.int64)) for name in ("tokens", "bytes", "lines")}
    return SplitFacts(**sums, documents=len(rows))
