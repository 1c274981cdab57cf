"""Charts of fitted laws: predictions against measurements, curves, held-out comparisons, residuals and profiles."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

import altair as alt
import numpy as np

from babelscale.allocation import Allocation
from babelscale.charts import style
from babelscale.errors import InputError
from babelscale.formatting import count
from babelscale.languages import UNDETERMINED
from babelscale.runs import Metric, Observations, Runs

if TYPE_CHECKING:
    from babelscale.fitting import Comparison, Fit, Profile

_SOLID = alt.Legend(symbolOpacity=1)
HELD_OUT_BY = {
    "random": "random runs",
    "params": "largest size",
    "tokens": "most tokens",
    "compute": "most compute",
    "mixture": "wide mixtures",
}
EXPANDING_BY = {"compute": "compute (FLOPs)", "params": "parameters", "tokens": "total tokens seen"}
# The curves of a law extend beyond the largest run by this factor.
_BEYOND = 4.0
# Marks of a lower R2 are drawn here; the tooltip has the number.
_WORST = -0.5
# The chart of a profile ends here, in thresholds above the least objective; its table has farther values.
_TOP = 4.0


def prediction_rows(fits: "Sequence[Fit]", runs: Runs) -> list[style.Row]:
    """One row an observation of each fit: measured and predicted loss with the interval, and the error in per cent."""
    found: list[style.Row] = []
    for fit in fits:
        seen = _observed(fit, runs)
        # A law does not describe runs that never see its target; these are not part of the fit either.
        used = np.flatnonzero(fit.law.defined(seen.allocation))
        prediction = fit.predict(seen.allocation.at(used))
        for place, k in enumerate(used):
            measured, predicted = float(seen.loss[k]), float(prediction.loss[place])
            found.append(
                {
                    "law": fit.law.name,
                    "target": style.name(seen.target),
                    "run": str(seen.run[k]),
                    "measured": measured,
                    "predicted": predicted,
                    "low": float(prediction.low[place]),
                    "high": float(prediction.high[place]),
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
        tooltip=style.tips(
            "run; target; measured||.4f; predicted||.4f; low|low (90 %)|.4f; high|high (90 %)|.4f; "
            "error|error (%)|+.2f; params|parameters|,.0f; tokens|total tokens seen|,.0f"
        ),
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
        # With the target's own U, repeated tokens bend the curve.
        U = float(seen.allocation.U(target).min())
    inside = np.geomspace(smallest, largest, steps)
    D = np.concatenate([inside, np.geomspace(largest, largest * _BEYOND, steps // 3)[1:]])
    covariates = {name: float(np.mean(fit.range[f"covariates.{name}"])) for name in fit.law.covariates}
    found: list[style.Row] = []
    for N in params:
        predicted = fit.predict(Allocation(N, {target: D}, {target: U}, covariates))
        for k, tokens in enumerate(D):
            found.append(
                {
                    "size": count(float(N)),
                    "tokens": float(tokens),
                    "loss": float(predicted.loss[k]),
                    "low": float(predicted.low[k]),
                    "high": float(predicted.high[k]),
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
        .encode(**axes, tooltip=style.tips("run; size|parameters; tokens||,.0f; loss|measured|.4f"))
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
    tips = style.tips(
        "law; language|target; axis|held out by; R2|R²|.3f; n_train:Q|observations fitted; "
        "n_test:Q|observations held out"
    )
    sides = alt.Scale(domain=[False, True], range=["circle", "triangle-left"])
    points = base.mark_point(filled=True, size=55, opacity=0.75).encode(
        color=_by_target([{"target": row["language"]} for row in data], "language"),
        shape=alt.Shape("off:N", scale=sides, legend=None),
        tooltip=tips,
    )
    # The median of the numbers themselves, drawn at the edge like them.
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
    """One row for each law, target and step that could be computed: the error on all runs beyond the step."""
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
    """Error on all later runs against the step up to which a law was fitted: a line a law, the median over targets.

    Dots are target languages; a hollow dot leaves out losses for which the fitted law has no value.
    """
    data = expanding_rows(comparison)
    forms, axes = (list(dict.fromkeys(str(row[key]) for row in data)) for key in ("law", "by"))
    errors = [row["error"] for row in data if row["error"] > 0]
    scale = alt.Scale(domain=forms, range=list(style.PALETTE))
    colour = alt.Color("law:N", title=None, sort=forms, scale=scale, legend=_SOLID)
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
            fill=alt.Fill("law:N", sort=forms, scale=scale, legend=None),
            fillOpacity=alt.condition("datum.outside", alt.value(0.0), alt.value(0.8)),
            tooltip=style.tips(
                "law; language|target; upto|fitted up to|.3~g; reach|farthest later run (times as far)|.3~g; "
                "error|mean error (%)|.2f; R2|R²|.3f; n_train:Q|observations fitted; n_test:Q|later observations; "
                "n_outside:Q|left out (no loss under the law)"
            ),
        )
        panels.append(alt.layer(line.encode(y=y), points).properties(width=240, height=210))
    description = f"Mean error of {len(forms)} laws on later runs, by the step up to which they were fitted."
    return style.finish(
        alt.hconcat(*panels), "Expanding window: fitted to smaller runs, tested on larger ones", description
    )


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
    """A colour a target, or one colour for more targets than colours."""
    names = list(dict.fromkeys(str(row["target"]) for row in data))
    if len(names) > len(style.PALETTE):
        return alt.ColorValue(style.PALETTE[0])
    legend = _SOLID if len(names) > 1 else None
    scale = alt.Scale(domain=names, range=list(style.PALETTE[: len(names)]))
    return alt.Color(f"{field}:N", title="target", scale=scale, legend=legend)


def _spread(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the values, the ends included."""
    return values[np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))]


