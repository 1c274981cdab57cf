"""Commands that show results: report, serve."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from babelscale.cli.options import bar, codes_of, one_line_descriptions


@one_line_descriptions
def report(path: Path, *, out: Annotated[Path | None, Parameter(name="--out")] = None, markdown: bool = False) -> None:
    """Write the report of a study or of a table of runs, as one self-contained HTML file or as Markdown.

    Examples:
        babelscale report studies/quickstart
        babelscale report studies/quickstart --markdown
        babelscale report runs.csv --out paper/results.md

    Parameters
    ----------
    path
        The folder of a study, a folder of runs, or one table of runs (CSV, Parquet, JSON lines).
    out
        File to write (default: report.html in the folder of a study, NAME.report.html beside a table). If its name ends
        in .md, the report is Markdown, and its charts are in the folder NAME-figures/ beside it.
    markdown
        Write Markdown for GitHub instead of HTML.
    """
    from babelscale import reporting

    sys.stdout.write(f"{reporting.build_report(path, out=out, progress=bar(), markdown=markdown)}\n")


@one_line_descriptions
def serve(path: Path | None = None, *, port: int = 8765, host: str = "127.0.0.1", name: str | None = None) -> None:
    """Open the page in a browser: plans, transfer, laws, the cost of adding languages, and a running study.

    Examples:
        babelscale serve
        babelscale serve studies/quickstart --port 8765
        babelscale serve fits/ --host 0.0.0.0 --name gpu-box.lan

    Parameters
    ----------
    path
        The folder of a study, a folder or table of runs, a saved fit or a folder of saved fits (default: only the
        published figures).
    port
        Port of the server.
    host
        Address of the server. With 127.0.0.1 only this machine can open the page. With any other address, everybody who
        can reach it can read everything that the page serves.
    name
        Host names under which other machines open the page, separated by commas. Other names are refused.
    """
    from babelscale.web import serve as run_server

    run_server(path, host=host, port=port, names=tuple(codes_of(name) or ()))
