"""decide(): pretrain from scratch or continue a multilingual checkpoint.

From the study's published crossover: a model continued from the UniMax checkpoint starts ahead of one trained from
scratch on the language alone and is overtaken after C = 1,113,708 N^1.65 FLOPs of new compute (the ATLAS study, section
on pretraining or finetuning). From runs of one's own: `continuing`. From the law of a target and a named checkpoint:
both losses by the law, the checkpoint's tokens counted where it is continued.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from babelscale import languages as language_table
from babelscale import published
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.intervals import interval
from babelscale.planning.continuing import Checkpoint, Warm, warm
from babelscale.planning.wording import count, plain, save_json
from babelscale.runs import Runs

Answer = Literal["finetune", "pretrain", "either"]
Interval = tuple[float, float]
# Of the UniMax checkpoint, over 420 languages.
UNIMAX_TOKENS = 1e12


@dataclass(frozen=True)
class Decision:
    """Finetune (continue the checkpoint), pretrain (from scratch), or either, with the crossover behind it.

    `tokens` and `compute` are the new budget, `crossover_tokens` and `crossover_compute` (FLOPs of new training) where
    the two are equal, each with its interval; infinite where starting over never catches up. "either" says that the
    budget lies inside the interval. `losses` holds (loss, low, high) of "finetune", "pretrain" and "gain", the second
    less the first, where a law gives them. `charged` is the checkpoint's compute, where starting over may spend it too.
    """

    answer: Answer
    params: float
    tokens: float
    compute: float
    language: str | None
    crossover_tokens: float
    crossover_tokens_interval: Interval
    crossover_compute: float
    crossover_compute_interval: Interval
    extrapolation: str | None
    notes: tuple[str, ...]
    source: str
    losses: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    metric: str = ""
    charged: float = 0.0

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
        crossed = "never in sight" if math.isinf(self.crossover_tokens) else f"{count(self.crossover_tokens)} tokens"
        lines = [
            f"{words[self.answer]}",
            f"  model      {count(self.params)} parameters",
            f"  budget     {count(self.tokens)} tokens, {self.compute:.3g} FLOPs (6 N D)",
            f"  crossover  {crossed} (interval {count(low)} to {count(high)}), "
            f"{self.crossover_compute:.3g} FLOPs ({C_low:.3g} to {C_high:.3g})",
        ]
        names = {"finetune": "continued", "pretrain": "from scratch", "gain": "gain of continuing"}
        for name, (value, a, b) in self.losses.items():
            lines.append(f"  {names[name]:<19}{value:.4f}   90 % {a:.4f} to {b:.4f}")
        return "\n".join([*lines, *(f"  * {sentence}" for sentence in said), f"  source: {self.source}"])


def decide(
    params: float | None = None,
    *,
    tokens: float | None = None,
    compute: float | None = None,
    language: str | None = None,
    runs: Runs | None = None,
    fit: Fit | None = None,
    checkpoint: Checkpoint | None = None,
    charge: bool = False,
    mixture: Mapping[str, float] | None = None,
    unique_tokens: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Decision:
    """Pretrain or finetune one language with a model of `params` parameters and a budget of new training.

    Args:
        params: N; with a checkpoint that of the checkpoint, unless another size would start over.
        tokens, compute: the budget of new training, in tokens or in FLOPs (6 N D); one of the two.
        language: code; for the eight languages with a printed crossover at 2B theirs scales the law.
        runs: a table with runs from scratch and continued ones, from which both are fitted.
        fit: a fitted law of the language; goes with `checkpoint`.
        checkpoint: N and the tokens of each language it has seen.
        charge: let starting over spend the checkpoint's compute as well.
        mixture: shares of the new tokens when continuing (default: the language alone). Starting over is planned
            anew, with whatever helpers its law names.
        unique_tokens: U by language (default: those of the fitted runs).

    Raises:
        InputError: not exactly one budget, a number that is not positive, an unknown language, or a checkpoint without
            a law.
    """
    if (tokens is None) == (compute is None):
        raise InputError("the budget is given once", hint="give tokens or compute, one of the two")
    if params is None:
        if checkpoint is None:
            raise InputError("no params", hint="give the model's number of parameters, or a checkpoint")
        params = checkpoint.params
    for name, value in (("params", params), ("tokens", tokens), ("compute", compute)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}", hint="give a positive number")
    if language is not None:
        language_table.lookup(language)
    base = params if checkpoint is None else checkpoint.params
    D = float(tokens) if tokens is not None else float(compute or 0.0) / (6 * base)
    if fit is not None and checkpoint is None:
        raise InputError("a fit without a checkpoint", hint="name the checkpoint: its parameters and tokens")
    if charge and runs is not None and checkpoint is None:
        raise InputError("charge without a checkpoint", hint="name the checkpoint: its parameters and tokens")
    charged = (6 * params * UNIMAX_TOKENS if checkpoint is None else checkpoint.compute) if charge else 0.0
    if runs is not None:
        return _from_warm(warm(runs, language, seed=seed), params, D, charged)
    if fit is not None and checkpoint is not None:
        from babelscale.planning.continuing_law import by_law

        return by_law(fit, checkpoint, params, D, charged, mixture, unique_tokens, seed)
    if checkpoint is not None:
        raise InputError("a checkpoint, and neither runs nor a fit", hint="the printed law knows its own one only")
    return _from_published(params, D, language, charged)


def _from_published(params: float, D: float, language: str | None, charged: float) -> Decision:
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
    notes = [f"the interval covers {covers}; the study prints no other uncertainty"]
    if charged:
        # Starting over with D + D_c tokens is at least as good as with D*, and D* equals continuing at D* >= D.
        spare = charged / (6 * params)
        notes.append(
            f"the checkpoint's {charged:.3g} FLOPs are charged: starting over may train on {count(spare)} tokens more. "
            "The crossover of new training is then the printed one less these, at the latest (a longer run is never "
            "worse); that counts every further token as new text"
        )
    else:
        spare = 0.0
        notes.append("the checkpoint's own compute (1T tokens over 420 languages) is not charged")
    at, a, b = (max(x * center - spare, 0.0) for x in (ratio, low, high))
    answer: Answer = "finetune" if a > D and not charged else "pretrain" if b < D else "either"
    return Decision(
        answer=answer,
        params=float(params),
        tokens=D,
        compute=6 * params * D,
        language=language,
        crossover_tokens=at,
        crossover_tokens_interval=(a, b),
        crossover_compute=max(ratio * C - charged, 0.0),
        crossover_compute_interval=(max(low * C - charged, 0.0), max(high * C - charged, 0.0)),
        extrapolation=_extrapolation(params),
        notes=tuple(notes),
        source="printed crossover C = 1,113,708 N^1.65 of the ATLAS study (arXiv 2510.22037)",
        charged=charged,
    )


def _from_warm(law: Warm, params: float, D: float, charged: float) -> Decision:
    crossing = law.crossover(params, charged)
    continued, scratch = law.losses(params, D, charged)
    far = []
    for value, (low, high), unit in ((params, law.sizes, "parameters"), (D, law.tokens, "tokens")):
        if value > 1.05 * high:
            far.append(f"{value / high:.3g}x above the most {unit} of the continued runs ({high:.3g})")
        elif value < low / 1.05:
            far.append(f"{low / value:.3g}x below the fewest {unit} of the continued runs ({low:.3g})")
    kappa = law.head[0, 2]
    notes = [
        f"a continued model starts {count(float(np.exp(law._head(params)[0])))} tokens ahead, and a further token is "
        f"worth {kappa:.2f} of one from scratch",
        *law.notes,
        _charging(charged),
    ]
    return told(
        params,
        D,
        law.language,
        crossing,
        {"finetune": continued, "pretrain": scratch},
        charged,
        f"extrapolated: {', '.join(far)}" if far else None,
        notes,
        law.metric,
        f"{law.runs[1]} runs from scratch and {law.runs[0]} continued ones (Chinchilla's law with a head start)",
    )


def _charging(charged: float) -> str:
    if not charged:
        return "the checkpoint's own compute is not charged"
    return f"the checkpoint's {charged:.3g} FLOPs are charged: starting over may spend them too"


def told(
    params: float,
    D: float,
    language: str,
    crossing: np.ndarray,
    losses: Mapping[str, np.ndarray],
    charged: float,
    extrapolation: str | None,
    notes: Sequence[str],
    metric: str,
    source: str,
) -> Decision:
    """A decision from draws; the first row of each array is the fit itself."""
    low, high = _order(crossing)
    both = {**losses, "gain": losses["pretrain"] - losses["finetune"]}
    answer: Answer = "finetune" if low > D else "pretrain" if high < D else "either"
    return Decision(
        answer=answer,
        params=float(params),
        tokens=D,
        compute=6 * params * D,
        language=language,
        crossover_tokens=float(crossing[0]),
        crossover_tokens_interval=(low, high),
        crossover_compute=6 * params * float(crossing[0]),
        crossover_compute_interval=(6 * params * low, 6 * params * high),
        extrapolation=extrapolation,
        notes=tuple(notes),
        source=source,
        losses={name: (float(v[0]), *_order(v)) for name, v in both.items()},
        metric=metric,
        charged=charged,
    )


def _order(values: np.ndarray) -> Interval:
    """90 % of the draws by order statistics (infinite ones stay infinite); the fit itself always lies inside."""
    drawn = values[1:] if len(values) > 1 else values
    return interval(drawn, rule="outer", including=float(values[0]))


def _extrapolation(params: float) -> str | None:
    sizes = [scale.params for scale in published.model_scales()]
    if params > sizes[-1]:
        return f"extrapolated: {params / sizes[-1]:.3g}x above the study's most parameters ({sizes[-1]:.3g})"
    if params < sizes[0]:
        return f"extrapolated: {sizes[0] / params:.3g}x below the study's fewest parameters ({sizes[0]:.3g})"
    return None
