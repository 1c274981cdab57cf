"""SQLite databases of MLflow and of Trackio."""

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path

from babelscale.errors import InputError
from babelscale.importers.logged import LoggedRun, flatten
from babelscale.tabular import Notice

_SIGN = b"SQLite format 3\x00"
# RunStatus of MLflow, as its store writes it.
_STATES = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed", "RUNNING": "running", "SCHEDULED": "running"}


def is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SIGN)) == _SIGN


def read(path: Path) -> tuple[list[LoggedRun], list[Notice]]:
    """The runs of one database; it is opened for reading only.

    Raises:
        InputError: the database is damaged, or is neither of MLflow nor of Trackio.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if {"runs", "params", "metrics"} <= tables:
                return _mlflow(database), []
            if "metrics" in tables and "run_name" in _columns(database, "metrics"):
                return _trackio(database, tables, path), []
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})", hint="is the file whole?") from None
    raise InputError(f"{path}: holds tables {', '.join(sorted(tables))}", hint="name a database of MLflow or Trackio")


def _columns(database: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}


def _mlflow(database: sqlite3.Connection) -> list[LoggedRun]:
    runs: dict[str, LoggedRun] = {}
    seen: set[str] = set()
    rows = database.execute(
        "SELECT run_uuid, name, status FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time, run_uuid"
    )
    for uuid, name, status in rows:
        named = str(name or uuid)
        runs[uuid] = LoggedRun(named if named not in seen else f"{named} ({uuid})", state=_STATES.get(str(status), ""))
        seen.add(named)
    for uuid, key, value in database.execute("SELECT run_uuid, key, value FROM params"):
        if uuid in runs:
            runs[uuid].config[str(key)] = value
    steps = database.execute("SELECT run_uuid, key, value, step, is_nan FROM metrics ORDER BY step, timestamp")
    for uuid, key, value, step, is_nan in steps:
        if uuid in runs:
            runs[uuid].log(_step(step), {str(key): math.nan if is_nan else value})
    return list(runs.values())


def _trackio(database: sqlite3.Connection, tables: set[str], path: Path) -> list[LoggedRun]:
    runs: dict[str, LoggedRun] = {}
    for name, step, text in database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id"):
        runs.setdefault(str(name), LoggedRun(str(name))).log(_step(step), flatten(_object(text, path)))
    if "configs" in tables:
        for name, text in database.execute("SELECT run_name, config FROM configs"):
            runs.setdefault(str(name), LoggedRun(str(name))).config |= {
                key: value for key, value in flatten(_object(text, path)).items() if not key.startswith("_")
            }
    return list(runs.values())


def _step(value: object) -> int:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"a metric has the step {value!r}", hint="is the database whole?")
    return int(value)


def _object(text: str, path: Path) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"{path}: a row holds no JSON", hint="is the file whole?") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: a row holds no JSON object", hint="is the file whole?")
    return found
