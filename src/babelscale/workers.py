"""Worker processes: Python programs that read messages from standard input and write JSON objects, one a line.

`multiprocessing` would run the caller's script a second time and unpickle what it receives, so the workers are
programs of their own, started with `python -m MODULE`. Ctrl-C reaches the caller alone, which then stops its workers.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any, Generic, Protocol, TypeVar

from babelscale.errors import BabelscaleError, InputError

# The environment of workers of which one runs on each CPU.
ONE_THREAD: dict[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "POLARS_MAX_THREADS"), "1"
)
_SECONDS_BETWEEN_TICKS = 0.1
_COMPLAINT_BYTES = 100_000

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


def available_cpus() -> list[int]:
    """The CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class WorkerDied(Exception):
    """A worker ended before it answered; `complaint` is the end of what it wrote to standard error."""

    def __init__(self, complaint: str) -> None:
        super().__init__(complaint or "the process ended")
        self.complaint = complaint


class Worker:
    """One process, started when it is first used and again after it ended, until the worker is closed.

    Args:
        arguments: of Python, such as `-m`, a module, and the module's own arguments.
        environment: variables set beside those of this process.
        log: a file to which standard error is appended; by default a temporary one.
    """

    def __init__(
        self, *arguments: str, environment: Mapping[str, str] = ONE_THREAD, log: str | Path | None = None
    ) -> None:
        self._arguments = arguments
        self._environment = environment
        self._log_path = log
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process's number; None before it was started."""
        return None if self._process is None else self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status; None while the process runs and before it was started."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the process, unless it runs.

        Raises:
            WorkerDied: the worker was closed.
        """
        with self._lock:
            if self._closed:
                raise WorkerDied("the worker was closed")
            if self._process is not None:
                if self._process.poll() is None:
                    return
                self._release()
            self._log = self._open_log()
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=os.environ | self._environment,
                start_new_session=True,
            )

    def _open_log(self) -> IO[bytes]:
        return tempfile.TemporaryFile() if self._log_path is None else Path(self._log_path).open("a+b")

    def send(self, line: str) -> None:
        """Send one line to the process that runs. That it has ended shows when its output is read."""
        pipe = self._pipes()[0]
        with contextlib.suppress(BrokenPipeError):
            pipe.write(line.encode() + b"\n")
            pipe.flush()

    def receive(self, longest: int = -1) -> dict[str, Any] | None:
        """The next JSON object, None when the process has ended; other lines, which libraries print, are skipped.

        Args:
            longest: bytes; a process that writes a longer line is killed.
        """
        output = self._pipes()[1]
        while (line := output.readline(longest)).endswith(b"\n"):
            if line.startswith(b"{"):
                return json.loads(line)
        if line:
            self.kill()
        self.wait()
        return None

    def ask(
        self,
        message: Any,
        progress: Callable[[Any], None] | None = None,
        *,
        seconds: float | None = None,
        longest: int = -1,
    ) -> Any:
        """The answer of a process that runs `serve`.

        Args:
            progress: called with what the process passes to `report_progress`.
            seconds: after which the process is killed.
            longest: bytes of an answer; a process that answers more is killed.

        Raises:
            BabelscaleError: raised by the process while it answered.
            WorkerDied: the process ended before it answered. It is started again when it is next asked.
        """
        self.start()
        timer = threading.Timer(seconds, self.kill) if seconds is not None else None
        if timer is not None:
            timer.start()
        try:
            self.send(json.dumps(message))
            while (reply := self.receive(longest)) is not None:
                if "progress" not in reply:
                    return _answer(reply)
                if progress is not None:
                    progress(reply["progress"])
        finally:
            if timer is not None:
                timer.cancel()
        complaint = self.complaint()
        self.reset()
        raise WorkerDied(complaint)

    def complaint(self) -> str:
        """The end of what the process wrote to standard error."""
        if self._log is None:
            return ""
        # Not `seek`: the process writes at the same position of the file.
        size = os.fstat(self._log.fileno()).st_size
        found = os.pread(self._log.fileno(), _COMPLAINT_BYTES, max(0, size - _COMPLAINT_BYTES))
        return found.decode("utf-8", "replace").strip()

    def end_input(self) -> None:
        """Send no more: the process ends once it has done what it was sent."""
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                self._pipes()[0].close()

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the process has ended; kill it after so many seconds."""
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def reset(self) -> None:
        """Kill the process; a new one is started when the worker is next used."""
        with self._lock:
            self._release()

    def close(self) -> None:
        """Kill the process; the worker cannot be used any more."""
        with self._lock:
            self._closed = True
            self._release()

    def _release(self) -> None:
        process, self._process = self._process, None
        log, self._log = self._log, None
        if process is not None:
            process.kill()
            process.wait()
            for file in (process.stdin, process.stdout, log):
                if file is not None:
                    with contextlib.suppress(BrokenPipeError):
                        file.close()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        process = self._process
        if process is None:
            raise WorkerDied("the worker was closed")
        assert process.stdin is not None
        assert process.stdout is not None
        return process.stdin, process.stdout


