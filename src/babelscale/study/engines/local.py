"""The embedded engine: this machine, one pinned one-thread process a CPU, or one process an accelerator."""

import contextlib
import json
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

WORKER = ("-m", "babelscale.study.worker")
# Runs trained in one program, at most; fewer where the device's memory says so.
TOGETHER = 64
# So many workers in a row that end without a word mean that none will ever start.
_SILENT = 5
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


def processors() -> list[int]:
    """The CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cpu_slots(count: int | None = None, together: int = 1) -> list[Slot]:
    """So many CPU slots (default: one a CPU)."""
    cpus = processors()
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
        Stopped: SIGINT or SIGTERM came; the workers saved what they had begun.
    """
    if slots is None or isinstance(slots, int):
        slots = (None if slots else device_slots()) or cpu_slots(slots)
    schedule = Schedule(specs, folder, trunks)
    try:
        (folder / "working").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{folder}: cannot be written ({error.strerror})") from error
    _Crew(schedule, folder, slots[: max(1, len(schedule))], on_event).work()
    schedule.close()


class _Worker:
    """One worker process; a thread moves what it says into the engine's queue."""

    def __init__(self, slot: Slot, folder: Path, events: "_Events") -> None:
        self.slot = slot
        self.runs: set[str] = set()
        self.log = folder / "working" / f"worker-{slot.name}.log"
        with self.log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *WORKER, str(folder), *slot.arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **compiled(folder), **slot.environment},
                # Ctrl-C reaches the engine alone, which then stops its workers.
                start_new_session=True,
            )
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    def _listen(self, events: "_Events") -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # A worker that is killed may leave half a line.
            if line.endswith("\n"):
                events.put((self, json.loads(line)))
        self.process.wait()
        events.put((self, None))

    def send(self, names: Sequence[str]) -> None:
        assert self.process.stdin is not None
        self.runs = set(names)
        # A worker that is dead already is reported by its listener, with the runs it was given.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("\t".join(names) + "\n")
            self.process.stdin.flush()

    def release(self) -> None:
        """No more runs: the worker ends by itself."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def ask_to_stop(self) -> None:
        self.release()
        self.process.terminate()

    def end(self) -> None:
        """See it ended, saved or not."""
        try:
            self.process.wait(timeout=_SECONDS_TO_SAVE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# A worker and what it said, or None when it ended; no worker where a signal came. A SimpleQueue may be put to from
# inside a signal's handler.
_Events = queue.SimpleQueue[tuple[_Worker | None, Event | None]]


class _Crew:
    """The workers and what they are given."""

    def __init__(self, schedule: Schedule, folder: Path, slots: Sequence[Slot], on_event: OnEvent | None) -> None:
        self._schedule = schedule
        self._folder = folder
        self._slots = slots
        self._on_event = on_event
        self._events: _Events = queue.SimpleQueue()
        self._workers: set[_Worker] = set()
        self._silent = 0
        self._signal: int | None = None

    def work(self) -> None:
        with signals_to(lambda number: self._events.put((None, {"signal": number}))):
            try:
                for slot in self._slots if len(self._schedule) else ():
                    self._workers.add(_Worker(slot, self._folder, self._events))
                self._feed()
                while self._workers:
                    self._hear(*self._events.get())
            finally:
                for worker in self._workers:
                    worker.ask_to_stop()
                for worker in self._workers:
                    worker.end()
        if self._signal is not None:
            raise stopped(self._signal)
        self._schedule.give_up("no worker was left")

    def _hear(self, worker: _Worker | None, event: Event | None) -> None:
        if worker is None:
            assert event is not None
            self._stop(event["signal"])
        elif event is None:
            self._bury(worker)
        else:
            self._silent = 0
            self._note(worker, event)
        if self._signal is None:
            self._feed()

    def _stop(self, number: int) -> None:
        for worker in self._workers:
            # Whoever asks twice does not want to wait for what is being saved.
            worker.process.kill() if self._signal is not None else worker.ask_to_stop()
        self._signal = number

    def _note(self, worker: _Worker, event: Event) -> None:
        if "finished" in event or "failed" in event:
            worker.runs.discard(event["run"])
            if "failed" in event:
                self._schedule.fail(event["run"], event["failed"], event.get("full", False))
            else:
                self._schedule.finish(event["run"])
        self._tell(event)

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def _bury(self, worker: _Worker) -> None:
        self._workers.discard(worker)
        if worker.runs and self._signal is None:
            self._schedule.lose(
                worker.runs, f"its process ended with status {worker.process.returncode}; see {worker.log}"
            )
            for name in worker.runs & self._schedule.failures.keys():
                self._tell({"run": name, "failed": self._schedule.failures[name]})
            self._silent += 1
            if self._silent <= _SILENT and len(self._schedule):
                self._workers.add(_Worker(worker.slot, self._folder, self._events))

    def _feed(self) -> None:
        """Give idle workers the runs that are ready; let them go when none will come."""
        for worker in self._workers:
            if not worker.runs:
                if names := self._schedule.take(worker.slot.together, len(self._slots)):
                    worker.send(names)
                elif not len(self._schedule) and not any(other.runs for other in self._workers):
                    worker.release()
