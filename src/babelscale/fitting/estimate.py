"""fit: the parameters of a law from runs, with intervals and notes on what the runs do not identify."""

import functools
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from babelscale import laws
from babelscale.errors import InputError
from babelscale.fitting import bootstrap, identifiability, newton, starts
from babelscale.fitting.bootstrap import Progress
from babelscale.fitting.newton import JointProblem
from babelscale.fitting.objective import Array, FitProblem
from babelscale.fitting.result import Fit, ranges, unique_tokens
from babelscale.intervals import interval
from babelscale.laws import ScalingLaw
from babelscale.runs import Metric, Observations, Runs
from babelscale.tables import LRState

Objective = Literal["huber", "lad", "squares"]
_AGREE = 1e-8  # relative difference of objectives that still counts as the same optimum
# A loss is suspect if its residual is this many robust standard deviations and this much of the loss. Nothing is known
# of losses after many repetitions, so that a law which misses them says nothing of them.
_FAR_SD, _FAR_SHARE, _KNOWN_EPOCHS = 8.0, 0.2, 16.0
_MOST_SUSPECT, _NAMED = 0.1, 5  # share of the losses; where more are far off, the law is wrong and not the runs


@dataclass(frozen=True)
class FitSettings:
    """How to fit.

    Huber's `delta` on log loss (infinite: least squares), bootstrap resamples, seed, fixed parameters, the effort of
    the search, the objective, and a start in place of the grid.
    """

    delta: float = 1e-3
    resamples: int = 200
    seed: int = 0
    fixed: Mapping[str, float] | None = None
    progress: Progress | None = None
    effort: newton.Effort = newton.EXACT
    objective: Objective = "huber"
    start: Mapping[str, float] | None = None

    @property
    def threshold(self) -> float:
        """Huber's delta as the search takes it: 0 is least absolute deviation, infinity least squares."""
        return {"huber": self.delta, "lad": 0.0, "squares": math.inf}[self.objective]

    @property
    def stated(self) -> dict[str, Any]:
        """Objective and delta as a fit's provenance names them."""
        squares = self.objective == "squares" or self.threshold == math.inf
        name = "squares" if squares else self.objective
        return {"objective": name, "delta": self.delta if name == "huber" else None}


def fit(
    law: ScalingLaw,
    runs: Runs,
    *,
    metric: Metric | None = None,
    objective: Objective = "huber",
    delta: float = 1e-3,
    resamples: int = 200,
    seed: int = 0,
    fixed: Mapping[str, float] | None = None,
    start: Mapping[str, float] | None = None,
    lr_state: LRState = "decayed",
    progress: Progress | None = None,
) -> Fit:
    """Fit a law to the losses of its target language.

    Minimises a sum over the residuals r = log L - log y, from several starts, and refits `resamples` times with random
    weights of whole runs (`seed`) for 90 % intervals. Parameters that the runs cannot identify are fixed at a stated
    value.

    Args:
        metric: unit of the loss; bits per byte where the runs have it, otherwise nats per token.
        objective: "huber", r^2/2 up to `delta` and delta (|r| - delta/2) beyond; "lad", least absolute deviation
            |r|, solved exactly; "squares", r^2/2.
        delta: Huber's threshold on log loss; `math.inf` is least squares.
        fixed: parameters to hold, by name, natural units.
        start: search from this point only (a value for each free parameter of the law, or for its shape parameters
            only), to reach a local optimum; a note says so, and whether the full search finds a lower one.
        lr_state: which checkpoints to fit; losses under a stable and a decayed learning rate do not compare.
        progress: called with (label, done, total) while resampling.

    Raises:
        InputError: fewer losses than parameters, one size only, losses that are not positive, an unknown name.
    """
    if not isinstance(law, ScalingLaw):
        raise InputError(
            f"{law!r} is not a law of losses that can be fitted",
            hint=f"use bs.laws.by_name(name, target, runs) with one of {', '.join(laws.LAWS)}",
        )
    observations = runs.observations(law.target, metric=metric, lr_state=lr_state, start=law.starts)
    settings = FitSettings(delta, resamples, seed, fixed, progress, objective=objective, start=start)
    return fit_observations(law, observations, settings, origin(runs, observations, lr_state))


