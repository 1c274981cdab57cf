"""Sections of a page as JSON: the same ones of which a report is made, drawn by the page's script."""

from collections.abc import Iterable
from typing import Any

from babelscale.reporting.report.document import Figure, Section, Table


def sections(parts: Iterable[Section | None]) -> dict[str, Any]:
    """What a page shows; parts that there are not are left out."""
    return {"sections": [_section(part) for part in parts if part is not None]}


def _section(part: Section) -> dict[str, Any]:
    return {
        "title": part.title,
        "name": part.name,
        "paragraphs": list(part.paragraphs),
        "lines": list(part.lines),
        "warning": list(part.warning),
        "notes": list(part.notes),
        "tables": [_table(each) for each in part.tables],
        "figures": [_figure(each) for each in part.figures],
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "spec": figure.spec,
        "reading": figure.reading,
        "half": figure.half,
        "table": _table(figure.table),
    }


def _table(table: Table) -> dict[str, Any]:
    return {
        "caption": table.caption,
        "columns": list(table.columns),
        "rows": [list(row) for row in table.rows],
        "numeric": list(table.numeric),
    }
