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
from numpy.typing import NDArray

from babelscale import files, fitting, published, tables
from babelscale import languages as language_table
from babelscale.allocation import Allocation
from babelscale.errors import DomainError, InputError
from babelscale.fitting import Fit
from babelscale.fitting.bootstrap import run_weights
from babelscale.formatting import count, json_ready
from babelscale.intervals import interval
from babelscale.laws import Chinchilla
from babelscale.planning.planner import plan
from babelscale.runs import Observations, Runs

Array = NDArray[np.float64]
_FAR = 40.0  # a head start or a crossing beyond e^40 tokens is none


@dataclass(frozen=True)
class Checkpoint:
    """A model to go on from: N, and the tokens of each language that it has seen."""

    params: float
    tokens: Mapping[str, float]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.params) and self.params > 0):
            raise InputError(f"checkpoint: params is {self.params}", hint="give its number of parameters")
        for code, D in self.tokens.items():
            if not (math.isfinite(D) and D >= 0):
                raise InputError(f"checkpoint: tokens of {code!r} is {D}", hint="give a number, 0 or more")
        if not any(D > 0 for D in self.tokens.values()):
            raise InputError("checkpoint: it has seen no tokens", hint="give its tokens by language")

    @property
    def compute(self) -> float:
        """6 N D_tot, FLOPs."""
        return 6 * self.params * math.fsum(self.tokens.values())


