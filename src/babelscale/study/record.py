"""A run's folder: claimed by one process, published whole or not at all; and the tables made of all of them.

A process trains a run in `working/RUN/ATTEMPT/`, where ATTEMPT is its own and the folder is an earlier attempt's,
renamed. So nobody asks whether the earlier process is dead, has lost its network or was only paused: what it writes
next fails, as its folder is no longer there. Who starts last owns the run; who finishes first publishes it, and only
the first can, as a folder is never renamed onto one that holds something.
"""

import contextlib
import json
import secrets
import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from babelscale import files
from babelscale.errors import BabelscaleWarning, StudyError
from babelscale.runs import Runs
from babelscale.study.spec import RunSpec
from babelscale.study.timing import TIMING
from babelscale.training import BRANCHES, LOG, STATE
from babelscale.training.batches import Batches

RECORD = "record.json"
# The record of a finished run that was trained again for its state, where it differs from the one that was there.
AGAIN = "record-again.json"
# What to do about a file of a finished run that cannot be read.
DAMAGED_HINT = (
    "move the run's folder elsewhere; `babelscale study run` with --records takes the run from a file of records, "
    "without it trains the run again"
)
_GONE = ".gone"
# Whether a run has its record, and the newest step it saved.
Reached = tuple[bool, int]


def write(spec: RunSpec, batches: Batches, unique_tokens: Mapping[str, int], folder: Path) -> None:
    """Turn the log of a trained run into its record, the same bytes for the same run."""
    with (folder / "log.jsonl").open(encoding="utf-8") as log:
        evaluated = [entry for entry in map(json.loads, log) if "language" in entry]
    # A run that others branch off was measured at their steps and on their languages too.
    steps, codes = set(spec.recipe.evaluation_steps(spec.steps)), set(spec.measured_languages)
    evaluated = [entry for entry in evaluated if entry["step"] in steps and entry["language"] in codes]
    T = spec.recipe.sequence_length
    exposure = [
        {
            "run": spec.name,
            "step": step,
            "language": code,
            "tokens": float(sequences * T),
            "unique_tokens": float(unique_tokens[code]),
        }
        for step in sorted({entry["step"] for entry in evaluated})
        for code, sequences in batches.counts(step).items()
    ]
    record = {
        "run": {
            "run": spec.name,
            "params": float(spec.shape.params),
            "tokens": float(spec.tokens),
            "params_non_embedding": float(spec.shape.params_non_embedding),
            "flops": float(spec.flops),
            "flops_6nd": 6.0 * spec.shape.params * spec.tokens,
            "seed": spec.seed,
            "start": spec.start,
            "base": spec.base.name if spec.base else None,
            "size": spec.size,
            "mixture": spec.mixture_name,
            "tokenizer": spec.tokenizer,
            "corpus": spec.corpus,
        },
        "hash": spec.hash,
        "identity": spec.identity(),
        "recipe": asdict(spec.recipe),
        "exposure": exposure,
        "losses": [{"run": spec.name} | entry for entry in evaluated],
    }
    files.write_text(folder / RECORD, as_text(record))


def as_text(record: Mapping[str, Any]) -> str:
    """The text of record.json."""
    return json.dumps(record, indent=1, sort_keys=True) + "\n"


def claim(working: Path) -> Path:
    """A folder in `working/RUN` for this process alone, with what the furthest attempt before it left.

    Raises:
        StudyError: the disk refuses.
    """
    mine = working / secrets.token_hex(4)
    try:
        working.mkdir(parents=True, exist_ok=True)
        # A folder without a log was made by a process whose own was taken away from it in between.
        left_behind = [path for path in working.iterdir() if (path / LOG).exists() and path.suffix != _GONE]
        for left in sorted(left_behind, key=_reached_in, reverse=True):
            with contextlib.suppress(FileNotFoundError):
                left.rename(mine)
                return mine
        mine.mkdir()
    except OSError as error:
        raise StudyError(
            f"{working}: cannot be written ({error.strerror})", hint="make room and run the same command again"
        ) from error
    return mine


def reached(working: Path) -> Reached:
    """How far the furthest attempt at a run is."""
    return max(map(_reached_in, working.iterdir()), default=(False, 0)) if working.is_dir() else (False, 0)


