"""The walk through a study's runs: transfer, laws, their comparison and a plan, saved beside the runs.

What cannot be done with these runs is no failure: it becomes a sentence in `Walk.limits`, and the walk goes on.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import babelscale
from babelscale.errors import DomainError, InputError
from babelscale.fitting import Fit, compare, fit
from babelscale.laws import by_name
from babelscale.planning import Plan, plan
from babelscale.reporting import curse
from babelscale.reporting.result import Walk, read, save
from babelscale.runs import Runs
from babelscale.transfer import TransferMatrix

Progress = Callable[[str, int, int], None]
Failures = (InputError, DomainError)

LAWS = ("chinchilla", "data-constrained", "multilingual", "adaptive-transfer")
# A law of five parameters needs more ends of runs than that, of two sizes at least.
ENOUGH = 6
BUDGET = 10.0


def analyse(path: str | Path, *, progress: Progress | None = None, seed: int = 0) -> Walk:
    """Walk through a study's folder, or through bare runs (a folder of tables, or one table).

    A study's results are written to its analysis/ and taken from there while its runs, its design's `analysis` and
    this package's version stay the same. Bare runs are analysed afresh and nothing is written.

    Args:
        progress: called with (what, done, total).
        seed: of the resamples behind every interval.

    Raises:
        InputError: the runs cannot be read, naming file, row and field.
    """
    path = Path(path)
    runs = Runs.read(path)
    design = _design(path)
    settings = {
        "version": babelscale.__version__,
        "laws": [*LAWS, curse.LAW],
        "runs": runs.hash,
        "seed": seed,
        "analysis": design.get("analysis", {}),
    }
    folder = path / "analysis" if (path / "design.json").exists() else None
    name = path.resolve().name
    if folder is not None and (held := read(folder, settings, Walk(name, runs, design))) is not None:
        return held
    walk = _walk(Walk(name, runs, design), progress or (lambda what, done, total: None), seed)
    if folder is not None:
        save(walk, folder, settings)
    return walk


def targets(walk: Walk) -> list[str]:
    """The languages laws are fitted for: the design's, or those with enough final losses of runs from scratch."""
    asked = walk.design.get("analysis", {}).get("targets")
    if asked is not None:
        return [str(code) for code in asked]
    return [code for code in walk.runs.targets if _enough(walk.runs, code)]


def _enough(runs: Runs, target: str) -> bool:
    try:
        seen = runs.observations(target)
    except InputError:
        return False
    own = seen.allocation.D(target) > 0
    return int(own.sum()) >= ENOUGH and len(np.unique(seen.allocation.params[own])) >= 2


def _walk(start: Walk, progress: Progress, seed: int) -> Walk:
    runs, limits = start.runs, list(start.limits)
    wanted = targets(start)
    several = len(runs.languages) > 1
    names = {target: _names(runs, target, several) for target in wanted}
    total = sum(map(len, names.values())) + 3
    done = 0

    def tell(what: str) -> None:
        nonlocal done
        progress(f"analysis: {what}", done, total)
        done += 1

    tell("transfer scores")
    matrix = None
    if several:
        matrix = _try(limits, "No transfer scores", lambda: TransferMatrix.from_runs(runs))
    if not wanted:
        limits.append(
            f"No law was fitted: it needs at least {ENOUGH} finished runs from scratch, of two sizes or more, with a "
            "final loss on one language that they train on."
        )
    fits: list[Fit] = []
    for target in wanted:
        for name in names[target]:
            tell(f"{name} law of {target}")
            found = _try(
                limits,
                f"No {name} law of {target}",
                lambda name=name, target=target: fit(by_name(name, target, runs), runs, seed=seed),
            )
            fits += [found] if found is not None else []
    tell("held-out comparison")
    comparison = None
    if fits:
        compared = list(LAWS if several else LAWS[:2])
        fitted = list(dict.fromkeys(runs.target(found.target) for found in fits))
        comparison = _try(limits, "No comparison of laws", lambda: compare(compared, runs, targets=fitted, seed=seed))
    walk = replace(start, matrix=matrix, fits=tuple(fits), comparison=comparison)
    tell("plan")
    made = _try(limits, "No plan", lambda: _plan(walk, seed)) if fits else None
    progress("analysis: done", total, total)
    return replace(walk, plan=made, limits=tuple(limits))


def _names(runs: Runs, target: str, several: bool) -> tuple[str, ...]:
    """The laws to fit for a target; what more languages cost only where runs of enough numbers of them tell it."""
    if not several:
        return ("chinchilla",)
    told = target in runs.targets and len(curse.widths(runs, target)) >= curse.ENOUGH
    return ("chinchilla", "adaptive-transfer", *((curse.LAW,) if told else ()))


def _try(limits: list[str], what: str, step: Callable[[], Any]) -> Any:
    """A step's result, or None with the reason among the limits."""
    try:
        return step()
    except Failures as error:
        hint = f" ({error.hint})" if error.hint else ""
        limits.append(f"{what}: {error.message}{hint}.".replace("..", "."))
        return None


def _plan(walk: Walk, seed: int) -> Plan:
    """A plan as the design asks for it; otherwise for 10 times the largest run's compute and every fitted language."""
    asked = walk.design.get("analysis", {}).get("plan", {})
    table = walk.runs.table.select(C=pl.coalesce("flops", 6 * pl.col("params") * pl.col("tokens")))
    compute = float(asked.get("compute") or BUDGET * float(table["C"].to_numpy().max()))
    languages = [str(code) for code in asked.get("languages") or walk.runs.languages]
    chosen = [found for found in walk.best_fits if found.target is None or found.target in languages]
    if not chosen:
        raise InputError("no law was fitted for any language of the plan")
    return plan(chosen, compute=compute, languages=languages, seed=seed)


def _design(path: Path) -> dict[str, Any]:
    file = path / "design.json"
    if not file.exists():
        return {}
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error})", hint="run the study again to write it anew") from None
    if not isinstance(held, dict):
        raise InputError(f"{file}: not a study's design", hint="run the study again to write it anew")
    return held
