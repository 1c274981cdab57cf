"""What each law, and each baseline, says of the runs of a forecast."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.errors import BabelscaleError
from babelscale.fitting import Fit, fit
from babelscale.formatting import json_ready
from babelscale.reporting.design.forecast.document import (
    MEAN,
    NEAREST,
    ForecastRun,
    ForecastSettings,
    LawForecast,
    Predicted,
    Unanswered,
)
from babelscale.runs import Observations, Runs

Progress = Callable[[str, int, int], None]


def answers(
    finished: Runs, runs: Sequence[ForecastRun], settings: ForecastSettings, progress: Progress | None = None
) -> list[LawForecast]:
    """Every law that `laws.names` lists, and every baseline, on every target that some of the runs train on.

    A law is fitted once for each target, to the finished runs, and predicts all runs of that target in one batch.
    """
    asked = [one for target in settings.targets if (one := _Asked.of(target, runs)) is not None]
    pairs = [(name, one) for name in laws.names() for one in asked]
    found = []
    for done, (name, one) in enumerate(pairs):
        if progress is not None:
            progress(f"forecast: {name} law of {one.target}", done, len(pairs))
        found.append(_of_law(name, one, finished, settings))
    if progress is not None:
        progress("forecast: laws fitted", len(pairs), len(pairs))
    return found + [_of_baseline(name, one, finished, settings) for name in (NEAREST, MEAN) for one in asked]


@dataclass(frozen=True)
class _Asked:
    """The forecast runs that train on a target, and their allocations, shape (runs,)."""

    target: str
    runs: tuple[ForecastRun, ...]
    allocation: Allocation

    @classmethod
    def of(cls, target: str, every: Iterable[ForecastRun]) -> "_Asked | None":
        """None where no run trains on the target."""
        runs = tuple(run for run in every if target in run.tokens)
        if not runs:
            return None
        codes = sorted({code for run in runs for code in run.tokens})
        D = {code: np.array([run.tokens.get(code, 0.0) for run in runs]) for code in codes}
        # As in observations: U does not matter where D is zero.
        U = {code: np.array([run.unique_tokens.get(code, np.inf) for run in runs]) for code in codes}
        return cls(target, runs, Allocation(np.array([run.params for run in runs]), D, U))

    def names(self, mask: NDArray[np.bool_]) -> tuple[str, ...]:
        """The names of some of the runs."""
        return tuple(run.run for run, kept in zip(self.runs, mask, strict=True) if kept)

    def refused(self, law: str, reason: str, *, baseline: bool = False) -> LawForecast:
        """No answer for any run."""
        unanswered = Unanswered(reason=reason, runs=tuple(run.run for run in self.runs))
        return LawForecast(
            law=law,
            baseline=baseline,
            target=self.target,
            parameters=None,
            notes=(),
            predictions=(),
            unanswered=(unanswered,),
        )


def _of_law(name: str, asked: _Asked, finished: Runs, settings: ForecastSettings) -> LawForecast:
    try:
        law = laws.by_name(name, asked.target, finished)
        found = fit(law, finished, metric=settings.metric, resamples=settings.resamples, seed=settings.seed)
    except BabelscaleError as error:
        return asked.refused(name, f"the law cannot be fitted: {error.message}")
    predictions, unanswered = _predicted(found, asked)
    return LawForecast(
        law=name,
        baseline=False,
        target=asked.target,
        parameters=dict(found.parameters),
        notes=found.notes,
        predictions=tuple(predictions),
        unanswered=unanswered,
    )


def _predicted(found: Fit, asked: _Asked) -> tuple[list[Predicted], tuple[Unanswered, ...]]:
    """Predictions in the order of the runs, and the runs that the fitted law cannot answer, by reason."""
    law, allocation = found.law, asked.allocation
    starts = np.array([run.start for run in asked.runs])
    described = np.isin(starts, law.starts)
    inside = law.defined(allocation) & np.isfinite(law.evaluate(found.parameters, allocation))
    mask = described & inside
    refused = {
        f"the run starts from {start}, and the law describes runs from {', '.join(law.starts)}": starts == start
        for start in sorted(set(starts[~described].tolist()))
    }
    refused[f"outside the law's domain: {law.domain}"] = described & ~inside
    predictions: list[Predicted] = []
    if mask.any():
        said = found.predict(allocation.at(mask))
        # Where most draws of the parameters leave the law's domain, the interval has no ends at all.
        lost = np.isposinf(said.low)
        out = mask.copy()
        out[mask] = lost
        refused["most draws of the parameters leave the law's domain, so there is no interval"] = out
        predictions = [
            Predicted(run=run, loss=float(loss), low=json_ready(low), high=json_ready(high))
            for run, loss, low, high, no in zip(asked.names(mask), said.loss, said.low, said.high, lost, strict=True)
            if not no
        ]
    return predictions, tuple(
        Unanswered(reason=reason, runs=asked.names(runs)) for reason, runs in refused.items() if runs.any()
    )


def _of_baseline(name: str, asked: _Asked, finished: Runs, settings: ForecastSettings) -> LawForecast:
    try:
        seen = measured(finished, asked.target, settings)
    except BabelscaleError as error:
        return asked.refused(name, error.message, baseline=True)
    own = seen.allocation.D(asked.target)
    trained = own > 0
    if not trained.any():
        return asked.refused(name, f"no finished run trains on {asked.target!r}", baseline=True)
    loss = seen.loss[trained]
    values = np.full(len(asked.runs), loss.mean())
    if name == NEAREST:
        here = np.log(np.stack([seen.allocation.params[trained], own[trained]], axis=1))
        there = np.log(np.stack([asked.allocation.params, asked.allocation.D(asked.target)], axis=1))
        values = loss[((there[:, None] - here[None]) ** 2).sum(axis=2).argmin(axis=1)]
    predictions = [
        Predicted(run=run.run, loss=float(value), low=None, high=None)
        for run, value in zip(asked.runs, values, strict=True)
    ]
    return LawForecast(
        law=name,
        baseline=True,
        target=asked.target,
        parameters=None,
        notes=(),
        predictions=tuple(predictions),
        unanswered=(),
    )


def measured(runs: Runs, target: str, settings: ForecastSettings) -> Observations:
    """The final losses of a target in runs of every start, by run in the order of their names."""
    starts = runs.table.select(pl.col("start").fill_null("scratch").unique()).to_series().to_list()
    return runs.observations(target, metric=settings.metric, start=sorted(starts))
