"""Responses of the server: strict JSON, refusals, files to download, and the sections of a page."""

import json
from collections.abc import Iterable
from operator import methodcaller
from typing import Any

from starlette.responses import JSONResponse, Response

from babelscale.reporting.report.document import Figure, Section


def json_response(value: Any, status: int = 200) -> Response:
    """Strict JSON, without NaN; results in `value` become what their `to_dict` gives."""
    text = json.dumps(
        value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=methodcaller("to_dict")
    )
    return Response(text.encode(), status, media_type="application/json")


def refusal(message: str, hint: str | None, status: int) -> JSONResponse:
    """The reason why a question has no answer."""
    return JSONResponse({"error": message, "hint": hint}, status)


def download(text: str, name: str, media_type: str) -> Response:
    """A file that the browser saves under `name`."""
    return Response(text, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'})


def sections(parts: Iterable[Section | None]) -> dict[str, Any]:
    """The sections of a page as values for JSON, without those that are None; the page's script draws them."""
    return {"sections": [_section(part) for part in parts if part is not None]}


def _section(part: Section) -> dict[str, Any]:
    tables, figures = [vars(table) for table in part.tables], [_figure(figure) for figure in part.figures]
    return {**vars(part), "tables": tables, "figures": figures}


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "spec": figure.spec,
        "reading": figure.reading,
        "half": figure.half,
        "table": vars(figure.table),
    }
