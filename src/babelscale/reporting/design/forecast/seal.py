"""Seal a forecast: what every law predicts for the runs of a study that have not begun."""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import babelscale
from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.corpora import TokenStore
from babelscale.errors import BabelscaleError, InputError, StudyError
from babelscale.fitting import Fit, fit
from babelscale.formatting import json_ready
from babelscale.reporting.design.forecast import document
from babelscale.reporting.design.forecast.document import (
    MEAN,
    NEAREST,
    Forecast,
    ForecastRun,
    ForecastSettings,
    LawForecast,
    Parent,
    Predicted,
    Unanswered,
    UsedRun,
)
from babelscale.runs import Observations, Runs
from babelscale.study import RunSpec, Study, record, text
from babelscale.study.disk import watched
from babelscale.training import LOG

Progress = Callable[[str, int, int], None]

RESAMPLES = 100
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class Sealed:
    """A sealed forecast: its file, and the SHA-256 of the file's bytes, which can be published."""

    path: Path
    sha256: str
    forecast: Forecast

    def counts(self) -> list[dict[str, Any]]:
        """By law: pairs of a run and a target `asked`, `answered`, and the pairs `unanswered` by reason."""
        rows: dict[str, dict[str, Any]] = {}
        for answer in self.forecast.answers:
            row = rows.setdefault(answer.law, {"law": answer.law, "asked": 0, "answered": 0, "unanswered": Counter()})
            row["unanswered"].update({one.reason: len(one.runs) for one in answer.unanswered})
            row["answered"] += len(answer.predictions)
            row["asked"] += len(answer.predictions) + sum(len(one.runs) for one in answer.unanswered)
        return [row | {"unanswered": dict(row["unanswered"])} for row in rows.values()]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; the predictions themselves are in the file."""
        fields = {"name", "study", "sealed", "settings", "under_way", "untargeted", "own_tokenizer"}
        head = {"path": str(self.path), "sha256": self.sha256, **self.forecast.model_dump(mode="json", include=fields)}
        runs = [run.run for run in self.forecast.runs]
        return head | {"used": len(self.forecast.used), "runs": runs, "laws": self.counts()}

    def to_frame(self) -> pl.DataFrame:
        """One row a law, target and run; `reason` says why there is no prediction."""
        schema = dict.fromkeys(("law", "target", "run"), pl.String) | dict.fromkeys(("loss", "low", "high"), pl.Float64)
        rows = [
            {"law": answer.law, "target": answer.target, **row}
            for answer in self.forecast.answers
            for row in (
                *(one.model_dump() for one in answer.predictions),
                *({"run": run, "reason": one.reason} for one in answer.unanswered for run in one.runs),
            )
        ]
        return pl.DataFrame(rows, schema=schema | {"reason": pl.String})

    def __str__(self) -> str:
        forecast = self.forecast
        lines = [
            f"{self.path}: {len(forecast.runs)} runs forecast from {len(forecast.used)} finished runs, targets "
            f"{', '.join(forecast.settings.targets)}",
            f"  SHA-256 of the file, for publication: {self.sha256}",
            f"  {'law':<20}{'asked':>8}{'answered':>10}   pairs of a run and a target; reasons of unanswered pairs",
        ]
        for row in self.counts():
            lines.append(f"  {row['law']:<20}{row['asked']:>8}{row['answered']:>10}")
            lines += [f"    {count:>6}  {reason}" for reason, count in row["unanswered"].items()]
        for names, why in (
            (forecast.under_way, f"are under way: {', '.join(forecast.under_way)}"),
            (forecast.untargeted, "train on no target; the file names them"),
            (forecast.own_tokenizer, "have a tokenizer of their own, so their tokens differ; the file names them"),
        ):
            lines += [f"  not forecast: {len(names)} runs, which {why}"] if names else []
        return "\n".join(lines)


def seal(
    study: Study,
    *,
    name: str | None = None,
    targets: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sealed:
    """Fit every law to the finished runs of a study, and write its predictions for the runs that have not begun.

    The same finished runs, targets, resamples and seed give the same predictions.

    Args:
        name: of the forecast; by default forecast-1, forecast-2, ...
        targets: languages whose losses are predicted; by default the `targets` of the design's analysis, and all
            languages of the design where it names none.
        resamples: bootstrap refits behind each interval, at least 2.
        progress: called with (label, done, total).

    Raises:
        InputError: the name is taken or not usable, a target is not a language of the design, too few resamples.
        StudyError: no run is finished, or every run is finished or under way.
    """
    if resamples < 2:
        raise InputError(f"resamples is {resamples}", hint="give at least 2; 100 is usual")
    path = _place(study.folder, name)
    wanted = _targets(study, targets)
    # Tokens of different tokenizers cannot be compared, and most runs of a study share one.
    own = [name for name, spec in sorted(study.specs.items()) if spec.own is not None and not study.is_finished(name)]
    specs = [spec for _, spec in sorted(study.specs.items()) if spec.own is None]
    done = [spec for spec in specs if study.is_finished(spec.name)]
    finished = record.read_runs(study.folder / "finished", [spec.name for spec in done])
    if finished is None:
        raise StudyError(
            f"{study.folder}: no run is finished", hint="laws are fitted to finished runs; train some first"
        )
    missing = [spec for spec in specs if not study.is_finished(spec.name)]
    begun = {spec.name for spec in missing if _is_begun(study, spec.name)}
    every = _forecast_runs(study, [spec for spec in missing if spec.name not in begun], done)
    runs = [run for run in every if not run.tokens.keys().isdisjoint(wanted)]
    if not runs:
        raise StudyError(
            f"{study.folder}: no run is left to forecast; {len(done)} are finished, {len(begun)} have "
            f"started, and {len(every)} train on none of the targets {', '.join(wanted)}",
            hint="add groups to the design, and prepare the study again",
        )
    settings = ForecastSettings(metric=finished.metric, seed=seed, resamples=resamples, targets=wanted)
    used = [
        UsedRun(run=spec.name, sha256=document.sha256((study.finished(spec.name) / record.RECORD).read_bytes()))
        for spec in done
    ]
    targeted = {run.run for run in runs}
    forecast = Forecast(
        format=document.FORMAT,
        babelscale=babelscale.__version__,
        name=path.stem,
        study=study.design.name,
        sealed=document.now(),
        settings=settings,
        used=tuple(used),
        under_way=tuple(sorted(begun)),
        untargeted=tuple(run.run for run in every if run.run not in targeted),
        own_tokenizer=tuple(own),
        runs=tuple(runs),
        answers=tuple(answers(finished, runs, settings, progress)),
    )
    with watched(path.parent):
        return Sealed(path, document.write(path, forecast), forecast)


def _place(folder: Path, name: str | None) -> Path:
    """Where a new forecast is written."""
    if name is None:
        free = (document.place(folder, f"forecast-{number}") for number in itertools.count(1))
        return next(path for path in free if not path.exists())
    path = document.place(folder, name)
    if path.exists():
        raise InputError(f"{path} exists already", hint="a sealed forecast is never overwritten; choose another --name")
    return path


def _targets(study: Study, targets: Sequence[str] | None) -> tuple[str, ...]:
    design = study.design
    wanted = targets or design.analysis.get("targets") or design.languages
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    if unknown := [code for code in wanted if code not in design.languages]:
        raise InputError(
            f"target {unknown[0]!r} is not a language of design {design.name!r}",
            hint=f"languages: {', '.join(design.languages)}",
        )
    return tuple(dict.fromkeys(wanted))


def _is_begun(study: Study, name: str) -> bool:
    return any((study.folder / "working" / name).glob(f"*/{LOG}"))


def _forecast_runs(study: Study, missing: Sequence[RunSpec], done: Sequence[RunSpec]) -> list[ForecastRun]:
    """The runs with the tokens that each will have seen at its end."""
    store = functools.cache(TokenStore.open)
    axes = _Reach.of(done)
    found = []
    for spec in missing:
        batches = text.batches(spec, store(study.text(spec) / "corpus"))
        counts = {code: count for code, count in batches.counts(spec.steps).items() if count}
        trunk, base = study.trunks.get(spec.name), spec.base
        found.append(
            ForecastRun(
                run=spec.name,
                hash=spec.hash,
                start=spec.start,
                params=float(spec.shape.params),
                tokens={code: float(count * spec.recipe.sequence_length) for code, count in counts.items()},
                unique_tokens={code: float(batches.unique_tokens(code)) for code in counts},
                axes=axes.labels(spec, study),
                trunk=None if trunk is None else _parent(study, trunk.name),
                base=None if base is None else _parent(study, base.name),
            )
        )
    return found


def _parent(study: Study, name: str) -> Parent:
    if name not in study.specs:
        return Parent(run=name, state="not of this study")
    state = "finished" if study.is_finished(name) else "under way" if _is_begun(study, name) else "missing"
    return Parent(run=name, state=state)


@dataclass(frozen=True)
class _Reach:
    """The range of the finished runs: the largest N, D and 6ND, and their mixtures."""

    params: float
    tokens: float
    compute: float
    mixtures: frozenset[tuple[tuple[str, float], ...]]

    @classmethod
    def of(cls, done: Sequence[RunSpec]) -> "_Reach":
        return cls(
            max(spec.shape.params for spec in done),
            max(spec.tokens for spec in done),
            max(6 * spec.shape.params * spec.tokens for spec in done),
            frozenset(map(_shares, done)),
        )

    def labels(self, spec: RunSpec, study: Study) -> tuple[str, ...]:
        """`size`, `tokens`, `compute` and `mixture` where a run lies outside the finished runs, else `interpolation`;
        and `holdout` where the design holds it out."""
        N, D = spec.shape.params, spec.tokens
        beyond = {
            "size": _ROUNDING * self.params < N,
            "tokens": _ROUNDING * self.tokens < D,
            "compute": _ROUNDING * self.compute < 6 * N * D,
            "mixture": _shares(spec) not in self.mixtures,
        }
        named = [axis for axis, is_beyond in beyond.items() if is_beyond] or ["interpolation"]
        return (*named, *(["holdout"] if spec.name in study.held_out else []))


def _shares(spec: RunSpec) -> tuple[tuple[str, float], ...]:
    return tuple((code, round(share, 6)) for code, share in spec.shares.items())


def answers(
    finished: Runs, runs: Sequence[ForecastRun], settings: ForecastSettings, progress: Progress | None = None
) -> list[LawForecast]:
    """Every law that `laws.names` lists, and every baseline, on every target that some of the runs train on.

    A law is fitted once for each target, to the finished runs, and predicts all runs of that target in one batch.
    """
    wanted = [one for target in settings.targets if (one := _TargetRuns.of(target, runs)) is not None]
    pairs = [(name, one) for name in laws.names() for one in wanted]
    found = []
    for done, (name, one) in enumerate(pairs):
        if progress is not None:
            progress(f"forecast: {name} law of {one.target}", done, len(pairs))
        found.append(_of_law(name, one, finished, settings))
    if progress is not None:
        progress("forecast: laws fitted", len(pairs), len(pairs))
    return found + [_of_baseline(name, one, finished, settings) for name in (NEAREST, MEAN) for one in wanted]


@dataclass(frozen=True)
class _TargetRuns:
    """The forecast runs that train on a target, and their allocations, shape (runs,)."""

    target: str
    runs: tuple[ForecastRun, ...]
    allocation: Allocation

    @classmethod
    def of(cls, target: str, every: Iterable[ForecastRun]) -> "_TargetRuns | None":
        """None where no run trains on the target."""
        runs = tuple(run for run in every if target in run.tokens)
        if not runs:
            return None
        codes = sorted({code for run in runs for code in run.tokens})
        D = {code: np.array([run.tokens.get(code, 0.0) for run in runs]) for code in codes}
        # U does not matter where D is zero, as in observations.
        U = {code: np.array([run.unique_tokens.get(code, np.inf) for run in runs]) for code in codes}
        return cls(target, runs, Allocation(np.array([run.params for run in runs]), D, U))

    def names(self, mask: NDArray[np.bool_]) -> tuple[str, ...]:
        """The names of some of the runs."""
        return tuple(run.run for run, used in zip(self.runs, mask, strict=True) if used)

    def refused(self, law: str, reason: str, *, baseline: bool = False) -> LawForecast:
        """The answer of a law that predicts no run."""
        unanswered = Unanswered(reason=reason, runs=tuple(run.run for run in self.runs))
        return self.answer(law, baseline=baseline, unanswered=(unanswered,))

    def answer(self, law: str, **fields: Any) -> LawForecast:
        """The answer of a law on this target; fields are empty by default."""
        empty: dict[str, Any] = {"parameters": None, "notes": (), "predictions": (), "unanswered": ()}
        return LawForecast(law=law, target=self.target, **empty | fields)


def _of_law(name: str, asked: _TargetRuns, finished: Runs, settings: ForecastSettings) -> LawForecast:
    try:
        law = laws.by_name(name, asked.target, finished)
        found = fit(law, finished, metric=settings.metric, resamples=settings.resamples, seed=settings.seed)
    except BabelscaleError as error:
        return asked.refused(name, f"the law cannot be fitted: {error.message}")
    predictions, unanswered = _predicted(found, asked)
    return asked.answer(
        name,
        baseline=False,
        parameters=dict(found.parameters),
        notes=found.notes,
        predictions=tuple(predictions),
        unanswered=unanswered,
    )


def _predicted(found: Fit, asked: _TargetRuns) -> tuple[list[Predicted], tuple[Unanswered, ...]]:
    """Predictions in the order of the runs, and by reason the runs that the fitted law cannot predict."""
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
        predicted = found.predict(allocation.at(mask))
        # Where most draws of the parameters leave the law's domain, the interval has no ends.
        lost = np.isposinf(predicted.low)
        out = mask.copy()
        out[mask] = lost
        refused["most draws of the parameters leave the law's domain, so there is no interval"] = out
        predictions = [
            Predicted(run=run, loss=float(loss), low=json_ready(float(low)), high=json_ready(float(high)))
            for run, loss, low, high, no in zip(
                asked.names(mask), predicted.loss, predicted.low, predicted.high, lost, strict=True
            )
            if not no
        ]
    return predictions, tuple(
        Unanswered(reason=reason, runs=asked.names(runs)) for reason, runs in refused.items() if runs.any()
    )


def _of_baseline(name: str, asked: _TargetRuns, finished: Runs, settings: ForecastSettings) -> LawForecast:
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
    return asked.answer(name, baseline=True, predictions=tuple(predictions))


def measured(runs: Runs, target: str, settings: ForecastSettings) -> Observations:
    """The final losses of a target in runs of every start, by run in the order of their names."""
    starts = runs.table.select(pl.col("start").fill_null("scratch").unique()).to_series().to_list()
    return runs.observations(target, metric=settings.metric, start=sorted(starts))
