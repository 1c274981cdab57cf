"""A plan as a training configuration: a design that the laboratory runs, with tokens and sampling rates by language.

The design trains one run, `planned`, at the plan's size and mixture. `[analysis.sampling]` repeats the plan for
samplers of other trainers (UniMax's and the like): by language its tokens, its rate (the share of a batch) and its
epochs.
"""

import json
import math
from pathlib import Path
from typing import Any

from babelscale import files, published
from babelscale.errors import InputError
from babelscale.planning.result import Plan

# 64,000 SentencePiece pieces and 512 reserved ones, as the study's sizes count (docs/conventions.md).
VOCABULARY = 64_512
_LEAST_SHARE = 1e-9


def shape_for(params: float, vocabulary: int = VOCABULARY) -> dict[str, int]:
    """A decoder of about N parameters: the nearest rung of the study's ladder, its widths scaled to N.

    N = vocabulary d + layers (4 d heads d_head + 3 d d_ff + d), the block of the study (tied embedding, no biases).

    Raises:
        InputError: a vocabulary below 1.
    """
    if vocabulary < 1:
        raise InputError(f"vocabulary is {vocabulary}", hint="rows of the embedding, such as 64512")
    rung = min(published.model_scales(), key=lambda scale: abs(math.log(scale.params / params)))

    def wide(d_model: int) -> dict[str, int]:
        heads = max(1, round(rung.heads * d_model / rung.d_model))
        d_ff = max(8, 8 * round(rung.d_ff * d_model / rung.d_model / 8))
        return {"layers": rung.layers, "heads": heads, "d_model": d_model, "d_ff": d_ff, "d_head": rung.d_head}

    most = max(64, 8 * rung.d_model)
    return min((wide(d) for d in range(8, most + 8, 8)), key=lambda s: abs(math.log(_count(s, vocabulary) / params)))


def _count(s: dict[str, int], vocabulary: int) -> int:
    d = s["d_model"]
    return vocabulary * d + s["layers"] * (4 * d * s["heads"] * s["d_head"] + 3 * d * s["d_ff"] + d)


def training_design(
    plan: Plan, *, name: str = "planned", vocabulary: int = VOCABULARY, source: str = "madlad-400", seeds: int = 1
) -> str:
    """The text of a design in TOML that `babelscale study run` takes.

    Args:
        vocabulary: rows of the tokenizer to train. source: of the text, as in a design's `[corpus]`.

    Raises:
        InputError: the plan trains on a language that no corpus has (`und`).
    """
    shares = {code: share for code, share in plan.shares.items() if share > _LEAST_SHARE}
    if any(code == "und" for code in shares):
        raise InputError("the plan has tokens of no named language", hint="plan from laws of named languages")
    shape = shape_for(plan.params, vocabulary)
    built = _count(shape, vocabulary)
    sizes = f"{built:,} of the plan's {plan.params:,.0f}"
    listed = ", ".join(f"{code} = {_number(share)}" for code, share in shares.items())
    sampling = "\n".join(
        f"[analysis.sampling.{code}]\ntokens = {_number(plan.tokens[code])}\nrate = {_number(share)}"
        + (f"\nepochs = {_number(plan.epochs[code])}" if math.isfinite(plan.unique_tokens[code]) else "")
        for code, share in shares.items()
    )
    return (
        f"# {_line(plan.source)}\n"
        f"# Parameters: {sizes}. FLOPs: {plan.compute:.4g}.\n"
        f'name = "{name}"\n'
        f'title = "A plan of {plan.compute:.3g} FLOPs for {len(shares)} languages"\n'
        f"languages = {json.dumps(sorted(shares))}\n\n"
        f"[corpus]\nsource = {json.dumps(source)}\n\n[tokenizer]\nvocabulary = {vocabulary}\n\n"
        f"[sizes]\nplanned = {{ {', '.join(f'{k} = {v}' for k, v in shape.items())} }}\n\n"
        f'[[groups]]\nname = "planned"\nwhy = "the plan"\nmixture = "shares"\nshares = [{{ {listed} }}]\n'
        f'sizes = ["planned"]\ntokens = [{_number(plan.total_tokens)}]\nseeds = {list(range(seeds))}\n\n'
        f"{sampling}\n"
    )


def write(plan: Plan, path: str | Path, **options: Any) -> Path:
    """Write `training_design`, atomically."""
    return files.write_text(path, training_design(plan, **options))


def _number(value: float) -> str:
    """A TOML float of ten digits."""
    text = f"{value:.10g}"
    return text if any(mark in text for mark in ".en") else f"{text}.0"


def _line(text: str) -> str:
    return " ".join(text.split())
