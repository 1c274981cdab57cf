"""A transfer matrix from a table of any format and dialect: one score a row, or the scores as a square."""

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.languages import is_well_formed
from babelscale.tabular import RawTable, read
from babelscale.tabular.codes import translate
from babelscale.tabular.numbers import numbers
from babelscale.transfer.bts import Status

_LARGEST = 2.0  # BTS = 2 - d_bi / d_mono
_COLUMNS = ("target", "source", "score", "low", "high", "status")
_LAYOUTS = (
    "write the columns target, source and score, or target codes down the first column and the same codes as sources "
    "along the first row"
)


class MatrixTable(NamedTuple):
    """What a table holds: codes, (values, low, high), statuses, the layout, and sentences on how it was read."""

    languages: tuple[str, ...]
    grids: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    status: NDArray[np.str_]
    layout: str
    notes: tuple[str, ...]


def read_matrix(path: str | Path, status: Status) -> MatrixTable:
    """Read the table; `status` is that of scores where the table states none. The diagonal is left out.

    Raises:
        InputError: naming the file, the row and the field.
    """
    cells = read(path)
    if not cells.frame.height:
        raise InputError(f"{cells.where}: no rows", hint=_LAYOUTS)
    names = [name.lower() for name in cells.frame.columns]
    if {"target", "source"} <= set(names):
        if len(set(names)) < len(names):
            raise InputError(f"{cells.where}: two columns differ in their case only", hint="rename one of them")
        return _of_pairs(cells, status)
    return _of_square(cells, status)


def _of_pairs(table: RawTable, status: Status) -> MatrixTable:
    cells = replace(table, frame=table.frame.rename(str.lower))
    if "score" not in cells.frame.columns:
        others = [name for name in table.frame.columns if name.lower() not in _COLUMNS]
        named = ", ".join(map(repr, others)) or "no other column"
        raise InputError(f"{cells.where}: missing column score; the table has {named}", hint="call the scores score")
    codes = _Codes(cells)
    targets, sources = (
        [codes.of(value, cells.at(row), name) for row, value in enumerate(cells.frame[name].to_list())]
        for name in ("target", "source")
    )
    languages = tuple(dict.fromkeys([*targets, *sources]))
    index = {code: i for i, code in enumerate(languages)}
    grids, states = _empty(len(languages))
    score, low, high = (_numbers(cells, name) for name in ("score", "low", "high"))
    stated = _stated(cells)
    seen: set[tuple[int, int]] = set()
    for row, (target, source) in enumerate(zip(targets, sources, strict=True)):
        at = index[target], index[source]
        if at in seen:
            raise InputError(
                f"{cells.at(row)} repeats target {target}, source {source}", hint="keep one score for each pair"
            )
        seen.add(at)
        if target == source:
            continue
        for grid, values in zip(grids, (score, low, high), strict=True):
            grid[at] = values[row]
        states[at] = stated[row] or ("missing" if math.isnan(score[row]) else status)
    return MatrixTable(languages, grids, states, "cells", codes.notes)


def _of_square(cells: RawTable, status: Status) -> MatrixTable:
    codes = _Codes(cells)
    first, *header = cells.frame.columns
    sources = [codes.of(name, f"{cells.where}: the first row", "") for name in header]
    targets = [codes.of(value, cells.at(row), first) for row, value in enumerate(cells.frame[first].to_list())]
    for kind, named in (("row", targets), ("column", sources)):
        if twice := [code for code in named if named.count(code) > 1]:
            raise InputError(f"{cells.where}: {twice[0]!r} has two {kind}s", hint="keep one of them")
    if alone := sorted(set(sources) ^ set(targets)):
        place, other = ("row", "column") if alone[0] in targets else ("column", "row")
        raise InputError(
            f"{cells.where}: {alone[0]!r} has a {place} and no {other}; the first row names {', '.join(header[:6])}",
            hint=_LAYOUTS,
        )
    grids, states = _empty(len(targets))
    for name, source in zip(header, sources, strict=True):
        j = targets.index(source)
        values = _numbers(cells, name)
        values[j] = math.nan
        grids[0][:, j] = values
        states[~np.isnan(values), j] = status
    return MatrixTable(tuple(targets), grids, states, "square", codes.notes)


class _Codes:
    """Codes of languages as they are written in one table, and those of this package."""

    def __init__(self, cells: RawTable) -> None:
        self._notes = [str(notice) for notice in cells.notices]
        self._where = cells.where
        self._translated: dict[str, str] = {}

    def of(self, written: object, where: str, field: str) -> str:
        named = f"{where}, {field}" if field else where
        if written is None:
            raise InputError(
                f"{named} is empty",
                hint="some tools read the codes nan (Min Nan) and NA as missing values; write the code",
            )
        if not isinstance(written, str):
            raise InputError(f"{named} {written!r} is not a language code", hint=_LAYOUTS)
        found = translate(written)
        if found.code is None or not is_well_formed(found.code):
            raise InputError(f"{named} {written!r} is not a language code", hint=_LAYOUTS)
        if found.code != written:
            self._translated[written] = found.code
        return found.code

    @property
    def notes(self) -> tuple[str, ...]:
        if not self._translated:
            return tuple(self._notes)
        pairs = ", ".join(f"{written} = {code}" for written, code in self._translated.items())
        return (*self._notes, f"{self._where}: codes are translated: {pairs}")


def _numbers(cells: RawTable, name: str) -> NDArray[np.float64]:
    """A column of scores or bounds; NaN where it is empty. Bounds may be infinite; a score is at most 2."""
    if name not in cells.frame.columns:
        return np.full(cells.frame.height, np.nan)
    column = cells.frame[name]
    if name not in ("low", "high"):
        found = numbers(cells, name, counts=False)
        high = (found > _LARGEST).fill_null(False).arg_true()
        if len(high):
            row = high[0]
            raise InputError(
                f"{cells.at(row)}, {name} is {found[row]:g}, and no transfer score exceeds 2",
                hint="a score is 2 - d_bi / d_mono: 0 is no transfer, 1 as good as the target; is it in per cent?",
            )
        return _filled(found)
    text = column.cast(pl.String).str.to_lowercase().str.strip_chars_start("+")
    infinite = text.replace_strict({"inf": math.inf, "-inf": -math.inf}, default=None, return_dtype=pl.Float64)
    frame = cells.frame.with_columns(column.set(infinite.is_not_null(), None))
    finite = numbers(replace(cells, frame=frame), name, counts=False)
    return _filled(infinite.fill_null(finite))


def _filled(values: pl.Series) -> NDArray[np.float64]:
    return values.fill_null(math.nan).to_numpy().astype(np.float64)


def _stated(cells: RawTable) -> list[str]:
    if "status" not in cells.frame.columns:
        return [""] * cells.frame.height
    found = [str(value or "") for value in cells.frame["status"].to_list()]
    for row, value in enumerate(found):
        if value and value not in get_args(Status):
            raise InputError(f"{cells.at(row)}, status {value!r}", hint=f"it is one of {', '.join(get_args(Status))}")
    return found


def _empty(n: int) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], NDArray[np.str_]]:
    grids = (np.full((n, n), np.nan), np.full((n, n), np.nan), np.full((n, n), np.nan))
    return grids, np.full((n, n), "missing", dtype="U9")
