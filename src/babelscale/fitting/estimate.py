"""fit: the numbers of a law from runs, with intervals and with what the runs do not say."""

import functools
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from babelscale import laws
from babelscale.errors import InputError
from babelscale.fitting import bootstrap, identifiability, newton, starts
from babelscale.fitting.bootstrap import Progress
from babelscale.fitting.objective import Array, Problem
from babelscale.fitting.result import Fit, interval, ranges, unique_tokens
from babelscale.laws import ScalingLaw
from babelscale.runs import Metric, Observations, Runs
from babelscale.tables import LRState

_AGREE = 1e-8  # relative difference of objectives that still counts as the same optimum


@dataclass(frozen=True)
class Settings:
    """How to fit.

    Huber's `delta` on log loss (infinite: least squares), bootstrap draws, seed, parameters held fixed, and how hard
    to search.
    """

    delta: float = 1e-3
    resamples: int = 200
    seed: int = 0
    fixed: Mapping[str, float] | None = None
    progress: Progress | None = None
    effort: newton.Effort = newton.EXACT


def fit(
    law: ScalingLaw,
    runs: Runs,
    *,
    metric: Metric | None = None,
    delta: float = 1e-3,
    resamples: int = 200,
    seed: int = 0,
    fixed: Mapping[str, float] | None = None,
    lr_state: LRState = "decayed",
    progress: Progress | None = None,
) -> Fit:
    """Fit a law to the losses of its target language.

    Minimises the sum of Huber losses of log residuals, from several starts, and refits `resamples` times with whole
    runs drawn again (`seed`) for 90 % intervals. Parameters that the runs cannot identify are held at a stated value.

    Args:
        metric: unit of the loss; bits per byte where the runs have it, otherwise nats per token.
        delta: Huber's threshold on log loss; `math.inf` is least squares.
        fixed: parameters to hold, by name, natural units.
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
    observations = runs.observations(law.target, metric=metric, lr_state=lr_state)
    settings = Settings(delta, resamples, seed, fixed, progress)
    return fit_observations(law, observations, settings, {"runs_hash": runs.hash, "lr_state": lr_state})


def fit_many(
    law: str,
    runs: Runs,
    targets: Sequence[str] | None = None,
    *,
    metric: Metric | None = None,
    delta: float = 1e-3,
    resamples: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Fit]:
    """One fit a target language, by the law's name with the study's defaults (see `laws.by_name`).

    Raises:
        InputError: as `fit`, naming the target.
    """
    found = {}
    wanted = list(targets or runs.targets)
    for done, target in enumerate(wanted):
        if progress:
            progress(f"{law} {target}", done, len(wanted))
        form = laws.by_name(law, target, runs)
        found[target] = fit(form, runs, metric=metric, delta=delta, resamples=resamples, seed=seed)
    if progress:
        progress(law, len(wanted), len(wanted))
    return found


def fit_observations(
    law: ScalingLaw, observations: Observations, settings: Settings, provenance: Mapping[str, Any] | None = None
) -> Fit:
    """`fit` on observations already taken from runs."""
    fixed = _checked(law, settings)
    observations, notes = _usable(law, observations)
    allocation = observations.allocation
    held = identifiability.restrict(law, allocation, fixed)
    problem = Problem(law, allocation, np.log(observations.loss), held.fixed, held.ties)
    runs = len(set(observations.run))
    notes += [*identifiability.check_counts(problem, runs), *held.notes]
    notes += identifiability.notes_on_sources(law, allocation, observations.run, [*held.fixed, *held.ties])
    notes += identifiability.notes_before(law, allocation)

    z, objective, residual, agreement = _optimum(problem, settings.delta, settings.effort)
    parameters = {name: float(value[0]) for name, value in problem.natural(z[None]).items()}
    drawn = np.empty((0, len(law.parameter_names)))
    intervals: dict[str, tuple[float, float]] = {}
    if settings.resamples and problem.size:
        weights = bootstrap.run_weights(observations.run, settings.resamples, settings.seed)
        columns = bootstrap.draws(problem, z, weights, settings.delta, settings.progress)
        drawn = np.stack([columns[name] for name in law.parameter_names], axis=1)
        intervals = {name: interval(columns[name]) for name in law.parameter_names if name not in held.fixed}
    notes += [*identifiability.notes_after(problem, z, intervals), agreement]
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
        notes=tuple(notes),
        provenance={
            **(provenance or {}),
            "runs": runs,
            "observations": len(observations),
            "delta": settings.delta if math.isfinite(settings.delta) else None,
            "resamples": settings.resamples,
            "seed": settings.seed,
            "fixed": dict(held.fixed),
            "ties": dict(held.ties),
            "versions": dict(_versions()),
        },
    )


@functools.cache
def _versions() -> Mapping[str, str]:
    return {name: importlib.metadata.version(name) for name in ("babelscale", "numpy")}


def _checked(law: ScalingLaw, settings: Settings) -> dict[str, float]:
    if not settings.delta > 0:
        raise InputError(f"delta is {settings.delta}", hint="Huber's threshold is positive; math.inf is least squares")
    if settings.resamples < 0:
        raise InputError(f"resamples is {settings.resamples}", hint="0 or more; 200 is usual")
    fixed = {name: float(value) for name, value in (settings.fixed or {}).items()}
    for name, value in fixed.items():
        low, high = law.bounds.get(name, (math.nan, math.nan))
        if not low <= value <= high:
            raise InputError(
                f"law {law.name!r} cannot hold {name!r} at {value}",
                hint=f"parameters: {', '.join(f'{n} in [{a:g}, {b:g}]' for n, (a, b) in law.bounds.items())}",
            )
    return fixed


def _usable(law: ScalingLaw, observations: Observations) -> tuple[Observations, list[str]]:
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
    left = int((~keep).sum())
    return subset(observations, keep), [
        f"{left} of {len(keep)} losses left out: their runs were not trained on {observations.target}."
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


def _optimum(problem: Problem, delta: float, effort: newton.Effort) -> tuple[Array, float, Array, str]:
    """The best of several starts: z, objective, residuals, and a sentence on how many agree."""
    unit = np.ones(len(problem.log_loss))
    if not problem.size:
        only = problem.evaluate(np.empty((1, 0)), unit, delta)
        return np.empty(0), float(only.value[0]), only.residual[0], "every parameter is fixed; nothing was searched."
    points = starts.grid(problem)
    values = problem.evaluate(points, unit, delta).value
    chosen = starts.choose(points, values, effort.starts)
    if not len(chosen):
        raise InputError(
            f"law {problem.law.name!r} has no loss at any start of the search",
            hint="are fixed parameters in its domain?",
        )
    found = newton.minimise(problem, chosen, unit, delta, effort)
    best = int(np.argmin(found.value))
    agree = int((found.value <= found.value[best] * (1 + _AGREE) + 1e-20).sum())
    sentence = f"{agree} of {len(chosen)} starts agree on the optimum."
    if not found.converged[best]:
        sentence += " The search stopped before its tolerance; read the numbers with care."
    return found.z[best], float(found.value[best]), found.residual[best], sentence