def origin(runs: Runs, observations: Observations, lr_state: LRState) -> dict[str, Any]:
    """Provenance of a fit: hash of the runs, learning-rate state, and the tokenizer if all runs share a known one."""
    used = runs.table.filter(pl.col("run").is_in(sorted(set(observations.run.tolist()))))["tokenizer"]
    names = used.unique().to_list()
    known = {"tokenizer": names[0]} if len(names) == 1 and names[0] is not None else {}
    return {"runs_hash": runs.hash, "lr_state": lr_state, **known}


@dataclass(frozen=True)
class Prepared:
    """One target's problem before the search: its observations, fixed parameters, and the notes so far.

    `trusted`, shape (losses,), is False where a loss is far off the law; intervals are made without it.
    """

    law: ScalingLaw
    observations: Observations
    problem: FitProblem
    notes: tuple[str, ...]
    trusted: NDArray[np.bool_]

    @property
    def runs(self) -> int:
        return len(set(self.observations.run))

    def judged(self, z: Array, settings: FitSettings) -> "tuple[Prepared, Array]":
        """The problem without the losses that are suspect around the optimum z, the same optimum in it, and a note.

        Huber's loss and least absolute deviation hardly move for them, but a resample that gives such a run a large
        weight does. One spoilt run of twenty made the interval of a plan 25 to 70 times as wide.
        """
        if settings.threshold == math.inf:
            return self, z
        residual = self.problem.residual(z)
        far = far_off(residual, self.law, self.observations)
        if not far.any() or far.sum() > max(1, _MOST_SUSPECT * len(far)):
            return self, z
        places = np.flatnonzero(far)[np.argsort(-np.abs(residual[far]), kind="stable")]
        named = "; ".join(self._described(place, float(residual[place])) for place in places[:_NAMED])
        more = f"; and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
        sentence = (
            f"suspect: {named}{more}. Intervals and the scatter of runs are computed without "
            f"{'it' if len(places) == 1 else 'them'}; look at the log, and remove a run that diverged or was mistyped."
        )
        problem = replace(
            self.problem, allocation=self.observations.allocation.at(~far), log_loss=self.problem.log_loss[~far]
        )
        values = {name: float(value[0]) for name, value in self.problem.natural_parameters(z[None]).items()}
        # Coefficients are centred on the rows of their problem.
        moved = problem.with_coefficients(z[None], values)[0]
        return replace(self, problem=problem, notes=(sentence, *self.notes), trusted=~far), moved

    def _described(self, place: int, residual: float) -> str:
        # The residual is log L - log y, so that a measured loss above the law has a negative one.
        share, side = math.expm1(-residual), "above" if residual < 0 else "below"
        loss = self.observations.loss[place]
        return (
            f"the loss of run {str(self.observations.run[place])!r} ({loss:.4g}) lies {abs(share):.0%} {side} the law"
        )


def prepare(law: ScalingLaw, observations: Observations, settings: FitSettings, shared: Sequence[str] = ()) -> Prepared:
    """Check the settings, leave out observations that the law is not defined on, and fix what the runs cannot identify.

    `shared` parameters stay free even if these runs do not identify them, because other targets' runs may.
    """
    fixed = checked(law, settings)
    observations, notes = usable(law, observations)
    allocation = observations.allocation
    middle = {p.name: p.starts[0] for p in law.shape if p.name in shared}
    constraints = identifiability.constrain(law, allocation, {**fixed, **middle})
    problem = FitProblem(law, allocation, np.log(observations.loss), constraints.fixed, constraints.ties)
    free = {name: value for name, value in constraints.fixed.items() if name not in middle}
    notes += [*identifiability.check_counts(problem, len(set(observations.run))), *constraints.notes]
    notes += identifiability.notes_on_support(law, allocation, observations.run, [*free, *constraints.ties])
    notes += identifiability.notes_before(law, allocation)
    trusted = np.ones(len(observations), bool)
    return Prepared(law, observations, replace(problem, fixed=free) if shared else problem, tuple(notes), trusted)


