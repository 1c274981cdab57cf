"""Runs as experiment trackers log them: a configuration, metrics by step, and a summary. Every reader makes these."""

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from babelscale.errors import InputError
from babelscale.tabular import Notice, RawTable

Scalar = str | int | float | bool | None
# Words in the name of a metric that counts or is set, and so holds until it is logged again.
_COUNTERS = ("token", "consumed", "samples", "flop", "param", "mix", "share", "ratio", "proportion", "weight")
_LOSSES = ("loss", "bpb", "bits_per_byte", "nll")
_TRAINING = ("train", "training", "learning", "running", "smooth")


@dataclass
class LoggedRun:
    """One run of a tracker.

    Attributes:
        config: hyperparameters, nested names joined by dots.
        history: step -> metrics logged at it.
        summary: last values, where the tracker keeps them apart.
        state: "finished", "crashed", ... or "" where the source does not say.
    """

    name: str
    config: dict[str, Scalar] = field(default_factory=dict)
    history: dict[int, dict[str, Scalar]] = field(default_factory=dict)
    summary: dict[str, Scalar] = field(default_factory=dict)
    state: str = ""

    def log(self, step: int, metrics: Mapping[str, Scalar]) -> None:
        self.history.setdefault(step, {}).update(metrics)


def to_cells(runs: Sequence[LoggedRun], where: str, notices: Iterable[Notice] = ()) -> RawTable:
    """One row for each run and step at which an evaluation loss was logged, with the configuration in further columns.

    Where no loss of evaluation stands in any history, a run is one row of its summary.

    Raises:
        InputError: there are no runs, or two have one name.
    """
    if not runs:
        raise InputError(f"{where}: holds no runs", hint="name the folder or file that the tracker wrote")
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{where}: two runs are called {twice!r}", hint="rename one of them, or import them apart")
    wanted = {key for run in runs for metrics in run.history.values() for key in metrics if is_loss(key)}
    validation = {key for key in wanted if not _is_training(key)}
    rows: list[dict[str, Scalar]] = []
    for run in runs:
        found = list(_steps(run, validation)) if validation else []
        if not found:
            last = max(run.history, default=None)
            found = [{**({} if last is None else {**_last_values(run), "step": last}), **run.summary}]
        state = {"state": run.state} if run.state else {}
        rows += [{**run.config, **row, "run": run.name, **state} for row in found]
    columns = dict.fromkeys(key for row in rows for key in row)
    frame = pl.DataFrame([pl.Series(key, [_text(row.get(key)) for row in rows], pl.String) for key in columns])
    cells = RawTable(frame, range(1, len(rows) + 1), where)
    cells.notices.extend(notices)
    if wanted and not validation:
        cells.notice("warning", "training-loss", "no loss of evaluation was logged; the losses are those of training")
    return cells


def _steps(run: LoggedRun, losses: set[str]) -> Iterable[dict[str, Scalar]]:
    """Rows of the steps at which one of the losses was logged; counters hold until they are logged again."""
    counters: dict[str, Scalar] = {}
    for step in sorted(run.history):
        metrics = run.history[step]
        counters |= {key: value for key, value in metrics.items() if is_counter(key)}
        found = {key: value for key, value in metrics.items() if key in losses}
        if found:
            yield {**counters, **found, "step": step}


def _last_values(run: LoggedRun) -> dict[str, Scalar]:
    """The last value of every metric."""
    last_values: dict[str, Scalar] = {}
    for step in sorted(run.history):
        last_values |= run.history[step]
    return last_values


@functools.lru_cache(2**16)
def is_loss(key: str) -> bool:
    return any(word in key.lower() for word in _LOSSES)


def is_evaluated(key: str) -> bool:
    """Whether a metric is a loss on held-out text, by its name."""
    return is_loss(key) and not _is_training(key)


@functools.lru_cache(2**16)
def _is_training(key: str) -> bool:
    lowered = key.lower()
    evaluated = any(word in lowered for word in ("eval", "val", "test"))
    return not evaluated and (any(word in lowered for word in _TRAINING) or lowered in ("loss", "lm loss", "lm_loss"))


@functools.lru_cache(2**16)
def is_counter(key: str) -> bool:
    return not is_loss(key) and any(word in key.lower() for word in _COUNTERS)


def _text(value: Scalar) -> str | None:
    if value is None or value == "":
        return None
    return repr(value) if isinstance(value, float) else str(value)


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Nested fields with names joined by dots; lists stay out, as no column of a table holds them."""
    flat: dict[str, Scalar] = {}
    stack: list[tuple[str, Mapping[str, Any]]] = [(prefix, value)]
    while stack:
        before, fields = stack.pop()
        for key, cell in fields.items():
            name = f"{before}.{key}" if before else str(key)
            if isinstance(cell, Mapping):
                stack.append((name, cell))
            elif isinstance(cell, str | int | float | bool) or cell is None:
                flat[name] = cell
    return flat


def number(value: object) -> float | None:
    """A finite number, or None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def json_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        InputError: the file is damaged, or holds no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error})", hint="is the file whole?") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no object", hint="name a file that the tool wrote")
    return found
