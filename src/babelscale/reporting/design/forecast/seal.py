"""seal: write down what every law predicts for the runs of a study that are not begun."""

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

import babelscale
from babelscale.corpora import TokenStore
from babelscale.errors import InputError, StudyError
from babelscale.reporting.design.forecast import document
from babelscale.reporting.design.forecast.document import Forecast, ForecastRun, ForecastSettings, Parent, UsedRun
from babelscale.reporting.design.forecast.predicting import Progress, answers
from babelscale.study import RunSpec, Study, record, text
from babelscale.study.disk import watched
from babelscale.training import LOG

RESAMPLES = 100
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class Sealed:
    """A sealed forecast: its file, and the SHA-256 of the file's bytes, which people may publish."""

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
        shown = {"name", "study", "sealed", "settings", "under_way", "untargeted", "own_tokenizer"}
        told = self.forecast.model_dump(mode="json", include=shown)
        runs = [run.run for run in self.forecast.runs]
        counted = {"used": len(self.forecast.used), "runs": runs, "laws": self.counts()}
        return {"path": str(self.path), "sha256": self.sha256, **told, **counted}

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
            f"  SHA-256 of the file (publish it before training): {self.sha256}",
            f"  {'law':<20}{'asked':>8}{'answered':>10}   pairs of a run and a target, and why others have none",
        ]
        for row in self.counts():
            lines.append(f"  {row['law']:<20}{row['asked']:>8}{row['answered']:>10}")
            lines += [f"    {count:>6}  {reason}" for reason, count in row["unanswered"].items()]
        if forecast.under_way:
            names = ", ".join(forecast.under_way)
            lines.append(f"  {len(forecast.under_way)} runs have started and are not forecast: {names}")
        if forecast.untargeted:
            lines.append(
                f"  {len(forecast.untargeted)} runs train on no target and are not forecast; the file names them"
            )
        if forecast.own_tokenizer:
            lines.append(
                f"  {len(forecast.own_tokenizer)} runs have their own tokenizer, so that their tokens "
                "differ from the others, and are not forecast; the file names them"
            )
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
    """Fit every law to the finished runs of a study, and write its predictions for the runs that are not begun.

    The same finished runs, targets, resamples and seed give the same predictions.

    Args:
        name: of the forecast; by default forecast-1, forecast-2, ...
        targets: languages whose losses are predicted; by default the `targets` of the design's analysis, and all
            languages of the design where it names none.
        resamples: bootstrap refits behind each interval, 2 at least.
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
    names = {spec.name for spec in done}
    missing = [spec for spec in specs if spec.name not in names]
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
    told = tuple(answers(finished, runs, settings, progress))
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
        answers=told,
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
    """The runs with what each sees by its end, as its record will say."""
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
    """How far the finished runs go: the largest N, D and 6ND, and their mixtures."""

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
