"""fit_many: the fits of many target languages in one call, apart or with some parameters in common."""

from collections.abc import Mapping, Sequence

from babelscale import laws
from babelscale.errors import InputError
from babelscale.fitting.bootstrap import Progress
from babelscale.fitting.estimate import Objective, Settings, fit_observations
from babelscale.fitting.result import Fit
from babelscale.fitting.shared import fit_jointly
from babelscale.laws import ScalingLaw
from babelscale.runs import Metric, Runs
from babelscale.tables import LRState


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
    progress: Progress | None = None,
) -> dict[str, Fit]:
    """One fit a target language, in the order of `targets`.

    Args:
        law: a name, built for each target with the study's defaults (see `laws.by_name`), or one law a target.
        targets: by default every measured language that some run was trained on, or those of the laws.
        shared: parameters with one value for all targets, such as ("alpha", "beta") or ("lambda",). The sum of all
            targets' objectives is then minimised at once, and each resample draws runs for all targets together.
        progress: called with (label, done, total).

    The rest is as in `fit`.

    Raises:
        InputError: as `fit`, naming the target; a shared parameter that fewer than two of the laws have, or that is a
            coefficient, or that none of the targets' runs identify.
    """
    forms = _forms(law, runs, targets)
    settings = Settings(delta, resamples, seed, fixed, None, objective=objective)
    taken = {target: runs.observations(target, metric=metric, lr_state=lr_state) for target in forms}
    provenance = {"runs_hash": runs.hash, "lr_state": lr_state}
    if shared:
        return fit_jointly(forms, taken, tuple(shared), settings, provenance, progress)
    found = {}
    for done, (target, form) in enumerate(forms.items()):
        if progress:
            progress(f"{form.name} {target}", done, len(forms))
        found[target] = fit_observations(form, taken[target], settings, provenance)
    if progress:
        progress(law if isinstance(law, str) else "fits", len(forms), len(forms))
    return found


def _forms(law: str | Sequence[ScalingLaw], runs: Runs, targets: Sequence[str] | None) -> dict[str, ScalingLaw]:
    """The law of each target, in order."""
    if isinstance(law, str):
        wanted = targets or [target for target in runs.targets if target in runs.languages]
        return {target: laws.by_name(law, target, runs) for target in map(runs.target, wanted)}
    forms = {runs.target(form.target): form for form in law}
    if len(forms) < len(law):
        raise InputError("two laws of one target", hint="fit them apart, or compare them with `compare`")
    return {target: forms[target] for target in map(runs.target, targets)} if targets else forms
