"""Transfer matrices as CSV. Read with Python's csv, which leaves `no`, `nan` and `NA` alone: they are codes."""

import csv
import math
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.transfer.status import Status

Grids = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
Cells = tuple[tuple[str, ...], Grids, NDArray[np.str_]]


def read_csv(text: str, where: str, status: Status) -> tuple[tuple[str, ...], Grids, NDArray[np.str_], str]:
    """Languages, (values, low, high), statuses and the layout ("cells" or "square") of one file."""
    rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise InputError(
            f"{where}: no rows", hint="a matrix has a header and one row for each target, or one row for each score"
        )
    header = [cell.strip().lower() for cell in rows[0]]
    if {"target", "source", "score"} <= set(header):
        return *_cells(header, rows[1:], where, status), "cells"
    return *_square(rows, where, status), "square"


def _cells(header: list[str], rows: list[list[str]], where: str, status: Status) -> Cells:
    place = {name: header.index(name) for name in header}
    codes = tuple(dict.fromkeys(row[place[key]].strip() for key in ("target", "source") for row in rows))
    index = {code: i for i, code in enumerate(codes)}
    grids, states = _empty(len(codes))
    seen: set[tuple[int, int]] = set()
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{where}: row {line} has {len(row)} cells, the header {len(header)}")
        i, j = (index[row[place[key]].strip()] for key in ("target", "source"))
        if (i, j) in seen:
            raise InputError(f"{where}: row {line} repeats target {codes[i]}, source {codes[j]}")
        seen.add((i, j))
        for grid, name in zip(grids, ("score", "low", "high"), strict=True):
            if name in place:
                grid[i, j] = _number(row[place[name]], f"{where}: row {line}, {name}", infinite=name != "score")
        stated = row[place["status"]].strip() if "status" in place else ""
        if stated and stated not in get_args(Status):
            raise InputError(
                f"{where}: row {line}, status {stated!r}", hint=f"it is one of {', '.join(get_args(Status))}"
            )
        states[i, j] = stated or ("missing" if math.isnan(grids[0][i, j]) else status)
    return codes, grids, states


def _square(rows: list[list[str]], where: str, status: Status) -> Cells:
    sources = [cell.strip() for cell in rows[0][1:]]
    targets = [row[0].strip() for row in rows[1:]]
    if sorted(sources) != sorted(targets):
        raise InputError(
            f"{where}: the first row and the first column name different languages",
            hint="write the targets in the first column, and the same codes as sources in the first row",
        )
    codes = tuple(targets)
    grids, states = _empty(len(codes))
    for i, row in enumerate(rows[1:]):
        if len(row) != len(rows[0]):
            raise InputError(f"{where}: row {i + 2} has {len(row)} cells, the header {len(rows[0])}")
        for source, cell in zip(sources, row[1:], strict=True):
            j = codes.index(source)
            if i == j:
                continue
            grids[0][i, j] = _number(cell, f"{where}: row {i + 2}, {source}", infinite=False)
            states[i, j] = "missing" if math.isnan(grids[0][i, j]) else status
    return codes, grids, states


def _empty(n: int) -> tuple[Grids, NDArray[np.str_]]:
    grids = (np.full((n, n), np.nan), np.full((n, n), np.nan), np.full((n, n), np.nan))
    return grids, np.full((n, n), "missing", dtype="U9")


def _number(cell: str, where: str, *, infinite: bool) -> float:
    """A cell's number; empty is NaN. The words nan and NA are refused, for they are also language codes."""
    cell = cell.strip()
    if not cell:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if math.isnan(value) or (math.isinf(value) and not infinite):
        raise InputError(f"{where}: {cell!r} is not a number", hint="leave a cell empty if its score is unknown")
    return value
