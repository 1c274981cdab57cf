"""compare: how well laws predict runs that they were not fitted to, along the axes of the ATLAS study."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from babelscale import laws
from babelscale.errors import DomainError, InputError
from babelscale.fitting.bootstrap import Progress
from babelscale.fitting.estimate import FitSettings, Objective, checked, fit_observations, subset
from babelscale.fitting.newton import QUICK
from babelscale.formatting import plural
from babelscale.laws import ScalingLaw
from babelscale.result import JsonResult
from babelscale.runs import Axis, Metric, Observations, Runs
from babelscale.tables import LRState

Mask = NDArray[np.bool_]
_SCHEMA = {
    "law": pl.String,
    "target": pl.String,
    "axis": pl.String,
    "R2": pl.Float64,
    "mean_relative_error": pl.Float64,
    "bias": pl.Float64,
    "n_train": pl.Int64,
    "n_test": pl.Int64,
    "n_outside": pl.Int64,
    "note": pl.String,
}
_EXPANDING = {"law": pl.String, "target": pl.String, "along": pl.String, "upto": pl.Float64, "reach": pl.Float64}
_EXPANDING |= {name: kind for name, kind in _SCHEMA.items() if name not in ("law", "target", "axis")}
_SCORES = ("R2", "mean_relative_error", "bias")
AXES: tuple[Axis, ...] = get_args(Axis)
Along = Literal["compute", "params", "tokens"]
ALONG: tuple[Along, ...] = get_args(Along)
_SYMBOL = {"compute": "C", "params": "N", "tokens": "D"}


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(JsonResult):
    """How well laws predict runs that they were not fitted to.

    `table`: one row a law, target and held-out axis. `expanding`: one row a law, target and rung, where the law was
    fitted to the runs up to `upto` (FLOPs, parameters or tokens in all, by `along`) and evaluated on every later one,
    the farthest of which is `reach` times beyond. A row that could not be computed has nulls and a note that says why.

    R2 = 1 - SS_res / SS_tot of the loss itself (not its logarithm) over the held-out losses, as in the study; it is
    negative where a law predicts worse than the held-out mean. `mean_relative_error` is the mean of
    |predicted - measured| / measured, `bias` the same with its sign: positive where the law predicts too high a loss.

    `n_outside` counts held-out losses on which the fitted law has none (D_eff <= 0). They are left out of the scores,
    `n_test` counts the others, and the note says so: the scores of such a row are too good.
    """

    table: pl.DataFrame
    metric: str
    expanding: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_EXPANDING))

    @property
    def averages(self) -> pl.DataFrame:
        """Means over the targets that could be computed, how many `targets`, and `outside`: losses left out in all."""
        return _averages(self.table, "law", "axis")

    @property
    def expanding_averages(self) -> pl.DataFrame:
        """The same by law, along, upto and reach."""
        return _averages(self.expanding, "law", "along", "upto")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; what could not be computed is None."""
        return {
            "metric": self.metric,
            "rows": self.table.to_dicts(),
            "summary": self.averages.to_dicts(),
            "expanding": self.expanding.to_dicts(),
            "expanding_summary": self.expanding_averages.to_dicts(),
        }

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        expanding = _table({"expanding": [], **data}, "expanding", _EXPANDING)
        return {"table": _table(data, "rows", _SCHEMA), "metric": data["metric"], "expanding": expanding}

    @property
    def headline(self) -> str:
        law, target, axis = (self.table[name].n_unique() for name in ("law", "target", "axis"))
        targets, axes = plural(target, "target"), f"{axis} held-out {'axis' if axis == 1 else 'axes'}"
        return f"{plural(law, 'law')} compared on {targets} along {axes}"

    def to_frame(self) -> pl.DataFrame:
        """The table of scores, one row a law, target and held-out axis."""
        return self.table

    def summary(self) -> str:
        axes = list(dict.fromkeys(self.table["axis"]))
        lines = [
            f"R2 on held-out losses ({self.metric.replace('_', ' ')}), and in brackets the mean relative error; "
            "means over targets",
            *_grid(self.averages, "axis", {axis: axis for axis in axes}),
        ]
        for along in dict.fromkeys(self.expanding["along"]):
            part = self.expanding_averages.filter(along=along)
            columns = {upto: f"{_SYMBOL[along]} <= {upto:.3g}" for upto in part["upto"].unique().sort()}
            lines += [
                f"\nfitted to the runs up to a rung of {along}, evaluated on every later one",
                *_grid(part, "upto", columns),
            ]
        if (self.table["n_outside"] > 0).any() or (self.expanding["n_outside"] > 0).any():
            lines.append(
                "* without the held-out losses at which the fitted law has no loss, which makes its score too good"
            )
        axis = pl.col("along") + " " + pl.col("upto").map_elements("{:.3g}".format, pl.String)
        notes = [self.table.select("law", "target", "axis", "note")]
        notes.append(self.expanding.select("law", "target", axis.alias("axis"), "note"))
        for note, rows in pl.concat(notes).filter(pl.col("note") != "").group_by("note", maintain_order=True):
            who = ", ".join(dict.fromkeys(f"{r['law']}/{r['target']}/{r['axis']}" for r in rows.to_dicts()[:4]))
            more = f" and {rows.height - 4} more" if rows.height > 4 else ""
            lines.append(f"  {who}{more}: {note[0]}")
        return "\n".join(lines)


