"""Uploaded tables: received under limits, read in a process of their own, and stored while the server runs.

POST /api/tables?name=runs.csv takes one flat table as the body. Its source is the hash of its content, so the same file
is the same source, and a link to it works while the server stores it. The name of the file is displayed and never used
as a path. `parse_process` reads the table.
"""

import codecs
import hashlib
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from babelscale.errors import InputError
from babelscale.tabular import ENDINGS, PACKED_ENDINGS, endings_of, is_table
from babelscale.tabular.cells import JSON_ENDINGS, TEXT_ENDINGS
from babelscale.web import parse_process
from babelscale.web.responses import json_response, refusal
from babelscale.workers import Worker, WorkerDied

# Bytes of one upload, seconds for all of it and between two parts, uploads in progress at once.
LIMIT, _UPLOAD_SECONDS, _SILENCE, _CONCURRENT = 32 * 1024 * 1024, 180.0, 30.0, 4
# Wall-clock seconds for reading one file, files that one process reads, bytes of its answer.
_PARSE_SECONDS, _PARSED_FILES, _LONGEST_ANSWER = 60.0, 64, 4_000_000
# Stored uploads, and bytes of their checked tables.
_STORED, _STORED_BYTES = 24, 512_000_000
_ACCEPTED = f"upload one table as {', '.join(ENDINGS)}; text may be compressed ({', '.join(PACKED_ENDINGS)})"
# First bytes of accepted files, and of further kinds of files that are named in refusals.
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
# Control characters other than tab, line feed and carriage return; UTF-16 and UTF-32 contain many of them.
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r")
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


class Refused(InputError):
    """An upload that is not accepted, with its HTTP status."""

    def __init__(self, status: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class UploadParser:
    """Reads one file at a time in its own process, which is replaced when it ends, hangs or has read many files."""

    def __init__(self) -> None:
        self.worker = Worker("-m", "babelscale.web.parse_process")
        self._lock = threading.Lock()
        self._files = 0

    def warm(self) -> None:
        """Start the process, so that it is ready when a file is complete."""
        if self._lock.acquire(blocking=False):
            try:
                self.worker.start()
            finally:
                self._lock.release()

    def read(self, file: Path, name: str, into: Path) -> dict[str, Any]:
        """A summary of the table in `file`; its three checked tables are then in `into`.

        Raises:
            Refused: the table is malformed or too large, or reading it fails.
        """
        job = {"file": str(file), "name": name, "into": str(into)}
        with self._lock:
            if self._files >= _PARSED_FILES:
                self._restart()
            self._files += 1
            try:
                answer = self.worker.ask(job, seconds=_PARSE_SECONDS, longest=_LONGEST_ANSWER)
            except WorkerDied as error:
                if "memory allocation" in error.complaint or "MemoryError" in error.complaint:
                    raise Refused(413, f"{name}: {parse_process.TOO_LARGE}", hint="leave out rows") from None
                raise Refused(
                    400,
                    f"{name}: reading the file failed or took too long",
                    hint="check that the file is complete and contains a table",
                ) from None
            if "error" in answer:
                if answer["status"] != 400:
                    self._restart()  # Only a new process returns the memory that a large file used.
                raise Refused(answer["status"], answer["error"], hint=answer["hint"])
            return answer

    def _restart(self) -> None:
        self.worker.reset()
        self._files = 0

    def close(self) -> None:
        """End the process."""
        self.worker.close()


@dataclass(frozen=True)
class Upload:
    """One stored table: `place` is the folder of its three tables, `summary` describes them, `size` is in bytes."""

    source: str
    name: str
    place: Path
    summary: dict[str, Any]
    size: int


@dataclass
class Uploads:
    """Stored tables by source, in a private folder that is removed with the server. The oldest are removed first."""

    parser: UploadParser = field(default_factory=UploadParser)
    in_progress: int = 0
    _stored: "OrderedDict[str, Upload]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _folder: "tempfile.TemporaryDirectory[str] | None" = None

    @property
    def folder(self) -> Path:
        """The folder, made when it is first needed; only its owner may read it."""
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="babelscale-uploads-")
            return Path(self._folder.name)

    @property
    def newest_first(self) -> list[Upload]:
        """All stored uploads."""
        with self._lock:
            return list(reversed(self._stored.values()))

    def find(self, source: str) -> Upload | None:
        """An upload by its source, if it is still stored."""
        with self._lock:
            return self._stored.get(source)

    def take(self, file: Path, name: str, source: str) -> Upload:
        """Read a complete file and store its tables.

        Raises:
            Refused: it is no table of runs, or too large.
        """
        if (upload := self.find(source)) is None:
            into = self.folder / source
            try:
                summary = self.parser.read(file, name, into)
            except Refused:
                shutil.rmtree(into, ignore_errors=True)
                raise
            upload = Upload(source, name, into, summary, sum(each.stat().st_size for each in into.iterdir()))
        upload = replace(upload, name=name)
        with self._lock:
            self._stored[source] = upload
            self._stored.move_to_end(source)
            while len(self._stored) > _STORED or sum(each.size for each in self._stored.values()) > _STORED_BYTES:
                shutil.rmtree(self._stored.popitem(last=False)[1].place, ignore_errors=True)
        return upload

    def close(self) -> None:
        """Remove all uploads and end the process that reads them."""
        self.parser.close()
        with self._lock:
            self._stored.clear()
            folder, self._folder = self._folder, None
            if folder is not None:
                folder.cleanup()


