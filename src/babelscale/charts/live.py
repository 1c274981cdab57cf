"""Charts that are drawn repeatedly with new rows: the spec is built once, and then only its data change.

Altair needs tens of milliseconds to build a spec, which is most of the time between two positions of a slider. A chart
made with `templated` is built from rows and fixed strings (such as a metric), and nothing but the data of its spec
depends on the rows; tests hold these charts to that.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec

import altair as alt

from babelscale.charts import style
from babelscale.formatting import json_ready

P = ParamSpec("P")
Spec = dict[str, Any]


@dataclass(frozen=True)
class Drawing:
    """A chart before it is drawn: `build(rows, *fixed)` makes its Altair chart; `notes` are lines below its title."""

    build: Callable[..., Any]
    rows: list[style.Row]
    title: str
    description: str
    fixed: tuple[str, ...] = ()
    notes: Sequence[str] = ()


class TemplateChart(Generic[P]):
    """A chart function: a call returns the Altair chart, `spec` its Vega-Lite spec without notes, from a template."""

    def __init__(self, prepare: Callable[P, Drawing]) -> None:
        functools.update_wrapper(self, prepare)
        self._prepare = prepare

    def __call__(self, *arguments: P.args, **options: P.kwargs) -> alt.TopLevelMixin:
        drawing = self._prepare(*arguments, **options)
        chart = drawing.build(drawing.rows, *drawing.fixed)
        return style.finish(chart, drawing.title, drawing.description, drawing.notes)

    def spec(self, *arguments: P.args, **options: P.kwargs) -> Spec:
        drawing = self._prepare(*arguments, **options)
        spec = copy.deepcopy(_template(drawing.build, drawing.fixed))
        spec["title"]["text"], spec["description"] = drawing.title, drawing.description
        _fill(spec, json_ready(list(drawing.rows)))
        return spec


def templated(prepare: Callable[P, Drawing]) -> TemplateChart[P]:
    """Make a chart function of a function that returns a `Drawing`."""
    return TemplateChart(prepare)


def _fill(part: Any, rows: list[style.Row]) -> None:
    """Put the rows wherever a view takes its data by name."""
    if isinstance(part, dict):
        data = part.get("data")
        if isinstance(data, dict) and "name" in data:
            data["values"] = rows
        for value in part.values():
            if value is not data:
                _fill(value, rows)
    elif isinstance(part, list):
        for each in part:
            _fill(each, rows)


@functools.lru_cache(64)
def _template(build: Callable[..., Any], fixed: tuple[str, ...]) -> Spec:
    return style.finish(build([], *fixed), "", "").to_dict(validate=False)
