"""A report: the sections of an analysis in order, as one HTML file or as Markdown with its pictures beside it."""

from collections.abc import Sequence
from pathlib import Path

import babelscale
from babelscale import files
from babelscale.errors import InputError
from babelscale.reporting.report import adding_languages, final_losses, law_sections, study_sections, transfer_sections
from babelscale.reporting.report import markdown as markdown_of
from babelscale.reporting.report.document import Section
from babelscale.reporting.report.html import html_document
from babelscale.reporting.report.plan_section import plan_section
from babelscale.reporting.report.study_analysis import Progress, StudyAnalysis, analyse


def build_report(
    path: str | Path,
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    markdown: bool = False,
) -> Path:
    """Analyse a study's folder, a folder of runs or one table of runs, and write its report; returns the report's path.

    Args:
        out: the file to write; by default report.html in a folder of runs, and NAME.report.html beside a table. An
            ending of .html or .htm writes HTML, .md or .markdown writes Markdown.
        markdown: write Markdown, by default to report.md or NAME.report.md; its pictures are in a folder beside it.

    Raises:
        InputError: the runs cannot be read, naming file, row and field; or `out` has another ending.
    """
    path = Path(path)
    ending = "md" if markdown else "html"
    usual = path / f"report.{ending}" if path.is_dir() else path.with_suffix(f".report.{ending}")
    place = usual if out is None else Path(out)
    asks_for_markdown = _is_markdown(place)
    if markdown and not asks_for_markdown:
        raise InputError(f"{place}: Markdown has another ending", hint="end the file's name in .md")
    analysis = analyse(path, progress=progress, seed=seed)
    return write_report(analysis, place)


def write_report(analysis: StudyAnalysis, path: str | Path) -> Path:
    """Write the report of an analysis, atomically; the same analysis gives the same bytes.

    A path that ends in .md or .markdown gives Markdown with a folder of pictures beside it; one in .html or .htm gives
    one self-contained HTML file.

    Raises:
        InputError: another ending.
    """
    if not _is_markdown(Path(path)):
        return files.write_text(path, report_html(analysis))
    parts, subtitle, footer = _parts(analysis)
    footer += "It needs the folder of pictures beside it."
    return markdown_of.write(Path(path), analysis.title, subtitle, parts, footer=footer)


def report_html(analysis: StudyAnalysis) -> str:
    """The report as text."""
    parts, subtitle, footer = _parts(analysis)
    return html_document(
        analysis.title, subtitle, parts, footer=f"{footer}This file is self-contained and loads nothing."
    )


def _is_markdown(path: Path) -> bool:
    """Whether a report at this path is Markdown (otherwise HTML).

    Raises:
        InputError: the path has another ending.
    """
    ending = path.suffix.lower()
    if ending not in (".html", ".htm", ".md", ".markdown"):
        raise InputError(f"{path}: a report cannot have this ending", hint="use a file name that ends in .html or .md")
    return ending in (".md", ".markdown")


def _parts(analysis: StudyAnalysis) -> tuple[Sequence[Section], str, str]:
    """Sections, subtitle and footer, the same in every format."""
    parts = [
        study_sections.in_short(analysis),
        study_sections.about(analysis),
        study_sections.losses(analysis),
        transfer_sections.transfer(analysis),
        adding_languages.section(analysis),
        final_losses.continued(analysis),
        law_sections.laws(analysis.fits, analysis.best_fits, analysis.runs) if analysis.fits else None,
        None if analysis.comparison is None else law_sections.held_out(analysis.comparison),
        None if analysis.plan is None else plan_section(analysis.plan),
        study_sections.limits(analysis),
        study_sections.trained(analysis),
    ]
    several = len(analysis.runs.languages) > 1
    subtitle = f"A study of scaling{' and transfer between languages' if several else ''}: {len(analysis.runs)} runs"
    footer = (
        f"Made by babelscale {babelscale.__version__} from runs {analysis.runs.hash[:16]}. Transfer scores and the "
        "adaptive transfer law follow Longpre et al. (2025), arXiv 2510.22037. "
    )
    return [part for part in parts if part is not None], subtitle, footer
