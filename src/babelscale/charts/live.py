"""Charts that are drawn again and again with new rows: the spec is built once, later only its data are filled in.

Building a spec costs Altair tens of milliseconds, which is most of what a slider has. A chart fit for this is a
function from rows (and what is fixed, such as a metric) to an Altair chart of which nothing but the data depends on the
rows; the tests hold the charts that are used here to that.
"""

import copy
import functools
from collections.abc import Callable, Iterable
from typing import Any

from babelscale.charts import style
from babelscale.formatting import json_ready

Spec = dict[str, Any]


def filled(build: Callable[..., Any], rows: Iterable[style.Row], *fixed: str, title: str, description: str) -> Spec:
    """The Vega-Lite spec of `build(rows, *fixed)` in the style of this package: an earlier spec with these rows."""
    spec = copy.deepcopy(_template(build, fixed, title))
    spec["description"] = description
    _fill(spec, json_ready(list(rows)))
    return spec


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
def _template(build: Callable[..., Any], fixed: tuple[str, ...], title: str) -> Spec:
    return style.finish(build([], *fixed), title, "").to_dict(validate=False)
