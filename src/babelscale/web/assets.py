"""The page's own files and the installed libraries' JavaScript, under names that hold a hash: browsers keep them."""

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
    packed: bytes
    kind: str
    tag: str


@functools.cache
def asset(name: str) -> Asset:
    """A file of `static/`, or Vega, Vega-Lite and Vega-Embed as one script.

    Raises:
        KeyError: there is none of this name.
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
    """One tag of all files: it stands in their addresses, so that a new release is never mixed with an old one."""
    told = [asset(name).tag for name in sorted(names())]
    return hashlib.sha256(" ".join([*told, metadata.version("vl-convert-python")]).encode()).hexdigest()[:16]


def _serve(request: Request) -> Response:
    name, tag = request.path_params["name"], request.path_params["release"]
    try:
        found = asset(name)
    except KeyError:
        raise HTTPException(404, "no such file") from None
    lasting = "public, max-age=31536000, immutable" if tag == release() else "no-store"
    packed = "gzip" in request.headers.get("accept-encoding", "")
    headers = {"cache-control": lasting, "vary": "accept-encoding"} | ({"content-encoding": "gzip"} if packed else {})
    return Response(found.packed if packed else found.body, media_type=found.kind, headers=headers)


ROUTE = Route("/static/{release}/{name}", _serve)