def _table(data: Mapping[str, Any], name: str, schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """One of the tables from its saved rows."""
    try:
        frame = pl.DataFrame(data[name], schema=schema)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise InputError(f"field {name}: {error}") from None
    if frame.select("law", "target", "note").null_count().sum_horizontal()[0]:
        raise InputError(f"field {name}: a row has no law, target or note")
    return frame


def _averages(frame: pl.DataFrame, *keys: str) -> pl.DataFrame:
    reach = [pl.max("reach")] if "reach" in frame.columns else []
    return frame.group_by(*keys, maintain_order=True).agg(
        *reach,
        *(pl.mean(name) for name in _SCORES),
        targets=pl.col("mean_relative_error").count(),
        outside=pl.sum("n_outside"),
    )


def _grid(summary: pl.DataFrame, column: str, titles: Mapping[Any, str]) -> list[str]:
    """A row a law, a column a value of `column`."""
    forms = list(dict.fromkeys(summary["law"]))
    width = max(len(law) for law in forms) + 2
    cells = {(row["law"], row[column]): _cell(row) for row in summary.to_dicts()}
    head = " " * width + "".join(f"{title:>18}" for title in titles.values())
    return [head, *(f"{law:<{width}}" + "".join(f"{cells.get((law, c), '-'):>18}" for c in titles) for law in forms)]


def compare(
    forms: Sequence[str | ScalingLaw],
    runs: Runs,
    *,
    targets: Sequence[str] | None = None,
    axes: Sequence[Axis] | None = None,
    expanding: Sequence[Along] = ("compute",),
    rungs: int = 5,
    metric: Metric | None = None,
    share: float = 0.2,
    objective: Objective = "huber",
    delta: float = 1e-3,
    seed: int = 0,
    lr_state: LRState = "decayed",
    progress: Progress | None = None,
) -> Comparison:
    """Fit laws to a part of the runs and score them on the rest, per target language and held-out axis.

    Args:
        forms: names (built for each target with the study's defaults) or laws (compared on their own target).
        runs: two-stage runs are left out.
        targets: languages to predict; by default every measured one that some run was trained on.
        axes: see `Runs.hold_out`; by default all five.
        expanding: by what an expanding window grows: "compute", "params", "tokens" (in all); empty for none.
        rungs: the most windows; where the runs have more rungs, cuts that divide the runs evenly are used.
        share: how much the random, tokens and compute axes hold out.
        objective, delta: what the fits minimise, as in `fit`.

    Raises:
        InputError: an unknown law, target, axis or objective, no rungs, a delta that is not positive. Scores
            that cannot be computed are rows with a note.
    """
    axes = tuple(axes or AXES)
    if unknown := [axis for axis in axes if axis not in AXES]:
        raise InputError(f"no held-out axis {unknown[0]!r}", hint=f"axes: {', '.join(AXES)}")
    if unknown := [along for along in expanding if along not in ALONG]:
        raise InputError(f"no expanding window along {unknown[0]!r}", hint=f"windows: {', '.join(ALONG)}")
    if rungs < 1:
        raise InputError(f"rungs is {rungs}", hint="at least 1; expanding=() asks for no window")
    if not forms:
        raise InputError("no law to compare", hint=f"laws: {', '.join(laws.LAWS)}")
    runs = runs.one_stage()
    languages = [runs.target(t) for t in targets] if targets else [t for t in runs.targets if t in runs.languages]
    metric = metric or runs.metric
    splits = [_Split({"axis": axis}, _held_out(runs, axis, share, seed)) for axis in axes]
    windows = [window for along in dict.fromkeys(expanding) for window in _windows(runs, along, rungs)]
    settings = FitSettings(delta, resamples=0, seed=seed, effort=QUICK, objective=objective)
    rows, later = [], []
    for done, target in enumerate(languages):
        if progress:
            progress(f"compare {target}", done, len(languages))
        chosen = [form if isinstance(form, ScalingLaw) else laws.by_name(form, target, runs) for form in forms]
        for law in chosen:
            if law.target in (target, None):
                checked(law, settings)
                observed = _observed(law, runs, target, metric, lr_state)
                rows += _rows(law, target, observed, splits, settings)
                later += _rows(law, target, observed, windows, settings)
    if progress:
        progress("compare", len(languages), len(languages))
    return Comparison(pl.DataFrame(rows, schema=_SCHEMA), metric, pl.DataFrame(later, schema=_EXPANDING))


@dataclass(frozen=True)
class _Split:
    """Which runs are held out, or why none can be, and how the row is labelled."""

    label: Mapping[str, Any]
    names: frozenset[str] | str


def _windows(runs: Runs, along: Along, most: int) -> list[_Split]:
    """Windows that each end at a rung and hold out every run beyond it."""
    column = pl.coalesce("flops", 6 * pl.col("params") * pl.col("tokens")) if along == "compute" else pl.col(along)
    values = runs.table.select(column.cast(pl.Float64)).to_series().to_numpy()
    tops = _rungs(values)[:-1]
    if len(tops) > most:
        # Each cut is a rung of its own, and they share the runs out as evenly as the rungs allow.
        aims = np.quantile(values, np.arange(1, most + 1) / (most + 1), method="lower")
        tops = np.unique(tops[np.clip(np.searchsorted(tops, aims), 0, len(tops) - 1)])
    names = np.array(runs.names)
    return [
        _Split({"along": along, "upto": float(top), "reach": float(values.max() / top)}, frozenset(names[values > top]))
        for top in tops
    ]


def _rungs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest value of each rung: values that lie within one per cent of the next lower one are one rung."""
    ordered = np.unique(values)
    return ordered[np.append(ordered[1:] > 1.01 * ordered[:-1], True)]


def _held_out(runs: Runs, axis: Axis, share: float, seed: int) -> frozenset[str] | str:
    """Names of the runs an axis holds out, or why it cannot."""
    try:
        return frozenset(runs.hold_out(axis, share=share, seed=seed)[1].names)
    except InputError as error:
        return error.message


def _observed(law: ScalingLaw, runs: Runs, target: str, metric: Metric, lr_state: LRState) -> Observations | str:
    """The losses of a target that the law is fitted to, or why there are none."""
    try:
        return runs.observations(target, metric=metric, lr_state=lr_state, start=law.starts)
    except InputError as error:
        return error.message


def _rows(
    law: ScalingLaw, target: str, observed: Observations | str, splits: Sequence[_Split], settings: FitSettings
) -> list[dict[str, Any]]:
    """One row a split, scores left out where there are none."""
    rows = []
    for split in splits:
        row = {"law": law.name, "target": target, **split.label}
        reason = next((why for why in (observed, split.names) if isinstance(why, str)), None)
        if reason is not None or isinstance(observed, str):
            rows.append(row | {"note": reason})
            continue
        usable, out = law.defined(observed.allocation), np.isin(observed.run, list(split.names))
        rows.append(row | _score(law, observed, usable & ~out, usable & out, settings))
    return [dict.fromkeys((*_SCORES, "n_train", "n_test", "n_outside")) | row for row in rows]


def _score(
    law: ScalingLaw, observations: Observations, train: Mask, test: Mask, settings: FitSettings
) -> dict[str, Any]:
    counts = {"n_train": int(train.sum()), "n_test": int(test.sum()), "n_outside": 0}
    if not test.any():
        return counts | {"note": "it holds out no loss on this target"}
    if not train.any():
        return counts | {"note": "it leaves no loss on this target to fit"}
    try:
        fitted = fit_observations(law, subset(observations, train), settings)
    except (InputError, DomainError) as error:
        return counts | {"note": error.message}
    predicted = law.evaluate(fitted.parameters, observations.allocation.at(test))
    inside = np.isfinite(predicted)
    counts |= {"n_test": int(inside.sum()), "n_outside": int((~inside).sum())}
    note = ""
    if not inside.all():
        note = f"{counts['n_outside']} of {len(inside)} held-out losses left out, where the law has none: {law.domain}"
    if not inside.any():
        return counts | {"note": note}
    return counts | _scores(predicted[inside], observations.loss[test][inside], note)


def _scores(predicted: NDArray[np.float64], measured: NDArray[np.float64], note: str) -> dict[str, Any]:
    miss = predicted - measured
    spread = float(((measured - measured.mean()) ** 2).sum())
    if not spread > 0:
        note = "; ".join(part for part in (note, "R2 needs held-out losses that differ") if part)
    return {
        "R2": 1 - float(miss @ miss) / spread if spread > 0 else None,
        "mean_relative_error": float(np.mean(np.abs(miss) / measured)),
        "bias": float(np.mean(miss / measured)),
        "note": note,
    }


def _cell(row: Mapping[str, Any]) -> str:
    if row["mean_relative_error"] is None:
        return "-"
    score = "-" if row["R2"] is None or math.isnan(row["R2"]) else f"{row['R2']:.2f}"
    return f"{score} ({100 * row['mean_relative_error']:.1f} %)" + ("*" if row["outside"] else "")
