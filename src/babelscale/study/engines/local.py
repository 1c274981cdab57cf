"""The embedded engine: this machine, one pinned one-thread process a CPU, or one process an accelerator."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from babelscale.errors import StudyError
from babelscale.study.engines.common import ENVIRONMENT, Event, OnEvent, Schedule, compiled, signals_to, stopped
from babelscale.study.spec import RunSpec
from babelscale.workers import Worker, available_cpus

WORKER = ("-m", "babelscale.study.worker")
# Runs trained in one program, at most; fewer where the device's memory says so.
TOGETHER = 64
# When so many workers in a row end without an event, none will ever start.
_MOST_SILENT = 5
_SECONDS_TO_SAVE = 120
# JAX calls AMD's devices `gpu` as well; the version of the platform tells them apart.
_ASK_JAX = """
import jax
version = jax.local_devices()[0].client.platform_version
print("rocm" if "rocm" in version.lower() else jax.default_backend(), jax.local_device_count())
"""


@dataclass(frozen=True)
class Slot:
    """Where one worker process runs, one at a time.

    Args:
        name: of its log.
        arguments: of the worker.
        environment: of the worker, beside the engine's own.
        together: runs at most that it trains in one program.
    """

    name: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    together: int = 1


def cpu_slots(count: int | None = None, together: int = 1) -> list[Slot]:
    """So many CPU slots (default: one a CPU)."""
    cpus = available_cpus()
    chosen = [cpus[k % len(cpus)] for k in range(count or len(cpus))]
    return [Slot(f"cpu-{k}", ("--cpu", str(cpu)), ENVIRONMENT, together) for k, cpu in enumerate(chosen)]


def device_slots() -> list[Slot]:
    """One slot an accelerator that JAX can use; none where it sees CPUs alone.

    JAX is asked in a process of its own, and only where a driver is there: asking takes seconds, and a process that
    has asked holds the devices.
    """
    drivers = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel0", "/dev/vfio/0")
    if os.environ.get("JAX_PLATFORMS") == "cpu" or not any(os.path.exists(path) for path in drivers):  # noqa: PTH110
        return []
    asked = subprocess.run([sys.executable, "-c", _ASK_JAX], capture_output=True, text=True, check=False)
    said = asked.stdout.split()
    if asked.returncode != 0 or len(said) != 2 or said[0] == "cpu":
        return []
    return [_device_slot(said[0], k) for k in range(int(said[1]))]


def _device_slot(platform: str, k: int) -> Slot:
    if platform == "tpu":
        one = {"TPU_VISIBLE_CHIPS": str(k), "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
        return Slot(f"tpu-{k}", environment=one, together=TOGETHER)
    name = "ROCR_VISIBLE_DEVICES" if platform == "rocm" else "CUDA_VISIBLE_DEVICES"
    # What this process may see, it may see under other numbers.
    visible = [number for number in os.environ.get(name, "").split(",") if number]
    number = visible[k] if k < len(visible) else str(k)
    memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")}
    return Slot(f"gpu-{k}", environment={name: number} | memory, together=TOGETHER)


def run_local(
    specs: Iterable[RunSpec],
    folder: Path,
    *,
    slots: int | Sequence[Slot] | None = None,
    trunks: Mapping[str, RunSpec] | None = None,
    on_event: OnEvent | None = None,
) -> None:
    """Train runs on this machine, the costliest first, and those that continue others after them.

    A worker that dies is replaced and its run put back; a run that takes three workers with it has failed.

    Args:
        slots: CPUs to use, or the slots themselves; by default one an accelerator, or one a CPU where there are none.
        trunks: run -> the longer run it branches off, which is trained first.
        on_event: called with what the workers say: {"run", "step", "loss"}, {"run", "warning"}, {"run",
            "finished"}, {"run", "failed"}.

    Raises:
        StudyError: some runs failed; all others were trained.
        Stopped: SIGINT or SIGTERM arrived; the workers saved the runs under way.
    """
    if slots is None or isinstance(slots, int):
        slots = (None if slots else device_slots()) or cpu_slots(slots)
    schedule = Schedule(specs, folder, trunks)
    try:
        (folder / "working").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{folder}: cannot be written ({error.strerror})") from error
    _LocalEngine(schedule, folder, slots[: max(1, len(schedule))], on_event).train()
    schedule.close()


class _RunWorker(Worker):
    """The process of a slot; a thread moves its events into the engine's queue, and None when it has ended."""

    def __init__(self, slot: Slot, folder: Path, events: "_Events") -> None:
        self.slot = slot
        self.runs: set[str] = set()
        self.log = folder / "working" / f"worker-{slot.name}.log"
        super().__init__(
            *WORKER, str(folder), *slot.arguments, environment={**compiled(folder), **slot.environment}, log=self.log
        )
        self.start()
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    def _listen(self, events: "_Events") -> None:
        while (event := self.receive()) is not None:
            events.put((self, event))
        events.put((self, None))

    def train(self, names: Sequence[str]) -> None:
        """A process that has died by now is reported by its listener, with the runs it was given."""
        self.runs = set(names)
        self.send("\t".join(names))

    def ask_to_stop(self) -> None:
        self.end_input()
        self.terminate()