def _reached_in(attempt: Path) -> Reached:
    steps = [0]
    with contextlib.suppress(FileNotFoundError):
        steps += [int(path.name) for path in (attempt / STATE).iterdir() if path.name.isdecimal()]
    return (attempt / RECORD).exists(), max(steps)


def publish(attempt: Path, finished: Path) -> bool:
    """Move a run's folder to its place among the finished ones; False if another process was first.

    Args:
        attempt: as `claim` made it; what other attempts at the run left beside it is removed.

    Raises:
        StudyError: another process has taken the run over and is still training it, or the disk refuses.
    """
    finished.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Writing into a folder that was taken away makes it anew, without its log; after this nobody here writes.
        if not (attempt / LOG).exists():
            raise FileNotFoundError(attempt / LOG)
        attempt.rename(finished)
    except OSError as error:
        if not (finished / RECORD).exists():
            if isinstance(error, FileNotFoundError):
                raise StudyError(
                    f"{attempt}: the folder is gone, because another process has taken over this run"
                ) from None
            raise StudyError(
                f"{finished}: cannot be published ({error.strerror})",
                hint="if that folder is there without a record, move it elsewhere and run the study again",
            ) from error
        first = False
    else:
        first = True
    discard(attempt.parent)
    return first


def complete(attempt: Path, finished: Path) -> None:
    """Give a finished run that lacks its states those that an attempt at training it again has left.

    The record that is there stays. Where the new one has other bytes, a warning says so, the new one is kept beside it
    as record-again.json, and the final state alone is taken over.

    Raises:
        StudyError: another process has taken the run over.
    """
    if not (attempt / LOG).exists():
        raise StudyError(f"{attempt}: the folder is gone, because another process has taken over this run")
    kept, new = ((folder / RECORD).read_bytes() for folder in (finished, attempt))
    if kept == new:
        for name in (LOG, TIMING):
            if not (finished / name).exists():
                files.write_bytes(finished / name, (attempt / name).read_bytes())
        _move_states(attempt / BRANCHES, finished / BRANCHES)
    else:
        files.write_bytes(finished / AGAIN, new)
        warnings.warn(
            f"{finished.name} was trained again for its state and its results differ: {_difference(kept, new)}. The "
            f"first record, {finished / RECORD}, is kept; the new one is {finished / AGAIN}. Runs that continue from "
            "it start from the new state. Another kind of device or other versions of the packages can be the reason.",
            BabelscaleWarning,
            stacklevel=2,
        )
    # The final state comes last: once it is there, the run is not trained again.
    _move_states(attempt / STATE, finished / STATE)
    discard(attempt.parent)


def _move_states(saved: Path, place: Path) -> None:
    for state in saved.iterdir() if saved.is_dir() else ():
        place.mkdir(exist_ok=True)
        if state.name.isdecimal() and not (place / state.name).exists():
            state.rename(place / state.name)


def _difference(kept: bytes, new: bytes) -> str:
    try:
        before, after = ([row["nats"] for row in json.loads(text)["losses"]] for text in (kept, new))
        largest = max(abs(b - a) / a for a, b in zip(before, after, strict=True))
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        return "their losses cannot be compared"
    return f"the largest relative difference of a loss is {largest:.1e}"


def discard(working: Path) -> None:
    """Remove what attempts at a finished run left; one that goes on unknowing loses its folder and ends."""
    for left in working.iterdir() if working.is_dir() else ():
        gone = left.with_suffix(_GONE)
        with contextlib.suppress(OSError):
            left.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    with contextlib.suppress(OSError):
        working.rmdir()


def read_runs(finished: Path, names: Iterable[str]) -> Runs | None:
    """The three tables of the named runs, as far as they are finished; None before the first one is."""
    records = [record for name in names if (record := _read(finished / name / RECORD)) is not None]
    if not records:
        return None
    return Runs.of(
        pl.DataFrame([record["run"] for record in records], infer_schema_length=None),
        pl.DataFrame([row for record in records for row in record["exposure"]]),
        pl.DataFrame([row for record in records for row in record["losses"]]),
        f"{finished}: ",
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise StudyError(f"{path}: damaged ({error})", hint=DAMAGED_HINT) from None
