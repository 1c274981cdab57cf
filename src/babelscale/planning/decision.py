"""decide(): pretrain from scratch, or continue a multilingual checkpoint.

From the study's published crossover: a model continued from the UniMax checkpoint starts ahead of one trained from
scratch on the language alone, which overtakes it after C = 1,113,708 N^1.65 FLOPs of new compute (the ATLAS study,
section on pretraining or finetuning).

From the law of a target and a checkpoint of N parameters that has seen D_l tokens of each language and continues with
D'_l: its loss is L(N, D + D'), as if the checkpoint's tokens had just been trained on.

From your own runs that were continued. They show how a trained model adapts to new text, in two numbers beside the
law of the runs from scratch (after Hernandez et al. 2021, arXiv 2102.01293; D0 is their effective data transferred):

    L_continued(N, D') = E + A / N^alpha + B / (D0 + kappa D')^beta,   D0 = d0 (N / N_0)^g

D0 is the head start in tokens of the target, kappa what a further token is worth to a model that starts there. Starting
over has the loss L(N, D'), and overtakes at D' = D0 / (1 - kappa), if kappa < 1.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, ParamSpec, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from babelscale import fitting, published, tables
from babelscale import languages as language_table
from babelscale.allocation import Allocation
from babelscale.errors import DomainError, InputError
from babelscale.fitting import Fit
from babelscale.fitting.bootstrap import run_weights
from babelscale.formatting import count, fill_none, json_ready
from babelscale.intervals import Interval, interval
from babelscale.laws import Chinchilla
from babelscale.options import takes
from babelscale.planning.planner import plan
from babelscale.planning.published_laws import beyond, study_sizes
from babelscale.planning.request import CheckpointDecisionRequest, DecisionRequest
from babelscale.result import JsonResult
from babelscale.runs import Observations, Runs

Array = NDArray[np.float64]
Answer = Literal["finetune", "pretrain", "either"]
P = ParamSpec("P")
_FAR = 40.0  # a head start or a crossover beyond e^40 tokens counts as none
UNIMAX_TOKENS = 1e12  # of the UniMax checkpoint, over 420 languages
# New tokens at which losses by a law are compared: this many, up to so many times the budget.
_GRID, _SPAN = 60, 1e4


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

    @classmethod
    def of(cls, request: CheckpointDecisionRequest) -> "Checkpoint | None":
        """The checkpoint of a request, if it names one."""
        size, tokens = request.checkpoint_params, request.checkpoint_tokens
        if (size is None) != (tokens is None):
            raise InputError("checkpoint_params and checkpoint_tokens go together", hint="give both or neither")
        return None if size is None or tokens is None else cls(size, tokens)

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
        D = np.exp(np.minimum(self.log_head_start(params), _FAR)) + self.head[:, 2] * tokens
        over = tokens + charged / (6 * params)
        return floor + B * D**-beta, floor + B * over**-beta

    def crossover(self, params: float, charged: float = 0.0) -> Array:
        """Tokens of new training at which starting over is as good, shape (draws,); 0 where it is better from the
        first token on, infinite where it never is."""
        gap = np.exp(np.minimum(self.log_head_start(params), _FAR)) - charged / (6 * params)
        kappa = self.head[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = gap / (1 - kappa)
        return np.where(gap <= 0, np.where(kappa <= 1, 0.0, np.abs(found)), np.where(kappa < 1, found, np.inf))

    def log_head_start(self, params: float) -> Array:
        """log D0 of a model of this size, shape (draws,)."""
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
    notes = [] if several else [f"every continued run has {size:.3g} parameters, so other sizes are not covered"]
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


@dataclass(frozen=True, repr=False)
class Decision(JsonResult):
    """Finetune (continue the checkpoint), pretrain (from scratch), or either, with the crossover behind it.

    `tokens` and `compute` are the new budget. `crossover_tokens` and `crossover_compute` (FLOPs of new training) are
    where both are equally good, each with its interval; they are infinite where starting over never catches up.
    "either" means that the budget is inside the interval. `losses` holds (loss, low, high) of "finetune", "pretrain"
    and "gain", the second less the first, where a law predicts them. `charged` is the checkpoint's compute, where
    starting over may spend it too.
    """

    indent: ClassVar[int | None] = 1

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

    @property
    def headline(self) -> str:
        return {
            "finetune": "continue the multilingual checkpoint",
            "pretrain": "pretrain from scratch",
            "either": "either one: the budget is inside the interval of the crossover",
        }[self.answer]

    def to_dict(self) -> dict[str, Any]:
        return json_ready({"kind": "decision", **asdict(self)})

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        crossovers = {name: fill_none(value, math.inf) for name, value in data.items() if name.startswith("crossover_")}
        losses = {
            name: fill_none(values, math.nan if name == "gain" else math.inf) for name, values in data["losses"].items()
        }
        return {**data, **crossovers, "losses": losses}

    def to_frame(self) -> pl.DataFrame:
        """One row for each quantity with its interval: the crossover in tokens and FLOPs, and the losses."""
        rows = [
            ("crossover, tokens", self.crossover_tokens, *self.crossover_tokens_interval),
            ("crossover, FLOPs", self.crossover_compute, *self.crossover_compute_interval),
            *((_NAMES[name], *values) for name, values in self.losses.items()),
        ]
        schema = {"quantity": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def summary(self) -> str:
        low, high = self.crossover_tokens_interval
        C_low, C_high = self.crossover_compute_interval
        crossed = "no crossover" if math.isinf(self.crossover_tokens) else f"{count(self.crossover_tokens)} tokens"
        lines = [
            self.headline,
            f"  model      {count(self.params)} parameters",
            f"  budget     {count(self.tokens)} tokens, {self.compute:.3g} FLOPs (6 N D)",
            f"  crossover  {crossed} (interval {count(low)} to {count(high)}), "
            f"{self.crossover_compute:.3g} FLOPs ({C_low:.3g} to {C_high:.3g})",
        ]
        for name, (value, a, b) in self.losses.items():
            lines.append(f"  {_NAMES[name]:<19}{value:.4f}   90 % {a:.4f} to {b:.4f}")
        notes = ([self.extrapolation] if self.extrapolation else []) + list(self.notes)
        return "\n".join([*lines, *(f"  * {note}" for note in notes), f"  source: {self.source}"])


_NAMES = {"finetune": "continued", "pretrain": "from scratch", "gain": "gain of continuing"}


class _Decides(Protocol[P]):
    """The type of `decide`: sources, and the options of its request."""

    def __call__(
        self,
        params: float | None = None,
        runs: Runs | None = None,
        fit: Fit | None = None,
        checkpoint: Checkpoint | None = None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Decision: ...


def _takes_sources(model: Callable[P, Any]) -> Callable[[Callable[..., Decision]], _Decides[P]]:
    return takes(model)  # pyright: ignore[reportReturnType]  # `takes` keeps parameters that stand before the request


@_takes_sources(DecisionRequest)
def decide(
    params: float | None, runs: Runs | None, fit: Fit | None, checkpoint: Checkpoint | None, request: DecisionRequest
) -> Decision:
    """Pretrain or finetune a model for one language, on a budget of new training.

    Args:
        params: parameters of the model (default: those of the checkpoint); with a checkpoint, of the model that would
            start over.
        runs: a table with runs from scratch and continued runs, from which both losses are fitted.
        fit: a fitted law of the language; goes with `checkpoint`. Starting over is then planned with the helpers of
            the law.
        checkpoint: its parameters, and the tokens of each language that it has seen.
        OPTIONS

    Raises:
        InputError: not exactly one budget, a number that is not positive, an unknown language, or a checkpoint without
            a law.
    """
    return solve_decision(request, runs, fit, checkpoint)


def solve_decision(
    request: DecisionRequest, runs: Runs | None = None, fit: Fit | None = None, checkpoint: Checkpoint | None = None
) -> Decision:
    """The decision of a request; its arguments and errors are those of `decide`."""
    if isinstance(request, CheckpointDecisionRequest):
        checkpoint = checkpoint or Checkpoint.of(request)
    if (request.tokens is None) == (request.compute is None):
        raise InputError("the budget is given twice, or not at all", hint="give either tokens or compute")
    params = request.params or (checkpoint.params if checkpoint else None)
    if params is None:
        raise InputError("no params", hint="give the model's number of parameters, or a checkpoint")
    if request.language is not None:
        language_table.lookup(request.language)
    if checkpoint is None and (fit is not None or (request.charge and runs is not None)):
        what = "charge" if fit is None else "a fit"
        raise InputError(f"{what} without a checkpoint", hint="name the checkpoint: its parameters and tokens")
    D = request.tokens or (request.compute or 0.0) / (6 * (checkpoint.params if checkpoint else params))
    spent = checkpoint.compute if checkpoint else 6 * params * UNIMAX_TOKENS
    charged = spent if request.charge else 0.0
    if runs is not None:
        return _from_head_start(fit_head_start(runs, request.language, seed=request.seed), params, D, charged)
    if fit is not None and checkpoint is not None:
        return decide_from_checkpoint_law(fit, checkpoint, params, D, charged, request)
    if checkpoint is not None:
        raise InputError("a checkpoint needs runs or a fit", hint="the published law covers its own one only")
    return _from_published(params, D, request.language, charged)


def _from_published(params: float, D: float, language: str | None, charged: float) -> Decision:
    law = published.crossover()
    rounding = params**law.exponent_rounding
    ratio, low, high = 1.0, law.spread[0], law.spread[1]
    covers = f"the spread of the {len(law.tokens_at_2b)} published languages at 2B and the exponent's rounding"
    if language is not None and language in law.tokens_at_2b:
        ratio = low = high = law.ratio(language)
        covers = f"the rounding of the published exponent; {language} scaled by its own crossover at 2B"
    notes = [f"the interval covers {covers}; the study publishes no other uncertainty"]
    # Starting over with D + D_c tokens is at least as good as with D*, and D* equals continuing at D* >= D.
    spare = charged / (6 * params)
    if charged:
        notes.append(
            f"the checkpoint's {charged:.3g} FLOPs are charged: starting over may train on {count(spare)} tokens more. "
            "The crossover of new training is then at most the published one less these tokens (a longer run is never "
            "worse); this counts every further token as new text"
        )
    else:
        notes.append("the checkpoint's own compute (1T tokens over 420 languages) is not charged")
    ratios = ratio, low / rounding, high * rounding
    at, a, b = (max(x * law.tokens(params) - spare, 0.0) for x in ratios)
    C, C_low, C_high = (max(x * law.compute(params) - charged, 0.0) for x in ratios)
    return Decision(
        answer="finetune" if a > D and not charged else "pretrain" if b < D else "either",
        params=float(params),
        tokens=D,
        compute=6 * params * D,
        language=language,
        crossover_tokens=at,
        crossover_tokens_interval=(a, b),
        crossover_compute=C,
        crossover_compute_interval=(C_low, C_high),
        extrapolation=beyond((params, *study_sizes(), "the study's {} parameters")),
        notes=tuple(notes),
        source="published crossover C = 1,113,708 N^1.65 of the ATLAS study (arXiv 2510.22037)",
        charged=charged,
    )


def _from_head_start(law: HeadStartFit, params: float, D: float, charged: float) -> Decision:
    sizes = (params, *law.sizes, "the {} parameters of the continued runs")
    tokens = (D, *law.tokens, "the {} tokens of the continued runs")
    head_start = float(np.exp(law.log_head_start(params)[0]))
    return _decision_over_draws(
        law.crossover(params, charged),
        *law.losses(params, D, charged),
        params=params,
        tokens=D,
        language=law.language,
        charged=charged,
        extrapolation=beyond(sizes, tokens, tolerance=1.05),
        notes=(
            f"a continued model starts {count(head_start)} tokens ahead, and a further token is worth "
            f"{law.head[0, 2]:.2f} of one from scratch",
            *law.notes,
            _charge_note(charged),
        ),
        metric=law.metric,
        source=f"{law.runs[1]} runs from scratch and {law.runs[0]} continued ones (Chinchilla's law with a head start)",
    )


def _charge_note(charged: float) -> str:
    if not charged:
        return "the checkpoint's own compute is not charged"
    return f"the checkpoint's {charged:.3g} FLOPs are charged; training from scratch may spend them too"


def _decision_over_draws(
    crossover: Array, continued: Array, scratch: Array, *, params: float, tokens: float, **more: Any
) -> Decision:
    """The decision from draws of the crossover (tokens) and of both losses, shape (draws,), the fit itself first."""
    (at, low, high), C = _with_interval(crossover), 6 * params
    losses = {"finetune": continued, "pretrain": scratch, "gain": scratch - continued}
    return Decision(
        answer="finetune" if low > tokens else "pretrain" if high < tokens else "either",
        params=float(params),
        tokens=tokens,
        compute=C * tokens,
        crossover_tokens=at,
        crossover_tokens_interval=(low, high),
        crossover_compute=C * at,
        crossover_compute_interval=(C * low, C * high),
        losses={name: _with_interval(values) for name, values in losses.items()},
        **more,
    )


def _with_interval(values: Array) -> tuple[float, float, float]:
    """The fit's own value, and 90 % of the draws by order statistics, widened to hold it."""
    own = float(values[0])
    return own, *interval(values[1:] if len(values) > 1 else values, rule="outer", including=own)


