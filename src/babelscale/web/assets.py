"""The files of the page and the JavaScript of the installed libraries; browsers may cache their hashed addresses."""

import functools
import gzip
import hashlib
from dataclasses import dataclass
from importlib import metadata, resources

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_VEGA = "vega.js"


@dataclass(frozen=True)
class Asset:
    body: bytes
    compressed: bytes
    kind: str
    tag: str


@functools.cache
def asset(name: str) -> Asset:
    """A file of `static/`, or Vega, Vega-Lite and Vega-Embed as one script.

    Raises:
        KeyError: there is no such file.
    """
    if name == _VEGA:
        from babelscale.reporting.report.html import bundle

        body = bundle().encode()
    elif name in names():
        body = resources.files("babelscale.web").joinpath("static", name).read_bytes()
    else:
        raise KeyError(name)
    kind = _TYPES[f".{name.rpartition('.')[2]}"]
    return Asset(body, gzip.compress(body, 6, mtime=0), kind, hashlib.sha256(body).hexdigest()[:16])


@functools.cache
def names() -> frozenset[str]:
    """The files of `static/`."""
    return frozenset(file.name for file in resources.files("babelscale.web").joinpath("static").iterdir())


@functools.cache
def release() -> str:
    """One tag for all files. Their addresses contain it, so that files of different releases are never mixed."""
    tags = [asset(name).tag for name in sorted(names())]
    return hashlib.sha256(" ".join([*tags, metadata.version("vl-convert-python")]).encode()).hexdigest()[:16]


def _serve(request: Request) -> Response:
    name, tag = request.path_params["name"], request.path_params["release"]
    try:
        found = asset(name)
    except KeyError:
        raise HTTPException(404, "no such file") from None
    caching = "public, max-age=31536000, immutable" if tag == release() else "no-store"
    compressed = "gzip" in request.headers.get("accept-encoding", "")
    headers = {"cache-control": caching, "vary": "accept-encoding"} | (
        {"content-encoding": "gzip"} if compressed else {}
    )
    return Response(found.compressed if compressed else found.body, media_type=found.kind, headers=headers)


ROUTE = Route("/static/{release}/{name}", _serve)