_SIGNED = "datum.value === 0 ? '0' : format(datum.value, '+.2~f')"
Against = Literal["predicted", "params", "tokens"]
AGAINST: dict[Against, str] = {
    "predicted": "predicted loss",
    "params": "parameters (N)",
    "tokens": "total tokens seen (D)",
}


def residual_rows(fits: "Sequence[Fit]", runs: Runs) -> list[style.Row]:
    """One row an observation of each fit: `residual` is log measured less log predicted loss, times 100.

    Near zero it is the error in per cent of the predicted loss; above zero, the run is worse than predicted.
    """
    return [
        row | {"residual": 100 * float(np.log(row["measured"] / row["predicted"]))}
        for row in prediction_rows(fits, runs)
    ]


def residuals(data: list[style.Row], against: Against, metric: str) -> alt.TopLevelMixin:
    """Residuals against the predicted loss, N or D; a colour a law, or a target where there is one law.

    Args:
        data: of `residual_rows`.
    """
    laws, targets = (list(dict.fromkeys(str(row[key]) for row in data)) for key in ("law", "target"))
    values = [row[against] for row in data]
    if against == "predicted":
        axis, scale = style.loss_axis(metric, values, prefix="predicted "), style.log_scale(values)
    else:
        axis, scale = style.count_axis(AGAINST[against], values), style.log_scale([1.0])
    by, names = ("law", laws) if len(laws) > 1 else ("target", targets)
    colour: alt.Color | alt.ColorValue = alt.ColorValue(style.PALETTE[0])
    if 1 < len(names) <= len(style.PALETTE):
        colours = alt.Scale(domain=names, range=list(style.PALETTE[: len(names)]))
        colour = alt.Color(f"{by}:N", title=by, scale=colours, legend=alt.Legend(symbolOpacity=1, orient="bottom"))
    points = (
        alt.Chart(style.rows(data))
        .mark_point(filled=True, size=34, opacity=0.75)
        .encode(
            x=alt.X(f"{against}:Q", axis=axis, scale=scale),
            y=alt.Y("residual:Q", axis=alt.Axis(title="residual (100 × log)", labelExpr=_SIGNED)),
            color=colour,
            tooltip=style.tips(
                "run; target; law; residual|residual (100 × log)|+.3f; measured||.4f; predicted||.4f; "
                "params|parameters|,.0f; tokens|total tokens seen|,.0f"
            ),
        )
    )
    zero = alt.Chart(style.rows([{"zero": 0.0}])).mark_rule(stroke=style.INK, opacity=0.5, strokeDash=[4, 3])
    chart = alt.layer(zero.encode(y="zero:Q"), points).properties(width=300, height=220)
    most = max((abs(row["residual"]) for row in data), default=0.0)
    description = (
        f"Residuals of {len(data)} observations under {', '.join(laws)} against {AGAINST[against]}; the largest is "
        f"{most:.2f} (100 times the log)."
    )
    return style.finish(chart, f"Residuals against {AGAINST[against]}", description)


