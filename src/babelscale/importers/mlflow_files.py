"""MLflow's file store (`mlruns/`): a folder a run, with `meta.yaml`, and one file for each parameter and metric."""

import json
from collections.abc import Iterator
from pathlib import Path

from babelscale.errors import InputError
from babelscale.importers.logged import LoggedRun
from babelscale.tabular import Notice

_META = "meta.yaml"
# RunStatus of MLflow, as its file store numbers it.
_STATES = {"1": "running", "2": "running", "3": "finished", "4": "failed", "5": "killed"}


def suits(path: Path) -> bool:
    return path.is_dir() and next(_folders(path), None) is not None


def _folders(path: Path) -> Iterator[Path]:
    """Folders of runs: those with `meta.yaml` and metrics."""
    return (file.parent for file in sorted(path.rglob(_META)) if (file.parent / "metrics").is_dir())


def read(path: Path) -> tuple[list[LoggedRun], list[Notice]]:
    """Every run under a folder that was not deleted."""
    runs: list[LoggedRun] = []
    notices: list[Notice] = []
    names: set[str] = set()
    for folder in _folders(path):
        meta = _meta(folder / _META)
        if meta.get("lifecycle_stage", "active") != "active":
            continue
        tag = folder / "tags" / "mlflow.runName"
        name = (_text(tag).strip() if tag.is_file() else meta.get("run_name", "")) or folder.name
        run = LoggedRun(f"{name} ({folder.name})" if name in names else name, state=_STATES.get(meta["status"], ""))
        names.add(name)
        for file in _files(folder / "params"):
            run.config[file.relative_to(folder / "params").as_posix()] = _text(file).strip()
        for file in _files(folder / "metrics"):
            _metric(run, file.relative_to(folder / "metrics").as_posix(), file, notices)
        runs.append(run)
    return runs, notices


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _metric(run: LoggedRun, key: str, file: Path, notices: list[Notice]) -> None:
    """Lines of timestamp, value and step; MLflow 3 may add the name of a data set."""
    lines = _text(file).split("\n")
    for row, line in enumerate(lines, 1):
        if not line.strip():
            continue
        parts = line.split(" ")
        try:
            value, step = float(parts[1]), int(parts[2])
        except (IndexError, ValueError):
            if row == len(lines):
                notices.append(Notice("warning", "truncated", f"{file}: the last line is cut short and left out"))
                continue
            raise InputError(
                f"{file}: row {row} is not a timestamp, a value and a step", hint="correct the row, or remove it"
            ) from None
        run.log(step, {key: value})


def _meta(file: Path) -> dict[str, str]:
    """The flat YAML that MLflow writes: a scalar a line, in quotation marks where it needs them."""
    found = {"status": ""}
    for line in _text(file).split("\n"):
        key, colon, value = line.partition(": ")
        if colon and key.isidentifier():
            found[key] = _scalar(value.strip())
    return found


def _scalar(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1].replace("''", "'")
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value[1:-1]
    return value


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
