"""Commands that show: report, serve."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from babelscale.cli.options import bar, codes_of


def report(path: Path, *, out: Annotated[Path | None, Parameter(name="--out")] = None, markdown: bool = False) -> None:
    """Write a report of a study's folder or a table of runs: one self-contained HTML file, or Markdown.

    Examples:
        babelscale report studies/quickstart
        babelscale report studies/quickstart --markdown
        babelscale report runs.csv --out paper/results.md

    Parameters
    ----------
    out
        Where to write (default: report.html in a study's folder, NAME.report.html beside a table); the ending .md asks
        for Markdown, whose pictures lie in NAME-figures/ beside it.
    markdown
        Markdown as GitHub shows it, in place of HTML.
    """
    from babelscale import reporting

    sys.stdout.write(f"{reporting.build_report(path, out=out, progress=bar(), markdown=markdown)}\n")


def serve(path: Path | None = None, *, port: int = 8765, host: str = "127.0.0.1", name: str | None = None) -> None:
    """Open the page on this machine: plans, transfer, laws, what more languages cost, a study under way.

    Examples:
        babelscale serve
        babelscale serve studies/quickstart --port 8765
        babelscale serve fits/ --host 0.0.0.0 --name gpu-box.lan

    Parameters
    ----------
    path
        A study's folder, a folder or table of runs, a saved fit or a folder of them (default: published figures alone).
    port
        Where it listens.
    host
        127.0.0.1 is this machine alone; whoever reaches another address can read all that is served.
    name
        Names by which browsers on other machines ask for this one, separated by commas; others are refused.
    """
    from babelscale.web import serve as run_server

    run_server(path, host=host, port=port, names=tuple(codes_of(name) or ()))
