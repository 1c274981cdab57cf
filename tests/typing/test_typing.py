"""The package is typed for its users: a script with the public names passes type checkers in strict mode."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import babelscale

SCRIPT = Path(__file__).parent / "user_script.py"
SOURCE = Path(__file__).parents[2] / "src"
# Modules of the package that need further packages or that a script reaches through other names.
MODULES = {
    "charts",
    "corpora",
    "errors",
    "importers",
    "mixture",
    "model",
    "published",
    "reporting",
    "study",
    "training",
}


def test_the_script_uses_every_public_name() -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(SCRIPT.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bs"
    }
    assert set(babelscale.__all__) - MODULES <= used


@pytest.mark.parametrize("name", babelscale.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(babelscale, name) is not None
    assert name in dir(babelscale)


def test_pyright_accepts_the_script(tmp_path: Path) -> None:
    settings = {"include": [str(SCRIPT)], "extraPaths": [str(SOURCE)], "typeCheckingMode": "strict"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run([*command, "--level", "error"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors" in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed: pip install mypy")
def test_mypy_accepts_the_script(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path)]
    done = subprocess.run(
        [*command, str(SCRIPT)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(SOURCE)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
