"""Open a sealed forecast: score it on the runs that were trained after it was sealed; list the forecasts of a study.

Each forecast run is judged once, in the first opening that finds it trained. A later opening judges only the runs that
were missing in all openings before it, and adds its own entry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel

import babelscale
from babelscale import files
from babelscale.errors import BabelscaleError, InputError, StudyError
from babelscale.intervals import wilson
from babelscale.reporting.design.forecast import document
from babelscale.reporting.design.forecast.document import (
    NEAREST,
    Forecast,
    ForecastRun,
    ForecastScore,
    LawForecast,
    Opening,
    Openings,
    Predicted,
    RefusedRun,
    ScoredRun,
)
from babelscale.reporting.design.forecast.seal import measured
from babelscale.study import record, timing
from babelscale.study.disk import watched
from babelscale.study.spec import identity_hash

_MOST_LISTED = 10
_AXES = ("size", "tokens", "compute", "mixture", "interpolation", "holdout")
_STARTS = {"checkpoint": "continued"}
Losses = Mapping[str, Mapping[str, float]]


class _Identity(BaseModel):
    """The fields of a record.json that identify its run."""

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
        head = self.forecast.model_dump(mode="json", include={"name", "study", "sealed", "settings"})
        entries = [opening.model_dump(mode="json") for opening in self.openings]
        return {"path": str(self.path), **head, "scored_now": self.scored_now, "openings": entries}

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
            lines.append("  it was opened before, and no further run is trained: these are the stored scores")
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
        "  pairs: of a run and a target; none: pairs without a prediction; nearest: median error of the "
        "nearest finished run on the same pairs",
        head,
        *lines,
    ]


def _named(title: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = [f"    and {len(names) - _MOST_LISTED} more, which --json lists"] if len(names) > _MOST_LISTED else []
    return [f"  {title}:", *(f"    {name}" for name in names[:_MOST_LISTED]), *more]


def open_forecast(study: Path, name: str | None = None) -> Opened:
    """Score the trained runs of a sealed forecast, each once, and write the scores beside it.

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
        listed = "".join(f"\n  {one.run}: {one.reason}" for one in refused[:_MOST_LISTED])
        raise StudyError(
            f"{path}: none of its {len(forecast.runs)} runs was trained after the seal; {len(refused)} are "
            f"refused{listed}",
            hint="train the forecast runs with `babelscale study run`",
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
    stored, _ = document.read(place, Openings)
    if stored.sealed_file != seal:
        raise StudyError(
            f"{place}: these scores belong to another sealed file", hint="put back the sealed file that was opened"
        )
    return stored.openings


def _record(study: Path, name: str) -> Path:
    return study / "finished" / name / record.RECORD


def _check_used(study: Path, forecast: Forecast) -> None:
    """Check that every record behind the forecast is unchanged.

    Raises:
        StudyError: a record is gone or changed.
    """
    changed: list[str] = []
    for used in forecast.used:
        path = _record(study, used.run)
        if not path.exists():
            changed.append(f"{path}: gone")
        elif document.sha256(path.read_bytes()) != used.sha256:
            changed.append(f"{path}: changed")
    if changed:
        listed = "".join(f"\n  {line}" for line in changed[:_MOST_LISTED])
        raise StudyError(
            f"{study}: {len(changed)} of the {len(forecast.used)} records behind forecast {forecast.name} have "
            f"changed{listed}",
            hint="restore the records that the forecast was made from",
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
    found = files.read_model(path, _Identity)
    if not found.hash == identity_hash(found.identity) == run.hash:
        return "its record has another identity than the run that was forecast"
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


def scores(forecast: Forecast, losses: Losses) -> list[ForecastScore]:
    """Scores by law, baselines last, and by axis: all runs, each axis of `ForecastRun.axes`, each kind of start.

    Args:
        losses: measured final loss by run and target, in the forecast's metric. Other runs are left out.
    """
    runs = [run for run in forecast.runs if run.run in losses]
    named = {axis for run in runs for axis in run.axes}
    starts = sorted({_start(run) for run in runs})
    groups = {"all": {run.run for run in runs}}
    groups |= {axis: {run.run for run in runs if axis in run.axes} for axis in _AXES if axis in named}
    groups |= {start: {run.run for run in runs if _start(run) == start} for start in starts}
    nearest = {
        (answer.target, one.run): one.loss
        for answer in forecast.answers
        if answer.baseline and answer.law == NEAREST
        for one in answer.predictions
    }
    by_law: dict[str, list[LawForecast]] = {}
    for answer in forecast.answers:
        by_law.setdefault(answer.law, []).append(answer)
    return [
        score
        for law, answers in by_law.items()
        for axis, names in groups.items()
        if (score := _score(law, axis, names, answers, losses, nearest)) is not None
    ]


def _start(run: ForecastRun) -> str:
    return _STARTS.get(run.start, run.start)


def _score(
    law: str,
    axis: str,
    names: set[str],
    answers: Sequence[LawForecast],
    losses: Losses,
    nearest: Mapping[tuple[str, str], float],
) -> ForecastScore | None:
    """The scores of one law on some runs; None where it has no pairs."""
    pairs = [(answer.target, one) for answer in answers for one in answer.predictions if one.run in names]
    refused = [run for answer in answers for one in answer.unanswered for run in one.runs if run in names]
    if not pairs and not refused:
        return None
    errors = [one.loss / losses[one.run][target] - 1 for target, one in pairs]
    beside = [
        abs(nearest[target, one.run] / losses[one.run][target] - 1)
        for target, one in pairs
        if (target, one.run) in nearest
    ]
    bounded = [(one, losses[one.run][target]) for target, one in pairs if one.low is not None]
    covered = sum(_covers(one, loss) for one, loss in bounded)
    low, high = wilson(covered, len(bounded))
    widths = [(one.high - one.low) / one.loss for one, _ in bounded if one.low is not None and one.high is not None]
    sizes = list(map(abs, errors))
    return ForecastScore(
        law=law,
        axis=axis,
        runs=len({one.run for _, one in pairs} | set(refused)),
        answered=len(pairs),
        unanswered=len(refused),
        intervals=len(bounded),
        covered=covered,
        coverage=covered / len(bounded) if bounded else None,
        coverage_low=low,
        coverage_high=high,
        median_error=median(sizes) if sizes else None,
        mean_error=fmean(sizes) if sizes else None,
        bias=fmean(errors) if errors else None,
        width=fmean(widths) if widths else None,
        unbounded=len(bounded) - len(widths),
        nearest_error=median(beside) if beside else None,
    )


def _covers(one: Predicted, loss: float) -> bool:
    return one.low is not None and one.low <= loss and (one.high is None or loss <= one.high)


@dataclass(frozen=True)
class Listed:
    """One forecast. If it is damaged, `problem` says how, and fields that could not be read are None.

    `trained` counts its runs that are finished, whenever they were trained; `scored` and `refused` those judged.
    """

    name: str
    state: Literal["sealed", "opened", "damaged"]
    sealed: str | None = None
    sha256: str | None = None
    runs: int | None = None
    trained: int | None = None
    scored: int = 0
    refused: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Listing:
    """The forecasts of a study."""

    folder: Path
    forecasts: tuple[Listed, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"folder": str(self.folder), "forecasts": [asdict(one) for one in self.forecasts]}

    def to_frame(self) -> pl.DataFrame:
        """One row a forecast."""
        return pl.DataFrame([asdict(one) for one in self.forecasts], infer_schema_length=None)

    def __str__(self) -> str:
        lines = [f"{self.folder}: {len(self.forecasts)} forecasts"]
        for one in self.forecasts:
            counts = f"{one.runs} runs, {one.trained} trained, {one.scored} scored, {one.refused} refused"
            lines.append(
                f"  {one.state:<8} {one.name}: {one.problem or f'sealed {one.sealed}, {counts}; {one.sha256}'}"
            )
        return "\n".join(lines)


def listing(study: Path) -> Listing:
    """The forecasts in a study's folder; a damaged one is listed with its problem."""
    return Listing(study, tuple(_listed(study, path) for path in document.sealed_files(study)))


def _listed(study: Path, path: Path) -> Listed:
    try:
        forecast, seal = document.read(path, Forecast)
        opened = document.opened_place(path)
        openings = document.read(opened, Openings)[0].openings if opened.exists() else ()
    except BabelscaleError as error:
        return Listed(path.stem, "damaged", problem=error.message)
    return Listed(
        path.stem,
        "opened" if openings else "sealed",
        sealed=f"{forecast.sealed:%Y-%m-%dT%H:%M:%SZ}",
        sha256=seal,
        runs=len(forecast.runs),
        trained=sum((study / "finished" / run.run / record.RECORD).exists() for run in forecast.runs),
        scored=sum(len(opening.runs) for opening in openings),
        refused=sum(len(opening.refused) for opening in openings),
    )
