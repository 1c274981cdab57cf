"""The scripts of benchmarks/ import, so that a renamed function is also renamed there."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_every_benchmark_imports() -> None:
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    assert "plan_speed" in names
    code = (
        f"import importlib, sys\nsys.path.insert(0, {str(BENCHMARKS)!r})\n[importlib.import_module(n) for n in {names}]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