class PooledWorker(Protocol):
    """What a pool asks of its workers; a worker may also be this process."""

    def start(self) -> None: ...

    def close(self) -> None: ...


WorkerT = TypeVar("WorkerT", bound=PooledWorker)


class WorkerPool(Generic[WorkerT]):
    """Workers that are lent one at a time; the one returned last is lent first."""

    def __init__(self, workers: Sequence[WorkerT]) -> None:
        self.workers = workers
        self._idle: queue.LifoQueue[WorkerT] = queue.LifoQueue()
        for worker in reversed(workers):
            self._idle.put(worker)

    def start(self) -> None:
        """Start every worker, so that the first job finds it ready."""
        for worker in self.workers:
            worker.start()

    @contextlib.contextmanager
    def lend(self) -> Iterator[WorkerT]:
        """A worker for the duration of the block; waits until one is free."""
        worker = self._idle.get()
        try:
            yield worker
        finally:
            self._idle.put(worker)

    def map(
        self,
        work: Callable[[WorkerT, JobT], ResultT],
        jobs: Sequence[JobT],
        on_finished: Callable[[int], None] | None = None,
        on_tick: Callable[[], None] | None = None,
    ) -> list[ResultT]:
        """The results of `work(worker, job)`, in the order of the jobs; the pool is closed afterwards.

        Args:
            work: called in threads, one for each worker.
            on_finished: called with the number of finished jobs after each job.
            on_tick: called about ten times a second.

        Raises:
            Whatever `work` or a callback raises first; the other jobs are then stopped.
        """

        def run(job: JobT) -> ResultT:
            with self.lend() as worker:
                return work(worker, job)

        threads = ThreadPoolExecutor(len(self.workers))
        try:
            self.start()
            pending = {threads.submit(run, job): place for place, job in enumerate(jobs)}
            results: dict[int, ResultT] = {}
            while pending:
                # Any thread may receive the signal of Ctrl-C, and an endless wait would not notice it.
                for future in wait(pending, _SECONDS_BETWEEN_TICKS, FIRST_COMPLETED).done:
                    results[pending.pop(future)] = future.result()
                    if on_finished is not None:
                        on_finished(len(results))
                if on_tick is not None:
                    on_tick()
            return [results[place] for place in range(len(jobs))]
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            self.close()
            threads.shutdown()

    def close(self) -> None:
        """Stop every worker."""
        for worker in self.workers:
            worker.close()


def serve(answer: Callable[[Any], Any]) -> None:
    """The program of a worker: answer each message until the input ends; the asker raises each BabelscaleError."""
    for line in sys.stdin.buffer:
        try:
            write_line({"answer": answer(json.loads(line))})
        except BabelscaleError as error:
            write_line({"error": error.message, "hint": error.hint, "input": isinstance(error, InputError)})


def report_progress(value: Any) -> None:
    """Tell the asker how far the answer under way is."""
    write_line({"progress": value})


def write_line(message: Mapping[str, Any]) -> None:
    """Write a message to standard output, where `Worker.receive` reads it."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _answer(reply: dict[str, Any]) -> Any:
    if "error" in reply:
        raise (InputError if reply["input"] else BabelscaleError)(reply["error"], hint=reply["hint"])
    return reply["answer"]
