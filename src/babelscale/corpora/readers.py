"""Reading the documents of one file: plain text, JSON lines or Parquet. Files are streamed; errors name their place.

A document is a line of plain text, or one record of JSON lines or Parquet, which may hold several lines. It is passed
on as one string, its lines parted by newlines; a carriage return before a newline is dropped, and so are lines of
nothing but white space.
"""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal, NoReturn

from pydantic import BaseModel

from babelscale.corpora.locations import TextFile, unreadable
from babelscale.errors import InputError

TEXT_FIELD = "text"
# Text of gzip and Parquet files, in bytes a byte on disk: assumed, for estimates where reading is not worth it.
_EXPANSION = 3.0
# Longest stretch of a plain text file that one worker takes.
_SPAN = 1 << 26
_PARQUET_ROWS = 8192
_BLOCK = 1 << 20


class FilePart(BaseModel, frozen=True):
    """A file of text, or of a plain one the lines that begin in [start, stop).

    `escaped` says that a newline inside a JSON text is written as a backslash and an n, as MADLAD-400 does.
    """

    kind: Literal["file"] = "file"
    file: TextFile
    escaped: bool = False
    start: int = 0
    stop: int | None = None

    @property
    def identity(self) -> str:
        return self.file.identity

    @property
    def is_of_this_process(self) -> bool:
        return self.file.is_of_this_process

    @property
    def text_bytes(self) -> int:
        """About how many bytes of text it holds."""
        if self.stop is not None:
            return min(self.stop, self.file.bytes) - self.start
        return about_text_bytes(self.file)

    def documents(self) -> Iterator[str]:
        """The documents, in order.

        Raises:
            InputError: the file holds no text, or a place in it (line, row, byte) cannot be read.
        """
        count = 0
        for document in _ENDINGS[ending(self.file.name)](self):
            count += 1
            yield document
        if not count and self.stop is None:
            raise InputError(
                f"{self.file.place}: it contains no line of text", hint="put text into the file or remove it"
            )


def parts_of(file: TextFile, *, escaped: bool = False) -> list[FilePart]:
    """A file in the parts that workers take: long plain text in stretches, anything else whole."""
    if ending(file.name) != ".txt" or file.bytes <= _SPAN:
        return [FilePart(file=file, escaped=escaped)]
    return [FilePart(file=file, start=start, stop=start + _SPAN) for start in range(0, file.bytes, _SPAN)]


def about_text_bytes(file: TextFile) -> int:
    """About how many bytes of text a file holds, without reading it."""
    return int(file.bytes * (1.0 if ending(file.name) in (".txt", ".jsonl") else _EXPANSION))


def ending(name: str) -> str:
    """The known ending of a file's name, or an empty string."""
    return next((known for known in _ENDINGS if name.endswith(known) and name != known), "")


def _blocks(part: FilePart) -> Iterator[tuple[int, int, bytes]]:
    """Whole lines, at most about a megabyte together: (lines of the part before, offset of the first byte, bytes)."""
    before = 0
    with part.file.open() as opened:
        try:
            offset, blocks = 0, _gzip_blocks(opened)
            if not part.file.name.endswith(".gz"):
                opened.seek(max(0, part.start - 1))
                # A line belongs to the stretch it begins in: up to the first newline it is the stretch before's.
                offset = part.start if part.start == 0 else part.start - 1 + len(opened.readline())
                blocks = _plain_blocks(opened, None if part.stop is None else part.stop - offset)
            for data in blocks:
                yield before, offset, data
                before += data.count(b"\n")
                offset += len(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"{part.file.place}: broken gzip file, readable up to line {before} ({error})",
                hint="the file is truncated or not gzip: download or compress it again",
            ) from None
        except OSError as error:
            raise unreadable(part.file, error) from None


def _plain_blocks(opened: BinaryIO, left: int | None) -> Iterator[bytes]:
    """Lines that begin among the next `left` bytes, or all."""
    while left is None or left > 0:
        data = opened.read(_BLOCK if left is None else min(_BLOCK, left))
        if data and not data.endswith(b"\n"):
            data += opened.readline()
        if not data:
            return
        yield data
        left = None if left is None else left - len(data)


def _gzip_blocks(opened: BinaryIO) -> Iterator[bytes]:
    """Lines as far as they can be unpacked: what comes before a fault is passed on."""
    begun = b""
    with gzip.GzipFile(fileobj=opened) as file:
        while data := file.read1(_BLOCK):
            lines, newline, rest = data.rpartition(b"\n")
            if newline:
                yield begun + lines + newline
                begun = rest
            else:
                begun += rest
    if begun:
        yield begun


