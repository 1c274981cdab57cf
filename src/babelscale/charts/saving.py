"""Charts as files: an interactive page, a picture for a paper, or the spec itself."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt

from babelscale import files
from babelscale.errors import InputError

ENDINGS = (".html", ".svg", ".png", ".pdf", ".json")
_DOTS = 2.0
_ID = re.compile(r'\sid="([^"]+)"')
_NAMED = re.compile(r"""(\sid="|url\(#|href="#)([^")]+)(["\)])""")


def save(chart: alt.TopLevelMixin, path: str | Path) -> Path:
    """Write a chart, atomically; the ending says the format. A page holds all it needs and loads nothing.

    Raises:
        InputError: another ending.
    """
    import vl_convert

    path = Path(path)
    spec = chart.to_dict()
    paper = on_paper(spec)
    match path.suffix.lower():
        case ".svg":
            return files.write_text(path, svg(spec))
        case ".png":
            return files.write_bytes(path, vl_convert.vegalite_to_png(paper, scale=_DOTS))
        case ".pdf":
            return files.write_bytes(path, vl_convert.vegalite_to_pdf(paper))
        case ".html":
            return files.write_text(path, vl_convert.vegalite_to_html(paper, bundle=True))
        case ".json":
            return files.write_text(path, json.dumps(spec, indent=1, allow_nan=False) + "\n")
    raise InputError(f"{path}: no picture has this ending", hint=f"one of {', '.join(ENDINGS)}")


def svg(spec: Mapping[str, Any]) -> str:
    """A Vega-Lite spec as a picture on white, the same bytes for the same spec."""
    import vl_convert

    drawn = vl_convert.vegalite_to_svg(on_paper(spec))
    # Vega counts the ids of its clips and gradients on from one chart to the next.
    ids = {old: f"part{k}" for k, old in enumerate(dict.fromkeys(_ID.findall(drawn)))}
    return _NAMED.sub(lambda found: found[1] + ids.get(found[2], found[2]) + found[3], drawn)


def on_paper(spec: Mapping[str, Any]) -> dict[str, Any]:
    """On the page of a report ink follows the page; on paper it is black on white."""
    return json.loads(json.dumps(spec).replace("currentColor", "#222222")) | {"background": "white"}
