"""fit_many: the fits of many target languages in one call, apart or with some parameters in common."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from babelscale import laws
from babelscale.errors import BabelscaleError, InputError
from babelscale.fitting.bootstrap import Progress
from babelscale.fitting.estimate import FitSettings, Objective, fit_observations, origin
from babelscale.fitting.result import Fit
from babelscale.fitting.shared import fit_jointly
from babelscale.laws import ScalingLaw
from babelscale.runs import Metric, Observations, Runs
from babelscale.tables import LRState
from babelscale.workers import Worker, WorkerDied, WorkerPool, available_cpus

_WORTH = 2.0  # seconds that starting processes must save


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
        workers: processes to fit in, one thread each; 1 stays in this process. By default one a core, where the work
            is worth starting them. The fits are the same however many there are. Joint fits stay in this process.
        progress: called with (label, done, total).

    The rest is as in `fit`.

    Raises:
        InputError: as `fit`, naming the target; a shared parameter that fewer than two of the laws have, or that is a
            coefficient, or that none of the targets' runs identify.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}", hint="1 or more; leave it out for one a core")
    forms = _forms(law, runs, targets)
    settings = FitSettings(delta, resamples, seed, fixed, None, objective=objective)
    taken = {
        target: runs.observations(target, metric=metric, lr_state=lr_state, start=form.starts)
        for target, form in forms.items()
    }
    provenance = origin(runs, next(iter(taken.values())), lr_state)
    if shared:
        return fit_jointly(forms, taken, tuple(shared), settings, provenance, progress)
    label = law if isinstance(law, str) else "fits"
    tell = progress or (lambda label, done, total: None)
    found: dict[str, Fit] = {}
    began = time.perf_counter()
    for target, form in forms.items():
        left = list(forms)[len(found) :]
        count = _processes(workers, forms, len(left), time.perf_counter() - began, len(found))
        if count > 1:
            jobs = [_job(forms[t], taken[t], settings, provenance) for t in left]
            first = len(forms) - len(left)
            fits = _fit_in_processes(runs, jobs, count, lambda done, first=first: tell(label, first + done, len(forms)))
            return found | dict(zip(left, fits, strict=True))
        tell(f"{form.name} {target}", len(found), len(forms))
        try:
            found[target] = fit_observations(form, taken[target], settings, provenance)
        except BabelscaleError as error:
            raise _of_target(target, error) from error
    tell(label, len(forms), len(forms))
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


def _processes(workers: int | None, forms: Mapping[str, ScalingLaw], left: int, seconds: float, done: int) -> int:
    """How many processes to go on with: those asked for, or one a core where half of what is left takes longer than
    starting them. A law of one's own cannot be sent to one."""
    if not all(laws.built_in(form) for form in forms.values()):
        return 1
    if workers is not None:
        return min(workers, left)
    if not done or seconds / done * left / 2 < _WORTH:
        return 1
    return min(len(available_cpus()), left)


def _job(
    form: ScalingLaw, observations: Observations, settings: FitSettings, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """A fit as `worker` takes it."""
    given = {name: getattr(settings, name) for name in ("delta", "resamples", "seed", "objective")}
    return {
        "law": laws.to_dict(form),
        "target": observations.target,
        "metric": observations.metric,
        "lr_state": provenance["lr_state"],
        "settings": {**given, "fixed": dict(settings.fixed or {}) or None},
        "provenance": dict(provenance),
    }


def _forms(law: str | Sequence[ScalingLaw], runs: Runs, targets: Sequence[str] | None) -> dict[str, ScalingLaw]:
    """The law of each target, in order."""
    if isinstance(law, str):
        wanted = targets or [target for target in runs.targets if target in runs.languages]
        return {target: laws.by_name(law, target, runs) for target in map(runs.target, wanted)}
    forms = {runs.target(form.target): form for form in law}
    if len(forms) < len(law):
        raise InputError("two laws of one target", hint="fit them apart, or compare them with `compare`")
    return {target: forms[target] for target in map(runs.target, targets)} if targets else forms
