"""Long answers are made once by their question; what failed is made again."""

import os
import signal
import threading

import pytest

from babelscale.errors import InputError
from babelscale.web.job_queue import JobPending, JobQueue
from babelscale.web.worker_pool import AnswerPool


def test_an_answer_is_made_once_and_told_about_meanwhile() -> None:
    work, go, made = JobQueue(), threading.Event(), []

    def make(progress) -> int:
        made.append(1)
        progress("counting", 1, 2)
        go.wait(10)
        return 7

    with pytest.raises(JobPending) as told:
        work.result("key", make, patience=0.2)
    assert (told.value.what, told.value.done, told.value.total) == ("counting", 1, 2)
    go.set()
    assert [work.result("key", make, patience=10) for _ in range(3)] == [7, 7, 7]
    assert made == [1]
    work.close()


def test_what_failed_is_made_again() -> None:
    work, found = JobQueue(), iter([InputError("being written"), 3])

    def make(progress) -> int:
        now = next(found)
        if isinstance(now, Exception):
            raise now
        return now

    with pytest.raises(InputError, match="being written"):
        work.result("key", make, patience=10)
    assert work.result("key", make, patience=10) == 3
    work.close()


def test_a_process_that_died_is_started_again() -> None:
    pool = AnswerPool(1)
    query = {"languages": "sw", "compute": "1e21"}
    first = pool.ask("/api/plan", query)
    (worker,) = pool.workers
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    assert pool.ask("/api/plan", query).body == first.body
    assert first.status_code == 200
    pool.close()
