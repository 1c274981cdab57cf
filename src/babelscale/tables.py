"""The three tidy tables of `Runs`: their columns, checks, reading and writing.

    runs      one row a run                      run, params, tokens, ...
    exposure  one row a run, step and language   tokens seen by then, unique tokens available
    losses    one row a run, step, language and split   totals: nats, tokens, bytes, unigram nats

A folder holds them as `runs`, `exposure` and `losses` with the ending .parquet or .csv. Everything is checked here,
once; an error names the file, the row (counted as in an editor) and the field.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, TypeVar, get_args

import polars as pl

from babelscale.errors import InputError
from babelscale.files import new_file
from babelscale.languages import is_well_formed

# How a run started (`start` of the runs table). A two-stage run started from scratch and continued with another mixture
# from some step on. Other words are kinds of checkpoint; runs without a word started from scratch.
SCRATCH, CHECKPOINT, TWO_STAGE = "scratch", "checkpoint", "two-stage"
LRState = Literal["warmup", "stable", "decayed"]
TABLES = ("runs", "exposure", "losses")
Read = TypeVar("Read")
# A file in a folder whose tables are being replaced one after the other.
_MOVING = ".moving"
# Seconds between attempts to read tables that change.
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)

# Columns of the runs table with this prefix hold covariates, further numbers that a law may read.
COVARIATE = "covariates."

Check = Literal["positive", "not negative", "any"]
# (type, required, check). A column that is not required may be left out or hold nulls.
Column = tuple[type[pl.DataType], bool, Check]
_COLUMNS: dict[str, dict[str, Column]] = {
    "runs": {
        "run": (pl.String, True, "any"),
        "params": (pl.Float64, True, "positive"),
        "tokens": (pl.Float64, True, "positive"),
        "params_non_embedding": (pl.Float64, False, "positive"),
        "flops": (pl.Float64, False, "positive"),
        "flops_6nd": (pl.Float64, False, "positive"),
        "seed": (pl.Int64, False, "any"),
        "start": (pl.String, False, "any"),
        "base": (pl.String, False, "any"),
        "size": (pl.String, False, "any"),
        "mixture": (pl.String, False, "any"),
        "tokenizer": (pl.String, False, "any"),
        "corpus": (pl.String, False, "any"),
    },
    "exposure": {
        "run": (pl.String, True, "any"),
        "step": (pl.Int64, True, "not negative"),
        "language": (pl.String, True, "any"),
        "tokens": (pl.Float64, True, "not negative"),
        "unique_tokens": (pl.Float64, False, "positive"),
    },
    "losses": {
        "run": (pl.String, True, "any"),
        "step": (pl.Int64, True, "not negative"),
        "language": (pl.String, True, "any"),
        "split": (pl.String, True, "any"),
        "lr_state": (pl.String, True, "any"),
        "nats": (pl.Float64, True, "positive"),
        "tokens": (pl.Float64, False, "positive"),
        "bytes": (pl.Float64, False, "positive"),
        "unigram_nats": (pl.Float64, False, "positive"),
    },
}
_KEYS = {"runs": ["run"], "exposure": ["run", "step", "language"], "losses": ["run", "step", "language", "split"]}


def conform(frame: pl.DataFrame, table: str, where: str) -> pl.DataFrame:
    """Check one of the three tables and give it its types, column order and row order.

    Raises:
        InputError: a column is missing, or a value is not a number, NaN, infinite, of the wrong sign or repeated.
    """
    frame = check_columns(frame, _COLUMNS[table], where, extra=table == "runs")
    repeated = frame.with_row_index("_row", offset=_first_row(where)).filter(pl.struct(_KEYS[table]).is_duplicated())
    if repeated.height:
        row = repeated.row(0, named=True)
        key = ", ".join(f"{name} {row[name]}" for name in _KEYS[table])
        raise InputError(
            f"{where}: row {repeated['_row'][1]} repeats {key}", hint=f"keep one row for each {', '.join(_KEYS[table])}"
        )
    if table == "losses":
        _check_states(frame, where)
    return frame.sort(_KEYS[table])


def check_columns(frame: pl.DataFrame, columns: dict[str, Column], where: str, *, extra: bool) -> pl.DataFrame:
    """The named columns with their types, absent ones as nulls, then covariates; `extra` keeps the others too."""
    missing = [name for name, (_, required, _) in columns.items() if required and name not in frame.columns]
    if missing:
        raise InputError(
            f"{where}: missing {'columns' if len(missing) > 1 else 'column'} {', '.join(missing)}",
            hint=f"it has {', '.join(frame.columns) or 'none'}",
        )
    columns_checked: list[pl.Series] = []
    for name, (kind, required, check) in columns.items():
        if name not in frame.columns:
            columns_checked.append(pl.Series(name, [None] * frame.height, dtype=kind))
            continue
        series = _cast(frame[name], kind, where)
        _check_values(series, required, check, where)
        columns_checked.append(series)
    if "language" in columns:
        _check_codes(columns_checked[list(columns).index("language")], where)
    for name in frame.columns:
        if name.startswith(COVARIATE):
            columns_checked.append(_cast(frame[name], pl.Float64, where))
            _check_values(columns_checked[-1], False, "any", where)
        elif extra and name not in columns:
            columns_checked.append(frame[name])
    return pl.DataFrame(columns_checked)


def _cast(series: pl.Series, kind: type[pl.DataType], where: str) -> pl.Series:
    if series.dtype.is_nested() or series.dtype == pl.Object:
        raise InputError(
            f"{where}: column {series.name} holds {series.dtype} values", hint="a column holds numbers or text"
        )
    cast = series.cast(kind, strict=False)
    bad = (cast.is_null() & series.is_not_null()).arg_max()
    if cast.null_count() > series.null_count() and bad is not None:
        raise InputError(
            f"{where}: row {bad + _first_row(where)}, {series.name}: {series[bad]!r} is not a number",
            hint="leave a cell empty where nothing was measured",
        )
    if kind.is_integer() and series.dtype.is_float():
        broken = (cast != series).fill_null(False).arg_max()
        if broken is not None and cast[broken] != series[broken]:
            raise InputError(
                f"{where}: row {broken + _first_row(where)}, {series.name}: {series[broken]} is not a whole number",
                hint="correct the row",
            )
    return cast


def _check_values(series: pl.Series, required: bool, check: Check, where: str) -> None:
    def refuse(mask: pl.Series, what: str) -> None:
        row = mask.fill_null(False).arg_max()
        if row is not None and mask[row]:
            raise InputError(
                f"{where}: row {row + _first_row(where)}, {series.name} is {what} ({series[row]})",
                hint="correct or remove the row",
            )

    if required:
        refuse(series.is_null(), "empty")
    if series.dtype.is_float():
        refuse(series.is_nan(), "NaN")
        refuse(series.is_infinite(), "infinite")
    if check == "positive":
        refuse(series <= 0, "not positive")
    if check == "not negative":
        refuse(series < 0, "negative")


def _check_codes(series: pl.Series, where: str) -> None:
    for code in series.drop_nulls().unique(maintain_order=True):
        if not is_well_formed(code):
            row = (series == code).arg_max()
            raise InputError(
                f"{where}: row {(row or 0) + _first_row(where)}, language {code!r} is not a language code",
                hint="codes are BCP-47, such as sw or fil; data that is no language takes x-NAME",
            )


def _check_states(losses: pl.DataFrame, where: str) -> None:
    bad = losses.filter(~pl.col("lr_state").is_in(get_args(LRState)))
    if bad.height:
        raise InputError(
            f"{where}: lr_state {bad['lr_state'][0]!r}",
            hint=f"it is one of {', '.join(get_args(LRState))}; a cosine schedule is decayed at its end, stable before",
        )


def _first_row(where: str) -> int:
    """Rows of a text table are counted as an editor does: the header is line 1."""
    return 2 if where.lower().endswith(".csv") else 1


def read_frame(path: Path) -> pl.DataFrame:
    """One of the three tables, Parquet or CSV (see `find`); CSV cells stay text until they are checked."""
    try:
        return pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})", hint="is the file whole?") from None


def find(folder: Path, table: str) -> Path:
    for ending in (".parquet", ".csv"):
        if (path := folder / f"{table}{ending}").exists():
            return path
    raise InputError(
        f"{folder}: no {table}.parquet or {table}.csv", hint=f"a folder of runs holds the tables {', '.join(TABLES)}"
    )


def write_all(folder: Path, frames: Iterable[tuple[str, pl.DataFrame]], ending: Literal["parquet", "csv"]) -> None:
    """Write the tables together; a reader (see `steadily`) sees all of the old ones or all of the new ones.

    All are on disk before the first takes its place, so a full disk leaves the old ones. What interrupts the moves
    themselves leaves a sign, by which the folder is refused until its tables are written again.
    """
    sign = folder / _MOVING
    with ExitStack() as places:
        # The last to be prepared is the first to be moved.
        for table, frame in reversed(list(frames)):
            partial = places.enter_context(new_file(folder / f"{table}.{ending}"))
            if ending == "parquet":
                frame.write_parquet(partial)
            else:
                frame.write_csv(partial)
        sign.touch()
    sign.unlink(missing_ok=True)


def steadily(place: Path, read: Callable[[], Read]) -> Read:
    """What `read()` makes of the tables at `place`, a folder or one file, none of which changed meanwhile.

    Raises:
        InputError: they kept changing, or a write of theirs was interrupted; whatever is wrong with tables at rest.
    """
    for pause in (*_PAUSES, 0.0):
        before = _state(place)
        try:
            found = read()
        except InputError:
            if before is not None and _state(place) == before:
                raise
        else:
            if before is not None and _state(place) == before:
                return found
        time.sleep(pause)
    if _state(place) is None:
        raise InputError(f"{place}: its tables are half written", hint="ask again, or write them again")
    raise InputError(f"{place}: its tables change faster than they are read", hint="ask again in a moment")


def _state(place: Path) -> list[tuple[str, int, int, int]] | None:
    """Which files the tables are, None while they change places. Another file differs in time, size or number."""
    if not place.is_dir():
        files = [place]
    elif (place / _MOVING).exists():
        return None
    else:
        files = [place / f"{table}.{ending}" for table in TABLES for ending in ("parquet", "csv")]
    found = []
    for path in files:
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append((path.name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return found