# A worker and its event, or None when it has ended; no worker where a signal came. A SimpleQueue may be put to from
# inside a signal's handler.
_Events = queue.SimpleQueue[tuple[_RunWorker | None, Event | None]]


class _LocalEngine:
    """Gives the runs of a schedule to workers and reports their events."""

    def __init__(self, schedule: Schedule, folder: Path, slots: Sequence[Slot], on_event: OnEvent | None) -> None:
        self._schedule = schedule
        self._folder = folder
        self._slots = slots
        self._report = on_event or (lambda event: None)
        self._events: _Events = queue.SimpleQueue()
        self._workers: set[_RunWorker] = set()
        self._silent = 0
        self._signal: int | None = None

    def train(self) -> None:
        with signals_to(lambda number: self._events.put((None, {"signal": number}))):
            try:
                for slot in self._slots if len(self._schedule) else ():
                    self._workers.add(_RunWorker(slot, self._folder, self._events))
                self._assign_runs()
                while self._workers:
                    self._handle(*self._events.get())
            finally:
                for worker in self._workers:
                    worker.ask_to_stop()
                for worker in self._workers:
                    worker.wait(_SECONDS_TO_SAVE)
        if self._signal is not None:
            raise stopped(self._signal)
        self._schedule.give_up("no worker process is left")

    def _handle(self, worker: _RunWorker | None, event: Event | None) -> None:
        if worker is None:
            assert event is not None
            self._stop(event["signal"])
        elif event is None:
            self._replace(worker)
        else:
            self._silent = 0
            if "finished" in event or "failed" in event:
                worker.runs.discard(event["run"])
                self._schedule.note(event)
            self._report(event)
        if self._signal is None:
            self._assign_runs()

    def _stop(self, number: int) -> None:
        for worker in self._workers:
            # A second signal means that the user does not want to wait until everything is saved.
            worker.kill() if self._signal is not None else worker.ask_to_stop()
        self._signal = number

    def _replace(self, worker: _RunWorker) -> None:
        """A worker has ended: put its runs back and start another one in its slot."""
        self._workers.discard(worker)
        status = worker.status
        worker.close()
        if worker.runs and self._signal is None:
            self._schedule.lose(worker.runs, f"its process ended with status {status}; see {worker.log}")
            for name in worker.runs & self._schedule.failures.keys():
                self._report({"run": name, "failed": self._schedule.failures[name]})
            self._silent += 1
            if self._silent <= _MOST_SILENT and len(self._schedule):
                self._workers.add(_RunWorker(worker.slot, self._folder, self._events))

    def _assign_runs(self) -> None:
        """Give idle workers the runs that are ready; release them when none will come."""
        for worker in self._workers:
            if not worker.runs:
                if names := self._schedule.take(worker.slot.together, len(self._slots)):
                    worker.train(names)
                elif not len(self._schedule) and not any(other.runs for other in self._workers):
                    worker.end_input()