@dataclass(frozen=True)
class HeadStartFit:
    """The law of continued runs and of runs from scratch, with draws.

    `scratch` columns are E, A, B, alpha, beta; `head` columns are log d0, g and kappa; shapes (draws, 5) and (draws,
    3), the first row the fit itself. `size` is N_0, the geometric mean of the continued runs' sizes.
    """

    language: str
    metric: str
    scratch: Array
    head: Array
    size: float
    sizes: tuple[float, float]
    tokens: tuple[float, float]
    runs: tuple[int, int]
    notes: tuple[str, ...]

    def losses(self, params: float, tokens: float, charged: float = 0.0) -> tuple[Array, Array]:
        """Continued and from scratch, at `tokens` of new training, shape (draws,); starting over has `charged` FLOPs
        more."""
        E, A, B, alpha, beta = self.scratch.T
        floor = E + A * params**-alpha
        D = np.exp(np.minimum(self._head(params), _FAR)) + self.head[:, 2] * tokens
        over = tokens + charged / (6 * params)
        return floor + B * D**-beta, floor + B * over**-beta

    def crossover(self, params: float, charged: float = 0.0) -> Array:
        """Tokens of new training at which starting over is as good, shape (draws,); 0 where it is better from the
        first token on, infinite where it never is."""
        gap = np.exp(np.minimum(self._head(params), _FAR)) - charged / (6 * params)
        kappa = self.head[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = gap / (1 - kappa)
        return np.where(gap <= 0, np.where(kappa <= 1, 0.0, np.abs(found)), np.where(kappa < 1, found, np.inf))

    def _head(self, params: float) -> Array:
        return self.head[:, 0] + self.head[:, 1] * math.log(params / self.size)


def fit_head_start(runs: Runs, language: str | None, *, resamples: int = 200, seed: int = 0) -> HeadStartFit:
    """Fit both laws to runs from scratch and runs continued from a checkpoint, trained on the language alone.

    Raises:
        InputError: no run was continued on the language, or too few to tell a head start from a slope.
    """
    from scipy.optimize import least_squares

    target = runs.target(language)
    seen = _continued(runs, target)
    N = np.asarray(seen.allocation.params)
    D, loss = np.asarray(seen.allocation.D(target)), np.asarray(seen.loss)
    keep = (D > 0) & (0.999 * seen.allocation.total_tokens <= D)
    if keep.sum() < 3 or len(np.unique(D[keep])) < 2:
        raise InputError(
            f"{int(keep.sum())} losses of runs continued on {target!r} alone, at {len(np.unique(D[keep]))} lengths",
            hint="train three or more, of two lengths or more",
        )
    fit = fitting.fit(Chinchilla(target, tied=True), runs, resamples=resamples, seed=seed)
    N, D, loss, names = N[keep], D[keep], loss[keep], np.asarray(seen.run)[keep]
    size, several = float(np.exp(np.log(N).mean())), len(np.unique(N)) > 1
    scratch = [fit.parameters[name] for name in fit.law.parameter_names]
    order = [fit.law.parameter_names.index(name) for name in ("E", "A", "B", "alpha", "beta")]
    every = np.array([scratch, *fit.draws])[:, order]
    # Whole runs weighed anew for every draw, as in the fits; other runs than those of the scratch law, so another seed.
    weights = run_weights(names.astype(np.str_), len(every), seed + 1, 3 if several else 2)
    weights[0] = 1.0
    heads = []
    start = np.array([math.log(np.median(D)), 0.0, 0.8])
    for row, (E, A, B, alpha, beta) in enumerate(every):
        root = np.sqrt(weights[row])

        def residual(x: Array, E=E, A=A, B=B, alpha=alpha, beta=beta, root=root) -> Array:
            g = x[1] if several else 0.0
            effective = np.exp(x[0] + g * np.log(N / size)) + x[2] * D
            return root * (np.log(E + A * N**-alpha + B * effective**-beta) - np.log(loss))

        solved = least_squares(
            residual, start, bounds=([0, -3, 1e-3], [_FAR, 3, 5.0]), x_scale=[1, 0.3, 0.3], loss="huber", f_scale=1e-3
        )
        heads.append([solved.x[0], solved.x[1] if several else 0.0, solved.x[2]])
        start = np.array(heads[0])
    notes = [] if several else [f"every continued run has {size:.3g} parameters: other sizes are not told"]
    return HeadStartFit(
        target,
        seen.metric,
        every,
        np.array(heads),
        size,
        (float(N.min()), float(N.max())),
        (float(D.min()), float(D.max())),
        (len(np.unique(names)), len(set(runs.observations(target).run))),
        tuple(notes),
    )


def _continued(runs: Runs, target: str) -> Observations:
    fresh = (tables.SCRATCH, tables.TWO_STAGE)
    starts = [name for name in runs.table["start"].drop_nulls().unique().sort() if name not in fresh]
    if not starts:
        raise InputError("no run was continued from a checkpoint", hint='their `start` is "checkpoint"')
    return runs.observations(target, start=starts)


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
        return json_ready({"kind": "decision", **asdict(self)})

    def save(self, path: str | Path) -> Path:
        return files.write_json(path, self.to_dict())

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
        return _from_head_start(fit_head_start(runs, language, seed=seed), params, D, charged)
    if fit is not None and checkpoint is not None:
        return decide_from_checkpoint_law(fit, checkpoint, params, D, charged, mixture, unique_tokens, seed)
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


def _from_head_start(law: HeadStartFit, params: float, D: float, charged: float) -> Decision:
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
    return _decision(
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


def _decision(
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


_GRID = 60
_SPAN = 1e4


def decide_from_checkpoint_law(
    fit: Fit,
    checkpoint: Checkpoint,
    params: float,
    D: float,
    charged: float,
    mixture: Mapping[str, float] | None,
    unique_tokens: Mapping[str, float] | None,
    seed: int,
) -> Decision:
    """Continue the checkpoint on `D` tokens, or start over with as much compute and the best mixture for it.

    The crossover is sought along the new compute, from a hundredth of the checkpoint's tokens to `_SPAN` times the
    budget, with the mixture that is planned at the budget.

    Raises:
        InputError: the fit has no target, or the mixture names no tokens.
    """
    target = fit.target or fit.law.target
    if target is None:
        raise InputError("the fit is of no one language", hint="fit the law of the target language")
    shares = dict(mixture or {target: 1.0})
    total = math.fsum(shares.values())
    if not (total > 0 and all(share >= 0 for share in shares.values())):
        raise InputError(f"mixture {shares}", hint="give shares by language, 0 or more")
    shares = {code: share / total for code, share in shares.items()}
    unique = {**fit.unique_tokens, **(unique_tokens or {})}
    new = 6 * checkpoint.params * D + charged
    given = {code: U for code, U in unique.items() if code in {target, *fit.law.languages}}
    over = plan(fit, compute=new, params=params, unique_tokens=given, draws=0, baselines=False, seed=seed)
    start = over.shares

    def losses(tokens: Array) -> tuple[Array, Array]:
        """Continued and started over, shape (draws + 1, n), at n amounts of new tokens of the checkpoint's size."""
        codes = {*checkpoint.tokens, *shares}
        sums = {c: checkpoint.tokens.get(c, 0.0) + shares.get(c, 0.0) * tokens for c in codes}
        continued = Allocation(checkpoint.params, sums, {c: unique[c] for c in codes if c in unique})
        D_over = (6 * checkpoint.params * tokens + charged) / (6 * params)
        fresh = Allocation(
            params, {c: s * D_over for c, s in start.items()}, {c: unique[c] for c in start if c in unique}
        )
        return _every(fit, continued), _every(fit, fresh)

    at, scratch = (values[:, 0] for values in losses(np.array([D])))
    if not math.isfinite(at[0]):
        raise DomainError("the law has no loss for the continued checkpoint", hint="its helpers take away too much")
    first = max(1e-2 * math.fsum(checkpoint.tokens.values()), 1.0)
    grid = np.geomspace(min(first, D / 10), _SPAN * D, _GRID)
    crossing = _crossing(grid, *losses(grid))
    reach = fit.extrapolation(
        Allocation(
            checkpoint.params,
            {c: checkpoint.tokens.get(c, 0.0) + shares.get(c, 0.0) * D for c in {*checkpoint.tokens, *shares}},
        )
    )
    notes = [
        "by the law the checkpoint's tokens count as if they had just been trained on: how a trained model takes to "
        "new text is not in it (runs that were continued would tell)",
        f"starting over trains on {', '.join(f'{c} {100 * s:.3g} %' for c, s in start.items() if s > 0)}",
        f"the checkpoint's {charged:.3g} FLOPs are charged: starting over may spend them too"
        if charged
        else "the checkpoint's own compute is not charged",
    ]
    return _decision(
        checkpoint.params,
        D,
        target,
        crossing,
        {"finetune": at, "pretrain": scratch},
        charged,
        reach,
        notes,
        fit.metric,
        f"the fitted {fit.law.name} law of {target} and a checkpoint of {checkpoint.params:.3g} parameters",
    )


def _every(fit: Fit, allocation: Allocation) -> Array:
    """Loss of the fit and of its draws, (draws + 1, n); infinite outside the domain."""
    names = fit.law.parameter_names
    rows = np.vstack([[fit.parameters[name] for name in names], fit.draws])
    columns = {name: rows[:, i, None] for i, name in enumerate(names)}
    values = fit.law.evaluate(columns, allocation)
    return np.where(np.isfinite(values), values, np.inf)


def _crossing(grid: Array, continued: Array, scratch: Array) -> Array:
    """Where starting over first becomes as good and stays so to the grid's end, by row; 0 and infinity at its ends."""
    ahead = scratch > continued
    found = np.empty(len(ahead))
    for row, left in enumerate(ahead):
        if left[-1]:
            found[row] = np.inf
        elif not left.any():
            found[row] = 0.0
        else:
            i = int(np.flatnonzero(left)[-1])
            a, b = (float(scratch[row, k] - continued[row, k]) for k in (i, i + 1))
            part = a / (a - b) if math.isfinite(a) and math.isfinite(b) else 0.5
            found[row] = float(np.exp(np.log(grid[i]) + part * (np.log(grid[i + 1]) - np.log(grid[i]))))
    return found
