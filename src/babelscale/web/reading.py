"""Asking the reading process (see `reader`): one at a time, replaced when it breaks, hangs or has read a lot."""

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

from babelscale.errors import InputError

# Wall-clock seconds for one file, files that one process reads, bytes of an answer.
_SECONDS, _FILES, _ANSWER = 60.0, 64, 4_000_000
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


class Refused(InputError):
    """An upload that is not taken, with its HTTP status."""

    def __init__(self, status: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Reader:
    """Reads uploaded files in a process of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None
        self._read = 0

    def warm(self) -> None:
        """Start the process, so that it is ready when a file is."""
        if self._lock.acquire(blocking=False):
            try:
                self._started()
            finally:
                self._lock.release()

    def read(self, file: Path, name: str, into: Path) -> dict[str, Any]:
        """What the table in `file` holds; its three checked tables are then in `into`.

        Raises:
            Refused: the table is malformed, too large, or breaks its parser.
        """
        with self._lock:
            child = self._started()
            self._read += 1
            try:
                found = _asked(child, {"file": str(file), "name": name, "into": str(into)})
            except (TimeoutError, OSError):
                found = None
            if found is None:
                raise self._broken(name)
            if "error" in found:
                if found["status"] != 400:
                    self._stop()  # Memory that a large file took is not given back otherwise.
                raise Refused(found["status"], found["error"], hint=found["hint"])
            return found

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None and (self._child.poll() is not None or self._read >= _FILES):
            self._stop()
        if self._child is None:
            self._read = 0
            self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
            self._child = subprocess.Popen(
                [sys.executable, "-m", "babelscale.web.reader"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                env=os.environ | _ONE_THREAD,
                start_new_session=True,
            )
        return self._child

    def _broken(self, name: str) -> Refused:
        """Why the process gave no answer; it is stopped."""
        assert self._child is not None
        assert self._complaints is not None
        self._child.kill()
        self._child.wait()
        self._complaints.seek(0)
        said = self._complaints.read(100_000)
        self._stop()
        if b"memory allocation" in said or b"MemoryError" in said:
            return Refused(413, f"{name}: it unfolds to more than is taken here", hint="leave rows out")
        return Refused(400, f"{name}: reading it failed or took too long", hint="is the file whole, and a table?")

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout, self._complaints):
                if pipe is not None:
                    pipe.close()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()


def _asked(child: subprocess.Popen[bytes], job: dict[str, str]) -> dict[str, Any] | None:
    """The answer of a process, None where it ended without one.

    Raises:
        TimeoutError: it took too long. OSError: it takes no questions.
    """
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(job).encode() + b"\n")
    child.stdin.flush()
    held, until, out = b"", time.monotonic() + _SECONDS, child.stdout.fileno()
    while not held.endswith(b"\n"):
        if not select.select([out], [], [], max(until - time.monotonic(), 0.0))[0]:
            raise TimeoutError
        part = os.read(out, 65536)
        held += part
        if not part or len(held) > _ANSWER:
            return None
    return json.loads(held)
