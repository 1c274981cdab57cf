"""Long answers: worked on in the background, one at a time, while the page asks how far they are.

A question whose answer takes seconds is answered 202 with its progress until it is done; the same question then finds
the answer ready. Answers are kept by their question, the latest ones only.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from babelscale.errors import InputError

Progress = Callable[[str, int, int], None]
_KEPT, _WAITING = 32, 16


class JobPending(Exception):
    """The answer is not ready: `what` is being done, `done` of `total` steps."""

    def __init__(self, what: str, done: int, total: int) -> None:
        super().__init__(what)
        self.what, self.done, self.total = what, done, total


class QueueFull(InputError):
    """Too much is waiting already."""


@dataclass
class _Job:
    future: "Future[Any]" = field(init=False)
    state: tuple[str, int, int] = ("waiting for other work", 0, 0)

    def tell(self, what: str, done: int, total: int) -> None:
        self.state = (what, done, total)


class JobQueue:
    """Answers by key, each made once."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="work")
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._lock = threading.Lock()

    def result(self, key: str, make: Callable[[Progress], Any], *, patience: float = 0.3) -> Any:
        """The answer of a key; `make(progress)` is called for it once, in the background.

        Args:
            patience: seconds to wait for it before saying that it is not ready.

        Raises:
            JobPending: it is not ready. QueueFull: too many wait. Whatever `make` raises.
        """
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                self._make_room()
                job = _Job()
                job.future = self._pool.submit(make, job.tell)
                self._jobs[key] = job
            self._jobs.move_to_end(key)
        try:
            return job.future.result(patience)
        except TimeoutError:
            if job.future.done():
                raise
            raise JobPending(*job.state) from None
        except Exception:
            # What failed may do well the next time it is asked for: a disk, a table that was being written.
            with self._lock:
                self._jobs.pop(key, None)
            raise

    def _make_room(self) -> None:
        waiting = sum(not job.future.done() for job in self._jobs.values())
        if waiting >= _WAITING:
            raise QueueFull(f"{waiting} long answers are waiting", hint="ask again in a minute")
        for key in [key for key, job in self._jobs.items() if job.future.done()][: max(0, len(self._jobs) - _KEPT)]:
            del self._jobs[key]

    def close(self) -> None:
        """Drop what waits; what is being done ends."""
        self._pool.shutdown(wait=False, cancel_futures=True)
