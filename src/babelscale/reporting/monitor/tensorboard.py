"""The logs of a study's runs as event files for TensorBoard, one folder a run."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from babelscale.errors import InputError
from babelscale.runs import METRICS

FOLDER = "tensorboard"
_SOURCE = "source.json"


def write_tensorboard(study: str | Path) -> Path:
    """Write or update `tensorboard/` in a study's folder, for runs finished and under way.

    Each run has its training loss, gradient norm and learning rate by step, and its held-out losses by language in
    every unit that its totals allow. A run whose log has not grown is skipped.

    Raises:
        InputError: there is no study, or none of its runs has begun.
    """
    study = Path(study)
    logs = _logs(study)
    if not logs:
        raise InputError(f"{study}: no run has started", hint="name the folder of a study whose runs have begun")
    for name, log in sorted(logs.items()):
        _write_run(log, study / FOLDER / name)
    return study / FOLDER


def _logs(study: Path) -> dict[str, Path]:
    """The log of every run by name; of a run under way, the log of its latest attempt."""
    begun: dict[str, tuple[float, Path]] = {}
    for path in study.glob("working/*/*/log.jsonl"):
        # The log disappears with an attempt that ends at this moment.
        with contextlib.suppress(FileNotFoundError):
            name = path.parent.parent.name
            begun[name] = max(begun.get(name, (0.0, path)), (path.stat().st_mtime, path))
    finished = {path.parent.name: path for path in study.glob("finished/*/log.jsonl")}
    return {name: path for name, (_, path) in begun.items()} | finished


def _write_run(log: Path, place: Path) -> None:
    from tensorboardX import SummaryWriter

    facts = log.stat()
    source = {"bytes": facts.st_size}
    if (place / _SOURCE).exists() and json.loads((place / _SOURCE).read_text(encoding="utf-8")) == source:
        return
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with SummaryWriter(str(partial)) as writer:
        for step, tag, value in _scalars(log):
            writer.add_scalar(tag, value, step, walltime=facts.st_mtime)
    (partial / _SOURCE).write_text(json.dumps(source), encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    partial.rename(place)


def _scalars(log: Path) -> Iterator[tuple[int, str, float]]:
    evaluated: list[dict[str, Any]] = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            break  # the line that a run is writing at this moment
        if "language" in entry:
            evaluated.append(entry)
        else:
            for name in ("loss", "gradient_norm", "learning_rate"):
                yield entry["step"], f"train/{name}", entry[name]
    if not evaluated:
        return
    for row in pl.DataFrame(evaluated).with_columns(**METRICS).iter_rows(named=True):
        for metric in METRICS:
            yield row["step"], f"{row['split']}/{metric}/{row['language']}", row[metric]
