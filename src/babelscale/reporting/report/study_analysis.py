"""The analysis of a study's runs: transfer scores, laws, their comparison and a plan, saved beside the runs.

A step that these runs do not allow is not an error: `StudyAnalysis.limits` says why in a sentence, and the analysis
continues.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import babelscale
from babelscale import files
from babelscale.charts import adding_languages as drawn
from babelscale.errors import DomainError, InputError
from babelscale.fitting import Comparison, Fit, compare, fit
from babelscale.laws import by_name
from babelscale.planning import Plan, plan
from babelscale.runs import Runs
from babelscale.transfer import TransferMatrix

Progress = Callable[[str, int, int], None]
Failures = (InputError, DomainError)

LAWS = ("chinchilla", "data-constrained", "multilingual", "adaptive-transfer")
# A law of five parameters needs more ends of runs than that, of two sizes at least.
ENOUGH = 6
BUDGET = 10.0
LAW = "multilinguality"
# Different numbers of languages that its exponents take: two give a step and no slope.
ENOUGH_COUNTS = 3


@dataclass(frozen=True)
class StudyAnalysis:
    """What a study's runs gave.

    `limits` says in plain sentences what could not be done and why; `reused` whether the results were on disk already.
    """

    name: str
    runs: Runs
    design: Mapping[str, Any] = field(default_factory=dict)
    matrix: TransferMatrix | None = None
    fits: tuple[Fit, ...] = ()
    comparison: Comparison | None = None
    plan: Plan | None = None
    limits: tuple[str, ...] = ()
    reused: bool = False

    @property
    def title(self) -> str:
        return str(self.design.get("title") or self.design.get("name") or self.name)

    @property
    def pricing(self) -> tuple[Fit, ...]:
        """The fits of laws that price the number of languages, by target."""
        return tuple(found for found in self.fits if found.law.prices_languages)

    @property
    def best_fits(self) -> tuple[Fit, ...]:
        """For each target the richest law that could be fitted: adaptive transfer, otherwise Chinchilla.

        Fits stand in the order of their laws, poorer ones first.
        """
        return tuple({found.target: found for found in self.fits if not found.law.prices_languages}.values())


def widths(runs: Runs, target: str) -> list[int]:
    """Numbers of languages of the runs from scratch with a final loss on a language that they train on."""
    found = drawn.width_frame(runs).filter(language=target)["languages"]
    return sorted(int(each) for each in found.unique())


def analyse(path: str | Path, *, progress: Progress | None = None, seed: int = 0) -> StudyAnalysis:
    """StudyAnalysis through a study's folder, or through bare runs (a folder of tables, or one table).

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
        "laws": [*LAWS, LAW],
        "runs": runs.hash,
        "seed": seed,
        "analysis": design.get("analysis", {}),
    }
    folder = path / "analysis" if (path / "design.json").exists() else None
    name = path.resolve().name
    if folder is not None and (held := _read(folder, settings, StudyAnalysis(name, runs, design))) is not None:
        return held
    analysis = _walk(StudyAnalysis(name, runs, design), progress or (lambda what, done, total: None), seed)
    if folder is not None:
        _save(analysis, folder, settings)
    return analysis


def targets(analysis: StudyAnalysis) -> list[str]:
    """The languages laws are fitted for: the design's, or those with enough final losses of runs from scratch."""
    asked = analysis.design.get("analysis", {}).get("targets")
    if asked is not None:
        return [str(code) for code in asked]
    return [code for code in analysis.runs.targets if _enough(analysis.runs, code)]


def _enough(runs: Runs, target: str) -> bool:
    try:
        seen = runs.observations(target)
    except InputError:
        return False
    own = seen.allocation.D(target) > 0
    return int(own.sum()) >= ENOUGH and len(np.unique(seen.allocation.params[own])) >= 2


def _walk(start: StudyAnalysis, progress: Progress, seed: int) -> StudyAnalysis:
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
    analysis = replace(start, matrix=matrix, fits=tuple(fits), comparison=comparison)
    tell("plan")
    made = _try(limits, "No plan", lambda: _plan(analysis, seed)) if fits else None
    progress("analysis: done", total, total)
    return replace(analysis, plan=made, limits=tuple(limits))


def _names(runs: Runs, target: str, several: bool) -> tuple[str, ...]:
    """The laws to fit for a target; what more languages cost only where runs of enough numbers of them tell it."""
    if not several:
        return ("chinchilla",)
    told = target in runs.targets and len(widths(runs, target)) >= ENOUGH_COUNTS
    return ("chinchilla", "adaptive-transfer", *((LAW,) if told else ()))


def _try(limits: list[str], what: str, step: Callable[[], Any]) -> Any:
    """A step's result, or None with the reason among the limits."""
    try:
        return step()
    except Failures as error:
        hint = f" ({error.hint})" if error.hint else ""
        limits.append(f"{what}: {error.message}{hint}.".replace("..", "."))
        return None


def _plan(analysis: StudyAnalysis, seed: int) -> Plan:
    """A plan as the design asks for it; otherwise for 10 times the largest run's compute and every fitted language."""
    asked = analysis.design.get("analysis", {}).get("plan", {})
    table = analysis.runs.table.select(C=pl.coalesce("flops", 6 * pl.col("params") * pl.col("tokens")))
    compute = float(asked.get("compute") or BUDGET * float(table["C"].to_numpy().max()))
    languages = [str(code) for code in asked.get("languages") or analysis.runs.languages]
    chosen = [found for found in analysis.best_fits if found.target is None or found.target in languages]
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


def _read(folder: Path, settings: Mapping[str, Any], start: StudyAnalysis) -> StudyAnalysis | None:
    """The results on disk, if they are whole and were made from the same runs, settings and version."""
    try:
        analysis = _json(folder / "walk.json")
        if analysis["settings"] != settings:
            return None
        matrix = TransferMatrix.load(folder / "transfer.json") if analysis["transfer"] else None
        fits = tuple(Fit.load(folder / "fits" / name) for name in analysis["fits"])
        comparison = Comparison.from_dict(_json(folder / "comparison.json")) if analysis["comparison"] else None
        made = Plan.from_dict(_json(folder / "plan.json")) if analysis["plan"] else None
    except (OSError, ValueError, KeyError, TypeError):
        # Not there, half there or of another version: the analysis is made again, so nothing is lost.
        return None
    return replace(
        start, matrix=matrix, fits=fits, comparison=comparison, plan=made, limits=tuple(analysis["limits"]), reused=True
    )


def _save(analysis: StudyAnalysis, folder: Path, settings: Mapping[str, Any]) -> None:
    """Write every result, walk.json last: it vouches for the others."""
    (folder / "fits").mkdir(parents=True, exist_ok=True)
    (folder / "walk.json").unlink(missing_ok=True)
    names = [f"{found.law.name}-{found.target or 'all'}.json" for found in analysis.fits]
    for old in (folder / "fits").glob("*.json"):
        if old.name not in names:
            old.unlink()
    for name, found in zip(names, analysis.fits, strict=True):
        found.save(folder / "fits" / name)
    there = {"transfer": analysis.matrix, "comparison": analysis.comparison, "plan": analysis.plan}
    for name, found in there.items():
        if found is None:
            (folder / f"{name}.json").unlink(missing_ok=True)
        else:
            files.write_json(folder / f"{name}.json", found.to_dict())
    record = {
        "settings": settings,
        "fits": names,
        "limits": list(analysis.limits),
        **{name: found is not None for name, found in there.items()},
    }
    files.write_text(folder / "walk.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
