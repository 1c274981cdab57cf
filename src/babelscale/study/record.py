"""What a finished run leaves: one folder, published whole or not at all, and the tables made of all of them."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from babelscale import files
from babelscale.errors import StudyError
from babelscale.runs import Runs
from babelscale.study.spec import RunSpec
from babelscale.training.batches import Batches

RECORD = "record.json"


def write(spec: RunSpec, batches: Batches, unique_tokens: Mapping[str, int], folder: Path) -> None:
    """Turn the log of a trained run into its record, the same bytes for the same run."""
    with (folder / "log.jsonl").open(encoding="utf-8") as log:
        evaluated = [entry for entry in map(json.loads, log) if "language" in entry]
    # A run that shorter ones branch off was measured at their steps too.
    own = set(spec.recipe.evaluation_steps(spec.steps))
    evaluated = [entry for entry in evaluated if entry["step"] in own]
    T = spec.recipe.sequence_length
    exposure = [
        {"run": spec.name, "step": step, "language": code, "tokens": float(sequences * T),
         "unique_tokens": float(unique_tokens[code])}
        for step in sorted({entry["step"] for entry in evaluated})
        for code, sequences in batches.counts(step).items()
    ]  # fmt: skip
    record = {
        "run": {
            "run": spec.name,
            "params": float(spec.shape.params),
            "tokens": float(spec.tokens),
            "params_non_embedding": float(spec.shape.params_non_embedding),
            "flops": float(spec.flops),
            "flops_6nd": 6.0 * spec.shape.params * spec.tokens,
            "seed": spec.seed,
            "start": "checkpoint" if spec.base else "scratch",
            "base": spec.base.name if spec.base else None,
            "size": spec.size,
            "mixture": spec.mixture.name,
            "tokenizer": spec.tokenizer,
            "corpus": spec.corpus,
        },
        "hash": spec.hash,
        "identity": spec.identity(),
        "recipe": asdict(spec.recipe),
        "exposure": exposure,
        "losses": [{"run": spec.name} | entry for entry in evaluated],
    }
    files.write_text(folder / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")


def publish(working: Path, finished: Path) -> bool:
    """Move a run's folder to its place among the finished ones; False if another process was first."""
    finished.parent.mkdir(parents=True, exist_ok=True)
    try:
        working.rename(finished)
    except OSError:
        if not (finished / RECORD).exists():
            raise
        shutil.rmtree(working)
        return False
    return True


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
        raise StudyError(f"{path}: damaged ({error})", hint="remove the run's folder to train it again") from None
