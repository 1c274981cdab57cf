"""Long answers are made once by their question; what failed is made again."""

import subprocess
import sys
import threading

import pytest

from babelscale.errors import InputError
from babelscale.web.apart import Worker
from babelscale.web.work import Work, Working


def test_an_answer_is_made_once_and_told_about_meanwhile() -> None:
    work, go, made = Work(), threading.Event(), []

    def make(progress) -> int:
        made.append(1)
        progress("counting", 1, 2)
        go.wait(10)
        return 7

    with pytest.raises(Working) as told:
        work.result("key", make, patience=0.2)
    assert (told.value.what, told.value.done, told.value.total) == ("counting", 1, 2)
    go.set()
    assert [work.result("key", make, patience=10) for _ in range(3)] == [7, 7, 7]
    assert made == [1]
    work.close()


def test_what_failed_is_made_again() -> None:
    work, found = Work(), iter([InputError("being written"), 3])

    def make(progress) -> int:
        now = next(found)
        if isinstance(now, Exception):
            raise now
        return now

    with pytest.raises(InputError, match="being written"):
        work.result("key", make, patience=10)
    assert work.result("key", make, patience=10) == 3
    work.close()


@pytest.mark.parametrize("said", ["", '{"status": 200, "headers": {}, "length": 9}\\nhalf'])
def test_a_process_that_ends_half_way_gives_no_answer(said: str) -> None:
    worker = Worker()
    script = f"import sys; sys.stdin.readline(); sys.stdout.write('{said}')"
    worker._process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with pytest.raises(ChildProcessError):
        worker.ask("/api/plan", {})
    assert worker._process is None
