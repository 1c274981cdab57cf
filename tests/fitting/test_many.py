"""Many targets on several cores: the same bytes as in one process, clean ends, errors that name their target."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from babelscale.allocation import Allocation
from babelscale.errors import BabelscaleError, InputError
from babelscale.fitting import fit_many, many, simulate
from babelscale.laws import Chinchilla
from babelscale.runs import Runs

CODES = ("de", "en", "no", "sw")
TRUTH = {"E": 0.5, "A": 60.0, "B": 900.0, "alpha": 0.35, "beta": 0.3}


@pytest.fixture(scope="module")
def runs() -> Runs:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1.0] * len(CODES), 80)
    tokens = 10 ** rng.uniform(9, 11, 80)
    D = {code: shares[:, k] * tokens for k, code in enumerate(CODES)}
    allocation = Allocation(rng.choice([1e7, 1e8, 1e9], 80), D)
    return simulate([Chinchilla(c) for c in CODES], [TRUTH] * len(CODES), allocation, noise=0.01, seed=0)


@pytest.mark.parametrize("objective", ["huber", "lad", "squares"])
def test_the_number_of_processes_changes_nothing(runs: Runs, objective: str) -> None:
    steps: list[tuple[str, int, int]] = []
    options = {"resamples": 10, "objective": objective, "fixed": {"alpha": 0.3}}
    one = fit_many("chinchilla", runs, ["sw", "de", "no"], workers=1, **options)  # pyright: ignore[reportArgumentType]
    two = fit_many(
        "chinchilla", runs, ["sw", "de", "no"], workers=2, progress=lambda *step: steps.append(step), **options
    )  # pyright: ignore[reportArgumentType]
    assert list(one) == list(two) == ["sw", "de", "no"]
    assert one == two
    assert steps == [("chinchilla", done, 3) for done in (1, 2, 3)]


def test_a_script_without_a_guard_may_use_processes(runs: Runs, tmp_path: Path) -> None:
    runs.write(tmp_path / "runs")
    script = tmp_path / "script.py"
    script.write_text(
        "from babelscale.fitting import fit_many\nfrom babelscale.runs import Runs\n"
        f"print(list(fit_many('chinchilla', Runs.read({str(tmp_path / 'runs')!r}), resamples=5, workers=2)))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{list(CODES)}\n"


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for children in /proc")
def test_ctrl_c_stops_the_processes(runs: Runs, tmp_path: Path) -> None:
    runs.write(tmp_path / "runs")
    script = tmp_path / "script.py"
    script.write_text(
        # A test run in the background may have inherited an ignored Ctrl-C.
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from babelscale.fitting import fit_many\nfrom babelscale.runs import Runs\n"
        f"fit_many('chinchilla', Runs.read({str(tmp_path / 'runs')!r}), resamples=200_000, workers=2)\n"
    )
    started = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)
    while len(children := _children(started.pid)) < 2:
        assert started.poll() is None
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    _, complaint = started.communicate()
    assert "KeyboardInterrupt" in complaint
    for _ in range(100):  # one that had no job yet ends by itself; one that works would go on for a minute
        if not any(map(_alive, children)):
            break
        time.sleep(0.1)
    assert not [pid for pid in children if _alive(pid)]


def test_errors_name_their_target(runs: Runs) -> None:
    small = set(runs.table.filter(params=1e7)["run"])
    rows = runs.losses.filter((runs.losses["language"] != "no") | runs.losses["run"].is_in(list(small)))
    partial = Runs.of(runs.table, runs.exposure, rows)
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"target 'no': .*same size") as caught:
            fit_many("chinchilla", partial, resamples=0, workers=workers)
        assert caught.value.hint


def test_a_process_that_dies_is_an_error(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BabelscaleError, match="the process that fitted it ended"):
        fit_many("chinchilla", runs, resamples=0, workers=2)


def test_processes_start_only_where_the_work_is_worth_them(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "WorkerPool", lambda *_: pytest.fail("started processes"))
    assert len(fit_many("chinchilla", runs, resamples=0)) == len(CODES)
    with pytest.raises(InputError, match="workers is 0"):
        fit_many("chinchilla", runs, workers=0)


def _children(pid: int) -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _status(int(entry.name))[1] == pid
    ]


def _status(pid: int) -> tuple[str, int]:
    """State and parent of a process; ("X", 0) where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[1])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return _status(pid)[0] not in "XZ"
