"""fit_many: the fits of many target languages in one call, independent or with some parameters in common."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from babelscale import laws
from babelscale.errors import BabelscaleError, InputError
from babelscale.fitting import bootstrap, identifiability, starts
from babelscale.fitting.bootstrap import Progress
from babelscale.fitting.estimate import (
    FitSettings,
    Objective,
    best_start,
    finish,
    fit_observations,
    origin,
    prepare,
    search,
)
from babelscale.fitting.newton import JointProblem, minimise_jointly
from babelscale.fitting.objective import Array
from babelscale.fitting.result import Fit
from babelscale.laws import ScalingLaw
from babelscale.runs import Metric, Observations, Runs
from babelscale.tables import LRState
from babelscale.workers import Worker, WorkerDied, WorkerPool, available_cpus

_SECONDS_TO_SAVE = 2.0  # seconds that starting processes must save
_STARTS = 8  # of a joint search


def fit_many(
    law: str | Sequence[ScalingLaw],
    runs: Runs,
    targets: Sequence[str] | None = None,
    *,
    shared: Sequence[str] = (),
    metric: Metric | None = None,
    objective: Objective = "huber",
    delta: float = 1e-3,
    resamples: int = 200,
    seed: int = 0,
    fixed: Mapping[str, float] | None = None,
    lr_state: LRState = "decayed",
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Fit]:
    """One fit a target language, in the order of `targets`.

    Args:
        law: a name, built for each target with the study's defaults (see `laws.by_name`), or one law a target.
        targets: by default every measured language that some run was trained on, or those of the laws.
        shared: parameters with one value for all targets, such as ("alpha", "beta") or ("lambda",). The sum of all
            targets' objectives is then minimised at once, and each resample weighs runs for all targets together.
        workers: processes to fit in, with one thread each; 1 stays in this process. By default one for each core if the
            work takes longer than starting them. The fits do not depend on this. Joint fits stay in this process.
        progress: called with (label, done, total).

    The rest is as in `fit`.

    Raises:
        InputError: as in `fit`, naming the target; or a shared parameter is a coefficient, belongs to fewer than two of
            the laws, or is identified by none of the targets' runs.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}", hint="1 or more; leave it out for one for each core")
    forms = _forms(law, runs, targets)
    settings = FitSettings(delta, resamples, seed, fixed, None, objective=objective)
    observations = {
        target: runs.observations(target, metric=metric, lr_state=lr_state, start=form.starts)
        for target, form in forms.items()
    }
    provenance = origin(runs, next(iter(observations.values())), lr_state)
    if shared:
        return _fit_jointly(forms, observations, tuple(shared), settings, provenance, progress)
    label = law if isinstance(law, str) else "fits"
    report = progress or (lambda label, done, total: None)
    found: dict[str, Fit] = {}
    began = time.perf_counter()
    for target, form in forms.items():
        remaining = list(forms)[len(found) :]
        count = _processes(workers, forms, len(remaining), time.perf_counter() - began, len(found))
        if count > 1:
            jobs = [_job(forms[t], observations[t], settings, provenance) for t in remaining]
            first = len(forms) - len(remaining)
            fits = _fit_in_processes(
                runs, jobs, count, lambda done, first=first: report(label, first + done, len(forms))
            )
            return found | dict(zip(remaining, fits, strict=True))
        report(f"{form.name} {target}", len(found), len(forms))
        try:
            found[target] = fit_observations(form, observations[target], settings, provenance)
        except BabelscaleError as error:
            raise _of_target(target, error) from error
    report(label, len(forms), len(forms))
    return found


def _fit_in_processes(
    runs: Runs, jobs: Sequence[dict[str, Any]], count: int, on_finished: Callable[[int], None]
) -> list[Fit]:
    """The fits of `jobs` (see `fitting.worker`), in their order, by `count` processes of one thread each.

    Raises:
        BabelscaleError: the error of a fit, naming its target; or a process died.
    """

    def fit_one(worker: Worker, job: dict[str, Any]) -> Fit:
        try:
            return Fit.from_dict(worker.ask(job))
        except BabelscaleError as error:
            raise _of_target(job["target"], error) from error
        except WorkerDied as error:
            raise BabelscaleError(
                f"target {job['target']!r}: the process that fitted it ended {error.complaint[-500:]}".rstrip(),
                hint="is there enough memory? workers=1 fits in this process",
            ) from None

    with tempfile.TemporaryDirectory(prefix="babelscale-fits-") as folder:
        place = runs.write(Path(folder) / "runs")
        pool = WorkerPool([Worker("-m", "babelscale.fitting.worker", str(place)) for _ in range(count)])
        return pool.map(fit_one, jobs, on_finished)


