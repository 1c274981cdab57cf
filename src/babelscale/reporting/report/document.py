"""The parts of a report, in any format: sections of text, tables and figures."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt


@dataclass(frozen=True)
class Table:
    """Column titles and rows of text; `caption` describes the table, `numeric` are the columns aligned to the right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[int] = ()


@dataclass(frozen=True)
class Figure:
    """A chart, how to read it, and its numbers as a table; two `half` charts share a row where there is room.

    `chart` is an Altair chart or the Vega-Lite spec of one (see `babelscale.charts.live`).
    """

    name: str
    chart: alt.TopLevelMixin | Mapping[str, Any]
    reading: str
    table: Table
    half: bool = False

    @functools.cached_property
    def spec(self) -> Mapping[str, Any]:
        if isinstance(self.chart, Mapping):
            return self.chart
        # The tests check specs against the schema; at run time the check would take longer than the drawing.
        return self.chart.to_dict(validate=False)


@dataclass(frozen=True)
class Section:
    """A titled part of a report. `lines` are a list, `notes` are set in small print, `warning` is highlighted."""

    title: str
    name: str
    paragraphs: Sequence[str] = ()
    lines: Sequence[str] = ()
    warning: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = field(default_factory=tuple)
