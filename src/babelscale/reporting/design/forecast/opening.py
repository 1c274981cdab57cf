"""open_forecast: score a sealed forecast on the runs that were trained after it was sealed.

Each forecast run is judged once, in the first opening that finds it trained. A later opening judges only the runs that
were missing in all openings before it, and adds an entry of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel

import babelscale
from babelscale import files
from babelscale.errors import InputError, StudyError
from babelscale.reporting.design.forecast import document
from babelscale.reporting.design.forecast.document import (
    Forecast,
    ForecastRun,
    ForecastScore,
    Opening,
    Openings,
    RefusedRun,
    ScoredRun,
)
from babelscale.reporting.design.forecast.predicting import measured
from babelscale.reporting.design.forecast.scoring import scores
from babelscale.study import record, timing
from babelscale.study.disk import watched
from babelscale.study.spec import identity_hash

_SHOWN = 10


class _Identity(BaseModel):
    """What of a record.json says which run it is."""

    hash: str
    identity: dict[str, Any]


@dataclass(frozen=True)
class Opened:
    """The scores of a forecast. `scored_now` says whether this call scored runs or read stored scores."""

    path: Path
    forecast: Forecast
    openings: tuple[Opening, ...]
    scored_now: bool

    @property
    def last(self) -> Opening:
        return self.openings[-1]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        told = self.forecast.model_dump(mode="json", include={"name", "study", "sealed", "settings"})
        entries = [opening.model_dump(mode="json") for opening in self.openings]
        return {"path": str(self.path), **told, "scored_now": self.scored_now, "openings": entries}

    def to_frame(self) -> pl.DataFrame:
        """The scores over all openings, one row a law and axis."""
        return pl.DataFrame([score.model_dump() for score in self.last.scores_in_all], infer_schema_length=None)

    def __str__(self) -> str:
        count = sum(len(opening.runs) for opening in self.openings)
        head = f"{self.path}: forecast {self.forecast.name}, sealed {self.forecast.sealed:%Y-%m-%d %H:%M} UTC"
        lines = [f"{head}, {count} of {len(self.forecast.runs)} runs scored"]
        for number, one in enumerate(self.openings, 1):
            when = "now" if self.scored_now and one is self.last else "before"
            lines.append(
                f"  opening {number}, {when}, {one.opened:%Y-%m-%d %H:%M} UTC: {len(one.runs)} runs scored, "
                f"{len(one.refused)} refused, {len(one.missing)} not trained yet"
            )
        if not self.scored_now:
            lines.append("  it was opened before, and no run is scored again; these are the stored scores")
        lines += _table(self.last.scores_in_all)
        refused = [one for opening in self.openings for one in opening.refused]
        lines += _named(f"{len(refused)} runs refused, not scored", [f"{one.run}: {one.reason}" for one in refused])
        lines += _named(f"{len(self.last.missing)} runs not trained yet", self.last.missing)
        return "\n".join(lines)


def _table(rows: Sequence[ForecastScore]) -> list[str]:
    head = (
        f"  {'law':<19}{'axis':<14}{'runs':>5}{'pairs':>6}{'none':>6}{'coverage of 90 % intervals':>28}"
        f"{'median err':>12}{'mean err':>10}{'bias':>9}{'width':>8}{'nearest':>9}"
    )
    lines = []
    for one in (row for row in rows if row.answered or row.axis == "all"):
        coverage = "-"
        if one.coverage is not None and one.coverage_low is not None and one.coverage_high is not None:
            between = f"({100 * one.coverage_low:.0f} to {100 * one.coverage_high:.0f})"
            coverage = f"{one.covered}/{one.intervals} {100 * one.coverage:.0f} % {between}"
        parts = (one.median_error, one.mean_error, one.bias, one.width, one.nearest_error)
        cells = [f"{100 * part:.2f} %" if part is not None else "-" for part in parts]
        lines.append(
            f"  {one.law:<19}{one.axis:<14}{one.runs:>5}{one.answered:>6}{one.unanswered:>6}{coverage:>28}"
            f"{cells[0]:>12}{cells[1]:>10}{cells[2]:>9}{cells[3]:>8}{cells[4]:>9}"
        )
    return [
        "  pairs: pairs of a run and a target; none: pairs without an answer; nearest: median error of the "
        "nearest finished run on the same pairs",
        head,
        *lines,
    ]


def _named(title: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = [f"    and {len(names) - _SHOWN} more, which --json lists"] if len(names) > _SHOWN else []
    return [f"  {title}:", *(f"    {name}" for name in names[:_SHOWN]), *more]


def open_forecast(study: Path, name: str | None = None) -> Opened:
    """Score what was trained of a sealed forecast, once, and write the scores beside it.

    Args:
        study: the study's folder.
        name: of the forecast; may be left out where there is only one.

    Raises:
        InputError: there is no such forecast, or a file is damaged.
        StudyError: the sealed file or a record behind it was changed; or no forecast run was trained after the seal.
    """
    path = document.place(study, name) if name is not None else _only(study)
    forecast, seal = document.read(path, Forecast)
    place = document.opened_place(path)
    before = _before(place, seal)
    candidates = {run.run for run in forecast.runs} if not before else set(before[-1].missing)
    trained = [run for run in forecast.runs if run.run in candidates and _record(study, run.run).exists()]
    if before and not trained:
        return Opened(place, forecast, before, scored_now=False)
    _check_used(study, forecast)
    found, refused = _judged(study, forecast, trained, seal)
    if not found and not before:
        told = "".join(f"\n  {one.run}: {one.reason}" for one in refused[:_SHOWN])
        raise StudyError(
            f"{path}: none of its {len(forecast.runs)} runs was trained after the seal; {len(refused)} are "
            f"refused{told}",
            hint="train the runs that it forecasts with `babelscale study run`",
        )
    there = {run.run for run in trained}
    missing = tuple(run.run for run in forecast.runs if run.run in candidates and run.run not in there)
    own = {run.run: run.losses for run in found}
    everything = {run.run: run.losses for opening in before for run in opening.runs} | own
    entry = Opening(
        opened=document.now(),
        runs=tuple(found),
        refused=tuple(refused),
        missing=missing,
        scores=tuple(scores(forecast, own)),
        scores_in_all=tuple(scores(forecast, everything)),
    )
    openings = (*before, entry)
    with watched(place.parent):
        document.write(
            place,
            Openings(
                format=document.FORMAT,
                babelscale=babelscale.__version__,
                name=forecast.name,
                sealed_file=seal,
                openings=openings,
            ),
        )
    return Opened(place, forecast, openings, scored_now=True)


def _only(study: Path) -> Path:
    paths = document.sealed_files(study)
    if len(paths) != 1:
        known = ", ".join(path.stem for path in paths)
        raise InputError(
            f"{study}: {len(paths)} forecasts are sealed",
            hint=f"give one with --name: {known}" if paths else f"babelscale forecast {study} --seal",
        )
    return paths[0]


def _before(place: Path, seal: str) -> tuple[Opening, ...]:
    """The openings so far."""
    if not place.exists():
        return ()
    held, _ = document.read(place, Openings)
    if held.sealed_file != seal:
        raise StudyError(
            f"{place}: these scores belong to another sealed file", hint="put back the sealed file that was opened"
        )
    return held.openings


def _record(study: Path, name: str) -> Path:
    return study / "finished" / name / record.RECORD


def _check_used(study: Path, forecast: Forecast) -> None:
    """Every record behind the forecast is as it was."""
    changed: list[str] = []
    for used in forecast.used:
        path = _record(study, used.run)
        if not path.exists():
            changed.append(f"{path}: gone")
        elif document.sha256(path.read_bytes()) != used.sha256:
            changed.append(f"{path}: changed")
    if changed:
        told = "".join(f"\n  {line}" for line in changed[:_SHOWN])
        raise StudyError(
            f"{study}: {len(changed)} of the {len(forecast.used)} records behind forecast {forecast.name} "
            f"were changed or are missing{told}",
            hint="put back the records that the forecast was made from",
        )


def _judged(
    study: Path, forecast: Forecast, trained: Sequence[ForecastRun], seal: str
) -> tuple[list[ScoredRun], list[RefusedRun]]:
    """The trained runs that can be scored with their losses, and the others."""
    reasons = {run.run: _refusal(study, run, seal) for run in trained}
    sound = [run for run in trained if reasons[run.run] is None]
    losses = _losses(study, forecast, sound)
    found: list[ScoredRun] = []
    for run in sound:
        wanted = [target for target in forecast.settings.targets if target in run.tokens]
        if lacking := [target for target in wanted if target not in losses[run.run]]:
            reasons[run.run] = f"its record has no final loss on {', '.join(lacking)}"
            continue
        own = {target: losses[run.run][target] for target in wanted}
        found.append(ScoredRun(run=run.run, sha256=document.sha256(_record(study, run.run).read_bytes()), losses=own))
    return found, [RefusedRun(run=name, reason=reason) for name, reason in reasons.items() if reason is not None]


def _refusal(study: Path, run: ForecastRun, seal: str) -> str | None:
    """Why a trained run is not scored; None where it is."""
    path = _record(study, run.run)
    held = files.read_model(path, _Identity)
    if not held.hash == identity_hash(held.identity) == run.hash:
        return "its record is of a run with another identity than the one that was forecast"
    if not (path.parent / timing.TIMING).exists():
        return f"there is no {timing.TIMING} that shows that it was trained after the forecast was sealed"
    if seal not in timing.read(path.parent / timing.TIMING).forecasts.values():
        return "trained before the forecast was sealed"
    return None


def _losses(study: Path, forecast: Forecast, sound: Sequence[ForecastRun]) -> dict[str, dict[str, float]]:
    """Measured final loss by run and target."""
    losses: dict[str, dict[str, float]] = {run.run: {} for run in sound}
    runs = record.read_runs(study / "finished", sorted(losses))
    for target in forecast.settings.targets if runs is not None else ():
        if runs is None or runs.losses.filter(language=target, split="validation", lr_state="decayed").is_empty():
            continue
        seen = measured(runs, target, forecast.settings)
        for name, loss in zip(seen.run.tolist(), seen.loss.tolist(), strict=True):
            losses[name][target] = loss
    return losses
