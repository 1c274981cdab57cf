"""How a table arrives: streamed under a limit, looked at for what it is, then read (see `parse_client`) and kept.

POST /api/tables?name=runs.csv takes one flat table as the body. Its source is the hash of its content, so the same file
is the same source and a link to it works while the server has it. What the sender calls the file is shown and never
used as a path.
"""

import codecs
import hashlib
import os
import tempfile
import threading
from pathlib import Path
from typing import Any, BinaryIO

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from babelscale.tabular import ENDINGS, PACKED_ENDINGS, endings_of, is_table
from babelscale.tabular.cells import JSON_ENDINGS, TEXT_ENDINGS
from babelscale.web import parse_process
from babelscale.web.endpoints import json_response, refusal
from babelscale.web.parse_client import Refused
from babelscale.web.uploads import Upload, Uploads

# Bytes of one upload, seconds until it is here and between two parts of it, uploads on their way at once.
LIMIT, _SECONDS, _SILENCE, _AT_ONCE = 32 * 1024 * 1024, 180.0, 30.0, 4
_TAKES = f"one table as {', '.join(ENDINGS)}; text may be compressed ({', '.join(PACKED_ENDINGS)})"
# What files begin with: what compresses text or holds a table, and what people mistake for a table.
_BEGINS = {
    ".gz": (b"\x1f\x8b",),
    ".bz2": (b"BZh",),
    ".xz": (b"\xfd7zXZ\x00",),
    ".zst": (b"\x28\xb5\x2f\xfd",),
    ".parquet": (b"PAR1",),
    ".xlsx": (b"PK\x03\x04",),
    ".xlsm": (b"PK\x03\x04",),
}
_KINDS = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"\x89PNG": "PNG",
    b"%PDF": "PDF",
    b"\xd0\xcf\x11\xe0": "Excel",
    b"ORC": "ORC",
    b"ARROW1": "Arrow",
    b"SQLite": "SQLite",
    b"PAR1": "Parquet",
}
# Control characters other than tab, line feed and carriage return; text in UTF-16 and UTF-32 is full of them.
_CONTROLS = bytes(sign for sign in range(32) if sign not in b"\t\n\r")
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def named(given: str) -> tuple[str, str]:
    """The name to show and the ending of a file that its sender calls `given`.

    Raises:
        Refused: no name, or of another kind.
    """
    name = given.replace("\\", "/").rpartition("/")[2].strip()
    if not name:
        raise Refused(400, "name: not given", hint="POST /api/tables?name=runs.csv")
    if len(name) > 200 or not name.isprintable():
        raise Refused(400, "name: longer than 200 characters, or not printable", hint="rename the file")
    kind, packed = endings_of(name)
    if not is_table(name):
        raise Refused(415, f"{name}: {f'{kind}{packed}' or 'no ending'} is not taken", hint=_TAKES)
    return name, f"{kind}{packed}"


class _Arrival:
    """The bytes of one upload as they come: written, counted, hashed, and looked at for what they are."""

    def __init__(self, place: BinaryIO, name: str, ending: str) -> None:
        self._place, self._name = place, name
        kind, packed = endings_of(name)
        self._last, self._text = packed or kind, not packed and kind in (*TEXT_ENDINGS, *JSON_ENDINGS)
        self._hash = hashlib.sha256(ending.encode() + b"\x00")
        self.size, self._head = 0, b""

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size > LIMIT:
            raise too_large(self._name)
        if len(self._head) < 512:
            self._head += part[: 512 - len(self._head)]
        self._check_kind()
        if self._text and not self._head.startswith(_WIDE) and part.translate(None, _CONTROLS) != part:
            raise Refused(415, f"{self._name}: holds control characters, so it is no text", hint=_TAKES)
        self._hash.update(part)
        self._place.write(part)

    def _check_kind(self) -> None:
        """Refuse a file whose first bytes say that it is not what its ending says."""
        if len(self._head) < 8:
            return
        begins = _BEGINS.get(self._last, ())
        kind = next((kind for magic, kind in _KINDS.items() if self._head.startswith(magic)), "")
        if begins and not self._head.startswith(begins):
            what = f"this is {kind}, not {self._last}" if kind else f"this is not {self._last}"
            raise Refused(415, f"{self._name}: {what}", hint="call it by the ending of its kind")
        if self._text and kind:
            raise Refused(415, f"{self._name}: this is {kind}", hint=_TAKES)
        if self._head[257:262] == b"ustar":
            raise Refused(415, f"{self._name}: this is a tar archive", hint=_TAKES)

    def end(self) -> str:
        """The source's name, once all is here."""
        if not self.size:
            raise Refused(400, f"{self._name}: empty", hint="send the table as the request's body")
        return f"upload-{self._hash.hexdigest()[:32]}"


