"""Files of one table, read cell by cell: CSV in its dialects, Excel, JSON, JSON lines, Parquet and Feather.

Text stays text until a column is known to hold numbers, so that language codes such as `no`, `nan` and `NA` survive.
Every row keeps the number that an editor shows for it, and errors name it.
"""

import bz2
import codecs
import csv
import gzip
import io
import itertools
import json
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import polars as pl

from babelscale.errors import InputError
from babelscale.tabular import excel

Severity = Literal["error", "warning", "notice"]
MOST_BYTES = 2**30
MOST_COLUMNS = 20_000
TEXT_ENDINGS = (".csv", ".tsv", ".tab", ".txt")
JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
BINARY_ENDINGS = (".parquet", ".feather", ".arrow", ".arrows", ".ipc")
EXCEL_ENDINGS = (".xlsx", ".xlsm")
_COMPRESSED: dict[str, Callable[[Path], Any]] = {
    ".gz": lambda path: gzip.open(path),  # noqa: SIM115
    ".bz2": lambda path: bz2.open(path),  # noqa: SIM115
    ".xz": lambda path: lzma.open(path),  # noqa: SIM115
}
PACKED_ENDINGS = (*_COMPRESSED, ".zst")
ENDINGS = (*TEXT_ENDINGS, *JSON_ENDINGS, *BINARY_ENDINGS, *EXCEL_ENDINGS)
_DELIMITERS = ",;\t|"
# How many rows decide about the delimiter.
_SAMPLE = 50


@dataclass(frozen=True)
class Notice:
    """One sentence about a table that was read. An error stops what reads the table for an answer."""

    severity: Severity
    kind: str
    text: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.hint}" if self.hint else self.text


@dataclass(frozen=True)
class RawTable:
    """One table: a frame of one row for each record, and the number of each row as the file's reader counts it.

    Attributes:
        frame: columns of text (from CSV and JSON) or of their own types (from Parquet, Feather and data frames).
        rows: shape (n,), numbers of rows: lines of a text file, records of others, both from 1.
        where: name of the file, for messages.
        decimal_comma: whether numbers of the file have a decimal comma; None where `3,125` is all there is to tell by,
            which may be 3.125 or 3125.
    """

    frame: pl.DataFrame
    rows: Sequence[int]
    where: str
    decimal_comma: bool | None = False
    notices: list[Notice] = field(default_factory=list)

    def at(self, index: int) -> str:
        """The place of one row, for messages."""
        return f"{self.where}: row {self.rows[index]}"

    def notice(self, severity: Severity, kind: str, text: str, hint: str = "") -> None:
        self.notices.append(Notice(severity, kind, f"{self.where}: {text}", hint))


def read(path: str | Path) -> RawTable:
    """Read one table of any format and dialect.

    Raises:
        InputError: no such file, an unknown ending, a file that is not whole, or a row with too many or too few cells.
    """
    path = Path(path)
    kind, packed = endings_of(path.name)
    if path.is_file() and kind in BINARY_ENDINGS and not packed:
        return _binary(path, kind)
    if path.is_file() and kind in EXCEL_ENDINGS and not packed:
        return _excel(path)
    if path.is_file() and kind not in (*TEXT_ENDINGS, *JSON_ENDINGS):
        raise InputError(
            f"{path}: {kind or 'no'} ending is not a table",
            hint=f"use one of {', '.join(ENDINGS)}; text may be compressed ({', '.join(PACKED_ENDINGS)})",
        )
    text, notices = _text(path, packed)
    cells = _csv(text, str(path)) if kind in TEXT_ENDINGS else _json(text, str(path), lines=kind != ".json")
    cells.notices[:0] = notices
    return cells


def endings_of(name: str) -> tuple[str, str]:
    """The ending that says what a file holds, and the one that says how it is compressed; "" for none."""
    endings = [ending.lower() for ending in Path(name).suffixes]
    packed = endings.pop() if endings and endings[-1] in PACKED_ENDINGS else ""
    return endings[-1] if endings else "", packed


def is_table(name: str) -> bool:
    """Whether a file of this name can be read as a table."""
    kind, packed = endings_of(name)
    return kind in ((*TEXT_ENDINGS, *JSON_ENDINGS) if packed else ENDINGS)


def of_frame(frame: pl.DataFrame, where: str) -> RawTable:
    """A data frame at hand; rows are counted from 1."""
    return RawTable(_plain(frame, where), range(1, frame.height + 1), where)


# ------------------------------------------------------------------------------------------------------ bytes to text


def _text(path: Path, packed: str) -> tuple[str, list[Notice]]:
    try:
        raw = _bytes(path, packed)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint="name a folder or table of runs") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})", hint="is the file whole?") from None
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if raw.startswith(mark):
            try:
                return raw[len(mark) :].decode(encoding), []
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}: byte {error.start + len(mark)} is not {encoding.upper()}", hint="is the file whole?"
                ) from None
    try:
        return raw.decode("utf-8"), []
    except UnicodeDecodeError as error:
        if b"\x00" in raw:
            raise InputError(f"{path}: holds binary data, not text", hint="save it as CSV in UTF-8") from None
        line = raw.count(b"\n", 0, error.start) + 1
        note = Notice("notice", "encoding", f"{path}: line {line} is not UTF-8; the file is read as Windows-1252")
        return raw.decode("cp1252", errors="replace"), [note]


def _bytes(path: Path, packed: str) -> bytes:
    """The file's bytes, unpacked, at most MOST_BYTES."""
    if packed == ".zst":
        # Polars unpacks Zstandard; read so, every line is one cell.
        lines = pl.read_csv(
            path, has_header=False, separator="\x01", quote_char=None, infer_schema=False, encoding="utf8"
        )
        return "\n".join(line or "" for line in lines.to_series(0)).encode() if lines.width else b""
    with _COMPRESSED[packed](path) if packed else path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise InputError(f"{path}: is longer than {MOST_BYTES // 2**20} MiB of text", hint="write it as Parquet")
    return raw


# --------------------------------------------------------------------------------------------------------------- CSV


def _csv(text: str, where: str) -> RawTable:
    comments = sum(1 for _ in itertools.takewhile(lambda line: line.startswith("#"), text.splitlines()))
    delimiter = _delimiter(text, comments)
    cells = _of_records(list(_records(text, delimiter, where))[comments:], where)
    return replace(cells, decimal_comma=False if delimiter == "," else _decimal_comma(cells.frame))


def _excel(path: Path) -> RawTable:
    """The first sheet of a workbook; a row ends with its last cell that is not empty."""
    rows, further = excel.read(path)
    width = len(rows[0][1]) if rows else 0
    cells = _of_records([(number, row + [""] * (width - len(row))) for number, row in rows], str(path))
    if further:
        cells.notice("notice", "sheets", f"the first sheet is read, and not {', '.join(further)}")
    return cells


def _of_records(records: list[tuple[int, list[str]]], where: str) -> RawTable:
    """A table from its records, the first of which names the columns."""
    if not records:
        raise InputError(f"{where}: no rows", hint="a table has a line of column names and its rows")
    header, data = [name.strip() for name in records[0][1]], records[1:]
    # A delimiter at the end of every line leaves one empty column without a name.
    while (
        header and not header[-1] and all(len(row) < len(header) or not row[len(header) - 1].strip() for _, row in data)
    ):
        header.pop()
    if len(header) > MOST_COLUMNS:
        raise InputError(f"{where}: has {len(header)} columns", hint=f"a table of runs has at most {MOST_COLUMNS}")
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise InputError(f"{where}: two columns are called {twice[0]!r}", hint="rename or remove one of them")
    names = [name or f"column {number}" for number, name in enumerate(header, 1)]
    for line, row in data:
        if len(row) != len(names):
            _check_width(row, names, f"{where}: row {line}")
    columns = zip(*(row for _, row in data), strict=False) if data else [()] * len(names)
    frame = pl.DataFrame([pl.Series(name, column, pl.String) for name, column in zip(names, columns, strict=False)])
    frame = frame.with_columns(pl.all().str.strip_chars().replace("", None))
    return RawTable(frame, [line for line, _ in data], where)


def _records(text: str, delimiter: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Records that are not blank, each with the number of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    begins = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{where}: row {begins}: {error}", hint="is a quotation mark missing?") from None
        if any(map(str.strip, row)):
            yield begins, row
        begins = reader.line_num + 1


def _check_width(row: list[str], names: list[str], where: str) -> None:
    if len(row) < len(names):
        raise InputError(
            f"{where} has {len(row)} cells, and there are {len(names)} columns", hint="give every row all its cells"
        )
    if any(cell.strip() for cell in row[len(names) :]):
        raise InputError(
            f"{where} has {len(row)} cells, and there are {len(names)} columns",
            hint="put quotation marks around a cell that holds the delimiter",
        )


def _delimiter(text: str, comments: int) -> str:
    """The delimiter under which the first records have the most cells and all as many."""

    def score(delimiter: str) -> tuple[int, int]:
        try:
            rows = [row for _, row in itertools.islice(_records(text, delimiter, ""), comments, comments + _SAMPLE)]
        except InputError:
            return 0, 0
        widths = [len(row) for row in rows]
        return (sum(width == widths[0] for width in widths), widths[0]) if widths and widths[0] > 1 else (0, 0)

    return max(_DELIMITERS, key=score)


def _decimal_comma(frame: pl.DataFrame) -> bool | None:
    """Whether commas are decimal: some cell must be a decimal number either way (4,12 or 20.5); 3,125 tells nothing."""
    cells = pl.concat([frame[name].drop_nulls() for name in frame.columns])
    with_comma, with_point = (
        cells.str.contains(r"^[+-]?\d+,\d+(?:[eE][+-]?\d+)?$"),
        cells.str.contains(r"^[+-]?\d*\.\d+"),
    )
    in_groups = cells.str.contains(r"^[+-]?\d{1,3}(?:[.,]\d{3})+$")
    commas, points = (with_comma & ~in_groups).any(), (with_point & ~in_groups).any()
    if commas != points:
        return bool(commas)
    return None if with_comma.any() and not points else False


# -------------------------------------------------------------------------------------------------------------- JSON


def _json(text: str, where: str, *, lines: bool) -> RawTable:
    records, rows = _json_lines(text, where) if lines else _json_file(text, where)
    names: dict[str, None] = {}
    for record in records:
        names.update(dict.fromkeys(record))
    columns = [pl.Series(name, [record.get(name) for record in records], pl.String) for name in names]
    return RawTable(pl.DataFrame(columns), rows, where)


def _json_lines(text: str, where: str) -> tuple[list[dict[str, str | None]], list[int]]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) == 1 and lines[0][1].lstrip().startswith("["):
        return _json_file(text, where)
    records = [_record(_parse(line, f"{where}: row {number}"), f"{where}: row {number}") for number, line in lines]
    return records, [number for number, _ in lines]


def _json_file(text: str, where: str) -> tuple[list[dict[str, str | None]], list[int]]:
    """An array of records, or one object of columns."""
    found = _parse(text, where)
    if isinstance(found, dict) and found and all(isinstance(column, list) for column in found.values()):
        lengths = {name: len(column) for name, column in found.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{where}: columns of different length: {lengths}", hint="give every column all its rows")
        found = [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    if not isinstance(found, list):
        raise InputError(f"{where}: holds no list of records", hint='write [{"params": ..., "tokens": ...}, ...]')
    return [_record(record, f"{where}: row {n}") for n, record in enumerate(found, 1)], list(range(1, len(found) + 1))


def _parse(text: str, where: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            raise InputError(f"{where} has the field {name!r} twice", hint="keep one of them")
        return record

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON ({error})", hint="is the file whole?") from None
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{where} is nested too deeply", hint="write one flat record in each row") from None
    except ValueError as error:
        raise InputError(f"{where} cannot be read ({error})", hint="correct the row") from None


def _record(value: Any, where: str) -> dict[str, str | None]:
    """One record as text; fields within fields get names with dots."""
    if not isinstance(value, dict):
        raise InputError(f"{where} is not a record", hint='write {"params": ..., "tokens": ..., "loss": ...}')
    flat: dict[str, str | None] = {}
    stack = [("", value)]
    while stack:
        prefix, fields = stack.pop()
        for name, cell in fields.items():
            if isinstance(cell, dict):
                stack.append((f"{prefix}{name}.", cell))
            else:
                flat[f"{prefix}{name}"] = _cell(cell)
    return flat


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value.strip() or None if value else None
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


# -------------------------------------------------------------------------------------------------- Parquet, Feather


def _binary(path: Path, kind: str) -> RawTable:
    try:
        frame = pl.read_parquet(path) if kind == ".parquet" else _feather(path)
    # Polars panics, instead of raising an error of its own, on some files whose lengths were damaged.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise InputError(f"{path}: cannot be read ({reason[:200]})", hint="is the file whole?") from None
    return of_frame(frame, str(path))


def _feather(path: Path) -> pl.DataFrame:
    """Arrow's file format, which Feather is since version 2, or its stream format."""
    with path.open("rb") as file:
        begins = file.read(6)
    if begins.startswith(b"FEA1"):
        raise InputError(f"{path}: is Feather of version 1", hint="write it again as version 2, or as Parquet")
    return pl.read_ipc(path) if begins == b"ARROW1" else pl.read_ipc_stream(path)


def _plain(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """Structs as columns with dots, categories and enums as text, numbers of any width as Float64 or Int64."""
    while nested := [name for name, kind in frame.schema.items() if isinstance(kind, pl.Struct)]:
        for name in nested:
            fields = frame[name].struct.unnest()
            fields.columns = [f"{name}.{inner}" for inner in fields.columns]
            if twice := set(fields.columns) & set(frame.columns):
                raise InputError(f"{where}: two columns are called {min(twice)!r}", hint="rename one of them")
            frame = frame.drop(name).hstack(fields)
    wanted: dict[str, type[pl.DataType]] = {}
    for name, kind in frame.schema.items():
        if isinstance(kind, pl.Categorical | pl.Enum):
            wanted[name] = pl.String
        elif kind.is_decimal() or kind.is_float():
            wanted[name] = pl.Float64
        elif kind.is_integer():
            wanted[name] = pl.Int64 if kind != pl.UInt64 and kind != pl.Int128 else pl.Float64
    return frame.with_columns(pl.col(name).cast(kind) for name, kind in wanted.items())
