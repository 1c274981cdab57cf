"""Scores of a forecast: how often the intervals hold the measured losses, and how far the predictions lie from them."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median

from babelscale.intervals import wilson
from babelscale.reporting.design.forecast.document import (
    NEAREST,
    Forecast,
    ForecastRun,
    ForecastScore,
    LawForecast,
    Predicted,
)

_AXES = ("size", "tokens", "compute", "mixture", "interpolation", "holdout")
_STARTS = {"checkpoint": "continued"}
Losses = Mapping[str, Mapping[str, float]]


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
    """The scores of one law on some runs; None where it was asked nothing."""
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