def profile_rows(profile: "Profile") -> list[style.Row]:
    """One row a value: the objective, its rise above the least, and the rise in units of the threshold.

    The objective is infinite where the law has no loss. With a threshold of zero (runs without scatter) the unit is 1.
    """
    unit = profile.threshold if profile.threshold > 0 else 1.0
    return [
        {
            "value": float(value),
            "objective": float(objective),
            "rise": float(objective - profile.minimum),
            "units": float((objective - profile.minimum) / unit),
            "inside": bool(inside),
        }
        for value, objective, inside in zip(profile.values, profile.objective, profile.inside, strict=True)
    ]


def profile(profile: "Profile") -> alt.TopLevelMixin:
    """The rise of the objective along the parameter, the threshold as a line, the 90 % interval shaded."""
    data = profile_rows(profile)
    low, high = (edge if end is None else end for end, edge in zip(profile.interval, profile.searched, strict=True))
    near = [row for row in data if np.isfinite(row["units"]) and row["units"] <= _TOP]
    values = [row["value"] for row in near] or [profile.best]
    ends = [min(min(values), low), max(max(values), high)]
    logarithmic = ends[0] > 0 and ends[1] / ends[0] > 20
    # One value beyond the top on either side, so that the line leaves the chart.
    shown = [row for row in data if np.isfinite(row["units"]) and _beside(row["value"], values, data)]
    x = alt.X(
        "value:Q",
        scale=alt.Scale(type="log" if logarithmic else "linear", domain=ends, nice=False, zero=False),
        axis=alt.Axis(title=profile.parameter, format=".3~g", labelOverlap="greedy", tickCount=6),
    )
    top = min(_TOP, max(1.3, *(row["units"] for row in shown))) if shown else _TOP
    y = alt.Y(
        "units:Q",
        scale=alt.Scale(domain=[0, top], nice=False),
        axis=alt.Axis(title="rise of the objective (1 = threshold)", format=".2~f", tickCount=5),
    )
    band = (
        alt.Chart(style.rows([{"low": low, "high": high}]))
        .mark_rect(color=style.PALETTE[0], opacity=0.14)
        .encode(x=alt.X("low:Q").title(profile.parameter), x2="high:Q")
    )
    tips = style.tips(f"value|{profile.parameter}|.5g; units|rise, thresholds|.3g; objective||.6g")
    base = alt.Chart(style.rows(shown)).encode(x=x, y=y)
    line = base.mark_line(color=style.PALETTE[0], strokeWidth=2, clip=True)
    points = base.mark_point(filled=True, size=24, color=style.PALETTE[0], clip=True).encode(tooltip=tips)
    edge = alt.Chart(style.rows([{"units": 1.0}])).mark_rule(stroke=style.INK, strokeDash=[5, 4], opacity=0.8)
    best = alt.Chart(style.rows([{"value": profile.best}])).mark_rule(color=style.PALETTE[4], strokeWidth=1.5)
    chart = alt.layer(band, edge.encode(y=y), best.encode(x=x), line, points).properties(width=520, height=260)
    # Two short lines, because a narrow screen would cut a long one.
    who = f"the {profile.law} law{f' of {style.name(profile.target)}' if profile.target else ''}"
    title = f"Profile of {profile.parameter}"
    description = f"{title}, {who}: best at {profile.best:.5g}, {describe_interval(profile)}."
    return style.finish(chart, title, description, [who])


def describe_interval(profile: "Profile") -> str:
    """The 90 % interval in words."""
    low, high = profile.interval
    if low is None and high is None:
        return "not bounded by these runs on either side (90 %)"
    if low is None:
        return f"at most {high:.5g}, not bounded below (90 %)"
    return f"at least {low:.5g}, not bounded above (90 %)" if high is None else f"90 % interval {low:.5g} to {high:.5g}"


def _beside(value: float, drawn: list[float], data: list[style.Row]) -> bool:
    """Whether a value lies within those drawn, or next to them."""
    below = [row["value"] for row in data if row["value"] < min(drawn)]
    above = [row["value"] for row in data if row["value"] > max(drawn)]
    return max(below, default=min(drawn)) <= value <= min(above, default=max(drawn))
