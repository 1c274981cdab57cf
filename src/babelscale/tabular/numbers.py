"""Numbers as people write them: decimal commas, thousands separators, 400M and 1.2B. What is ambiguous is refused."""

import math
import re

import polars as pl

from babelscale.errors import InputError
from babelscale.tabular.cells import RawTable

_SUFFIX = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_WITH_SUFFIX = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([kKmMbBgGtT])")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:([ ,.'_\u00a0\u202f])\d{3})(?:\1\d{3})*")


def numbers(cells: RawTable, name: str, *, counts: bool) -> pl.Series:
    """A column as Float64; an empty cell is null.

    Args:
        counts: whether the column counts parameters, tokens or operations. Only these are read with thousands
            separators and suffixes (400M): a loss of `2,500` may be 2.5 or 2500, and is refused.

    Raises:
        InputError: naming the file, the row, the column and the reason.
    """
    series = cells.frame[name]
    if series.dtype == pl.String:
        values = _from_text(cells, series, counts)
    elif series.dtype.is_numeric() or series.dtype == pl.Null:
        values = series.cast(pl.Float64)
    else:
        kind = "true or false" if series.dtype == pl.Boolean else str(series.dtype)
        raise InputError(f"{cells.where}: column {name} holds {kind}, not numbers", hint="write it as numbers")
    bad = (values.is_nan() | values.is_infinite()).fill_null(False).arg_max()
    if bad is not None and values[bad] is not None and not math.isfinite(values[bad]):
        raise _refusal(cells, bad, name, series[bad], "is NaN" if math.isnan(values[bad]) else "is infinite")
    return values.alias(name)


def _from_text(cells: RawTable, series: pl.Series, counts: bool) -> pl.Series:
    plain = series.str.strip_chars()
    # Only digits are meant: Polars also casts "nan" and "inf". Beside decimal commas a point separates thousands.
    point = r"^[+-]?\d+(?:[eE][+-]?\d+)?$" if cells.decimal_comma else r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
    digits = plain.str.contains(point)
    values = plain.set(~digits, None).cast(pl.Float64, strict=False)
    left = (values.is_null() & plain.is_not_null()).arg_true()
    if not len(left):
        return values
    found = values.to_list()
    for index in left:
        found[index] = _number(cells, index, series.name, plain[index], counts)
    return pl.Series(series.name, found, pl.Float64)


def _number(cells: RawTable, index: int, name: str, text: str, counts: bool) -> float:
    # No loss and no share is counted in thousands, so that 3,125 beside semicolons is a decimal number there.
    decimal = cells.decimal_comma or (cells.decimal_comma is None and not counts)
    if decimal and re.fullmatch(r"[+-]?\d+,\d*(?:[eE][+-]?\d+)?", text):
        return float(text.replace(",", "."))
    if counts:
        if suffixed := _WITH_SUFFIX.fullmatch(text.replace(",", ".") if cells.decimal_comma else text):
            return float(suffixed[1]) * _SUFFIX[suffixed[2].lower()]
        grouped = _THOUSANDS.fullmatch(text)
        ambiguous = cells.decimal_comma is None and text.count(",") == 1
        if grouped and not ambiguous and not (grouped[1] == "." and not cells.decimal_comma):
            return float(text.replace(grouped[1], ""))
    if re.fullmatch(r"[+-]?\d+[.,]\d+", text):
        raise _refusal(cells, index, name, text, "may have a decimal sign or a thousands separator")
    what = {"nan": "is NaN", "inf": "is infinite", "infinity": "is infinite"}.get(text.lower().lstrip("+-"))
    raise _refusal(cells, index, name, text, what or "is not a number")


def _refusal(cells: RawTable, index: int, name: str, value: object, what: str) -> InputError:
    hint = "leave the cell empty where nothing was measured, or remove the row"
    if "separator" in what:
        hint = "write a decimal point, and no thousands separators"
    if what in ("is NaN", "is infinite"):
        return InputError(f"{cells.at(index)}, {name} {what} ({value})", hint=hint)
    return InputError(f"{cells.at(index)}, {name}: {value!r} {what}", hint=hint)
