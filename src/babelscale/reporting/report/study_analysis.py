"""The analysis of a study's runs: transfer scores, laws, their comparison and a plan, saved beside the runs.

A step that these runs do not allow is not an error: `StudyAnalysis.limits` says why in a sentence, and the analysis
continues.
"""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import babelscale
from babelscale import files
from babelscale.charts.adding_languages import width_frame
from babelscale.errors import DomainError, InputError
from babelscale.fitting import Comparison, Fit, compare, fit
from babelscale.laws import by_name
from babelscale.planning import Plan, plan
from babelscale.runs import Runs
from babelscale.transfer import TransferMatrix

Progress = Callable[[str, int, int], None]

LAWS = ("chinchilla", "data-constrained", "multilingual", "adaptive-transfer")
LAW = "multilinguality"
# A law of five parameters needs more final losses than that, of two sizes at least.
ENOUGH = 6
# The multilinguality law needs so many different numbers of languages: two show a difference and no slope.
ENOUGH_COUNTS = 3
BUDGET = 10.0
# The name of this file is fixed: studies of earlier versions have it.
_RECORD = "walk.json"


@dataclass(frozen=True)
class StudyAnalysis:
    """The results of a study's runs.

    `limits` says in sentences which steps failed and why; `reused` whether the results were read from disk.
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
        """The fits of laws that describe the number of languages, by target."""
        return tuple(found for found in self.fits if found.law.prices_languages)

    @property
    def best_fits(self) -> tuple[Fit, ...]:
        """For each target the richest law that could be fitted: adaptive transfer, otherwise Chinchilla.

        Fits are in the order of their laws, the simpler ones first.
        """
        return tuple({found.target: found for found in self.fits if not found.law.prices_languages}.values())


def widths(runs: Runs, target: str) -> list[int]:
    """Numbers of languages of the runs from scratch that have a final loss on a target that they train on."""
    return sorted(map(int, width_frame(runs).filter(language=target)["languages"].unique()))


def analyse(path: str | Path, *, progress: Progress | None = None, seed: int = 0) -> StudyAnalysis:
    """Analyse a study's folder, a folder of tables of runs, or one table of runs.

    The results of a study are written to its analysis/ and read from there while its runs, its design's `analysis` and
    the version of this package stay the same. Runs without a study are analysed every time and nothing is written.

    Args:
        progress: called with (label, done, total).
        seed: of the resamples behind every interval.

    Raises:
        InputError: the runs cannot be read; the message names file, row and field.
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
    start = StudyAnalysis(path.resolve().name, runs, design)
    if folder is not None and (saved := _read(folder, settings, start)) is not None:
        return saved
    analysis = _analyse(start, progress or (lambda label, done, total: None), seed)
    if folder is not None:
        _save(analysis, folder, settings)
    return analysis


def targets(analysis: StudyAnalysis) -> list[str]:
    """The languages that laws are fitted for: the design's, or those with enough final losses of runs from scratch."""
    named = analysis.design.get("analysis", {}).get("targets")
    if named is not None:
        return [str(code) for code in named]
    return [code for code in analysis.runs.targets if _has_enough(analysis.runs, code)]


def _has_enough(runs: Runs, target: str) -> bool:
    try:
        seen = runs.observations(target)
    except InputError:
        return False
    trained = seen.allocation.D(target) > 0
    return int(trained.sum()) >= ENOUGH and len(np.unique(seen.allocation.params[trained])) >= 2


def _analyse(start: StudyAnalysis, progress: Progress, seed: int) -> StudyAnalysis:
    runs, limits = start.runs, list(start.limits)
    wanted = targets(start)
    several = len(runs.languages) > 1
    fits_to_make = [(name, target) for target in wanted for name in _law_names(runs, target, several)]
    total = len(fits_to_make) + 3

    def attempt(what: str, step: Callable[[], Any]) -> Any:
        """The step's result, or None with the reason among the limits."""
        try:
            return step()
        except (InputError, DomainError) as error:
            hint = f" ({error.hint})" if error.hint else ""
            limits.append(f"{what}: {error.message}{hint}.".replace("..", "."))
            return None

    progress("analysis: transfer scores", 0, total)
    matrix = attempt("No transfer scores", lambda: TransferMatrix.from_runs(runs)) if several else None
    if not wanted:
        limits.append(
            f"No law was fitted: this needs at least {ENOUGH} finished runs from scratch, of two sizes or more, with a "
            "final loss on one language that they train on."
        )
    fits: list[Fit] = []
    for done, (name, target) in enumerate(fits_to_make, start=1):
        progress(f"analysis: {name} law of {target}", done, total)
        found = attempt(f"No {name} law of {target}", functools.partial(_fit, name, target, runs, seed))
        fits += [found] if found is not None else []
    progress("analysis: held-out comparison", total - 2, total)
    comparison = None
    if fits:
        compared = list(LAWS if several else LAWS[:2])
        fitted = list(dict.fromkeys(runs.target(found.target) for found in fits))
        comparison = attempt("No comparison of laws", lambda: compare(compared, runs, targets=fitted, seed=seed))
    analysis = replace(start, matrix=matrix, fits=tuple(fits), comparison=comparison)
    progress("analysis: plan", total - 1, total)
    made = attempt("No plan", lambda: _plan(analysis, seed)) if fits else None
    progress("analysis: done", total, total)
    return replace(analysis, plan=made, limits=tuple(limits))