def too_large(name: str) -> Refused:
    return Refused(413, f"{name}: more than {LIMIT >> 20} MB", hint="leave out columns or rows, or serve the table")


async def receive(uploads: Uploads, request: Request) -> Upload:
    """Take an upload; what is refused or breaks off leaves nothing behind.

    Raises:
        Refused: with its status. ClientDisconnect: it broke off.
    """
    name, ending = named(request.query_params.get("name", ""))
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, f"{name}: a packed body is refused", hint=_TAKES)
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > LIMIT:
        raise too_large(name)
    if uploads.in_transit >= _AT_ONCE:
        raise Refused(503, f"{_AT_ONCE} uploads are already in progress", hint="try again in a minute")
    handle, place = tempfile.mkstemp(prefix="arriving-", suffix=ending, dir=uploads.folder)
    uploads.in_transit += 1
    try:
        threading.Thread(target=uploads.parser.warm, daemon=True).start()
        with os.fdopen(handle, "wb") as file:
            source = await _stream(request, _Arrival(file, name, ending))
        return await anyio.to_thread.run_sync(uploads.take, Path(place), name, source)
    except TimeoutError:
        raise Refused(408, f"{name}: it did not arrive in time", hint="try again") from None
    finally:
        uploads.in_transit -= 1
        Path(place).unlink(missing_ok=True)


async def _stream(request: Request, arrival: _Arrival) -> str:
    parts = aiter(request.stream())
    with anyio.fail_after(_SECONDS):
        while True:
            with anyio.fail_after(_SILENCE):
                part = await anext(parts, None)
            if part is None:
                return arrival.end()
            arrival.add(part)


def described(upload: Upload) -> dict[str, Any]:
    """What an upload is, as the API tells it."""
    return {"source": upload.source, "name": upload.name, **upload.about, "bytes": upload.size}


def route(uploads: Uploads) -> Route:
    """POST /api/tables."""

    async def post(request: Request) -> Response:
        try:
            return json_response(described(await receive(uploads, request)))
        except Refused as error:
            return refusal(error.message, error.hint, error.status)
        except ClientDisconnect:
            return refusal("the upload was interrupted", None, 400)

    return Route("/api/tables", post, methods=["POST"])


OPERATION: dict[str, Any] = {
    "operationId": "api-tables-upload",
    "summary": "Upload one table of runs",
    "description": "The body is the file itself: one flat table with params, tokens and loss, and where there are "
    "several languages run and language. It is kept while the server runs; the same file is the same source.",
    "parameters": [
        {
            "name": "name",
            "in": "query",
            "required": True,
            "schema": {"type": "string"},
            "example": "runs.csv",
            "description": f"name of the file, ending in {', '.join(ENDINGS)}",
        }
    ],
    "requestBody": {
        "required": True,
        "description": f"{LIMIT >> 20} MB, {parse_process.ROWS} rows and {parse_process.RUNS} runs at most",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    "responses": {
        "200": {
            "description": "a summary of the table, and `source`, the name by which other questions use it",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        **{
            status: {
                "description": description,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}},
            }
            for status, description in {
                "400": "not a table of runs: the file, the row and the field",
                "408": "it did not arrive in time",
                "413": "too large, as it is or when it is unpacked",
                "415": "not a supported kind of file",
                "503": "too many uploads at once, or no space on the disk",
            }.items()
        },
    },
}