def far_off(residual: Array, law: ScalingLaw, observations: Observations) -> NDArray[np.bool_]:
    """Which losses lie so far off a law that their runs diverged or were mistyped, shape of the residuals."""
    spread = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    far = np.abs(residual) > max(_FAR_SD * spread, _FAR_SHARE)
    return far if law.target is None else far & (observations.allocation.epochs(law.target) <= _KNOWN_EPOCHS)


def fit_observations(
    law: ScalingLaw, observations: Observations, settings: FitSettings, provenance: Mapping[str, Any] | None = None
) -> Fit:
    """`fit` on observations already taken from runs."""
    prepared = prepare(law, observations, settings)
    problem = prepared.problem
    z, objective, agreement = _optimum(problem, settings)
    prepared, z = prepared.judged(z, settings)
    columns = None
    if settings.resamples and problem.size:
        run, joint = prepared.observations.run[prepared.trusted], JointProblem.of([prepared.problem])
        weights = bootstrap.Weighing(run, settings.resamples, settings.seed, problem.size)
        columns = bootstrap.draws(joint, [z], weights, settings.threshold, settings.progress)[0]
    return finish(prepared, settings, z, objective, columns, [agreement], provenance or {})


def finish(
    prepared: Prepared,
    settings: FitSettings,
    z: Array,
    objective: float,
    columns: Mapping[str, Array] | None,
    notes: Sequence[str],
    provenance: Mapping[str, Any],
    shared: Sequence[str] = (),
) -> Fit:
    """A Fit from the optimum z of a prepared problem and from the draws of its parameters, by name.

    Notes on `shared` parameters from these runs alone are left out.
    """
    law, observations, problem = prepared.law, prepared.observations, prepared.problem
    residual = problem.residual(z)
    allocation = observations.allocation
    drawn = np.empty((0, len(law.parameter_names)))
    intervals: dict[str, tuple[float, float]] = {}
    if columns is not None:
        drawn = np.stack([columns[name] for name in law.parameter_names], axis=1)
        intervals = {name: interval(columns[name]) for name in law.parameter_names if name not in problem.fixed}
    parameters = {name: float(value[0]) for name, value in problem.natural_parameters(z[None]).items()}
    judged = replace(problem, fixed={**problem.fixed, **{name: parameters[name] for name in shared}})
    after = identifiability.notes_after(judged, np.delete(z, [problem.column[name] for name in shared]), intervals)
    return Fit(
        law=law,
        parameters=parameters,
        objective=objective,
        draws=drawn,
        intervals=intervals,
        residual_sd=float(np.sqrt(residual @ residual / max(len(residual) - problem.size, 1))),
        range={name: (float(v.min()), float(v.max())) for name, v in ranges(law, allocation).items()},
        unique_tokens=unique_tokens(allocation),
        metric=observations.metric,
        target=observations.target,
        notes=(*prepared.notes, *after, *notes),
        provenance={
            **provenance,
            "runs": prepared.runs,
            "observations": len(observations),
            **settings.stated,
            "resamples": settings.resamples,
            "seed": settings.seed,
            "fixed": dict(problem.fixed),
            "ties": dict(problem.ties),
            "versions": dict(_versions()),
        },
    )


@functools.cache
def _versions() -> Mapping[str, str]:
    return {name: importlib.metadata.version(name) for name in ("babelscale", "numpy")}


