"""Fits of many targets on several cores: one process a core with one thread each, answers in the order of the jobs."""

import json
import os
import queue
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from babelscale.errors import BabelscaleError, InputError
from babelscale.fitting.result import Fit
from babelscale.runs import Runs

_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
_PATIENCE = 0.1  # seconds
_ONE_THREAD = dict.fromkeys((*_LIBRARIES, "VECLIB_MAXIMUM_THREADS"), "1")


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(runs: Runs, jobs: Sequence[dict[str, Any]], count: int, finished: Callable[[int], None]) -> list[Fit]:
    """The fits of `jobs` (see `worker`), in their order, by `count` processes; `finished` hears how many are done.

    Stops its processes however it ends, by Ctrl-C too.

    Raises:
        BabelscaleError: what a fit raised, naming its target; or a process that died.
    """
    with tempfile.TemporaryDirectory(prefix="babelscale-fits-") as name:
        folder = Path(name)
        runs.write(folder / "runs")
        idle: queue.Queue[_Process] = queue.Queue()
        processes: list[_Process] = []
        pool = ThreadPoolExecutor(count)
        try:
            for number in range(count):
                processes.append(_Process(folder, number))
                idle.put(processes[-1])
            futures = {pool.submit(_ask, idle, job): place for place, job in enumerate(jobs)}
            found: dict[int, Fit] = {}
            heard: set[Future[Fit]] = set()
            while len(found) < len(jobs):
                # The kernel may hand Ctrl-C to any thread, and a wait without an end would not hear of it.
                for future in wait(futures.keys() - heard, _PATIENCE, FIRST_COMPLETED).done:
                    heard.add(future)
                    found[futures[future]] = future.result()
                    finished(len(found))
            return [found[place] for place in range(len(jobs))]
        finally:
            for process in processes:
                process.stop()
            pool.shutdown(cancel_futures=True)


def named(target: str, message: str, hint: str | None, wrong_input: bool) -> BabelscaleError:
    """An error of one target's fit, saying which."""
    kind = InputError if wrong_input else BabelscaleError
    return kind(f"target {target!r}: {message}", hint=hint)


class _Process:
    """One worker; its complaints go to a file of their own."""

    def __init__(self, folder: Path, number: int) -> None:
        self.log = folder / f"worker-{number}.log"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "babelscale.fitting.worker", str(folder / "runs")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                env=os.environ | _ONE_THREAD,
                # Ctrl-C reaches the caller alone, which then stops its workers.
                start_new_session=True,
            )

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        try:
            self.child.stdin.write(json.dumps(job) + "\n")
            self.child.stdin.flush()
            line = self.child.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        if not line:
            tail = self.log.read_text("utf-8", "replace")[-500:] if self.log.exists() else ""
            raise BabelscaleError(
                f"target {job['target']!r}: the process that fitted it ended {tail}".rstrip(),
                hint="is there memory enough? workers=1 fits in this process",
            )
        return json.loads(line)

    def stop(self) -> None:
        self.child.terminate()
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue


def _ask(idle: "queue.Queue[_Process]", job: dict[str, Any]) -> Fit:
    process = idle.get()
    try:
        reply = process.ask(job)
    finally:
        idle.put(process)
    if "error" in reply:
        raise named(job["target"], reply["error"], reply["hint"], reply["input"])
    return Fit.from_dict(reply["fit"])
