"""How the missing runs of a study get trained: the embedded engine, one pinned one-thread process for each CPU.

JAX reads its environment once, when it is imported, so it is set for the workers before they start. One thread a run
makes results independent of the number of cores, and two runs side by side are faster than one on two threads.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from babelscale.errors import StudyError
from babelscale.study.spec import RunSpec

ENVIRONMENT = {
    "NPROC": "1",
    "JAX_PLATFORMS": "cpu",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
Event = dict[str, Any]


class _Worker:
    """One worker process; a thread moves what it says into the engine's queue."""

    def __init__(self, folder: Path, cpu: int, events: "queue.Queue[tuple[_Worker, Event | None]]") -> None:
        self.run: str | None = None
        self._errors = (folder / "working" / f"worker-{cpu}.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "babelscale.study.worker", str(folder), "--cpu", str(cpu)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | ENVIRONMENT | {"JAX_COMPILATION_CACHE_DIR": str(folder / "working" / "compiled")},
            # Ctrl-C reaches the engine alone, which then stops its workers.
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    def _listen(self, events: "queue.Queue[tuple[_Worker, Event | None]]") -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            events.put((self, json.loads(line)))
        self.process.wait()
        events.put((self, None))

    def send(self, name: str) -> None:
        assert self.process.stdin is not None
        self.run = name
        # A worker that is dead already is reported by its listener, with the run it was given.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(name + "\n")
            self.process.stdin.flush()

    def release(self) -> None:
        """No more runs: the worker ends by itself."""
        assert self.process.stdin is not None
        self.run = None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._errors.close()


def processors() -> list[int]:
    """The CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def run_local(
    specs: Iterable[RunSpec], folder: Path, *, slots: int | None = None, trunks: Mapping[str, RunSpec] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> None:  # fmt: skip
    """Train runs on this machine, the costliest first, and those that continue others after them.

    Args:
        slots: runs at a time; by default one a CPU.
        trunks: run -> the longer run it branches off, which is trained first.
        on_event: called with what the workers say: {"run", "step", "loss"}, {"run", "warning"}, {"run",
            "finished"}, {"run", "failed"}.

    Raises:
        StudyError: some runs failed; all others were trained.
    """
    waiting = deque(sorted(specs, key=lambda spec: (-_chain_cost(spec), spec.name)))
    unfinished = {spec.name for spec in waiting}
    (folder / "working").mkdir(parents=True, exist_ok=True)
    events: queue.Queue[tuple[_Worker, Event | None]] = queue.Queue()
    cpus = processors()
    count = max(1, min(slots or len(cpus), len(waiting)))
    workers = {_Worker(folder, cpus[k % len(cpus)], events) for k in range(count)} if waiting else set()
    failed: dict[str, str] = {}
    started: set[_Worker] = set(workers)
    try:
        for worker in workers:
            _feed(worker, waiting, unfinished, failed, trunks or {})
        while workers:
            worker, event = events.get()
            if event is None:
                workers.discard(worker)
                if worker.run is not None:
                    failed[worker.run] = (
                        f"its process ended with status {worker.process.returncode}; see {folder}/working/worker-*.log"
                    )
                    unfinished.discard(worker.run)
            else:
                if on_event is not None:
                    on_event(event)
                if "step" in event or "warning" in event:
                    continue
                if "failed" in event:
                    failed[event["run"]] = event["failed"]
                unfinished.discard(event["run"])
                worker.run = None
            # A finished run may have made others ready, for idle workers too.
            for idle in [w for w in workers if w.run is None]:
                _feed(idle, waiting, unfinished, failed, trunks or {})
    finally:
        for worker in started:
            worker.stop()
    if waiting:
        failed |= {spec.name: "not trained: no worker was left" for spec in waiting}
    if failed:
        listed = "\n".join(f"  {name}: {reason}" for name, reason in sorted(failed.items()))
        raise StudyError(
            f"{len(failed)} of the runs failed:\n{listed}", hint="the others are kept; run the study again to retry"
        )


def _feed(
    worker: _Worker, waiting: "deque[RunSpec]", unfinished: set[str], failed: dict[str, str],
    trunks: Mapping[str, RunSpec],
) -> None:  # fmt: skip
    """Give a worker the next run whose base and trunk are there; let it go when none will come."""
    for spec in list(waiting):
        if isinstance(spec.base, RunSpec) and spec.base.name in failed:
            waiting.remove(spec)
            unfinished.discard(spec.name)
            failed[spec.name] = f"the run it continues from failed: {spec.base.name}"
        elif unfinished.isdisjoint(run.name for run in (spec.base, trunks.get(spec.name)) if run):
            waiting.remove(spec)
            worker.send(spec.name)
            return
    if not waiting:
        worker.release()


def _chain_cost(spec: RunSpec) -> int:
    """FLOPs of a run and of what it continues from: chains start early, or the study ends on one of them."""
    return spec.flops + (_chain_cost(spec.base) if isinstance(spec.base, RunSpec) else 0)