def checked(law: ScalingLaw, settings: FitSettings) -> dict[str, float]:
    """The parameters to fix, after the settings are checked."""
    if settings.objective not in get_args(Objective):
        raise InputError(f"no objective {settings.objective!r}", hint=f"objectives: {', '.join(get_args(Objective))}")
    if not settings.delta > 0:
        raise InputError(f"delta is {settings.delta}", hint="Huber's threshold is positive; math.inf is least squares")
    if settings.resamples < 0:
        raise InputError(f"resamples is {settings.resamples}", hint="0 or more; 200 is usual")
    fixed = {name: float(value) for name, value in (settings.fixed or {}).items()}
    for name, value in fixed.items():
        low, high = law.bounds.get(name, (math.nan, math.nan))
        if not low <= value <= high:
            raise InputError(
                f"law {law.name!r} cannot fix {name!r} at {value}",
                hint=f"parameters: {', '.join(f'{n} in [{a:g}, {b:g}]' for n, (a, b) in law.bounds.items())}",
            )
    return fixed


def usable(law: ScalingLaw, observations: Observations) -> tuple[Observations, list[str]]:
    """The observations the law is defined on."""
    if not (np.isfinite(observations.loss) & (observations.loss > 0)).all():
        raise InputError(
            f"{observations.metric} of {observations.target!r} is not positive everywhere, and laws are fitted to log "
            "loss",
            hint="fit bits_per_byte or nats_per_token",
        )
    keep = law.defined(observations.allocation)
    if keep.all():
        return observations, []
    if not keep.any():
        raise InputError(f"no run with a loss on {observations.target!r} was trained on it")
    omitted = int((~keep).sum())
    return subset(observations, keep), [
        f"{omitted} of {len(keep)} losses left out: their runs were not trained on {observations.target}."
    ]


def subset(observations: Observations, keep: NDArray[np.bool_]) -> Observations:
    """Some of the observations."""
    return replace(
        observations,
        allocation=observations.allocation.at(keep),
        loss=observations.loss[keep],
        run=observations.run[keep],
        step=observations.step[keep],
    )


def _optimum(problem: FitProblem, settings: FitSettings) -> tuple[Array, float, str]:
    """The best of several starts, or of the caller's start: z, objective, and a sentence on how many agree."""
    unit = np.ones(len(problem.log_loss))
    if not problem.size:
        only = problem.evaluate(np.empty((1, 0)), unit, settings.threshold)
        return np.empty(0), float(only.value[0]), "every parameter is fixed; nothing was searched."
    found = search(problem, settings)
    if settings.start is None:
        return found
    point, effort = starts.from_values(problem, settings.start), replace(settings.effort, wider=())
    local = newton.minimise(problem, point, unit, settings.threshold, effort)
    sentence = "searched from the given start only"
    if found[1] < local.value[0] * (1 - _AGREE):
        sentence += f", a local optimum: the search from every start finds {found[1]:.9g} below {local.value[0]:.9g}"
    return local.z[0], float(local.value[0]), f"{sentence}."


def search(problem: FitProblem, settings: FitSettings) -> tuple[Array, float, str]:
    """The best of several starts over the whole range: z, objective, and a sentence on how many agree."""
    unit = np.ones(len(problem.log_loss))
    delta = settings.threshold
    points = starts.grid(problem)
    values = problem.evaluate(points, unit, delta).value
    chosen = starts.choose(points, values, settings.effort.starts)
    if not len(chosen):
        raise InputError(
            f"law {problem.law.name!r} has no loss at any start of the search",
            hint="are fixed parameters in its domain?",
        )
    found = newton.minimise(problem, chosen, unit, delta, settings.effort)
    rounding = 1e-20 if delta > 0 else 1e-14 * len(unit)  # what rounding leaves of an objective of zero
    best, sentence = best_start(found.value, found.converged, "the optimum", rounding)
    return found.z[best], float(found.value[best]), sentence


def best_start(values: Array, converged: NDArray[np.bool_], optimum: str, rounding: float) -> tuple[int, str]:
    """The number of the start with the least objective, and a sentence on how many starts agree on it."""
    best = int(np.argmin(values))
    agree = int((values <= values[best] * (1 + _AGREE) + rounding).sum())
    sentence = f"{agree} of {len(values)} starts agree on {optimum}."
    if not converged[best]:
        sentence += " The search stopped before its tolerance; read the numbers with care."
    return best, sentence
