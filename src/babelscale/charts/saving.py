"""Charts as files: an interactive page, a picture for a paper, or the spec itself."""

import json
from pathlib import Path

import altair as alt

from babelscale import files
from babelscale.errors import InputError

ENDINGS = (".html", ".svg", ".png", ".pdf", ".json")
_DOTS = 2.0


def save(chart: alt.TopLevelMixin, path: str | Path) -> Path:
    """Write a chart, atomically; the ending says the format. A page holds all it needs and loads nothing.

    Raises:
        InputError: another ending.
    """
    import vl_convert

    path = Path(path)
    spec = chart.to_dict()
    # On the page of a report ink follows the page; on paper it is black on white.
    paper = json.loads(json.dumps(spec).replace("currentColor", "#222222")) | {"background": "white"}
    match path.suffix.lower():
        case ".svg":
            return files.write_text(path, vl_convert.vegalite_to_svg(paper))
        case ".png":
            return files.write_bytes(path, vl_convert.vegalite_to_png(paper, scale=_DOTS))
        case ".pdf":
            return files.write_bytes(path, vl_convert.vegalite_to_pdf(paper))
        case ".html":
            return files.write_text(path, vl_convert.vegalite_to_html(paper, bundle=True))
        case ".json":
            return files.write_text(path, json.dumps(spec, indent=1, allow_nan=False) + "\n")
    raise InputError(f"{path}: no picture has this ending", hint=f"one of {', '.join(ENDINGS)}")
