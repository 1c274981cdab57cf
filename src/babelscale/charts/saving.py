"""Charts as files: an interactive page, a picture, or the spec."""

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
    """Write a chart, atomically; the ending gives the format. An HTML page is self-contained.

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
    """A Vega-Lite spec as SVG on white; the same spec gives the same bytes."""
    import vl_convert

    drawn = vl_convert.vegalite_to_svg(on_paper(spec))
    # Vega numbers the ids of clips and gradients across charts.
    ids = {old: f"part{k}" for k, old in enumerate(dict.fromkeys(_ID.findall(drawn)))}
    return _NAMED.sub(lambda found: found[1] + ids.get(found[2], found[2]) + found[3], drawn)


def on_paper(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec in black on white; on a page, the ink follows the colours of the page."""
    return json.loads(json.dumps(spec).replace("currentColor", "#222222")) | {"background": "white"}
