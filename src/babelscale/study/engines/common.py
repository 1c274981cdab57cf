"""What all engines share: the workers' environment, the order of runs, and how an engine is told to stop."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from babelscale.errors import Stopped, StudyError
from babelscale.study import disk, record
from babelscale.study.spec import RunSpec

# JAX reads its environment once, when it is imported, so it is set for the workers before they start. One thread a run
# makes results independent of the number of cores, and two runs side by side are faster than one on two threads.
ENVIRONMENT = {
    "NPROC": "1",
    "JAX_PLATFORMS": "cpu",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
# A run whose worker dies so often, with nobody to say why, is called failed.
ATTEMPTS = 3
Event = dict[str, Any]
OnEvent = Callable[[Event], None]


class Engine(Protocol):
    """Trains runs of the study in a folder.

    Raises:
        StudyError: some runs failed; all others were trained.
        DiskFull: nothing more was begun.
        Stopped: a signal arrived; the runs under way are saved.
    """

    def __call__(
        self,
        specs: Iterable[RunSpec],
        folder: Path,
        *,
        trunks: Mapping[str, RunSpec] | None = None,
        on_event: OnEvent | None = None,
    ) -> None: ...


def compiled(folder: Path) -> dict[str, str]:
    """Where workers share what they compile: the folder that the user's environment names, or one of the study's."""
    name = "JAX_COMPILATION_CACHE_DIR"
    return {name: os.environ.get(name) or str(folder.absolute() / "working" / "compiled")}


class Schedule:
    """Which run is next: the costliest first, and those that continue others after them.

    Args:
        folder: of the study.
        trunks: run -> the longer run it branches off, which is trained first.
    """

    def __init__(self, specs: Iterable[RunSpec], folder: Path, trunks: Mapping[str, RunSpec] | None = None) -> None:
        self._folder = folder
        self._trunks = trunks or {}
        ordered = sorted(specs, key=lambda spec: (-_chain_cost(spec), spec.name))
        self._specs = {spec.name: spec for spec in ordered}
        self._waiting = dict(self._specs)
        self._unfinished = set(self._specs)
        # By run: how far it was when a worker that had it died last, and how many died there.
        self._deaths: dict[str, tuple[record.Reached, int]] = {}
        self.failures: dict[str, str] = {}
        self._full = 0
        self._branches: dict[str, list[RunSpec]] = {}
        for name, trunk in self._trunks.items():
            if name in self._specs:
                self._branches.setdefault(trunk.name, []).append(self._specs[name])

    def __len__(self) -> int:
        """Runs that nobody has been given yet."""
        return len(self._waiting)

    @property
    def names(self) -> list[str]:
        """All runs, in their order."""
        return list(self._specs)

    def take(self, together: int = 1, sharing: int = 1) -> list[str]:
        """The next run that can be trained, with others that can share its program; empty where none is ready.

        Args:
            together: runs at most.
            sharing: among how many takers those alike are shared out.
        """
        self._drop_orphans()
        ready = (spec for spec in self._waiting.values() if self._is_ready(spec))
        first = next(ready, None)
        if first is None:
            return []
        taken = [first.name]
        if together > 1:
            alike = [spec.name for spec in ready if self._program(spec) == self._program(first)]
            taken += alike[: min(together, -(-(len(alike) + 1) // sharing)) - 1]
        for name in taken:
            del self._waiting[name]
        return taken

    def finish(self, name: str) -> None:
        self._unfinished.discard(name)

    def fail(self, name: str, reason: str, full: bool = False) -> None:
        """A run failed.

        Args:
            full: for want of room on the disk, which the next runs would find no better: none of them is begun.
        """
        self._unfinished.discard(name)
        self._waiting.pop(name, None)
        if full:
            self._full += 1
            self._waiting.clear()
        else:
            self.failures[name] = reason

    def note(self, event: Event) -> None:
        """Record an event of a worker: a run finished or failed."""
        if "failed" in event:
            self.fail(event["run"], event["failed"], event.get("full", False))
        elif "finished" in event:
            self.finish(event["run"])

    def lose(self, names: Iterable[str], reason: str) -> None:
        """The worker that had these runs died: they are put back, unless they take one with them time and again."""
        for name in names:
            reached = record.reached(self._folder / "working" / name)
            before, deaths = self._deaths.get(name, (reached, 0))
            # Machines die under long runs; what counts is whether a run gets on in between.
            deaths = 1 if reached > before else deaths + 1
            self._deaths[name] = reached, deaths
            if deaths >= ATTEMPTS:
                self.fail(name, f"{reason}, {ATTEMPTS} times")
            else:
                self._waiting = {name: self._specs[name]} | self._waiting

    def give_up(self, reason: str) -> None:
        """Nobody is left to train what waits."""
        for name in list(self._waiting):
            self.fail(name, f"not trained: {reason}")

    def close(self) -> None:
        """Raise StudyError where runs failed."""
        listed = "\n".join(f"  {name}: {reason}" for name, reason in sorted(self.failures.items()))
        if self._full:
            left = f"{len(self._unfinished) + self._full} runs are left"
            also = f"; {len(self.failures)} failed for other reasons:\n{listed}" if self.failures else ""
            raise disk.DiskFull(f"{self._folder}: the disk is full; {left}{also}", hint=disk.HINT)
        if self.failures:
            raise StudyError(
                f"{len(self.failures)} of the runs failed:\n{listed}",
                hint="the others are kept; run the study again to retry",
            )

    def _drop_orphans(self) -> None:
        if self.failures:
            for spec in list(self._waiting.values()):
                if isinstance(spec.base, RunSpec) and spec.base.name in self.failures:
                    self.fail(spec.name, f"the run it continues from failed: {spec.base.name}")

    def _is_ready(self, spec: RunSpec) -> bool:
        return self._unfinished.isdisjoint(run.name for run in (spec.base, self._trunks.get(spec.name)) if run)

    def _program(self, spec: RunSpec) -> tuple[Any, ...]:
        """What runs trained in one program have in common."""
        branches = self._branches.get(spec.name, ())
        evaluations = {step for branch in branches for step in branch.shared_evaluations}
        fork = spec.fork if spec.name in self._trunks else None
        return spec.shape, spec.recipe, spec.steps, evaluations, {branch.fork for branch in branches}, fork


@contextlib.contextmanager
def signals_to(hear: Callable[[int], None]) -> Iterator[None]:
    """While it lasts, SIGINT and SIGTERM call `hear` with their number; in the main thread, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda number, _: hear(number)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stopped(number: int) -> Stopped:
    """What an engine raises after a signal, with the exit code shells expect."""
    return Stopped(
        f"stopped by {signal.Signals(number).name}; the runs under way are saved; run the same command again",
        exit_code=128 + number,
    )


def _chain_cost(spec: RunSpec) -> int:
    """FLOPs of a run and of what it continues from: chains start early, or the study ends on one of them."""
    return spec.flops + (_chain_cost(spec.base) if isinstance(spec.base, RunSpec) else 0)
