"""Data frames of any library at the door of `Runs`: Narwhals reads them, Polars holds them afterwards."""

from typing import Any

import narwhals.stable.v2 as nw
import polars as pl
from narwhals.exceptions import NarwhalsError

from babelscale.errors import InputError

_HINT = "give a data frame of pandas, Polars, PyArrow or another library that Narwhals knows"


def to_polars(frame: Any, where: str) -> pl.DataFrame:
    """All columns of `frame` as Polars.

    What pandas holds as missing (NaN, None, NA) becomes null. A NaN of Polars or PyArrow, which have nulls beside it,
    stays NaN. Text such as "nan" or "NA" stays text.

    Raises:
        InputError: `frame` is no data frame, two columns have one name, or the values of one do not go together.
    """
    try:
        read = nw.from_native(frame)
        if isinstance(read, nw.LazyFrame):
            read = read.collect("polars")
        if read.implementation.is_polars():
            return read.to_native()
        chosen = [read.get_column(name) for name in read.columns]
    except TypeError:
        raise InputError(f"{where}: {type(frame).__name__} is not a data frame", hint=_HINT) from None
    except (NarwhalsError, ValueError) as error:
        raise InputError(f"{where}: cannot be read ({' '.join(str(error).split())})", hint=_HINT) from None
    missing = read.implementation.is_pandas_like()
    return pl.DataFrame([_series(column, missing, where) for column in chosen])


def _series(column: nw.Series[Any], missing: bool, where: str) -> pl.Series:
    values = column.to_list()
    if missing:
        values = [None if absent else value for value, absent in zip(values, column.is_null().to_list(), strict=True)]
    series = pl.Series(column.name, values, strict=False)
    if series.null_count() > sum(value is None for value in values):
        raise InputError(
            f"{where}: column {column.name} holds values of kinds that do not go together, or too large a number",
            hint="a column holds numbers or text",
        )
    return series
