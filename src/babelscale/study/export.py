"""A finished run as a model that other programs load."""

import hashlib
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from babelscale.corpora.tokenizer import MODEL
from babelscale.errors import InputError, StudyError
from babelscale.model.shape import Shape
from babelscale.study.record import DAMAGED_HINT, RECORD
from babelscale.study.records import ExposurePart, RecordPart


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
    sizes: dict[str, Any] = record.identity.shape
    shape = Shape(**sizes)
    huggingface_config.check_exportable(shape)
    tokenizer = _tokenizer(run, record.run.tokenizer)
    languages = sorted(_shares(record))
    return huggingface.export(
        _parameters(run, shape, record.identity.steps),
        shape,
        folder,
        tokenizer=tokenizer,
        dtype=dtype,
        sequence_length=int(record.recipe["sequence_length"]),
        languages=languages,
        trained_on=_card_text(record),
    )


def _shares(record: RecordPart) -> dict[str, float]:
    """Shares by language: of the mixture, or of all that a two-stage run saw."""
    if record.identity.then is None:
        return record.identity.mixture
    return {code: row.tokens / record.run.tokens for code, row in _last_exposure(record).items()}


def _last_exposure(record: RecordPart) -> dict[str, ExposurePart]:
    return {row.language: row for row in record.exposure if row.step == record.identity.steps}


def _record(run: Path) -> RecordPart:
    path = run / RECORD
    try:
        return RecordPart.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint="name a run's folder under finished/ of a study") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole file"
        raise InputError(f"{path}: {field}: {first['msg']}", hint=DAMAGED_HINT) from None


def _tokenizer(run: Path, wanted: str) -> Path:
    """The tokenizer of the study, or a language's own, that a run was trained with."""
    study = run.absolute().parent.parent
    for path in (study / "tokenizer" / MODEL, *sorted(study.glob(f"own/*/tokenizer/{MODEL}"))):
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == wanted:
            return path
    raise StudyError(
        f"{study}: no tokenizer of hash {wanted[:12]}, with which the run was trained",
        hint="export the run from the folder of its study",
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


def _card_text(record: RecordPart) -> str:
    """What the model was trained on, in Markdown."""
    run, identity = record.run, record.identity
    seen, shares = _last_exposure(record), _shares(record)
    bits = {
        row.language: row.nats / math.log(2) / row.bytes
        for row in record.losses
        if row.step == identity.steps and row.split == "validation"
    }
    start = f"continued from {run.base}" if run.base else "from scratch"
    if identity.then is not None:
        start += f" in two stages ({run.mixture})"
    lines = [
        f"Run {run.run}: {run.tokens:,.0f} tokens in {identity.steps:,} steps, {start}, seed {run.seed}.",
        "",
        "| language | share | tokens | unique tokens | bits per byte, validation |",
        "|---|---|---|---|---|",
    ]
    for code in sorted({*seen, *(row.language for row in record.losses if row.step == identity.steps)}):
        row = seen.get(code)
        exposure = f"{row.tokens:,.0f} | {row.unique_tokens:,.0f}" if row else "0 | "
        loss = f"{bits[code]:.4f}" if code in bits else ""
        lines.append(f"| {code} | {shares.get(code, 0.0):.4g} | {exposure} | {loss} |")
    lines += ["", f"Corpus {run.corpus[:12]}, tokenizer {run.tokenizer[:12]} (hashes)."]
    return "\n".join(lines)
