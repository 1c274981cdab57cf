"""Charts of fitted laws: what they say against what was measured, their curves, and how they fare on held-out runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import altair as alt
import numpy as np

from babelscale.allocation import Allocation
from babelscale.charts import style
from babelscale.errors import InputError
from babelscale.formatting import count
from babelscale.languages import UNDETERMINED
from babelscale.runs import Metric, Observations, Runs

if TYPE_CHECKING:
    from babelscale.fitting import Comparison, Fit

_SOLID = alt.Legend(symbolOpacity=1)
HELD_OUT_BY = {
    "random": "random runs",
    "params": "largest size",
    "tokens": "most tokens",
    "compute": "most compute",
    "mixture": "wide mixtures",
}
EXPANDING_BY = {"compute": "compute (FLOPs)", "params": "parameters", "tokens": "tokens seen in all"}
# How far the curves of a law run on beyond the largest run.
_BEYOND = 4.0
# An R2 below this is a failure whatever its size; marks stop here and the tooltip tells the figure.
_WORST = -0.5


def prediction_rows(fits: "Sequence[Fit]", runs: Runs) -> list[style.Row]:
    """One row an observation of each fit: measured and predicted loss with the interval, and the error in per cent."""
    found: list[style.Row] = []
    for fit in fits:
        seen = _observed(fit, runs)
        # A law says nothing of runs that never see its target; they were not fitted either.
        kept = np.flatnonzero(fit.law.defined(seen.allocation))
        told = fit.predict(seen.allocation.at(kept))
        for place, k in enumerate(kept):
            measured, predicted = float(seen.loss[k]), float(told.loss[place])
            found.append(
                {
                    "law": fit.law.name,
                    "target": style.name(seen.target),
                    "run": str(seen.run[k]),
                    "measured": measured,
                    "predicted": predicted,
                    "low": float(told.low[place]),
                    "high": float(told.high[place]),
                    "error": 100 * (predicted / measured - 1),
                    "params": float(seen.allocation.params[k]),
                    "tokens": float(seen.allocation.total_tokens[k]),
                }
            )
    return found


def measured_predicted(fits: "Sequence[Fit]", runs: Runs) -> alt.TopLevelMixin:
    """Measured against predicted loss, one panel a law; on the line, the two agree."""
    data = prediction_rows(fits, runs)
    metric = fits[0].metric
    values = [row[key] for row in data for key in ("measured", "predicted")]
    ends = [min(values) * 0.98, max(values) * 1.02] if min(values) > 0 else [min(values), max(values)]
    scale = alt.Scale(type="log" if ends[0] > 0 else "linear", domain=ends, nice=False)
    line = (
        alt.Chart()
        .transform_calculate(same="datum.predicted")
        .mark_line(stroke=style.INK, opacity=0.5, strokeDash=[4, 3])
        .encode(x="predicted:Q", y="same:Q")
    )
    base = alt.Chart().encode(
        y=alt.Y("measured:Q", scale=scale, axis=style.loss_axis(metric, values, prefix="measured ")),
        color=_by_target(data),
    )
    points = base.mark_point(filled=True, size=38, opacity=0.85).encode(
        x=alt.X("predicted:Q", scale=scale, axis=style.loss_axis(metric, values, prefix="predicted ")),
        tooltip=[
            alt.Tooltip("run:N"),
            alt.Tooltip("target:N"),
            alt.Tooltip("measured:Q", format=".4f"),
            alt.Tooltip("predicted:Q", format=".4f"),
            alt.Tooltip("low:Q", title="low (90 %)", format=".4f"),
            alt.Tooltip("high:Q", title="high (90 %)", format=".4f"),
            alt.Tooltip("error:Q", title="error (%)", format="+.2f"),
            alt.Tooltip("params:Q", title="parameters", format=",.0f"),
            alt.Tooltip("tokens:Q", title="tokens seen in all", format=",.0f"),
        ],
    )
    bars = base.mark_rule(opacity=0.4, clip=True).encode(x="low:Q", x2="high:Q")
    laws = list(dict.fromkeys(fit.law.name for fit in fits))
    chart = (
        alt.layer(line, bars, points, data=style.rows(data))
        .properties(width=270, height=270)
        .facet(facet=alt.Facet("law:N", title=None, sort=laws), columns=style.balanced(len(laws), 3))
    )
    description = f"Measured against predicted loss of {len(data)} observations under {', '.join(laws)}."
    return style.finish(chart, "Measured against predicted, on the runs fitted", description)


def curve_rows(fit: "Fit", runs: Runs | None = None, *, sizes: int = 5, steps: int = 30) -> list[style.Row]:
    """The law's loss at up to `sizes` measured sizes, training on the target alone, to 4 times the largest D.

    Without runs, sizes are spread over the range of the fit's runs, and U is the largest that they had.
    """
    target = _target(fit, runs)
    if runs is None:
        smallest, largest = fit.range["tokens"]
        params = np.geomspace(*fit.range["params"], sizes)
        U = fit.unique_tokens.get(target, np.inf)
    else:
        seen = _observed(fit, runs)
        own = seen.allocation.D(target)
        smallest, largest = float(own[own > 0].min()), float(own.max())
        params = _spread(np.unique(seen.allocation.params), sizes)
        # The target's own U, where its runs state it: repeated tokens then bend the curve.
        U = float(seen.allocation.U(target).min())
    inside = np.geomspace(smallest, largest, steps)
    D = np.concatenate([inside, np.geomspace(largest, largest * _BEYOND, steps // 3)[1:]])
    covariates = {name: float(np.mean(fit.range[f"covariates.{name}"])) for name in fit.law.covariates}
    found: list[style.Row] = []
    for N in params:
        told = fit.predict(Allocation(N, {target: D}, {target: U}, covariates))
        for k, tokens in enumerate(D):
            found.append(
                {
                    "size": count(float(N)),
                    "tokens": float(tokens),
                    "loss": float(told.loss[k]),
                    "low": float(told.low[k]),
                    "high": float(told.high[k]),
                    "beyond": bool(tokens > largest * 1.001),
                }
            )
    return found


def law_curves(fit: "Fit", runs: Runs | None = None) -> alt.TopLevelMixin:
    """Loss against the target's own tokens for each size: the law with its 90 % band, and the monolingual runs.

    Beyond the largest run the curve is dashed: there the law extrapolates.
    """
    data = curve_rows(fit, runs)
    target = _target(fit, runs)
    sizes = list(dict.fromkeys(str(row["size"]) for row in data))
    measured = [] if runs is None else _monolingual_rows(_observed(fit, runs), sizes)
    spans = [row[key] for row in data for key in ("low", "high") if np.isfinite(row[key])]
    colour = alt.Color(
        "size:N", title="parameters", sort=sizes, scale=alt.Scale(domain=sizes, range=style.PALETTE), legend=_SOLID
    )
    axes = {
        "x": alt.X(
            "tokens:Q",
            scale=style.log_scale([1.0]),
            axis=style.count_axis(f"tokens of {style.name(target)}", [row["tokens"] for row in data]),
        ),
        "y": alt.Y("loss:Q", scale=style.log_scale(spans), axis=style.loss_axis(fit.metric, spans)),
        "color": colour,
    }
    tips = [alt.Tooltip("size:N", title="parameters"), alt.Tooltip("tokens:Q", format=",.0f")]
    curve = alt.Chart(style.rows(data))
    band = curve.mark_area(opacity=0.15).encode(x=axes["x"], y=alt.Y("low:Q"), y2="high:Q", color=colour)
    edge = max(row["tokens"] for row in data if not row["beyond"])
    inside = curve.transform_filter("!datum.beyond").mark_line(strokeWidth=2).encode(**axes)
    beyond = (
        curve.transform_filter(f"datum.tokens >= {edge}").mark_line(strokeWidth=2, strokeDash=[5, 4]).encode(**axes)
    )
    points = (
        alt.Chart(style.rows(measured))
        .mark_point(filled=True, size=45, opacity=1, stroke=style.INK, strokeWidth=0.5)
        .encode(**axes, tooltip=[alt.Tooltip("run:N"), *tips, alt.Tooltip("loss:Q", title="measured", format=".4f")])
    )
    layers = [band, inside, beyond, *([points] if measured else [])]
    chart = alt.layer(*layers).properties(width=310, height=230)
    description = (
        f"Loss on {style.name(target)} against its own tokens under the {fit.law.name} law for {len(sizes)} "
        f"sizes, with {len(measured)} measured monolingual runs; dashed beyond the largest run."
    )
    return style.finish(chart, f"{style.name(target)}: the {fit.law.name} law", description)


def _monolingual_rows(seen: Observations, sizes: Sequence[str]) -> list[style.Row]:
    alone = np.isclose(seen.allocation.D(seen.target), seen.allocation.total_tokens)
    rows: list[style.Row] = [
        {
            "size": count(float(seen.allocation.params[k])),
            "tokens": float(seen.allocation.D(seen.target)[k]),
            "loss": float(seen.loss[k]),
            "run": str(seen.run[k]),
        }
        for k in np.flatnonzero(alone)
    ]
    return [row for row in rows if row["size"] in sizes]


def held_out(comparison: "Comparison") -> alt.TopLevelMixin:
    """R2 on runs that the fit did not see: a row a law, a panel a held-out axis, a mark a target language."""
    data = [
        row
        | {
            "language": style.name(row["target"]),
            "axis": HELD_OUT_BY.get(row["axis"], row["axis"]),
            "shown": max(row["R2"], _WORST),
            "off": row["R2"] < _WORST,
        }
        for row in comparison.table.to_dicts()
        if row["R2"] is not None and np.isfinite(row["R2"])
    ]
    laws, axes = (list(dict.fromkeys(str(row[key]) for row in data)) for key in ("law", "axis"))
    base = alt.Chart().encode(
        y=alt.Y("law:N", sort=laws, title=None, axis=alt.Axis(labelLimit=160, grid=True)),
        x=alt.X("shown:Q", scale=alt.Scale(domain=[_WORST, 1]), axis=alt.Axis(title="R²", tickCount=4)),
    )
    tips = [
        alt.Tooltip("law:N"),
        alt.Tooltip("language:N", title="target"),
        alt.Tooltip("axis:N", title="held out by"),
        alt.Tooltip("R2:Q", title="R²", format=".3f"),
        alt.Tooltip("n_train:Q", title="observations fitted"),
        alt.Tooltip("n_test:Q", title="observations held out"),
    ]
    sides = alt.Scale(domain=[False, True], range=["circle", "triangle-left"])
    points = base.mark_point(filled=True, size=55, opacity=0.75).encode(
        color=_by_target([{"target": row["language"]} for row in data], "language"),
        shape=alt.Shape("off:N", scale=sides, legend=None),
        tooltip=tips,
    )
    # The median of the figures themselves, then cut off at the edge like them.
    middle = (
        base.transform_aggregate(median="median(R2)", groupby=["law", "axis"])
        .transform_calculate(shown=f"max(datum.median, {_WORST})")
        .mark_tick(thickness=2, color=style.INK, height=16)
    )
    chart = (
        alt.layer(points, middle, data=style.rows(data))
        .properties(width=130, height=alt.Step(26))
        .facet(facet=alt.Facet("axis:N", title=None, sort=axes), columns=style.balanced(max(len(axes), 1), 5))
    )
    description = f"R squared of {len(laws)} laws on runs held out along {len(axes)} axes; 1 is perfect."
    return style.finish(chart, "Held-out comparison of laws", description)


def expanding_rows(comparison: "Comparison") -> list[style.Row]:
    """One row a law, target and rung that could be computed: how far off the law is on every run beyond the rung."""
    return [
        row
        | {
            "language": style.name(row["target"]),
            "by": EXPANDING_BY.get(row["along"], row["along"]),
            "error": 100 * row["mean_relative_error"],
            "outside": row["n_outside"] > 0,
        }
        for row in comparison.expanding.to_dicts()
        if row["mean_relative_error"] is not None and np.isfinite(row["mean_relative_error"])
    ]


def expanding(comparison: "Comparison") -> alt.TopLevelMixin:
    """Error on every later run against the rung up to which a law was fitted: a line a law, the median over targets.

    Dots are target languages; a hollow dot leaves out losses on which the fitted law has none.
    """
    data = expanding_rows(comparison)
    forms, axes = (list(dict.fromkeys(str(row[key]) for row in data)) for key in ("law", "by"))
    errors = [row["error"] for row in data if row["error"] > 0]
    colour = alt.Color(
        "law:N", title=None, sort=forms, scale=alt.Scale(domain=forms, range=list(style.PALETTE)), legend=_SOLID
    )
    panels = []
    for by in axes:
        part = [row for row in data if row["by"] == by]
        ticks = style.log_ticks([row["upto"] for row in part], most=4)
        exact = ".1~e" if by == EXPANDING_BY["compute"] else ".2~s"
        base = alt.Chart(style.rows(part)).encode(
            x=alt.X(
                "upto:Q",
                scale=style.log_scale([1.0]),
                axis=alt.Axis(title=f"fitted up to, {by}", format=exact, values=ticks, labelOverlap="greedy"),
            ),
            color=colour,
        )
        y = alt.Y(
            "error:Q",
            scale=style.log_scale(errors),
            axis=alt.Axis(title="error on later runs (%)", format=".2~g", values=style.log_ticks(errors)),
        )
        line = base.transform_aggregate(error="median(error)", groupby=["law", "upto"]).mark_line(strokeWidth=2)
        points = base.mark_point(size=40, opacity=0.8).encode(
            y=y,
            fill=alt.Fill("law:N", sort=forms, scale=alt.Scale(domain=forms, range=list(style.PALETTE)), legend=None),
            fillOpacity=alt.condition("datum.outside", alt.value(0.0), alt.value(0.8)),
            tooltip=[
                alt.Tooltip("law:N"),
                alt.Tooltip("language:N", title="target"),
                alt.Tooltip("upto:Q", title="fitted up to", format=".3~g"),
                alt.Tooltip("reach:Q", title="farthest later run (times as far)", format=".3~g"),
                alt.Tooltip("error:Q", title="mean error (%)", format=".2f"),
                alt.Tooltip("R2:Q", title="R²", format=".3f"),
                alt.Tooltip("n_train:Q", title="observations fitted"),
                alt.Tooltip("n_test:Q", title="later observations"),
                alt.Tooltip("n_outside:Q", title="left out (no loss under the law)"),
            ],
        )
        panels.append(alt.layer(line.encode(y=y), points).properties(width=240, height=210))
    description = f"Mean error of {len(forms)} laws on later runs, by the rung up to which they were fitted."
    return style.finish(alt.hconcat(*panels), "Expanding window: fitted on the small, asked for the large", description)


def _target(fit: "Fit", runs: Runs | None) -> str:
    """The language of a fit's curves.

    Raises:
        InputError: neither runs nor the range of the fit's own runs are known.
    """
    if runs is not None:
        return runs.target(fit.target)
    if not {"params", "tokens"} <= set(fit.range):
        raise InputError("the range of the runs behind this fit is not known", hint="pass runs: fit.plot(runs)")
    return fit.target or UNDETERMINED


def _observed(fit: "Fit", runs: Runs) -> Observations:
    return runs.observations(fit.target, metric=cast(Metric, fit.metric))


def _by_target(data: Sequence[style.Row], field: str = "target") -> alt.Color | alt.ColorValue:
    """A colour a target while there are colours enough, one colour beyond that."""
    names = list(dict.fromkeys(str(row["target"]) for row in data))
    if len(names) > len(style.PALETTE):
        return alt.ColorValue(style.PALETTE[0])
    legend = _SOLID if len(names) > 1 else None
    scale = alt.Scale(domain=names, range=list(style.PALETTE[: len(names)]))
    return alt.Color(f"{field}:N", title="target", scale=scale, legend=legend)


def _spread(values: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the values, the ends among them."""
    return values[np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))]
