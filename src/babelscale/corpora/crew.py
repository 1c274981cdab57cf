"""Worker processes over the parts of a corpus: chains of jobs, each chain in its order, the chains side by side."""

import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from babelscale.corpora.output import write
from babelscale.corpora.tokenising import Job, PartRecord, finished, tokenise
from babelscale.corpora.tokenizer import Tokenizer
from babelscale.errors import BabelscaleError, InputError

Progress = Callable[[str, int, int], None]
# A chain ends early when this says so of the job just done.
Enough = Callable[[Job, PartRecord], bool]

_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
_ONE_THREAD = dict.fromkeys(_LIBRARIES, "1")
_PATIENCE = 0.1  # seconds
# Text that one more process has to be worth: starting it takes about as long as tokenising so many bytes.
_WORTH_A_PROCESS = 1 << 21


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def useful_workers(chains: Sequence[Sequence[Job]], most: int | None) -> int:
    """How many processes to use: `most`, or every core as far as the text is worth a process; one is this process."""
    jobs = [job for chain in chains for job in chain]
    if any(job.part.is_of_this_process for job in jobs):
        return 1
    if most is not None:
        return min(most, len(chains))
    text = sum(min(job.part.text_bytes, job.limit or job.part.text_bytes) for job in jobs)
    return max(1, min(cores(), len(chains), text // _WORTH_A_PROCESS))


class Meter:
    """Bytes of text done, for people."""

    def __init__(self, chains: Sequence[Sequence[Job]], progress: Progress | None) -> None:
        self._progress = progress
        self._began = time.perf_counter()
        self._tokenised = 0
        self._label = "tokenizing"
        self._expected: dict[str, int] = {}
        self._done: dict[str, int] = {}
        for chain in chains:
            limit = chain[0].limit
            whole = sum(job.part.text_bytes for job in chain)
            code = chain[0].language
            self._expected[code] = self._expected.get(code, 0) + (whole if limit is None else min(limit, whole))
        self._total = max(1, sum(self._expected.values()))

    def add(self, job: Job, size: int, *, fresh: bool = True) -> None:
        """Bytes of a job that are done, in this build or (not `fresh`) in an earlier one."""
        self._done[job.language] = self._done.get(job.language, 0) + size
        if fresh:
            self._tokenised += size
            rate = self._tokenised / 1e6 / max(time.perf_counter() - self._began, 1e-9)
            self._label = f"tokenizing {job.language}, {rate:.1f} MB/s"

    def report(self, *, whole: bool = False) -> None:
        """Tell the hook where the build stands; `whole` when it is through."""
        if self._progress:
            done = sum(min(self._done.get(code, 0), most) for code, most in self._expected.items())
            self._progress(self._label, self._total if whole else done, self._total)


def run(
    chains: Sequence[Sequence[Job]], tokenizer: Tokenizer, folder: Path, count: int, enough: Enough, meter: Meter
) -> list[list[PartRecord]]:
    """Do every chain's jobs, up to the one after which `enough`; the records chain by chain.

    Stops its processes however it ends, by Ctrl-C too.

    Raises:
        BabelscaleError: what a worker met, or that it died.
    """
    if count == 1:
        here = _Here(tokenizer, folder, report=True)
        return [_chain(chain, here, folder, enough, meter) for chain in chains]
    return _run_beside(chains, tokenizer, folder, count, enough, meter)


def _chain(
    chain: Sequence[Job], worker: "_Here | _Process", folder: Path, enough: Enough, meter: Meter
) -> list[PartRecord]:
    records: list[PartRecord] = []
    for job in chain:
        record = finished(job, folder)
        if record is None:
            record = worker.ask(job, meter)
        else:
            meter.add(job, record.size, fresh=False)
        records.append(record)
        if enough(job, record):
            break
    return records


def _run_beside(
    chains: Sequence[Sequence[Job]], tokenizer: Tokenizer, folder: Path, count: int, enough: Enough, meter: Meter
) -> list[list[PartRecord]]:
    model = folder / "tokenizer.model"
    write(model, tokenizer.model)
    idle: queue.Queue[_Here | _Process] = queue.Queue()
    crew: list[_Here | _Process] = []
    pool = ThreadPoolExecutor(count)

    def beside(chain: Sequence[Job]) -> list[PartRecord]:
        worker = idle.get()
        try:
            return _chain(chain, worker, folder, enough, meter)
        finally:
            idle.put(worker)

    # The longest first, so that no process is left alone with it at the end.
    order = sorted(range(len(chains)), key=lambda place: -sum(job.part.text_bytes for job in chains[place]))
    try:
        # This process is one of them, and the first to be ready.
        for number in range(count):
            crew.append(_Process(model, folder, number) if number else _Here(tokenizer, folder))
            idle.put(crew[-1])
        futures = {pool.submit(beside, chains[place]): place for place in order}
        found: dict[int, list[PartRecord]] = {}
        while futures:
            # The kernel may hand Ctrl-C to any thread, and a wait without an end would not hear of it.
            for future in wait(futures, _PATIENCE, FIRST_COMPLETED).done:
                found[futures.pop(future)] = future.result()
            meter.report()
        return [found[place] for place in range(len(chains))]
    finally:
        for worker in crew:
            worker.stop()
        pool.shutdown(cancel_futures=True)


class _Here:
    """This process as a worker; with `report` it also tells the progress."""

    def __init__(self, tokenizer: Tokenizer, folder: Path, *, report: bool = False) -> None:
        self._tokenizer, self._folder, self._report = tokenizer, folder, report
        self._stopped = False

    def ask(self, job: Job, meter: Meter) -> PartRecord:
        def heard(size: int) -> None:
            if self._stopped:
                raise BabelscaleError("the build was stopped")
            meter.add(job, size)
            if self._report:
                meter.report()

        return tokenise(job, self._tokenizer, self._folder, heard)

    def stop(self) -> None:
        """A thread cannot be ended from outside: it ends when it next tells how far it is."""
        self._stopped = True


class _Process:
    """A process of its own as a worker; its complaints go to a file of their own."""

    def __init__(self, model: Path, folder: Path, number: int) -> None:
        self.log = folder / f"worker-{number}.log"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "babelscale.corpora.worker", str(model), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                env=os.environ | _ONE_THREAD,
                # Ctrl-C reaches the caller alone, which then stops its workers.
                start_new_session=True,
            )

    def ask(self, job: Job, meter: Meter) -> PartRecord:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        try:
            self.child.stdin.write(job.model_dump_json() + "\n")
            self.child.stdin.flush()
            while line := self.child.stdout.readline():
                report = json.loads(line)
                if "bytes" in report:
                    meter.add(job, report["bytes"])
                elif "error" in report:
                    kind = InputError if report["input"] else BabelscaleError
                    raise kind(report["error"], hint=report["hint"])
                else:
                    return PartRecord.model_validate(report["finished"])
        except (BrokenPipeError, json.JSONDecodeError):
            self.child.kill()
        tail = self.log.read_text("utf-8", "replace")[-500:] if self.log.exists() else ""
        raise BabelscaleError(
            f"language {job.language!r}: the process that tokenised it ended. {tail}".rstrip(),
            hint="is there memory enough? Run again, and it goes on from what is finished; workers=1 uses one process",
        )

    def stop(self) -> None:
        self.child.terminate()
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue
