"""Excel workbooks (.xlsx): a zip archive of XML, of which the first sheet is read, cell by cell, as text."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from babelscale.errors import InputError

MOST_BYTES = 2**28  # of one part of the archive, unpacked
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_STRICT = "{http://purl.oclc.org/ooxml/spreadsheetml/main}"
_RELATION = re.compile(r"\{[^}]*\}id")
_REFERENCE = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_MOST_ROWS, _MOST_CELLS = 2**20, 16384
Rows = list[tuple[int, list[str]]]


def read(path: Path) -> tuple[Rows, list[str]]:
    """Rows that are not blank, each with its number, and the names of the further sheets.

    Raises:
        InputError: no workbook, a damaged one, or a formula without its value.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sheets = _sheets(archive, path)
            texts = _shared_texts(archive, path)
            rows = list(_rows(_part(archive, sheets[0][1], path), texts, path))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path}: is no workbook ({error})", hint="save it as .xlsx, or as CSV in UTF-8") from None
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: holds XML that cannot be read ({error})", hint="is the file whole?") from None
    return rows, [name for name, _ in sheets[1:]]


def _part(archive: zipfile.ZipFile, name: str, path: Path) -> ElementTree.Element:
    try:
        with archive.open(name) as file:
            data = file.read(MOST_BYTES + 1)
    except KeyError:
        raise InputError(f"{path}: has no part {name}", hint="save it as .xlsx, or as CSV in UTF-8") from None
    if len(data) > MOST_BYTES:
        raise InputError(f"{path}: is longer than {MOST_BYTES >> 20} MiB unpacked", hint="write it as Parquet")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise InputError(f"{path}: declares entities, as no workbook does", hint="save it again as .xlsx")
    root = ElementTree.fromstring(data)
    for element in root.iter():
        if element.tag.startswith(_STRICT):
            element.tag = _MAIN + element.tag.removeprefix(_STRICT)
    return root


def _sheets(archive: zipfile.ZipFile, path: Path) -> list[tuple[str, str]]:
    """Names and parts of the worksheets, in the order of the workbook."""
    targets = {
        entry.get("Id"): entry.get("Target", "")
        for entry in _part(archive, "xl/_rels/workbook.xml.rels", path)
        if entry.get("Type", "").endswith("/worksheet")
    }
    found = []
    for sheet in _part(archive, "xl/workbook.xml", path).iter(f"{_MAIN}sheet"):
        target = next((targets.get(value) for key, value in sheet.attrib.items() if _RELATION.fullmatch(key)), None)
        if target:
            part = target.removeprefix("/") if target.startswith("/") else f"xl/{target}"
            found.append((sheet.get("name", ""), part))
    if not found:
        raise InputError(f"{path}: has no worksheet", hint="save it as .xlsx, or as CSV in UTF-8")
    return found


def _shared_texts(archive: zipfile.ZipFile, path: Path) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    return [_text(entry) for entry in _part(archive, "xl/sharedStrings.xml", path).iter(f"{_MAIN}si")]


def _text(entry: ElementTree.Element) -> str:
    """The text of a cell, from its runs of one format; readings of East Asian characters are left out."""
    parts = [entry.find(f"{_MAIN}t"), *(run.find(f"{_MAIN}t") for run in entry.iter(f"{_MAIN}r"))]
    return "".join(part.text or "" for part in parts if part is not None)


def _rows(sheet: ElementTree.Element, texts: list[str], path: Path) -> Iterator[tuple[int, list[str]]]:
    number = 0
    for row in sheet.iter(f"{_MAIN}row"):
        number = _whole(row.get("r"), number + 1)
        if not 0 < number <= _MOST_ROWS:
            raise InputError(f"{path}: has a row {number}", hint="is the file whole?")
        cells: list[str] = []
        for cell in row.iter(f"{_MAIN}c"):
            place = _REFERENCE.fullmatch(cell.get("r", ""))
            column = _column(place[1]) if place else len(cells)
            if not len(cells) <= column < _MOST_CELLS:
                raise InputError(f"{path}: row {number}: cell {cell.get('r')!r} is out of order", hint="save it again")
            cells += [""] * (column - len(cells))
            cells.append(_cell(cell, texts, f"{path}: row {number}"))
        if any(cell.strip() for cell in cells):
            yield number, cells


def _cell(cell: ElementTree.Element, texts: list[str], where: str) -> str:
    kind, value = cell.get("t", "n"), cell.find(f"{_MAIN}v")
    if kind == "inlineStr":
        inline = cell.find(f"{_MAIN}is")
        return "" if inline is None else _text(inline)
    text = "" if value is None else value.text or ""
    if not text and kind != "str" and cell.find(f"{_MAIN}f") is not None:
        raise InputError(
            f"{where}: cell {cell.get('r', '')} holds a formula without its value",
            hint="open the workbook in a spreadsheet program and save it, or save it as CSV",
        )
    if kind == "s":
        index = _whole(text, -1)
        if not 0 <= index < len(texts):
            raise InputError(f"{where}: cell {cell.get('r', '')} has no text", hint="is the file whole?")
        return texts[index]
    return {"1": "TRUE", "0": "FALSE"}.get(text, text) if kind == "b" else text


def _whole(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else default


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1