def _of_target(target: str, error: BabelscaleError) -> BabelscaleError:
    """The error of one target's fit, naming the target."""
    kind = InputError if isinstance(error, InputError) else BabelscaleError
    return kind(f"target {target!r}: {error.message}", hint=error.hint)


def _processes(workers: int | None, forms: Mapping[str, ScalingLaw], remaining: int, seconds: float, done: int) -> int:
    """How many processes to use: `workers`, or one for each core if half of the remaining work takes longer than
    starting them. The laws of a user's own code cannot be sent to another process."""
    if not all(laws.built_in(form) for form in forms.values()):
        return 1
    if workers is not None:
        return min(workers, remaining)
    if not done or seconds / done * remaining / 2 < _SECONDS_TO_SAVE:
        return 1
    return min(len(available_cpus()), remaining)


def _job(
    form: ScalingLaw, observations: Observations, settings: FitSettings, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """A job of `fitting.worker`."""
    options = {name: getattr(settings, name) for name in ("delta", "resamples", "seed", "objective")}
    return {
        "law": laws.to_dict(form),
        "target": observations.target,
        "metric": observations.metric,
        "lr_state": provenance["lr_state"],
        "settings": {**options, "fixed": dict(settings.fixed or {}) or None},
        "provenance": dict(provenance),
    }


def _forms(law: str | Sequence[ScalingLaw], runs: Runs, targets: Sequence[str] | None) -> dict[str, ScalingLaw]:
    """The law of each target, in order."""
    if isinstance(law, str):
        chosen = targets or [target for target in runs.targets if target in runs.languages]
        return {target: laws.by_name(law, target, runs) for target in map(runs.target, chosen)}
    forms = {runs.target(form.target): form for form in law}
    if len(forms) < len(law):
        raise InputError("two laws of one target", hint="fit them separately, or compare them with `compare`")
    return {target: forms[target] for target in map(runs.target, targets)} if targets else forms


def _fit_jointly(
    forms: Mapping[str, ScalingLaw],
    observations: Mapping[str, Observations],
    shared: tuple[str, ...],
    settings: FitSettings,
    provenance: Mapping[str, Any],
    progress: Progress | None = None,
) -> dict[str, Fit]:
    """One fit a target, the `shared` parameters equal in all of them."""
    if settings.objective == "lad":
        raise InputError("shared parameters are fitted by Huber's loss or squares", hint="objective='huber'")
    names = _shared_names(forms, observations, shared, settings)
    if not names:  # every target has them fixed at the same value, and its notes say why
        return {t: fit_observations(form, observations[t], settings, provenance) for t, form in forms.items()}
    prepared = {t: prepare(form, observations[t], settings, names) for t, form in forms.items()}
    joint = JointProblem.of([each.problem for each in prepared.values()], names)
    z, values, agreement = _joint_optimum(joint, settings, progress)
    for k, (target, each) in enumerate(prepared.items()):
        prepared[target], z[k] = each.judged(z[k], settings)
    columns: list[dict[str, Array]] | None = None
    if settings.resamples:
        trusted = JointProblem.of([each.problem for each in prepared.values()], names)
        run = np.concatenate([each.observations.run[each.trusted] for each in prepared.values()])
        # Each target's residuals are too small by its own parameters; the largest number widens the weights of all.
        free = max(problem.size for problem in joint.problems)
        weights = bootstrap.Weighing(run, settings.resamples, settings.seed, free)
        columns = bootstrap.draws(trusted, z, weights, settings.threshold, progress)
    total = float(values.sum())
    fits = {}
    for k, (target, each) in enumerate(prepared.items()):
        common = [name for name in names if name in each.law.parameter_names]
        others = [t for t in prepared if t != target and set(common) & set(prepared[t].law.parameter_names)]
        notes = [agreement]
        if common:
            sentence = f"{', '.join(common)} shared with {', '.join(others)} and fitted to all of them at once"
            notes = [f"{sentence}; the sum of their objectives is {total:.10g}.", *_at_bounds(joint, z), agreement]
        about = {**provenance, "shared": common, "shared_with": others, "joint_objective": total}
        draws = None if columns is None else columns[k]
        fits[target] = finish(each, settings, z[k], float(values[k]), draws, notes, about, common)
    return fits


def _shared_names(
    forms: Mapping[str, ScalingLaw],
    observations: Mapping[str, Observations],
    shared: tuple[str, ...],
    settings: FitSettings,
) -> tuple[str, ...]:
    """The shared parameters that the targets' runs identify together, tied ones by the name they follow."""
    names: dict[str, None] = {}
    for name in shared:
        having = [t for t, form in forms.items() if name in {p.name for p in form.shape}]
        if len(having) < 2:
            known = sorted({p.name for form in forms.values() for p in form.shape})
            raise InputError(
                f"{name!r} cannot be shared: {len(having)} of {len(forms)} laws have it as an exponent or the like",
                hint=f"parameters that can be shared: {', '.join(known)}; sharing takes two targets or more",
            )
        if name in (settings.fixed or {}):
            raise InputError(f"{name} is fixed, so it is the same everywhere already", hint="leave it out of one")
        ends = {forms[t].ties.get(name, name) for t in having}
        if len(ends) > 1:
            raise InputError(f"{name} is tied in some of the laws only", hint="use laws that tie it alike")
        names.setdefault(ends.pop())
    return tuple(name for name in names if _identified(name, forms, observations, settings))


def _identified(
    name: str, forms: Mapping[str, ScalingLaw], observations: Mapping[str, Observations], settings: FitSettings
) -> bool:
    """Whether some target's own runs identify a parameter.

    Raises:
        InputError: each target's runs are too alike for it, with the reason of the last.
    """
    having = [target for target, form in forms.items() if name in form.parameter_names]
    errors = []
    for target in having:
        form, allocation = forms[target], observations[target].allocation
        try:
            constraints = identifiability.constrain(form, allocation.at(form.defined(allocation)), settings.fixed or {})
        except InputError as error:
            errors.append(error)
            continue
        if name not in constraints.fixed and name not in constraints.ties:
            return True
    if len(errors) == len(having):
        raise errors[-1]
    return False


def _joint_optimum(
    joint: JointProblem, settings: FitSettings, progress: Progress | None
) -> tuple[list[Array], Array, str]:
    """The best of several joint starts: z by problem, objectives by problem, and how many starts agree.

    Shared parameters start at the quantiles of the targets' own optima, the others where these are, or solved.
    """
    alone = []
    for done, problem in enumerate(joint.problems):
        if progress:
            progress("starts", done, len(joint.problems))
        alone.append(search(problem, settings)[0])
    each = np.full((len(alone), len(joint.names)), np.nan)
    for t, (z, at) in enumerate(zip(alone, joint.columns, strict=True)):
        each[t, at >= 0] = z[at[at >= 0]]
    s = np.nanquantile(each, np.linspace(0, 1, _STARTS), axis=0)
    points = joint.put([np.repeat(one[None], len(s), axis=0) for one in alone], s)
    for t, (problem, one) in enumerate(zip(joint.problems, points, strict=True)):
        solved = starts.solved(problem, one[:, len(problem.coefficients) :].copy())
        points[t] = solved if len(solved) == len(one) else one
    unit = [np.ones((len(s), len(problem.log_loss))) for problem in joint.problems]
    found = minimise_jointly(joint, points, unit, settings.threshold, settings.effort)
    best, sentence = best_start(found.value.sum(axis=1), found.converged, "the joint optimum", 1e-20)
    return [one[best] for one in found.z], found.value[best], sentence


def _at_bounds(joint: JointProblem, z: list[Array]) -> list[str]:
    s = joint.take([one[None] for one in z])[0]
    at = [name for name, value, *ends in zip(joint.names, s, joint.low, joint.high, strict=True) if value in ends]
    return [f"{', '.join(at)} at an end of the range; these runs together do not identify it."] if at else []