def _fit(name: str, target: str, runs: Runs, seed: int) -> Fit:
    return fit(by_name(name, target, runs), runs, seed=seed)


def _law_names(runs: Runs, target: str, several: bool) -> tuple[str, ...]:
    """The laws to fit for a target; the multilinguality law only with runs of enough numbers of languages."""
    if not several:
        return ("chinchilla",)
    enough = target in runs.targets and len(widths(runs, target)) >= ENOUGH_COUNTS
    return ("chinchilla", "adaptive-transfer", *((LAW,) if enough else ()))


def _plan(analysis: StudyAnalysis, seed: int) -> Plan:
    """The plan of the design; by default for 10 times the largest run's compute and every fitted language."""
    request = analysis.design.get("analysis", {}).get("plan", {})
    table = analysis.runs.table.select(C=pl.coalesce("flops", 6 * pl.col("params") * pl.col("tokens")))
    compute = float(request.get("compute") or BUDGET * float(table["C"].to_numpy().max()))
    languages = [str(code) for code in request.get("languages") or analysis.runs.languages]
    chosen = [found for found in analysis.best_fits if found.target is None or found.target in languages]
    if not chosen:
        raise InputError("no law was fitted for any language of the plan")
    return plan(chosen, compute=compute, languages=languages, seed=seed)


def _design(path: Path) -> dict[str, Any]:
    file = path / "design.json"
    if not file.exists():
        return {}
    try:
        design = _json(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error})", hint="run the study again to rewrite it") from None
    if not isinstance(design, dict):
        raise InputError(f"{file}: not a study's design", hint="run the study again to rewrite it")
    return design


def _read(folder: Path, settings: Mapping[str, Any], start: StudyAnalysis) -> StudyAnalysis | None:
    """The saved results, if they are complete and made from the same runs, settings and version."""
    try:
        record = _json(folder / _RECORD)
        if record["settings"] != settings:
            return None
        return replace(
            start,
            matrix=TransferMatrix.load(folder / "transfer.json") if record["transfer"] else None,
            fits=tuple(Fit.load(folder / "fits" / name) for name in record["fits"]),
            comparison=Comparison.from_dict(_json(folder / "comparison.json")) if record["comparison"] else None,
            plan=Plan.from_dict(_json(folder / "plan.json")) if record["plan"] else None,
            limits=tuple(record["limits"]),
            reused=True,
        )
    except (OSError, ValueError, KeyError, TypeError):
        # Absent, incomplete or of another version: the analysis is made again, so nothing is lost.
        return None


def _save(analysis: StudyAnalysis, folder: Path, settings: Mapping[str, Any]) -> None:
    """Write every result; the record is written last, so that it exists only beside complete results."""
    (folder / "fits").mkdir(parents=True, exist_ok=True)
    (folder / _RECORD).unlink(missing_ok=True)
    names = [f"{found.law.name}-{found.target or 'all'}.json" for found in analysis.fits]
    for old in (folder / "fits").glob("*.json"):
        if old.name not in names:
            old.unlink()
    for name, found in zip(names, analysis.fits, strict=True):
        found.save(folder / "fits" / name)
    results = {"transfer": analysis.matrix, "comparison": analysis.comparison, "plan": analysis.plan}
    for name, found in results.items():
        if found is None:
            (folder / f"{name}.json").unlink(missing_ok=True)
        else:
            files.write_text(folder / f"{name}.json", json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n")
    record = {"settings": settings, "fits": names, "limits": list(analysis.limits)}
    record |= {name: found is not None for name, found in results.items()}
    files.write_text(folder / _RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
