"""A finished run as a model that other programs load."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

from babelscale.corpora.tokenizer import MODEL
from babelscale.errors import InputError, StudyError
from babelscale.model.shape import Shape
from babelscale.study.record import DAMAGED_HINT, RECORD


def export(run: str | Path, folder: str | Path, dtype: Literal["float32", "bfloat16"] = "float32") -> Path:
    """Write the final state of a run, with its tokenizer and a card, in the Hugging Face format.

    Args:
        run: its folder among the finished ones of a study, whose tokenizer stands two folders above.
        folder: new or empty.

    Raises:
        InputError: there is no run, its model is no Llama model, or the folder is not empty.
        StudyError: its final state was not kept, or the study's tokenizer is gone or another one.
    """
    from babelscale.model import huggingface, huggingface_config

    run = Path(run)
    record = _record(run)
    shape = Shape(**record["identity"]["shape"])
    huggingface_config.check_exportable(shape)
    tokenizer = _tokenizer(run, record["run"]["tokenizer"])
    languages = sorted(_shares(record))
    return huggingface.export(
        _parameters(run, shape, record["identity"]["steps"]),
        shape,
        folder,
        tokenizer=tokenizer,
        dtype=dtype,
        sequence_length=record["recipe"]["sequence_length"],
        languages=languages,
        trained_on=_told(record),
    )


def _shares(record: dict[str, Any]) -> dict[str, float]:
    """Shares by language: of the mixture, or of what a two-stage run saw in all."""
    identity = record["identity"]
    if "then" not in identity:
        return identity["mixture"]
    return {
        row["language"]: row["tokens"] / record["run"]["tokens"]
        for row in record["exposure"]
        if row["step"] == identity["steps"]
    }


def _record(run: Path) -> dict[str, Any]:
    path = run / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint="name a run's folder under finished/ of a study") from None
    except json.JSONDecodeError as error:
        raise StudyError(f"{path}: damaged ({error})", hint=DAMAGED_HINT) from None
    if missing := {"run", "identity", "recipe", "exposure", "losses"} - set(record):
        raise InputError(f"{path}: no field {min(missing)}", hint="name a run's folder under finished/ of a study")
    return record


def _tokenizer(run: Path, wanted: str) -> Path:
    """The tokenizer of the study, or a language's own, that a run was trained with."""
    study = run.absolute().parent.parent
    for path in (study / "tokenizer" / MODEL, *sorted(study.glob(f"own/*/tokenizer/{MODEL}"))):
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == wanted:
            return path
    raise StudyError(
        f"{study}: no tokenizer of hash {wanted[:12]}, with which the run was trained",
        hint="export a run from where it stands in its study's folder",
    )


def _parameters(run: Path, shape: Shape, steps: int) -> Any:
    """The final parameters, without the optimiser's state."""
    import jax
    import numpy as np

    from babelscale.model import huggingface
    from babelscale.training.checkpoint import Checkpoints

    checkpoints = Checkpoints(run / "state")
    try:
        latest = checkpoints.latest()
        if latest != steps:
            kept = "no saved state" if latest is None else f"its last saved state is of step {latest:,} of {steps:,}"
            raise StudyError(
                f"{run}: {kept}",
                hint="give its group keep_state = true in the design and train the run again; a study keeps the final "
                "state of such runs and of those that others continue from",
            )
        like = {name: jax.ShapeDtypeStruct(size, np.float32) for name, size in huggingface.sizes(shape).items()}
        return checkpoints.restore({"parameters": like}, latest)["parameters"]
    finally:
        checkpoints.close()


def _told(record: dict[str, Any]) -> str:
    """What the model was trained on, in Markdown."""
    run, identity = record["run"], record["identity"]
    last = identity["steps"]
    seen = {row["language"]: row for row in record["exposure"] if row["step"] == last}
    bits = {
        (row["language"], row["split"]): row["nats"] / math.log(2) / row["bytes"]
        for row in record["losses"]
        if row["step"] == last
    }
    start = f"continued from {run['base']}" if run["base"] else "from scratch"
    if "then" in identity:
        start += f" in two stages ({run['mixture']})"
    shares = _shares(record)
    lines = [
        f"Run {run['run']}: {run['tokens']:,.0f} tokens in {last:,} steps, {start}, seed {run['seed']}.",
        "",
        "| language | share | tokens | unique tokens | bits per byte, validation |",
        "|---|---|---|---|---|",
    ]
    for code in sorted({*seen, *(code for code, _ in bits)}):
        row, loss = seen.get(code), bits.get((code, "validation"))
        exposure = f"{row['tokens']:,.0f} | {row['unique_tokens']:,.0f}" if row else "0 | "
        lines.append(
            f"| {code} | {shares.get(code, 0.0):.4g} | {exposure} | {'' if loss is None else format(loss, '.4f')} |"
        )
    lines += ["", f"Corpus {run['corpus'][:12]}, tokenizer {run['tokenizer'][:12]} (hashes)."]
    return "\n".join(lines)
