"""Workbooks of Excel: the first sheet, cell by cell."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import polars as pl
import pytest

from babelscale import InputError, Runs
from babelscale.importers import check

HEADER = ["run", "params", "language", "tokens", "loss"]
ROWS: list[list[object]] = [
    [*HEADER],
    ["a", 1e7, "no", 200000000, 4.123456789012345],
    ["b", 1e7, "nan", 4e8, 3.9],
    ["c", 2e7, "no", 4e8, 3.7],
]
_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def sheet(rows: Sequence[Sequence[object]], first: int = 1) -> str:
    """A worksheet; a text that begins with "=" is a formula without its value."""
    lines = []
    for number, row in enumerate(rows, first):
        cells = []
        for letter, value in zip("ABCDEFGH", row, strict=False):
            place = f'r="{letter}{number}"'
            if value is None:
                continue
            if isinstance(value, bool):
                cells.append(f'<c {place} t="b"><v>{int(value)}</v></c>')
            elif isinstance(value, str) and value.startswith("="):
                cells.append(f"<c {place}><f>{escape(value[1:])}</f></c>")
            elif isinstance(value, str):
                cells.append(f'<c {place} t="inlineStr"><is><t>{escape(value)}</t></is></c>')
            else:
                cells.append(f"<c {place}><v>{value!r}</v></c>")
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    return f"<worksheet {_MAIN}><sheetData>{''.join(lines)}</sheetData></worksheet>"


def workbook(path: Path, *sheets: str, parts: dict[str, str] | None = None) -> Path:
    entries, relations = "", ""
    files = {}
    for number, text in enumerate(sheets, 1):
        entries += f'<sheet name="Sheet {number}" sheetId="{number}" r:id="rId{number}"/>'
        relations += f'<Relationship Id="rId{number}" Type="{_RELATIONS}/worksheet" Target="worksheets/s{number}.xml"/>'
        files[f"xl/worksheets/s{number}.xml"] = text
    files["xl/workbook.xml"] = f'<workbook {_MAIN} xmlns:r="{_RELATIONS}"><sheets>{entries}</sheets></workbook>'
    files["xl/_rels/workbook.xml.rels"] = f'<Relationships xmlns="{_PACKAGE}">{relations}</Relationships>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {**files, **(parts or {})}.items():
            archive.writestr(name, text)
    return path


def test_a_workbook_is_the_table_that_it_shows(tmp_path: Path) -> None:
    text = tmp_path / "runs.csv"
    text.write_text("\n".join(",".join(map(str, row)) for row in ROWS) + "\n")
    assert Runs.read(workbook(tmp_path / "runs.xlsx", sheet(ROWS))).hash == Runs.read(text).hash
    assert Runs.read(tmp_path / "runs.xlsx").targets == ("nan", "no")


def test_shared_texts_with_formats_and_readings(tmp_path: Path) -> None:
    shared = (
        f"<sst {_MAIN}><si><t>n</t></si><si><r><t>n</t></r><r><t>o</t></r><rPh sb='0' eb='1'><t>x</t></rPh></si></sst>"
    )
    rows = sheet(ROWS).replace('t="inlineStr"><is><t>no</t></is>', 't="s"><v>1</v>')
    path = workbook(tmp_path / "runs.xlsx", rows, parts={"xl/sharedStrings.xml": shared})
    assert Runs.read(path).targets == ("nan", "no")
    broken = rows.replace("<v>1</v>", "<v>7</v>")
    with pytest.raises(InputError, match=r"row 2: cell C2 has no text"):
        Runs.read(workbook(tmp_path / "broken.xlsx", broken, parts={"xl/sharedStrings.xml": shared}))


def test_rows_are_those_of_the_sheet_and_further_sheets_are_said(tmp_path: Path) -> None:
    rows = [*ROWS, ["d", 1e7, "no", 1e8, "n/a"]]
    with pytest.raises(InputError, match=r"runs\.xlsx: row 8, loss: 'n/a' is not a number"):
        Runs.read(workbook(tmp_path / "runs.xlsx", sheet(rows, first=4)))
    path = workbook(tmp_path / "two.xlsx", sheet(ROWS), sheet([["notes"]]))
    assert [f.kind for f in check(path, fits=False).findings] == ["sheets"]


def test_what_is_no_number_or_no_workbook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.xlsx"
    formula = [*ROWS, ["d", 1e7, "no", "=2*A2", 3.5]]
    with pytest.raises(InputError, match="row 5: cell D5 holds a formula without its value"):
        Runs.read(workbook(path, sheet(formula)))
    with pytest.raises(InputError, match=r"row 5, language .* is not a language code"):
        Runs.read(workbook(path, sheet([*ROWS, ["d", 1e7, False, 1e8, 3.5]])))
    with pytest.raises(InputError, match="row 5 has 6 cells"):
        Runs.read(workbook(path, sheet([*ROWS, ["d", 1e7, "no", 1e8, 3.5, 7]])))
    with pytest.raises(InputError, match="declares entities"):
        Runs.read(workbook(path, "<!DOCTYPE x [<!ENTITY a 'b'>]>" + sheet(ROWS)))
    with pytest.raises(InputError, match="has no worksheet"):
        Runs.read(workbook(path))
    whole = workbook(path, sheet(ROWS)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is no workbook"):
        Runs.read(path)
    path.write_bytes(b"\xd0\xcf\x11\xe0 old")
    with pytest.raises(InputError, match=r"save it as \.xlsx") as caught:
        Runs.read(path)
    assert caught.value.hint


@pytest.mark.parametrize("ending", [".feather", ".arrow", ".arrows", ".ipc"])
@pytest.mark.parametrize("stream", [False, True])
def test_files_and_streams_of_arrow(ending: str, stream: bool, tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS[1:], schema=HEADER, orient="row")
    path = tmp_path / f"runs{ending}"
    if stream:
        frame.write_ipc_stream(path, compression="zstd")
    else:
        frame.write_ipc(path, compression="lz4")
    assert Runs.read(path).hash == Runs.from_frame(frame).hash
    path.write_bytes(b"FEA1" + path.read_bytes())
    with pytest.raises(InputError, match="Feather of version 1"):
        Runs.read(path)
