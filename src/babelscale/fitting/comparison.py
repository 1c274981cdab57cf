"""compare: which law to believe, judged on runs it has not seen, along the axes of the ATLAS study."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from babelscale import laws
from babelscale.errors import DomainError, InputError
from babelscale.fitting.bootstrap import Progress
from babelscale.fitting.estimate import Settings, fit_observations, subset
from babelscale.fitting.newton import QUICK
from babelscale.laws import ScalingLaw
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
    "note": pl.String,
}
AXES: tuple[Axis, ...] = get_args(Axis)


@dataclass(frozen=True)
class Comparison:
    """One row a law, target and axis; a row that could not be computed has nulls and a note that says why.

    R2 = 1 - SS_res / SS_tot of the loss itself (not its logarithm) over the held-out losses, as in the study; it is
    negative where a law predicts worse than the held-out mean. `mean_relative_error` is the mean of
    |predicted - measured| / measured, `bias` the same with its sign: positive where the law predicts too high a loss.
    """

    table: pl.DataFrame
    metric: str

    @property
    def summary(self) -> pl.DataFrame:
        """Averages over the targets that could be computed: law, axis, R2, mean_relative_error, bias, targets."""
        numbers = ["R2", "mean_relative_error", "bias"]
        return self.table.group_by("law", "axis", maintain_order=True).agg(
            *(pl.mean(name) for name in numbers), targets=pl.col("mean_relative_error").count()
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; what could not be computed is None."""
        return {
            "metric": self.metric,
            "rows": self.table.to_dicts(),
            "summary": self.summary.to_dicts(),
        }

    def __str__(self) -> str:
        width = max(len(law) for law in self.table["law"]) + 2
        axes = list(dict.fromkeys(self.table["axis"]))
        lines = [
            f"R2 on held-out losses ({self.metric.replace('_', ' ')}), and in brackets the mean relative error; "
            "means over targets",
            " " * width + "".join(f"{axis:>18}" for axis in axes),
        ]
        cells = {(row["law"], row["axis"]): _cell(row) for row in self.summary.to_dicts()}
        for law in dict.fromkeys(self.table["law"]):
            lines.append(f"{law:<{width}}" + "".join(f"{cells[law, axis]:>18}" for axis in axes))
        missing = self.table.filter(pl.col("note") != "")
        for note, rows in missing.group_by("note", maintain_order=True):
            who = ", ".join(dict.fromkeys(f"{r['law']}/{r['target']}/{r['axis']}" for r in rows.to_dicts()[:4]))
            more = f" and {rows.height - 4} more" if rows.height > 4 else ""
            lines.append(f"  {who}{more}: {note[0]}")
        return "\n".join(lines)


def compare(
    forms: Sequence[str | ScalingLaw],
    runs: Runs,
    *,
    targets: Sequence[str] | None = None,
    axes: Sequence[Axis] | None = None,
    metric: Metric | None = None,
    share: float = 0.2,
    delta: float = 1e-3,
    seed: int = 0,
    lr_state: LRState = "decayed",
    progress: Progress | None = None,
) -> Comparison:
    """Fit laws to a part of the runs and score them on the rest, per target language and held-out axis.

    Args:
        forms: names (built for each target with the study's defaults) or laws (compared on their own target).
        targets: languages to predict; every measured one that some run was trained on, where left out.
        axes: see `Runs.hold_out`; all five where left out.
        share: how much the random, tokens and compute axes hold out.

    Raises:
        InputError: an unknown law, target or axis. What merely cannot be computed is a row with a note.
    """
    axes = tuple(axes or AXES)
    if unknown := [axis for axis in axes if axis not in AXES]:
        raise InputError(f"no held-out axis {unknown[0]!r}", hint=f"axes: {', '.join(AXES)}")
    if not forms:
        raise InputError("no law to compare", hint=f"laws: {', '.join(laws.LAWS)}")
    wanted = [runs.target(t) for t in targets] if targets else [t for t in runs.targets if t in runs.languages]
    metric = metric or runs.metric
    held: dict[Axis, frozenset[str] | str] = {axis: _held_out(runs, axis, share, seed) for axis in axes}
    rows = []
    for done, target in enumerate(wanted):
        if progress:
            progress(f"compare {target}", done, len(wanted))
        chosen = [form if isinstance(form, ScalingLaw) else laws.by_name(form, target, runs) for form in forms]
        for law in chosen:
            if law.target in (target, None):
                rows += _rows(
                    law, runs, target, metric, lr_state, held, Settings(delta, resamples=0, seed=seed, effort=QUICK)
                )
    if progress:
        progress("compare", len(wanted), len(wanted))
    return Comparison(pl.DataFrame(rows, schema=_SCHEMA), metric)


def _held_out(runs: Runs, axis: Axis, share: float, seed: int) -> frozenset[str] | str:
    """Names of the runs an axis holds out, or why it cannot."""
    try:
        return frozenset(runs.hold_out(axis, share=share, seed=seed)[1].names)
    except InputError as error:
        return error.message


def _rows(
    law: ScalingLaw,
    runs: Runs,
    target: str,
    metric: Metric,
    lr_state: LRState,
    held: Mapping[Axis, frozenset[str] | str],
    settings: Settings,
) -> list[dict[str, Any]]:
    empty = dict.fromkeys(_SCHEMA) | {"law": law.name, "target": target}
    try:
        observations = runs.observations(target, metric=metric, lr_state=lr_state)
    except InputError as error:
        return [empty | {"axis": axis, "note": error.message} for axis in held]
    usable = law.defined(observations.allocation)
    rows = []
    for axis, names in held.items():
        if isinstance(names, str):
            rows.append(empty | {"axis": axis, "note": names})
            continue
        out = np.isin(observations.run, list(names))
        counts = {"axis": axis, "n_train": int((usable & ~out).sum()), "n_test": int((usable & out).sum())}
        rows.append(empty | counts | _score(law, observations, usable & ~out, usable & out, settings))
    return rows


def _score(law: ScalingLaw, observations: Observations, train: Mask, test: Mask, settings: Settings) -> dict[str, Any]:
    if not test.any():
        return {"note": "the axis holds out no loss on this target"}
    if not train.any():
        return {"note": "the axis leaves no loss on this target to fit"}
    try:
        fitted = fit_observations(law, subset(observations, train), settings)
        predicted = law.loss(fitted.parameters, observations.allocation.at(test))
    except (InputError, DomainError) as error:
        return {"note": error.message}
    measured = observations.loss[test]
    miss = predicted - measured
    spread = float(((measured - measured.mean()) ** 2).sum())
    return {
        "R2": 1 - float(miss @ miss) / spread if spread > 0 else None,
        "mean_relative_error": float(np.mean(np.abs(miss) / measured)),
        "bias": float(np.mean(miss / measured)),
        "note": "" if spread > 0 else "R2 needs held-out losses that differ",
    }


def _cell(row: Mapping[str, Any]) -> str:
    if row["mean_relative_error"] is None:
        return "-"
    score = "-" if row["R2"] is None or math.isnan(row["R2"]) else f"{row['R2']:.2f}"
    return f"{score} ({100 * row['mean_relative_error']:.1f} %)"
