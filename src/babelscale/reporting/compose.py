"""A report: the walk's sections in order, in one HTML file."""

from pathlib import Path

import babelscale
from babelscale import files
from babelscale.reporting import curse, endings, findings, sections, transfers
from babelscale.reporting.page import render
from babelscale.reporting.result import Walk
from babelscale.reporting.walk import Progress, analyse


def report(path: str | Path, *, out: str | Path | None = None, progress: Progress | None = None, seed: int = 0) -> Path:
    """Analyse a study's folder, a folder of runs or one table of runs, and write its report; returns the report's path.

    Args:
        out: where to write; left out, a folder's report is its report.html, a table's stands beside it as
            NAME.report.html.

    Raises:
        InputError: the runs cannot be read, naming file, row and field.
    """
    path = Path(path)
    walk = analyse(path, progress=progress, seed=seed)
    usual = path / "report.html" if path.is_dir() else path.with_suffix(".report.html")
    return write_report(walk, usual if out is None else out)


def write_report(walk: Walk, path: str | Path) -> Path:
    """Write a walk as one HTML file that needs nothing else, atomically and the same bytes for the same walk."""
    return files.write_text(path, page(walk))


def page(walk: Walk) -> str:
    """The report as text."""
    parts = [
        findings.in_short(walk),
        sections.about(walk),
        sections.losses(walk),
        transfers.transfer(walk),
        curse.curse(walk),
        endings.continued(walk),
        sections.laws(walk),
        sections.held_out(walk),
        findings.planned(walk),
        findings.limits(walk),
        sections.trained(walk),
    ]
    several = len(walk.runs.languages) > 1
    subtitle = f"A study of scaling{' and transfer between languages' if several else ''}: {len(walk.runs)} runs"
    footer = (
        f"Made by babelscale {babelscale.__version__} from runs {walk.runs.hash[:16]}. Transfer scores and the "
        "adaptive transfer law follow Longpre et al. (2025), arXiv 2510.22037. This file loads nothing from anywhere."
    )
    return render(walk.title, subtitle, [part for part in parts if part is not None], footer=footer)
