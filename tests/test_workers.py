"""Worker processes: answers and errors come back, a process that dies or hangs is replaced, a pool keeps the order."""

import os
import threading
import time
from pathlib import Path

import pytest

from babelscale.errors import BabelscaleError, InputError
from babelscale.workers import Worker, WorkerDied, WorkerPool

PROGRAM = """
import os, sys, time
from babelscale.errors import BabelscaleError, InputError
from babelscale.workers import report_progress, serve

def answer(job):
    what, value = job
    if what == "input":
        raise InputError("row 3", hint="mend it")
    if what == "die":
        sys.stderr.write("no memory left")
        os._exit(1)
    if what == "sleep":
        time.sleep(value)
    if what == "half":
        sys.stdout.write('{"answer": ')
        sys.stdout.flush()
        os._exit(0)
    if what == "print":
        print("a library's chatter", flush=True)
    if what == "long":
        return "x" * value
    report_progress(value)
    return {"double": 2 * value, "process": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}

serve(answer)
"""


@pytest.fixture
def worker():
    worker = Worker("-c", PROGRAM)
    yield worker
    worker.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_answers_progress_and_errors_come_back(worker: Worker) -> None:
    heard: list[int] = []
    first = worker.ask(["double", 4], heard.append)
    assert (first["double"], first["threads"], heard) == (8, "1", [4])
    with pytest.raises(InputError, match="row 3") as caught:
        worker.ask(["input", 0])
    assert caught.value.hint == "mend it"
    assert worker.ask(["print", 5])["double"] == 10
    assert worker.ask(["double", 1])["process"] == first["process"]


@pytest.mark.parametrize(("job", "limits"), [("die", {}), ("half", {}), ("sleep", {"seconds": 0.3}), ("long", {})])
def test_a_process_that_gives_no_answer_is_replaced(worker: Worker, job: str, limits: dict[str, float]) -> None:
    before = worker.ask(["double", 1])["process"]
    with pytest.raises(WorkerDied) as caught:
        worker.ask([job, 5_000], longest=1000, **limits)
    assert (caught.value.complaint == "no memory left") == (job == "die")
    assert not alive(before)
    assert worker.ask(["double", 1])["process"] != before


def test_a_closed_worker_starts_no_process() -> None:
    worker = Worker("-c", PROGRAM)
    process = worker.ask(["double", 1])["process"]
    worker.close()
    assert not alive(process)
    with pytest.raises(WorkerDied, match="closed"):
        worker.ask(["double", 1])


def test_the_log_holds_standard_error(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    for _ in range(2):
        worker = Worker("-c", PROGRAM, log=log)
        with pytest.raises(WorkerDied):
            worker.ask(["die", 0])
        worker.close()
    assert log.read_text() == "no memory left" * 2


def test_a_pool_keeps_the_order_and_stops_its_processes() -> None:
    pool = WorkerPool([Worker("-c", PROGRAM) for _ in range(2)])
    finished: list[int] = []
    answers = pool.map(lambda worker, n: worker.ask(["double", n]), range(6), finished.append)
    assert [answer["double"] for answer in answers] == [0, 2, 4, 6, 8, 10]
    assert finished == [1, 2, 3, 4, 5, 6]
    assert not any(alive(answer["process"]) for answer in answers)


@pytest.mark.parametrize("error", [KeyboardInterrupt, BabelscaleError])
def test_a_failure_stops_a_pool_at_once(error: type[BaseException]) -> None:
    pool, began, threads = WorkerPool([Worker("-c", PROGRAM) for _ in range(2)]), time.monotonic(), []

    def tick() -> None:
        threads.append(threading.current_thread())
        if len(threads) == 3:
            raise error("enough")

    with pytest.raises(error):
        pool.map(lambda worker, n: worker.ask(["sleep", 60]), range(6), on_tick=tick)
    assert time.monotonic() - began < 30
    assert set(threads) == {threading.main_thread()}
