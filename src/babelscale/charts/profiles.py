"""The objective along one parameter, in units of the threshold that bounds its interval."""

from typing import TYPE_CHECKING

import altair as alt
import numpy as np

from babelscale.charts import style

if TYPE_CHECKING:
    from babelscale.fitting import Profile

# The chart ends here, in thresholds above the least objective; farther values stand in its table.
_TOP = 4.0


def profile_rows(profile: "Profile") -> list[style.Row]:
    """One row a value: the objective, its rise above the least, and the rise in units of the threshold.

    Values at which the law has no loss have none. A threshold of zero (runs without any scatter) leaves the unit out.
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
    # One value beyond the top on either side, so that the line leaves the chart instead of ending in it.
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
    tips = [
        alt.Tooltip("value:Q", title=profile.parameter, format=".5g"),
        alt.Tooltip("units:Q", title="rise, thresholds", format=".3g"),
        alt.Tooltip("objective:Q", format=".6g"),
    ]
    base = alt.Chart(style.rows(shown)).encode(x=x, y=y)
    line = base.mark_line(color=style.PALETTE[0], strokeWidth=2, clip=True)
    points = base.mark_point(filled=True, size=24, color=style.PALETTE[0], clip=True).encode(tooltip=tips)
    edge = alt.Chart(style.rows([{"units": 1.0}])).mark_rule(stroke=style.INK, strokeDash=[5, 4], opacity=0.8)
    best = alt.Chart(style.rows([{"value": profile.best}])).mark_rule(color=style.PALETTE[4], strokeWidth=1.5)
    chart = alt.layer(band, edge.encode(y=y), best.encode(x=x), line, points).properties(width=520, height=260)
    # Two short lines rather than a long one, which a narrow screen would cut.
    who = f"the {profile.law} law{f' of {style.name(profile.target)}' if profile.target else ''}"
    title = f"Profile of {profile.parameter}"
    description = f"{title}, {who}: best at {profile.best:.5g}, {told_interval(profile)}."
    return style.finish(chart, title, description, [who])


def told_interval(profile: "Profile") -> str:
    """The 90 % interval in words."""
    low, high = profile.interval
    if low is None and high is None:
        return "not bounded by these runs on either side (90 %)"
    if low is None:
        return f"at most {high:.5g}, not bounded below (90 %)"
    return f"at least {low:.5g}, not bounded above (90 %)" if high is None else f"90 % interval {low:.5g} to {high:.5g}"


def _beside(value: float, kept: list[float], data: list[style.Row]) -> bool:
    """Whether a value lies within those kept, or next to them."""
    below = [row["value"] for row in data if row["value"] < min(kept)]
    above = [row["value"] for row in data if row["value"] > max(kept)]
    return max(below, default=min(kept)) <= value <= min(above, default=max(kept))
