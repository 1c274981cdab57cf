"""Commands that show: report, serve."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from babelscale.cli.options import bar


def report(path: Path, *, out: Annotated[Path | None, Parameter(name="--out")] = None) -> None:
    """Write one self-contained HTML report of a study's folder or a table of runs.

    Example: babelscale report studies/quickstart
    """
    from babelscale import reporting

    sys.stdout.write(f"{reporting.report(path, out=out, progress=bar())}\n")


def serve(path: Path | None = None, *, port: int = 8765, host: str = "127.0.0.1") -> None:
    """Serve the report of a study, or a form that plans from published figures, on this machine.

    Example: babelscale serve studies/quickstart --port 8765
    """
    from babelscale.web import serve as run_server

    run_server(path, host=host, port=port)
