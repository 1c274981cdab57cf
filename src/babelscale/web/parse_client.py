"""The parser of uploaded tables, a process of its own (see `parse_process`), as the server uses it."""

import threading
from pathlib import Path
from typing import Any

from babelscale.errors import InputError
from babelscale.workers import Worker, WorkerDied

# Wall-clock seconds for one file, files that one process reads, bytes of an answer.
_SECONDS, _FILES, _ANSWER = 60.0, 64, 4_000_000


class Refused(InputError):
    """An upload that is not taken, with its HTTP status."""

    def __init__(self, status: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class UploadParser:
    """Reads one file at a time; its process is replaced when it breaks, hangs or has read many files."""

    def __init__(self) -> None:
        self.worker = Worker("-m", "babelscale.web.parse_process")
        self._lock = threading.Lock()
        self._files = 0

    def warm(self) -> None:
        """Start the process, so that it is ready when a file has arrived."""
        if self._lock.acquire(blocking=False):
            try:
                self.worker.start()
            finally:
                self._lock.release()

    def read(self, file: Path, name: str, into: Path) -> dict[str, Any]:
        """What the table in `file` holds; its three checked tables are then in `into`.

        Raises:
            Refused: the table is malformed, too large, or breaks its parser.
        """
        job = {"file": str(file), "name": name, "into": str(into)}
        with self._lock:
            if self._files >= _FILES:
                self._restart()
            self._files += 1
            try:
                answer = self.worker.ask(job, seconds=_SECONDS, longest=_ANSWER)
            except WorkerDied as error:
                raise _broken(name, error.complaint) from None
            if "error" in answer:
                if answer["status"] != 400:
                    self._restart()  # Memory that a large file took is not given back otherwise.
                raise Refused(answer["status"], answer["error"], hint=answer["hint"])
            return answer

    def _restart(self) -> None:
        self.worker.reset()
        self._files = 0

    def close(self) -> None:
        """End the process."""
        self.worker.close()


def _broken(name: str, complaint: str) -> Refused:
    """Why the process gave no answer."""
    if "memory allocation" in complaint or "MemoryError" in complaint:
        return Refused(413, f"{name}: it is larger than the limit when it is unpacked", hint="leave out rows")
    return Refused(
        400, f"{name}: reading it failed or took too long", hint="check that the file is complete and a table"
    )
