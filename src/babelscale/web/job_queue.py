"""Long answers: a thread computes them one at a time, while the page asks for the progress.

A question whose answer takes seconds gets status 202 and the progress until the answer is ready. The latest answers are
cached by their question.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from babelscale.errors import InputError

Progress = Callable[[str, int, int], None]
_CACHED, _WAITING = 32, 16


class JobPending(Exception):
    """The answer is not ready; `done` of `total` steps of `what` are finished."""

    def __init__(self, what: str, done: int, total: int) -> None:
        super().__init__(what)
        self.what, self.done, self.total = what, done, total


class QueueFull(InputError):
    """Too many answers are waiting."""


@dataclass
class _Job:
    future: "Future[Any]" = field(init=False)
    state: tuple[str, int, int] = ("waiting for other work", 0, 0)

    def report(self, what: str, done: int, total: int) -> None:
        self.state = (what, done, total)


class JobQueue:
    """Answers by key; each is computed once."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="work")
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._lock = threading.Lock()

    def result(self, key: str, make: Callable[[Progress], Any], *, patience: float = 0.3) -> Any:
        """The answer of a key; a background thread calls `make(progress)` for it once.

        Args:
            patience: seconds to wait before JobPending is raised.

        Raises:
            JobPending: the answer is not ready. QueueFull: too many answers wait. Everything that `make` raises.
        """
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                self._make_room()
                job = _Job()
                job.future = self._pool.submit(make, job.report)
                self._jobs[key] = job
            self._jobs.move_to_end(key)
        try:
            return job.future.result(patience)
        except TimeoutError:
            if job.future.done():
                raise
            raise JobPending(*job.state) from None
        except Exception:
            # The next attempt may succeed, for instance if a file was incomplete.
            with self._lock:
                self._jobs.pop(key, None)
            raise

    def _make_room(self) -> None:
        waiting = sum(not job.future.done() for job in self._jobs.values())
        if waiting >= _WAITING:
            raise QueueFull(f"{waiting} long answers are waiting", hint="try again in a minute")
        for key in [key for key, job in self._jobs.items() if job.future.done()][: max(0, len(self._jobs) - _CACHED)]:
            del self._jobs[key]

    def close(self) -> None:
        """Cancel the waiting answers; the running one ends."""
        self._pool.shutdown(wait=False, cancel_futures=True)
