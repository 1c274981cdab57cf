"""Building a token store: parts tokenised side by side, put together by language, published by one rename.

Work lies in `.NAME.building` beside the store: every finished part with a record that holds the checksums of its files
and a hash of all it depends on, and every finished language alike. A build that was stopped goes on from what is
finished and still holds; the store comes out the same to the byte, whatever the number of workers and of stops.
"""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from babelscale.corpora.corpus import Corpus
from babelscale.corpora.hashed_writer import FileFacts, disk, write
from babelscale.corpora.merge_shards import assemble, distinct_bytes, offsets
from babelscale.corpora.parallel import ParallelSet
from babelscale.corpora.store import STORE, TOKEN_BYTES, Dropped, Split, SplitFacts, StoreRecord, TokenStore
from babelscale.corpora.tokenising import PartRecord, TokeniseJob, finished, tokenise
from babelscale.corpora.tokenizer import Tokenizer
from babelscale.errors import BabelscaleError, InputError
from babelscale.workers import Worker, WorkerDied, WorkerPool, available_cpus

Progress = Callable[[str, int, int], None]

_PARTS, _LANGUAGES, _STORE = "parts", "languages", "store"
# One more process must have this much text to tokenise: starting it takes about as long.
_BYTES_WORTH_A_PROCESS = 1 << 21


class LanguageRecord(BaseModel):
    """A finished language; `jobs` is a hash of the jobs it was put together from."""

    jobs: str
    splits: dict[Split, SplitFacts]
    dropped: Dropped
    files: dict[str, FileFacts]