def decide_from_checkpoint_law(
    fit: Fit, checkpoint: Checkpoint, params: float, D: float, charged: float, request: DecisionRequest
) -> Decision:
    """Continue the checkpoint on `D` tokens, or start over with as much compute and the best mixture for it.

    The crossover is sought along the new compute, from a hundredth of the checkpoint's tokens to `_SPAN` times the
    budget, with the mixture that is planned at the budget.

    Raises:
        InputError: the fit has no target, or the mixture names no tokens.
    """
    target = fit.target or fit.law.target
    if target is None:
        raise InputError("the fit has no target language", hint="fit the law of the target language")
    shares = dict(request.mixture or {target: 1.0})
    total = math.fsum(shares.values())
    if not (total > 0 and all(share >= 0 for share in shares.values())):
        raise InputError(f"mixture {shares}", hint="give shares by language, 0 or more")
    unique = {**fit.unique_tokens, **(request.unique_tokens or {})}
    over = plan(
        fit,
        compute=6 * checkpoint.params * D + charged,
        params=params,
        unique_tokens={code: U for code, U in unique.items() if code in {target, *fit.law.languages}},
        draws=0,
        baselines=False,
        seed=request.seed,
    )

    def allocation(params: float, tokens: Mapping[str, Any]) -> Allocation:
        return Allocation(params, tokens, {code: unique[code] for code in tokens if code in unique})

    def continued(tokens: Any) -> Allocation:
        seen = {code: checkpoint.tokens.get(code, 0.0) for code in [*checkpoint.tokens, *shares]}
        return allocation(
            checkpoint.params, {code: D + shares.get(code, 0.0) / total * tokens for code, D in seen.items()}
        )

    def losses(tokens: Array) -> tuple[Array, Array]:
        """Continued and started over, shape (draws + 1, n), at n amounts of new tokens of the checkpoint's size."""
        D_over = (6 * checkpoint.params * tokens + charged) / (6 * params)
        fresh = allocation(params, {code: share * D_over for code, share in over.shares.items()})
        return _losses(fit, continued(tokens)), _losses(fit, fresh)

    at, scratch = (values[:, 0] for values in losses(np.array([D])))
    if not math.isfinite(at[0]):
        raise DomainError("the law has no loss for the continued checkpoint", hint="its helpers interfere too much")
    first = max(1e-2 * math.fsum(checkpoint.tokens.values()), 1.0)
    grid = np.geomspace(min(first, D / 10), _SPAN * D, _GRID)
    mixed = ", ".join(f"{code} {100 * share:.3g} %" for code, share in over.shares.items() if share > 0)
    return _decision_over_draws(
        _crossing(grid, *losses(grid)),
        at,
        scratch,
        params=checkpoint.params,
        tokens=D,
        language=target,
        charged=charged,
        extrapolation=fit.extrapolation(continued(D)),
        notes=(
            "the law counts the tokens of the checkpoint as if the model had just been trained on them. It leaves out "
            "how a trained model adapts to new text; only continued runs can measure that",
            f"training from scratch uses {mixed}",
            _charge_note(charged),
        ),
        metric=fit.metric,
        source=f"the fitted {fit.law.name} law of {target} and a checkpoint of {checkpoint.params:.3g} parameters",
    )


def _losses(fit: Fit, allocation: Allocation) -> Array:
    """Loss of the fit and of its draws, (draws + 1, n); infinite outside the domain."""
    names = fit.law.parameter_names
    rows = np.vstack([[fit.parameters[name] for name in names], fit.draws])
    values = fit.law.evaluate({name: rows[:, i, None] for i, name in enumerate(names)}, allocation)
    return np.where(np.isfinite(values), values, np.inf)


def _crossing(grid: Array, continued: Array, scratch: Array) -> Array:
    """Where starting over first becomes as good and stays so to the grid's end, by row; 0 and infinity at its ends."""
    found = np.empty(len(continued))
    for row, ahead in enumerate(scratch > continued):
        if ahead[-1] or not ahead.any():
            found[row] = np.inf if ahead[-1] else 0.0
            continue
        i = int(np.flatnonzero(ahead)[-1])
        a, b = scratch[row, i : i + 2] - continued[row, i : i + 2]
        part = a / (a - b) if np.isfinite([a, b]).all() else 0.5
        found[row] = grid[i] ** (1 - part) * grid[i + 1] ** part
    return found
