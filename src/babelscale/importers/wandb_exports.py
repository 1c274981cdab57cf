"""Exports of W&B's site in one folder: CSV of charts, Parquet of histories, and the CSV of the runs table.

A chart has one curve for each run and no hyperparameters; the table of runs has those and the last values.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from babelscale.errors import InputError
from babelscale.importers.logged import LoggedRun, Scalar, is_loss
from babelscale.tabular import Notice, RawTable
from babelscale.tabular import read as read_table
from babelscale.tabular.numbers import numbers

_STEPS = ("step", "_step", "global_step", "trainer/global_step", "train/global_step")
_NAMES = ("Name", "name", "run_name", "run", "run_id", "ID", "id")
_EXTREMES = ("__MIN", "__MAX")
# `run-4s7ayyy0-history_v0/0000.parquet`, as the artifact of a history is downloaded.
_ARTIFACT = re.compile(r"(?:run-)?(.+?)-history(?:[-_:]v\d+)?")
_GROWING = ("token", "consumed", "samples", "flop")
_NOT_GROWING = ("tokenizer", "unique", "per_", "per ", "_per", "max_")


def suits(path: Path) -> bool:
    if path.is_file():
        return path.suffix == ".parquet" and _is_history(path)
    return any(_is_chart(file) for file in path.glob("*.csv")) or any(map(_is_history, path.rglob("*.parquet")))


def _is_chart(file: Path) -> bool:
    with file.open("rb") as opened:
        return b"__MIN" in opened.read(2**16).split(b"\n", 1)[0]


def _is_history(file: Path) -> bool:
    try:
        return "_step" in pl.read_parquet_schema(file)
    except (pl.exceptions.PolarsError, OSError):
        return False


@dataclass(frozen=True)
class _TableRow:
    """One run of the runs table: hyperparameters, and values at its last step."""

    config: dict[str, Scalar]
    last: dict[str, Scalar]
    state: str


def read(path: Path) -> tuple[list[LoggedRun], list[Notice]]:
    """Runs of charts and histories, with what the table holds of them.

    Raises:
        InputError: curves without a table, a run that the table lacks, or a chart whose x-axis is not the step.
    """
    runs: dict[str, LoggedRun] = {}
    notices: list[Notice] = []
    texts = [] if path.is_file() else sorted(path.glob("*.csv"))
    charts = [file for file in texts if _is_chart(file)]
    histories = [path] if path.is_file() else [file for file in sorted(path.rglob("*.parquet")) if _is_history(file)]
    for file in charts:
        _chart(runs, read_table(file))
    for file in histories:
        _history(runs, file)
    others = [file for file in texts if file not in charts]
    if len(others) > 1:
        names = " and ".join(file.name for file in others)
        raise InputError(f"{path}: {names} may both be the table of runs", hint="leave one of them in the folder")
    if others:
        _join(runs, _table(read_table(others[0])), others[0], notices)
    elif charts:
        raise InputError(
            f"{path}: holds charts, one curve for each run, and no table of runs",
            hint="export the table of runs too, with params, tokens and the mixture, into the same folder",
        )
    return list(runs.values()), notices


def _chart(runs: dict[str, LoggedRun], cells: RawTable) -> None:
    """Columns `RUN - METRIC`, beside their extremes over the steps that a point stands for."""
    axis, *curves = cells.frame.columns
    tokens = "token" in axis.lower()
    if axis.lower() not in _STEPS and not tokens:
        raise InputError(f"{cells.where}: the x-axis is {axis!r}", hint="export the chart with Step as its x-axis")
    steps = numbers(cells, axis, counts=True).to_list()
    for column in curves:
        name, dash, metric = column.rpartition(" - ")
        if not dash or column.endswith(_EXTREMES):
            continue
        run = runs.setdefault(name, LoggedRun(name))
        for step, value in zip(steps, numbers(cells, column, counts=False), strict=True):
            if step is not None and value is not None:
                run.log(int(step), {metric: value, axis: step} if tokens else {metric: value})


def _history(runs: dict[str, LoggedRun], file: Path) -> None:
    cells = read_table(file)
    named = next((name for name in _NAMES if name in cells.frame.columns), None)
    source = file.parent.name if file.stem.isdecimal() else file.stem
    own = found[1] if (found := _ARTIFACT.fullmatch(source)) else source
    columns = {
        name: cells.frame[name].to_list()
        for name, kind in cells.frame.schema.items()
        if not name.startswith("_") and name != named and not kind.is_nested()
    }
    names = cells.frame[named].cast(pl.String).to_list() if named else [own] * cells.frame.height
    for index, (name, step) in enumerate(zip(names, numbers(cells, "_step", counts=True).to_list(), strict=True)):
        if name is None or step is None:
            raise InputError(f"{cells.at(index)}: the {'run' if name is None else 'step'} is empty", hint="correct it")
        run = runs.setdefault(name, LoggedRun(name))
        run.log(int(step), {key: values[index] for key, values in columns.items() if values[index] is not None})


def _table(cells: RawTable) -> dict[str, _TableRow]:
    """Rows of the runs table by name, and by identifier where it has one."""
    keys = [name for name in _NAMES if name in cells.frame.columns]
    if not keys:
        raise InputError(f"{cells.where}: no column names the runs", hint=f"give it one of {', '.join(_NAMES)}")
    if (twice := cells.frame[keys[0]].drop_nulls()).is_duplicated().any():
        row = twice.is_duplicated().arg_max() or 0
        raise InputError(f"{cells.where}: two rows are called {twice[row]!r}", hint="rename one of the runs")
    found: dict[str, _TableRow] = {}
    for row in cells.frame.iter_rows(named=True):
        values = {key: value for key, value in row.items() if key not in (*_NAMES, "State") and value is not None}
        last = {key: value for key, value in values.items() if is_loss(key) or _grows(key) or key == "_step"}
        config = {key: value for key, value in values.items() if key not in last and not key.startswith("_")}
        entry = _TableRow(config, last, str(row.get("State") or ""))
        found |= {str(row[key]): entry for key in reversed(keys) if row[key] is not None}
    return found


def _join(runs: dict[str, LoggedRun], table: dict[str, _TableRow], file: Path, notices: list[Notice]) -> None:
    scaled = False
    for name, run in runs.items():
        row = table.get(name)
        if row is None:
            raise InputError(f"{file}: has no run {name!r}", hint="export the table with all runs of the chart")
        run.config |= row.config
        run.state = row.state
        scaled |= _fill(run, row.last, file)
    if scaled:
        notices.append(
            Notice("warning", "scaled", f"{file}: tokens before the last step are computed in proportion to steps")
        )


def _fill(run: LoggedRun, last: dict[str, Scalar], file: Path) -> bool:
    """Add the last losses where a curve ends before them, and what grows in proportion to steps where no curve is."""
    end = max(run.history)
    if (text := last.get("_step")) is not None:
        end = max(end, int(_number(text, "_step", run, file)))
    for key, value in last.items():
        curve = [step for step, metrics in run.history.items() if key in metrics]
        if is_loss(key) and curve and max(curve) < end:
            loss = _number(value, key, run, file)
            if loss != run.history[max(curve)][key]:
                run.log(end, {key: loss})
    grown = {key: value for key, value in last.items() if _grows(key)}
    if any(_grows(key) for metrics in run.history.values() for key in metrics) or not end:
        return False
    for step in run.history:
        run.log(step, {key: _number(value, key, run, file) * step / end for key, value in grown.items()})
    return bool(grown) and len(run.history) > 1


def _number(value: Scalar, key: str, run: LoggedRun, file: Path) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise InputError(
            f"{file}: {key} of run {run.name!r} is {value!r}, not a number", hint="correct the cell"
        ) from None


def _grows(key: str) -> bool:
    lowered = key.lower()
    return any(word in lowered for word in _GROWING) and not any(word in lowered for word in _NOT_GROWING)