def build_store(
    corpus: Corpus,
    tokenizer: Tokenizer,
    languages: Iterable[str],
    folder: str | Path,
    *,
    parallel: ParallelSet | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> TokenStore:
    """Tokenize the languages of a corpus into `folder`, which appears whole or not at all.

    Args:
        parallel: a test set to add as a third split, for the languages it holds; its lines are left out of training.
        workers: processes; by default one a core as far as the text is worth it. Text in `memory://` is read by this
            process alone.
        progress: called with (label, bytes of text done, bytes in all, which are estimated for compressed files); the
            label names a language and the speed.

    Raises:
        InputError: a language is not in the corpus or too small for its split, a file of the corpus is broken, the
            folder exists, or another process is building it.
        BabelscaleError: the disk is full, or a worker died. What was finished is kept for the next call.
    """
    languages = tuple(sorted(set(languages)))
    corpus.require(*languages)
    if workers is not None and workers < 1:
        raise InputError(f"workers {workers}", hint="give 1 or more")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already", hint="remove it, or give another folder")
    with _alone(folder) as building:
        _Build(corpus, tokenizer, parallel, building).languages(languages, workers, progress)
        with disk(folder):
            (building / _STORE).replace(folder)
    return TokenStore.open(folder)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """The folder of the work, held by this process; it goes when the block ends well."""
    import fcntl

    building = folder.with_name(f".{folder.name}.building")
    with disk(building):
        for name in (_PARTS, _LANGUAGES, _STORE):
            (building / name).mkdir(parents=True, exist_ok=True)
    with (building / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another process is building it", hint="wait for it, or stop it") from None
        published = False
        try:
            yield building
            published = True
        finally:
            if published or not any(building.glob("*/*.json")):
                shutil.rmtree(building, ignore_errors=True)


class _Build:
    """One build: what it reads and where it writes."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, parallel: ParallelSet | None, building: Path) -> None:
        self.corpus, self.tokenizer, self.parallel = corpus, tokenizer, parallel
        self._all: dict[str, list[TokeniseJob]] = {}
        self.parts, self.records, self.store = (building / name for name in (_PARTS, _LANGUAGES, _STORE))

    def languages(self, languages: Sequence[str], workers: int | None, progress: Progress | None) -> None:
        """Make every language's files, and store.json."""
        jobs = self._all = {code: self._jobs(code) for code in languages}
        records = {code: self._finished(code, jobs[code]) for code in languages}
        missing = [code for code in languages if records[code] is None]
        chains = [chain for code in missing for chain in self._chains(jobs[code])]
        if chains:
            meter = _Meter(chains, progress)
            done = self._tokenise(chains, _useful_workers(chains, workers), meter)
            read: dict[str, list[PartRecord]] = {code: [] for code in missing}
            for chain, parts in zip(chains, done, strict=True):
                read[chain[0].language] += parts
            for code in missing:
                records[code] = self._put_together(code, jobs[code], read[code])
            meter.report(complete=True)
        self._write_record({code: record for code, record in records.items() if record is not None})

    def _jobs(self, code: str) -> list[TokeniseJob]:
        corpus, aligned = self.corpus, None
        if self.parallel is not None and self.parallel.holds(code):
            lines = json.dumps(sorted(set(self.parallel.lines(code))), ensure_ascii=False).encode()
            aligned = f"{code}.{hashlib.sha256(lines).hexdigest()[:16]}.aligned"
            write(self.parts / aligned, lines)
        settings = {
            "language": code,
            "tokenizer": self.tokenizer.hash,
            "key": corpus.split_key.hex(),
            "limit": corpus.limit(code),
            "aligned": aligned,
        }
        return [
            TokeniseJob.model_validate(
                {"index": index, "part": part, "identity": part.identity, "threshold": corpus.threshold(code, part)}
                | settings
            )
            for index, part in enumerate(corpus.parts(code))
        ]

    def _chains(self, jobs: list[TokeniseJob]) -> list[list[TokeniseJob]]:
        """With a limit, a part is read only when those before it do not reach it."""
        return [jobs] if jobs[0].limit is not None else [[job] for job in jobs]

    def _tokenise(self, chains: Sequence[Sequence[TokeniseJob]], count: int, meter: "_Meter") -> list[list[PartRecord]]:
        """The records of each chain's jobs, up to the job after which the limit is reached."""

        def work(worker: "_ThisProcess | _OtherProcess", chain: Sequence[TokeniseJob]) -> list[PartRecord]:
            records: list[PartRecord] = []
            for job in chain:
                record = finished(job, self.parts)
                if record is None:
                    record = worker.tokenise(job, meter)
                else:
                    meter.add(job, record.size, new=False)
                records.append(record)
                if self._enough(job, record):
                    break
            return records

        if count == 1:
            worker = _ThisProcess(self.tokenizer, self.parts, report=True)
            return [work(worker, chain) for chain in chains]
        model = self.parts / "tokenizer.model"
        write(model, self.tokenizer.model)
        processes = [_OtherProcess(model, self.parts) for _ in range(count - 1)]
        # The longest chains come first, so that no process is left alone with one at the end.
        order = sorted(range(len(chains)), key=lambda place: -sum(job.part.text_bytes for job in chains[place]))
        pool = WorkerPool([_ThisProcess(self.tokenizer, self.parts), *processes])
        done = pool.map(work, [chains[place] for place in order], on_tick=meter.report)
        return [records for _, records in sorted(zip(order, done, strict=True))]

    def _enough(self, job: TokeniseJob, record: PartRecord) -> bool:
        if job.limit is None or record.full:
            return record.full
        return distinct_bytes(self._all[job.language][: job.index + 1], self.parts) >= job.limit

    def _put_together(self, code: str, jobs: list[TokeniseJob], read: list[PartRecord]) -> LanguageRecord:
        """A language's files from its parts, of which the first were read; the parts then go."""
        repeated = sum(part.repeated for part in read)
        made = assemble(
            jobs[: len(read)], repeated, self.corpus.held_out_tokens, self.tokenizer, self.parts, self.store
        )
        self.corpus.require_both(code, made.splits["train"].documents, made.splits["held_out"].documents)
        splits, files = dict(made.splits), dict(made.files)
        if self.parallel is not None and self.parallel.holds(code):
            splits["parallel"] = self._write_parallel(code, self.parallel.lines(code), files)
        record = LanguageRecord(jobs=self._hash(jobs), splits=splits, dropped=made.dropped, files=files)
        write(self.records / f"{code}.json", record.model_dump_json().encode())
        for path in self.parts.glob(f"{code}.*"):
            path.unlink()
        return record

    def _write_parallel(self, code: str, lines: Sequence[str], files: dict[str, FileFacts]) -> SplitFacts:
        """Every line is a document."""
        ids = self.tokenizer.encode_lines(lines)
        ends = np.flatnonzero(ids == self.tokenizer.end_of_line) + 1
        name = f"{code}.parallel"
        files[f"{name}.bin"] = write(self.store / f"{name}.bin", ids)
        lengths = np.diff(ends, prepend=0)
        files[f"{name}.documents.bin"] = write(self.store / f"{name}.documents.bin", offsets(lengths))
        size = int(self.tokenizer.token_bytes[ids].sum(dtype=np.int64))
        return SplitFacts(tokens=len(ids), bytes=size, lines=len(lines), documents=len(lines))

    def _hash(self, jobs: list[TokeniseJob]) -> str:
        parallel = self.parallel.fingerprint if self.parallel is not None else None
        return hashlib.sha256(
            json.dumps([self.corpus.held_out_tokens, parallel, *(job.hash for job in jobs)]).encode()
        ).hexdigest()

    def _finished(self, code: str, jobs: list[TokeniseJob]) -> LanguageRecord | None:
        """The record of a language that was finished before, its files checked; None where it has to be done."""
        try:
            record = LanguageRecord.model_validate_json((self.records / f"{code}.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        whole = record.jobs == self._hash(jobs) and all(
            facts.hold(self.store / name) for name, facts in record.files.items()
        )
        return record if whole else None

    def _write_record(self, languages: dict[str, LanguageRecord]) -> None:
        tokenizer = self.tokenizer
        files = {TOKEN_BYTES: write(self.store / TOKEN_BYTES, tokenizer.token_bytes.astype("<u2"))}
        for made in languages.values():
            files |= made.files
        # What an earlier build of more languages left is no part of this store.
        for path in self.store.iterdir():
            if path.name not in files:
                path.unlink()
        record = StoreRecord(
            dtype="<u2" if tokenizer.dtype.itemsize == 2 else "<u4",
            vocabulary_size=tokenizer.vocabulary_size,
            end_of_line=tokenizer.end_of_line,
            tokenizer=tokenizer.hash,
            corpus=self.corpus.fingerprint,
            parallel=self.parallel.fingerprint if self.parallel is not None else None,
            languages={code: made.splits for code, made in languages.items()},
            dropped={code: made.dropped for code, made in languages.items()},
            files=dict(sorted(files.items())),
        )
        write(self.store / STORE, (record.model_dump_json(indent=2) + "\n").encode())


def _useful_workers(chains: Sequence[Sequence[TokeniseJob]], most: int | None) -> int:
    """How many processes to use: `most`, or one for each CPU that has enough text; one means this process."""
    jobs = [job for chain in chains for job in chain]
    if any(job.part.is_of_this_process for job in jobs):
        return 1
    if most is not None:
        return min(most, len(chains))
    text = sum(min(job.part.text_bytes, job.limit or job.part.text_bytes) for job in jobs)
    return max(1, min(len(available_cpus()), len(chains), text // _BYTES_WORTH_A_PROCESS))


class _Meter:
    """Counts the bytes of text that are tokenised, and reports them."""

    def __init__(self, chains: Sequence[Sequence[TokeniseJob]], progress: Progress | None) -> None:
        self._progress = progress
        self._began = time.perf_counter()
        self._tokenised = 0
        self._label = "tokenizing"
        self._expected: dict[str, int] = {}
        self._done: dict[str, int] = {}
        for chain in chains:
            limit, code = chain[0].limit, chain[0].language
            size = sum(job.part.text_bytes for job in chain)
            self._expected[code] = self._expected.get(code, 0) + (size if limit is None else min(limit, size))
        self._total = max(1, sum(self._expected.values()))

    def add(self, job: TokeniseJob, size: int, *, new: bool = True) -> None:
        """Bytes of a job that are done, in this build or (not `new`) in an earlier one."""
        self._done[job.language] = self._done.get(job.language, 0) + size
        if new:
            self._tokenised += size
            rate = self._tokenised / 1e6 / max(time.perf_counter() - self._began, 1e-9)
            self._label = f"tokenizing {job.language}, {rate:.1f} MB/s"

    def report(self, *, complete: bool = False) -> None:
        if self._progress:
            done = sum(min(self._done.get(code, 0), most) for code, most in self._expected.items())
            self._progress(self._label, self._total if complete else done, self._total)


class _ThisProcess:
    """This process as a worker; with `report` it also reports the progress."""

    def __init__(self, tokenizer: Tokenizer, folder: Path, *, report: bool = False) -> None:
        self._tokenizer, self._folder, self._report = tokenizer, folder, report
        self._stopped = False

    def start(self) -> None:
        """This process runs already."""

    def tokenise(self, job: TokeniseJob, meter: _Meter) -> PartRecord:
        def progress(size: int) -> None:
            if self._stopped:
                raise BabelscaleError("the build was stopped")
            meter.add(job, size)
            if self._report:
                meter.report()

        return tokenise(job, self._tokenizer, self._folder, progress)

    def close(self) -> None:
        """A thread cannot be ended from outside: it ends when it next reports its progress."""
        self._stopped = True


class _OtherProcess(Worker):
    """A process of its own as a worker."""

    def __init__(self, model: Path, folder: Path) -> None:
        super().__init__("-m", "babelscale.corpora.worker", str(model), str(folder))

    def tokenise(self, job: TokeniseJob, meter: _Meter) -> PartRecord:
        try:
            answer = self.ask(job.model_dump(mode="json"), lambda size: meter.add(job, size))
        except WorkerDied as error:
            raise BabelscaleError(
                f"language {job.language!r}: the process that tokenised it ended. {error.complaint[-500:]}".rstrip(),
                hint="free some memory and run the same command again, which continues from the finished parts; "
                "workers=1 uses one process",
            ) from None
        return PartRecord.model_validate(answer)
