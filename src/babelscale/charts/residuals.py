"""What a law leaves over: residuals against what they should not depend on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import altair as alt
import numpy as np

from babelscale.charts import style
from babelscale.charts.laws import prediction_rows
from babelscale.runs import Runs

if TYPE_CHECKING:
    from babelscale.fitting import Fit

_SIGNED = "datum.value === 0 ? '0' : format(datum.value, '+.2~f')"
Against = Literal["predicted", "params", "tokens"]
AGAINST: dict[Against, str] = {
    "predicted": "predicted loss",
    "params": "parameters (N)",
    "tokens": "tokens seen in all (D)",
}


def residual_rows(fits: "Sequence[Fit]", runs: Runs) -> list[style.Row]:
    """One row an observation of each fit: `residual` is log measured less log predicted loss, times 100.

    Near zero that is the error in per cent of the predicted loss; above zero the run is worse than the law says.
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
            tooltip=[
                alt.Tooltip("run:N"),
                alt.Tooltip("target:N"),
                alt.Tooltip("law:N"),
                alt.Tooltip("residual:Q", title="residual (100 × log)", format="+.3f"),
                alt.Tooltip("measured:Q", format=".4f"),
                alt.Tooltip("predicted:Q", format=".4f"),
                alt.Tooltip("params:Q", title="parameters", format=",.0f"),
                alt.Tooltip("tokens:Q", title="tokens seen in all", format=",.0f"),
            ],
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
