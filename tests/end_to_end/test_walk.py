"""The walk as its user meets it: one command from text to a report, stopped and gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from babelscale.runs import Runs

DESIGN = """
name = "walk"
title = "A walk of a few minutes' sizes"
languages = ["sv", "da", "no", "sw"]

[corpus]
bytes_per_language = 80_000

[tokenizer]
vocabulary = 400

[recipe]
batch_size = 4
sequence_length = 32
learning_rate = 1e-2
evaluations = 6
evaluation_tokens = 256

[sizes]
xs = { layers = 1, heads = 1, d_model = 8, d_ff = 16, d_head = 8 }
s = { layers = 1, heads = 2, d_model = 16, d_ff = 32, d_head = 8 }

[[groups]]
name = "mono"
mixture = "monolingual"
languages = ["sv", "no"]
sizes = ["xs", "s"]
tokens = [8e3, 16e3]

[[groups]]
name = "pair"
mixture = "bilingual"
languages = ["sv", "no"]
sizes = ["xs"]
tokens = [8e3, 16e3]

[[groups]]
name = "all"
mixture = "uniform"
sizes = ["xs", "s"]
tokens = [16e3]

[[groups]]
name = "continued"
mixture = "monolingual"
languages = ["no"]
sizes = ["s"]
tokens = [8e3]
continue_from = "all"

[analysis]
targets = ["sv", "no"]
"""


def run(design: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "babelscale", "study", "run", str(design), "--out", str(folder), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("designs") / "walk.toml"
    path.write_text(DESIGN)
    return path


def test_interrupted_gone_on_with_and_run_again(design: Path, tmp_path: Path):
    folder = tmp_path / "walk"
    # One worker compiles each program once; tests/study/test_engines.py stops two.
    first = run(design, folder, "--slots", "1")
    deadline = time.monotonic() + 300
    while not list(folder.glob("finished/*/record.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate()
    assert first.returncode == 130, said
    assert "stopped by SIGINT" in said
    assert "run the same command again" in said
    assert "Traceback" not in said
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("finished/*/record.json")}
    assert kept
    assert Runs.read(folder).names

    second = run(design, folder, "--slots", "1")
    out, said = second.communicate()
    assert second.returncode == 0, said
    assert out.strip() == str(folder / "report.html")
    everything = {path: path.stat().st_mtime_ns for path in folder.glob("finished/*/record.json")}
    assert len(everything) == 13
    assert kept.items() <= everything.items()

    third = run(design, folder, "--no-report")
    _, said = third.communicate()
    assert third.returncode == 0
    assert "0 to train" in said
    assert {path: path.stat().st_mtime_ns for path in folder.glob("finished/*/record.json")} == everything
    _check_results(folder)


def _check_results(folder: Path) -> None:
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "phrasebook" in report
    assert "http-equiv" in report
    assert " src=" not in report.split("<script", 1)[0]
    analysis = {path.name for path in (folder / "analysis").rglob("*.json")}
    assert "transfer.json" in analysis
    assert any(name.startswith("adaptive-transfer-no") for name in analysis)
    runs = Runs.read(folder)
    assert set(runs.languages) == {"da", "no", "sv", "sw"}
    assert len(runs) == 13


def test_a_worker_left_alone_ends_with_its_parent(design: Path, tmp_path: Path):
    folder = tmp_path / "orphans"
    process = run(design, folder)
    deadline = time.monotonic() + 300
    while not list(folder.glob("working/*-s0-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    until = time.monotonic() + 120
    while (left := _workers_of(folder)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not left


def _workers_of(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"babelscale.study.worker" in command and str(folder).encode() in command:
                found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_the_quickstart_itself(tmp_path: Path):
    """Minutes long: the demo's own design, then again without training, then other text in the same folder refused."""
    folder = tmp_path / "quickstart"
    first = run(Path("quickstart"), folder)
    out, said = first.communicate()
    assert first.returncode == 0, said
    assert out.strip() == str(folder / "report.html")
    runs = Runs.read(folder)
    assert len(runs) >= 24
    assert runs.table["params"].n_unique() >= 2
    assert runs.table.filter(start="checkpoint").height >= 1
    assert runs.exposure.group_by("run").agg(pl.col("language").n_unique())["language"].max() == 12
    second = run(Path("quickstart"), folder)
    _, said = second.communicate()
    assert second.returncode == 0
    assert "0 to train" in said
    (tmp_path / "text").mkdir()
    third = run(Path("quickstart"), folder, "--corpus", str(tmp_path / "text"))
    _, said = third.communicate()
    assert third.returncode == 2
    assert "made from another corpus" in said
