"""decide(): pretrain from scratch or continue a multilingual checkpoint, by the study's published crossover.

A model continued from the UniMax checkpoint starts ahead of one trained from scratch on the language alone and is
overtaken after C = 1,113,708 N^1.65 FLOPs of new compute (the ATLAS study, section on pretraining or finetuning).
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from babelscale import languages as language_table
from babelscale import published
from babelscale.errors import InputError
from babelscale.planning.wording import count, plain, save_json

Answer = Literal["finetune", "pretrain", "either"]


@dataclass(frozen=True)
class Decision:
    """Finetune (continue the checkpoint), pretrain (from scratch), or either, with the crossover behind it.

    `tokens` and `compute` are the budget, `crossover_tokens` and `crossover_compute` (FLOPs) where the two are equal,
    each with its interval. "either" says that the budget lies inside the interval.
    """

    answer: Answer
    params: float
    tokens: float
    compute: float
    language: str | None
    crossover_tokens: float
    crossover_tokens_interval: tuple[float, float]
    crossover_compute: float
    crossover_compute_interval: tuple[float, float]
    extrapolation: str | None
    notes: tuple[str, ...]
    source: str

    def to_dict(self) -> dict[str, Any]:
        return plain({"kind": "decision", **asdict(self)})

    def save(self, path: str | Path) -> Path:
        return save_json(path, self.to_dict())

    def __str__(self) -> str:
        words = {
            "finetune": "continue the multilingual checkpoint",
            "pretrain": "pretrain from scratch",
            "either": "either: the budget lies inside the crossover's interval",
        }
        low, high = self.crossover_tokens_interval
        C_low, C_high = self.crossover_compute_interval
        said = ([self.extrapolation] if self.extrapolation else []) + list(self.notes)
        lines = [
            f"{words[self.answer]}",
            f"  model      {count(self.params)} parameters",
            f"  budget     {count(self.tokens)} tokens, {self.compute:.3g} FLOPs (6 N D)",
            f"  crossover  {count(self.crossover_tokens)} tokens (interval {count(low)} to {count(high)}), "
            f"{self.crossover_compute:.3g} FLOPs ({C_low:.3g} to {C_high:.3g})",
        ]
        return "\n".join([*lines, *(f"  * {sentence}" for sentence in said), f"  source: {self.source}"])


def decide(
    params: float, *, tokens: float | None = None, compute: float | None = None, language: str | None = None
) -> Decision:
    """Pretrain or finetune one language with a model of `params` parameters and a budget of new training.

    Args:
        tokens, compute: the budget, in tokens or in FLOPs (6 N D); one of the two.
        language: code; for the eight languages with a printed crossover at 2B theirs scales the law.

    Raises:
        InputError: not exactly one budget, a number that is not positive, or an unknown language.
    """
    if (tokens is None) == (compute is None):
        raise InputError("the budget is given once", hint="give tokens or compute, one of the two")
    for name, value in (("params", params), ("tokens", tokens), ("compute", compute)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}", hint="give a positive number")
    if language is not None:
        language_table.lookup(language)
    D = float(tokens) if tokens is not None else float(compute or 0.0) / (6 * params)
    law = published.crossover()
    rounding = params**law.exponent_rounding
    if language is not None and language in law.tokens_at_2b:
        ratio = law.ratio(language)
        low, high = ratio / rounding, ratio * rounding
        covers = f"the rounding of the printed exponent; {language} scaled by its own crossover at 2B"
    else:
        ratio = 1.0
        low, high = law.spread[0] / rounding, law.spread[1] * rounding
        covers = f"the spread of the {len(law.tokens_at_2b)} printed languages at 2B and the exponent's rounding"
    center, C = law.tokens(params), law.compute(params)
    answer: Answer = "finetune" if low * center > D else "pretrain" if high * center < D else "either"
    return Decision(
        answer=answer,
        params=float(params),
        tokens=D,
        compute=6 * params * D,
        language=language,
        crossover_tokens=ratio * center,
        crossover_tokens_interval=(low * center, high * center),
        crossover_compute=ratio * C,
        crossover_compute_interval=(low * C, high * C),
        extrapolation=_extrapolation(params),
        notes=(
            f"the interval covers {covers}; the study prints no other uncertainty",
            "the checkpoint's own compute (1T tokens over 420 languages) is not charged",
        ),
        source="printed crossover C = 1,113,708 N^1.65 of the ATLAS study (arXiv 2510.22037)",
    )


def _extrapolation(params: float) -> str | None:
    sizes = [scale.params for scale in published.model_scales()]
    if params > sizes[-1]:
        return f"extrapolated: {params / sizes[-1]:.3g}x above the study's most parameters ({sizes[-1]:.3g})"
    if params < sizes[0]:
        return f"extrapolated: {sizes[0] / params:.3g}x below the study's fewest parameters ({sizes[0]:.3g})"
    return None