class _Arrival:
    """The bytes of one upload while they arrive: written, counted, hashed, and checked for their kind."""

    def __init__(self, place: BinaryIO, name: str, ending: str) -> None:
        self._place, self._name = place, name
        kind, packed = endings_of(name)
        self._last, self._text = packed or kind, not packed and kind in (*TEXT_ENDINGS, *JSON_ENDINGS)
        self._hash = hashlib.sha256(ending.encode() + b"\x00")
        self.size, self._head = 0, b""

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size > LIMIT:
            raise _too_large(self._name)
        if len(self._head) < 512:
            self._head += part[: 512 - len(self._head)]
        self._check_kind()
        if self._text and not self._head.startswith(_WIDE) and part.translate(None, _CONTROLS) != part:
            raise Refused(415, f"{self._name}: it contains control characters, so it is not text", hint=_ACCEPTED)
        self._hash.update(part)
        self._place.write(part)

    def _check_kind(self) -> None:
        """Refuse a file whose first bytes do not fit its ending."""
        if len(self._head) < 8:
            return
        begins = _BEGINS.get(self._last, ())
        kind = next((kind for magic, kind in _KINDS.items() if self._head.startswith(magic)), "")
        if begins and not self._head.startswith(begins):
            what = f"this is {kind}, not {self._last}" if kind else f"this is not {self._last}"
            raise Refused(415, f"{self._name}: {what}", hint="give the file the ending of its kind")
        if self._text and kind:
            raise Refused(415, f"{self._name}: this is {kind}", hint=_ACCEPTED)
        if self._head[257:262] == b"ustar":
            raise Refused(415, f"{self._name}: this is a tar archive", hint=_ACCEPTED)

    def end(self) -> str:
        """The name of the source, when the upload is complete."""
        if not self.size:
            raise Refused(400, f"{self._name}: empty", hint="send the table as the body of the request")
        return f"upload-{self._hash.hexdigest()[:32]}"


def _file_name(name: str) -> tuple[str, str]:
    """The name to display and the ending of a file, from the name in the request.

    Raises:
        Refused: there is no name, or its ending is not supported.
    """
    name = name.replace("\\", "/").rpartition("/")[2].strip()
    if not name:
        raise Refused(400, "name: not given", hint="POST /api/tables?name=runs.csv")
    if len(name) > 200 or not name.isprintable():
        raise Refused(400, "name: longer than 200 characters, or not printable", hint="rename the file")
    kind, packed = endings_of(name)
    if not is_table(name):
        raise Refused(415, f"{name}: {f'{kind}{packed}' or 'no ending'} is not supported", hint=_ACCEPTED)
    return name, f"{kind}{packed}"


def _too_large(name: str) -> Refused:
    return Refused(413, f"{name}: more than {LIMIT >> 20} MB", hint="leave out columns or rows, or serve the table")


async def receive(uploads: Uploads, request: Request) -> Upload:
    """Receive an upload; nothing remains of one that is refused or interrupted.

    Raises:
        Refused: with its status. ClientDisconnect: the upload was interrupted.
    """
    name, ending = _file_name(request.query_params.get("name", ""))
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, f"{name}: a compressed body is not accepted", hint=_ACCEPTED)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > LIMIT:
        raise _too_large(name)
    if uploads.in_progress >= _CONCURRENT:
        raise Refused(503, f"{_CONCURRENT} uploads are already in progress", hint="try again in a minute")
    handle, place = tempfile.mkstemp(prefix="arriving-", suffix=ending, dir=uploads.folder)
    uploads.in_progress += 1
    try:
        threading.Thread(target=uploads.parser.warm, daemon=True).start()
        with os.fdopen(handle, "wb") as file:
            source = await _stream(request, _Arrival(file, name, ending))
        return await anyio.to_thread.run_sync(uploads.take, Path(place), name, source)
    except TimeoutError:
        raise Refused(408, f"{name}: it did not arrive in time", hint="try again") from None
    finally:
        uploads.in_progress -= 1
        Path(place).unlink(missing_ok=True)


async def _stream(request: Request, arrival: _Arrival) -> str:
    parts = aiter(request.stream())
    with anyio.fail_after(_UPLOAD_SECONDS):
        while True:
            with anyio.fail_after(_SILENCE):
                part = await anext(parts, None)
            if part is None:
                return arrival.end()
            arrival.add(part)


def route(uploads: Uploads) -> Route:
    """POST /api/tables."""

    async def post(request: Request) -> Response:
        try:
            upload = await receive(uploads, request)
        except Refused as error:
            return refusal(error.message, error.hint, error.status)
        except ClientDisconnect:
            return refusal("the upload was interrupted", None, 400)
        return json_response({"source": upload.source, "name": upload.name, **upload.summary, "bytes": upload.size})

    return Route("/api/tables", post, methods=["POST"])


OPERATION: dict[str, Any] = {
    "operationId": "api-tables-upload",
    "summary": "Upload one table of runs",
    "description": "The body is one flat table with params, tokens and loss. Tables of several languages "
    "also need run and language. The table is stored while the server runs; the same file is the same source.",
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
                "400": "the file is not a table of runs; the error names the row and the field",
                "408": "the file did not arrive in time",
                "413": "the file or its content is too large",
                "415": "this kind of file is not supported",
                "503": "there are too many uploads at once, or the disk is full",
            }.items()
        },
    },
}
