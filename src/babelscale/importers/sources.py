"""Which kind of source a path is, and its runs as one flat table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from babelscale.errors import InputError
from babelscale.importers import (
    databases,
    huggingface,
    lm_eval,
    mlflow_files,
    olmo_core,
    swarm,
    tensorboard,
    textlogs,
    wandb,
    wandb_exports,
)
from babelscale.importers.logged import LoggedRun, to_cells
from babelscale.tables import TABLES
from babelscale.tabular import ENDINGS, Notice, RawTable, is_table
from babelscale.tabular import read as read_table

Read = Callable[[Path], tuple[list[LoggedRun], list[Notice]]]


@dataclass(frozen=True)
class Source:
    """A kind of source: its name, what recognises it, what reads it."""

    name: str
    suits: Callable[[Path], bool]
    read: Read


def _holds(pattern: str) -> Callable[[Path], bool]:
    return lambda path: next(path.rglob(pattern), None) is not None if path.is_dir() else path.match(pattern)


STUDY = "study"
# In the order in which they are tried.
SOURCES = (
    Source("wandb", _holds("*.wandb"), wandb.read),
    Source("huggingface", _holds(huggingface.NAME), huggingface.read),
    Source("tensorboard", _holds(tensorboard.PATTERN), tensorboard.read),
    Source("mlflow", mlflow_files.suits, mlflow_files.read),
    Source("wandb-export", wandb_exports.suits, wandb_exports.read),
    Source("lm-eval", lm_eval.suits, lm_eval.read),
    Source("olmo-core", olmo_core.suits, olmo_core.read),
    Source("database", lambda path: path.is_file() and databases.is_database(path), databases.read),
    Source("json-lines", lambda path: _is_json_log(path), textlogs.read_json_lines),
    Source("log", lambda path: _is_log(path), textlogs.read),
)
NAMES = (*(source.name for source in SOURCES), "olmix", "table", STUDY)


def read(path: str | Path, kind: str | None = None) -> tuple[str, RawTable]:
    """The kind of a source and its runs as one flat table.

    Args:
        kind: one of `NAMES`, where the path does not show it.

    Raises:
        InputError: no such path, nothing of a known kind in it, or a file is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder", hint="name what the tracker or trainer wrote")
    if kind is not None and kind not in NAMES:
        raise InputError(f"no kind of source is called {kind!r}", hint=f"one of {', '.join(NAMES)}")
    if kind in (None, "olmix") and (pair := swarm.find(path)):
        return "olmix", swarm.read(*pair)
    for source in SOURCES:
        if source.name == kind or (kind is None and source.suits(path)):
            runs, notices = source.read(path)
            return source.name, to_cells(runs, str(path), notices)
    if path.is_file() and is_table(path.name):
        return "table", read_table(path)
    raise InputError(f"{path}: holds nothing that can be imported", hint=f"a source is one of {', '.join(NAMES)}")


def is_study(path: Path) -> bool:
    """A folder of Runs, or a study's folder with them, as babelscale writes both."""
    return any(
        all((folder / f"{table}{ending}").is_file() for table in TABLES)
        for folder in (path, path / "runs")
        for ending in (".parquet", ".csv")
    )


def _is_json_log(path: Path) -> bool:
    """JSON lines of a tracker: events, or metrics whose names have slashes; a flat table of runs is no log."""
    files = [path] if path.is_file() else sorted([*path.rglob("*.jsonl"), *path.rglob("*.ndjson")])[:1]
    if not files or files[0].suffix not in (".jsonl", ".ndjson", ".json", ".log", ".txt"):
        return False
    with files[0].open("rb") as file:
        text = file.read(2**16).decode("utf-8", "replace")
    return ('"event"' in text and '"metrics"' in text) or '"learning/loss"' in text or '"run_name"' in text


def _is_log(path: Path) -> bool:
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()][:50]
    return any(file.suffix not in ENDINGS[2:] and textlogs.looks_like_log(file) for file in files)
