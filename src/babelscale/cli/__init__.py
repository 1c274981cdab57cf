"""The command line: every command calls one public function.

A command prints tables and progress. With --json it prints one JSON object on standard output and nothing else.
"""

import ast
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from cyclopts import App, CycloptsError

from babelscale import __version__
from babelscale.errors import BabelscaleError, BabelscaleWarning, Stopped

app = App(
    name="babelscale",
    version=__version__,
    help="Fit scaling laws and measure cross-lingual transfer for multilingual language models, and plan training "
    "runs. To start, run `babelscale study run quickstart`, or `babelscale plan --languages sw,yo,ha --compute 1e21`.",
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
study_app = App(name="study", help="Design, train and analyse a study: a set of training runs with one purpose.")
app.command(study_app)
COMMANDS = {
    "analysis": ("fit", "compare", "profile"),
    "imports": ("check", "import_", "export_mixture"),
    "models": ("export",),
    "pages": ("report", "serve"),
    "planning": ("plan", "expand", "decide", "modular"),
    "studies": ("forecast",),
    "transfers": ("transfer",),
}
STUDY_COMMANDS = {
    "studies": (
        "run",
        "text",
        "prepare",
        "train",
        "plan",
        "power",
        "status",
        "records",
        "report",
        "verify",
        "verdict",
        "tensorboard",
    ),
    "transfers": ("next_runs",),
}
NAMES = {"import_": "import", "export_mixture": "export-mixture", "next_runs": "next"}


def _register(group: App, commands: Mapping[str, Sequence[str]]) -> None:
    """Add commands whose modules are imported when they run: `babelscale --help` needs only their docstrings."""
    for module, functions in commands.items():
        source = (files("babelscale.cli") / f"{module}.py").read_text("utf-8")
        help = {n.name: ast.get_docstring(n) for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)}
        for name in functions:
            group.command(f"babelscale.cli.{module}:{name}", name=NAMES.get(name, name), help=help[name])


_register(app, COMMANDS)
_register(study_app, STUDY_COMMANDS)

# Modules that `pip install babelscale` does not install, by the extra that installs them.
EXTRAS = {
    "page": {"altair", "anyio", "jinja2", "markupsafe", "starlette", "uvicorn", "vl_convert"},
    "tensorboard": {"tensorboardX"},
    "lab": {"babel", "fsspec", "jax", "jaxlib", "ml_dtypes", "optax", "orbax", "safetensors", "sentencepiece"},
    "ray": {"ray"},
}


def _warn(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """Print a warning of this package in one line, and a warning of a library with its place."""
    place = "" if issubclass(category, BabelscaleWarning) else f"{filename}:{lineno}: {category.__name__}: "
    sys.stderr.write(f"warning: {place}{message}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Errors that the user can correct take two lines on standard error, with exit code 2."""
    warnings.showwarning = _warn
    try:
        app(sys.argv[1:] if arguments is None else arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        sys.stderr.write(f"error: {error}\n  hint: babelscale --help\n")
        sys.exit(2)
    except Stopped as stopped:
        sys.stderr.write(f"{stopped}\n")
        sys.exit(stopped.exit_code)
    except BabelscaleError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        # JAX names the missing module in the cause of its own error.
        missing = (error.name or getattr(error.__cause__, "name", None) or "").split(".")[0]
        extra = next((name for name, modules in EXTRAS.items() if missing in modules), None)
        if extra is None:
            raise
        sys.stderr.write(f"error: this command needs {missing}, which is not installed\n")
        sys.stderr.write(f"  hint: pip install 'babelscale[{extra}]'\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; finished work is kept, and the same command continues from there\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
