"""Lines out of one file: plain text, JSON lines or Parquet, each streamed, each error with its place.

A text file's lines end in a newline (a carriage return before it is dropped). A JSON or Parquet text may hold several
lines. Lines of nothing but white space are skipped.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from babelscale.errors import InputError

TEXT_FIELD = "text"
_PARQUET_ROWS = 8192


def read_lines(path: Path) -> Iterator[str]:
    """The non-blank lines of a file, by its ending (see `ENDINGS`).

    Raises:
        InputError: the file holds no text, or a place in it (line, row, byte) cannot be read.
    """
    count = 0
    for line in ENDINGS[ending(path)](path):
        count += 1
        yield line
    if not count:
        raise InputError(f"{path}: no line of text in it", hint="fill the file or take it away")


def ending(path: Path) -> str:
    """The known ending of a file's name, or an empty string."""
    return next((known for known in ENDINGS if path.name.endswith(known) and path.name != known), "")


def _raw_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(line number from 1, offset of its first byte in the text, bytes without the line's end)."""
    number = offset = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, data in enumerate(file, start=1):
                yield number, offset, data.removesuffix(b"\n").removesuffix(b"\r")
                offset += len(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"{path}: broken gzip file, readable up to line {number} ({error})",
                hint="the file was cut short or is not gzip: fetch or compress it again",
            ) from None


def _decoded(path: Path) -> Iterator[tuple[int, str]]:
    for number, offset, data in _raw_lines(path):
        if b"\0" in data:
            raise InputError(
                f"{path}, line {number}: a NUL byte at {offset + data.index(0)}, so not UTF-8 text",
                hint="convert the file from UTF-16, or take it away if it is no text",
            )
        start = 3 if number == 1 and data.startswith(b"\xef\xbb\xbf") else 0
        try:
            yield number, data[start:].decode("utf-8")
        except UnicodeDecodeError as error:
            place = offset + start + error.start
            raise InputError(
                f"{path}, line {number}: byte {place} of the text (0x{error.object[error.start]:02x}) is not UTF-8",
                hint="convert the file to UTF-8, for instance: iconv -f LATIN1 -t UTF-8 IN > OUT",
            ) from None


def _text_lines(path: Path) -> Iterator[str]:
    return (line for _, line in _decoded(path) if line and not line.isspace())


def _json_lines(path: Path) -> Iterator[str]:
    for number, line in _decoded(path):
        if not line or line.isspace():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}: not JSON ({error})", hint="one JSON object a line, with a text field"
            ) from None
        yield from _field_lines(record, f"{path}, line {number}")


def _field_lines(record: Any, where: str) -> Iterator[str]:
    if not isinstance(record, dict) or TEXT_FIELD not in record:
        found = f"fields {', '.join(record)}" if isinstance(record, dict) else f"a {type(record).__name__}"
        raise InputError(f"{where}: no field {TEXT_FIELD!r} (found {found})", hint='write {"text": "..."}')
    return _value_lines(record[TEXT_FIELD], where)


def _value_lines(text: Any, where: str) -> Iterator[str]:
    if not isinstance(text, str):
        raise InputError(f"{where}: {TEXT_FIELD!r} is a {type(text).__name__}, not text", hint="write a string")
    for line in text.split("\n"):
        line = line.removesuffix("\r")
        if not line or line.isspace():
            continue
        try:
            line.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{where}: {TEXT_FIELD!r} holds half a surrogate pair at character {error.start}",
                hint="write the character itself, or both halves",
            ) from None
        yield line


def _parquet_lines(path: Path) -> Iterator[str]:
    import polars as pl

    try:
        table = pl.scan_parquet(path, glob=False)
        schema = table.collect_schema()
        rows = table.select(pl.len()).collect().item()
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: not a Parquet file ({error})", hint="write it again") from None
    if schema.get(TEXT_FIELD) != pl.String:
        found = ", ".join(f"{name} ({kind})" for name, kind in schema.items())
        raise InputError(f"{path}: no text column {TEXT_FIELD!r} (found {found})", hint="name the column 'text'")
    for start in range(0, rows, _PARQUET_ROWS):
        try:
            part = table.select(TEXT_FIELD).slice(start, _PARQUET_ROWS).collect()[TEXT_FIELD]
        except pl.exceptions.PolarsError as error:
            raise InputError(f"{path}: broken after row {start} ({error})", hint="write it again") from None
        for row, text in enumerate(part, start=start + 1):
            yield from _value_lines(text, f"{path}, row {row}")


ENDINGS: dict[str, Callable[[Path], Iterator[str]]] = {
    ".txt": _text_lines,
    ".txt.gz": _text_lines,
    ".jsonl": _json_lines,
    ".jsonl.gz": _json_lines,
    ".parquet": _parquet_lines,
}