def _place(part: FilePart, number: int) -> str:
    """Where a line of a part stands in its file; lines before the part are counted only now, for the message."""
    if part.start:
        with part.file.open() as opened:
            left = part.start - 1
            while left > 0 and (data := opened.read(min(left, _BLOCK))):
                number += data.count(b"\n")
                left -= len(data)
        number += 1
    return f"{part.file.place}, line {number}"


def numbered_lines(part: FilePart) -> Iterator[tuple[int, list[str]]]:
    """(lines of the part before, lines without their ends), about a megabyte at a time."""
    for before, offset, data in _blocks(part):
        start = 3 if offset == 0 and data.startswith(b"\xef\xbb\xbf") else 0
        try:
            text = data[start:].decode("utf-8")
        except UnicodeDecodeError as error:
            place = start + error.start
            _refuse(part, before, offset, data, place, f"(0x{data[place]:02x}) is not UTF-8")
        if "\0" in text:
            _refuse(part, before, offset, data, data.index(0), "")
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        yield before, [line.removesuffix("\r") for line in lines] if "\r" in text else lines


def _refuse(part: FilePart, before: int, offset: int, data: bytes, place: int, why: str) -> NoReturn:
    """Name the first fault of a block: a byte that is no UTF-8, or a NUL byte where one stands before it."""
    nul = data.find(0)
    is_nul = nul >= 0 and data.count(b"\n", 0, nul) <= data.count(b"\n", 0, place)
    line = _place(part, before + 1 + data.count(b"\n", 0, nul if is_nul else place))
    if is_nul:
        raise InputError(
            f"{line}: a NUL byte at {offset + nul}, so not UTF-8 text",
            hint="convert the file from UTF-16, or remove it if it is not text",
        )
    raise InputError(
        f"{line}: byte {offset + place} of the text {why}",
        hint="convert the file to UTF-8, for instance: iconv -f LATIN1 -t UTF-8 IN > OUT",
    )


def _text_lines(part: FilePart) -> Iterator[str]:
    for _, lines in numbered_lines(part):
        yield from [line for line in lines if line and not line.isspace()]


def _json_records(part: FilePart) -> Iterator[str]:
    numbered = ((before + n, line) for before, lines in numbered_lines(part) for n, line in enumerate(lines, start=1))
    for number, line in numbered:
        if not line or line.isspace():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{_place(part, number)}: not JSON ({error})",
                hint="write one JSON object on each line, with a text field",
            ) from None
        where = f"{part.file.place}, line {number}"
        if not isinstance(record, dict) or TEXT_FIELD not in record:
            found = f"fields {', '.join(record)}" if isinstance(record, dict) else f"a {type(record).__name__}"
            raise InputError(f"{where}: no field {TEXT_FIELD!r} (found {found})", hint='write {"text": "..."}')
        if document := _document(record[TEXT_FIELD], where, part.escaped):
            yield document


def _document(text: Any, where: str, escaped: bool) -> str:
    """The lines of a record's text that hold something; an empty string where none does."""
    if not isinstance(text, str):
        raise InputError(f"{where}: {TEXT_FIELD!r} is a {type(text).__name__}, not text", hint="write a string")
    if escaped:
        text = text.replace("\\n", "\n")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    document = "\n".join([line for line in lines if line and not line.isspace()])
    try:
        document.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: {TEXT_FIELD!r} contains half of a surrogate pair at character {error.start}",
            hint="write the character itself, or both halves",
        ) from None
    return document


def _parquet_records(part: FilePart) -> Iterator[str]:
    import polars as pl

    place = part.file.place
    source: Any = place
    if part.file.is_remote:
        with part.file.open() as opened:
            source = io.BytesIO(opened.read())
    try:
        table = pl.scan_parquet(source, glob=False)
        schema = table.collect_schema()
        rows = table.select(pl.len()).collect().item()
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{place}: not a Parquet file ({error})", hint="write it again") from None
    if schema.get(TEXT_FIELD) != pl.String:
        found = ", ".join(f"{name} ({kind})" for name, kind in schema.items())
        raise InputError(f"{place}: no text column {TEXT_FIELD!r} (found {found})", hint="name the column 'text'")
    for start in range(0, rows, _PARQUET_ROWS):
        try:
            column = table.select(TEXT_FIELD).slice(start, _PARQUET_ROWS).collect()[TEXT_FIELD]
        except pl.exceptions.PolarsError as error:
            raise InputError(f"{place}: broken after row {start} ({error})", hint="write it again") from None
        for row, text in enumerate(column, start=start + 1):
            if document := _document(text, f"{place}, row {row}", part.escaped):
                yield document


_ENDINGS: dict[str, Callable[[FilePart], Iterator[str]]] = {
    ".txt": _text_lines,
    ".txt.gz": _text_lines,
    ".jsonl": _json_records,
    ".jsonl.gz": _json_records,
    ".parquet": _parquet_records,
}
ENDINGS = tuple(_ENDINGS)
