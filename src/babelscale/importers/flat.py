"""Any flat table of runs, with its own column names, as Runs."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from babelscale import tables
from babelscale.errors import InputError
from babelscale.runs import Runs


def table(
    path: str | Path, columns: Mapping[str, str], *, language: str | None = None, tokens_from_flops: bool = False
) -> Runs:
    """Runs from a CSV, Parquet or JSON-lines table with one row a run (or one row a run and language).

    Args:
        path: the table.
        columns: ours -> theirs, such as {"params": "Model Size", "loss": "final loss"}. Ours are params, tokens, loss,
            run, language, unique_tokens, flops, mixture and seed; a column that already has our name may be left out.
        language: code of every row, where the table has no such column.
        tokens_from_flops: D = C / (6 N) from `flops` and `params`, where the table has no tokens.

    Raises:
        InputError: naming the file and the column.
    """
    path = Path(path)
    frame = tables.read_frame(path)
    unknown = [name for name in columns if name not in tables.FLAT]
    if unknown:
        raise InputError(f"no column of ours is called {unknown[0]!r}", hint=f"ours are {', '.join(tables.FLAT)}")
    absent = [theirs for theirs in columns.values() if theirs not in frame.columns]
    if absent:
        raise InputError(f"{path}: no column {absent[0]!r}", hint=f"it has {', '.join(frame.columns)}")
    taken = {ours: frame[theirs] for ours, theirs in columns.items()}
    taken |= {name: frame[name] for name in tables.FLAT if name in frame.columns and name not in taken}
    flat = pl.DataFrame([series.alias(name) for name, series in taken.items()])
    if tokens_from_flops:
        flat = _with_tokens(flat, str(path))
    if language is not None:
        if "language" in flat.columns:
            raise InputError(f"{path}: the table has a language column", hint="leave `language` out")
        flat = flat.with_columns(language=pl.lit(language))
    return Runs.from_flat(flat, str(path), repeated="run" not in flat.columns)


def _with_tokens(flat: pl.DataFrame, where: str) -> pl.DataFrame:
    if "tokens" in flat.columns:
        raise InputError(f"{where}: the table has tokens already", hint="leave tokens_from_flops out")
    if missing := [name for name in ("flops", "params") if name not in flat.columns]:
        raise InputError(f"{where}: tokens_from_flops needs {missing[0]}", hint="map it in `columns`")
    # These two are computed with, so they are read as numbers now; the rest is checked on the way into Runs.
    needed: dict[str, tables.Column] = {"params": tables.FLAT["params"], "flops": (pl.Float64, True, "positive")}
    numbers = tables.check_columns(flat.select(list(needed)), needed, where, extra=False)
    return flat.with_columns(tokens=numbers["flops"] / (6 * numbers["params"]))
