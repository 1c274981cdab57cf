"""Files that the real tools write now are read number by number (`test_sources.py` keeps files they wrote before).

The tools have an environment of their own, as babelscale needs none of them: that of the Python in BABELSCALE_TOOLS, or
one that is made here.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.importers.test_sources import MIXTURES, TOKENS_PER_STEP, assert_equal

from babelscale.importers import Mapping, import_runs

TOOLS = ("wandb", "tensorboardX", "mlflow", "trackio", "transformers", "openpyxl")
WRITER = Path(__file__).with_name("write_sources.py")
# What a source cannot say by itself; relative error, where a tool rounds; whether N is the one that was logged.
SOURCES = {
    "wandb": (None, 0.0, True),
    "tensorboard": (Mapping(tokens_per_step=TOKENS_PER_STEP), 1e-7, True),
    "mlflow": (None, 0.0, True),
    "mlflow-files": (None, 0.0, True),
    "trackio": (None, 0.0, True),
    "huggingface": (Mapping(shares=MIXTURES), 0.0, False),
    "excel": (None, 1e-15, True),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has the tools."""
    if given := os.environ.get("BABELSCALE_TOOLS"):
        return given
    place = tmp_path_factory.mktemp("tools")
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    made = str(place / "bin" / "python")
    done = subprocess.run([made, "-m", "pip", "install", "-q", *TOOLS], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install {', '.join(TOOLS)}: {done.stderr.strip().splitlines()[-1]}")
    return made


@pytest.mark.parametrize("tool", SOURCES)
def test_every_number_that_a_tool_writes_is_read(tool: str, python: str, tmp_path: Path) -> None:
    command = [python, str(WRITER), str(tmp_path), tool]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    source = tmp_path / tool
    files = [file for pattern in ("mlflow.db", "*.db", "*.xlsx") for file in sorted(source.glob(pattern))]
    mapping, tolerance, params = SOURCES[tool]
    found = import_runs(files[0] if files else source, mapping)
    assert_equal(found.runs, tolerance=tolerance, params=params)
