"""A run killed at random moments, its newest state damaged now and then, leaves the bytes of a run left in peace."""

import subprocess
import sys
from pathlib import Path

import pytest

KILL = Path(__file__).parents[2] / "benchmarks" / "kill.py"


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_a_killed_run_leaves_the_same_bytes(tmp_path: Path, kills: int):
    command = [sys.executable, str(KILL), "--kills", str(kills), "--folder", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "log.jsonl is the same to the byte" in ended.stdout
    assert "counts.json is the same to the byte" in ended.stdout
