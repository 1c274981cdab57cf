"""Where the packages of an extra are not installed, commands that need them say so and how to install them."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from babelscale.cli import EXTRAS

ROOT = Path(__file__).parents[1]
_BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def without(packages: str, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process in which some packages cannot be imported."""
    command = [sys.executable, "-c", f"{_BLOCKED}\n{code}", packages, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "command",
    [
        "study run quickstart",
        "study plan quickstart",
        "study status none",
        "study records none",
        "study tensorboard none",
        "forecast none",
        "export none model",
        "study next quickstart --count 1",
    ],
)
def test_without_the_laboratory_a_command_says_how_to_install_it(command: str) -> None:
    code = "from babelscale.cli import main\nmain(sys.argv[2:])"
    found = without(",".join(EXTRAS["lab"]), code, *command.split())
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    said = found.stderr.splitlines()
    assert len(said) == 2
    assert said[0].endswith("which is not installed")
    assert said[1] == "  hint: pip install 'babelscale[lab]'"


def test_what_jax_lacks_is_found_in_the_cause_of_its_error() -> None:
    code = "from babelscale import cli\ncli.app = lambda *_, **__: __import__('jax')\ncli.main([])"
    found = without("jaxlib", code)
    assert found.returncode == 2
    assert "this command needs jaxlib" in found.stderr
    assert "babelscale[lab]" in found.stderr


def test_every_package_that_is_imported_and_not_always_installed_belongs_to_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    always = {name.partition(">")[0].replace("-", "_") for name in project["dependencies"]} | {"babelscale"}
    # pydantic brings this one.
    always |= {"pydantic_core"}
    known = always | set(sys.stdlib_module_names) | set().union(*EXTRAS.values())
    unknown = {name for path in (ROOT / "src").rglob("*.py") for name in _imported(path) if name not in known}
    assert not unknown


def _imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in names}
