"""Charts of a study under way: they grow with its logs, so nothing but their data depends on the rows (see `live`)."""

from collections.abc import Iterable

import altair as alt

from babelscale.charts import live, style

# Runs by what they do now; red-brown catches the eye first. What waits has nothing to draw.
STATES = ("working", "finished", "failed")
_COLOURS = (style.PALETTE[4], style.PALETTE[0], style.PALETTE[3])
_TRAINING, _HELD_OUT, _DONE = "Training losses so far", "Held-out losses so far", "FLOPs of finished runs"


def training_spec(rows: list[style.Row]) -> live.Spec:
    """Training loss against tokens, one line a run.

    Args:
        rows: run, state, mixture, tokens, loss (nats per token).
    """
    told = f"Training loss in nats per token against tokens seen: {_told(rows)}."
    return live.filled(training, rows, title=_TRAINING, description=told)


def training(rows: list[style.Row]) -> alt.LayerChart | alt.FacetChart:
    """One line a run; runs under way are thicker, and end in a dot."""
    base = _lines(rows, "training")
    last = (
        base.transform_window(newest="rank()", groupby=["run"], sort=[alt.SortField("tokens", order="descending")])
        .transform_filter("datum.newest === 1 && datum.state === 'working'")
        .mark_point(filled=True, size=60, opacity=1)
    )
    return alt.layer(base.mark_line(opacity=0.8), last).properties(width=620, height=300)


def held_out_spec(rows: list[style.Row], metric: str) -> live.Spec:
    """Held-out loss against tokens, one panel a language and one line a run.

    Args:
        rows: run, state, mixture, tokens, loss, name (of the language).
        metric: of the loss.
    """
    languages = sorted({row["name"] for row in rows})
    told = f"Held-out {style.metric_title(metric)} against tokens seen, one panel for each of "
    told += f"{len(languages)} languages: {_told(rows)}."
    return live.filled(held_out, rows, metric, title=_HELD_OUT, description=told)


def held_out(rows: list[style.Row], metric: str = "bits_per_byte") -> alt.FacetChart:
    """One panel a language that a run trains on, one line a run."""
    base = _lines(rows, "held-out", style.metric_title(metric), data=False)
    layers = alt.layer(
        base.mark_line(opacity=0.8), base.mark_point(filled=True, size=16, opacity=1), data=style.rows(rows, "held-out")
    )
    return layers.properties(width=235, height=150).facet(
        facet=alt.Facet("name:N", title=None, sort="ascending"), columns=3
    )


def done_spec(rows: list[style.Row]) -> live.Spec:
    """FLOPs of finished runs over time.

    Args:
        rows: time (milliseconds since 1970), flops (of all finished so far), share (of the whole study).
    """
    told = f"FLOPs of finished runs over time: {len(rows)} runs"
    told += f", {rows[-1]['flops']:.3g} FLOPs in all" if rows else ""
    return live.filled(done, rows, title=_DONE, description=f"{told}.")


def done(rows: list[style.Row]) -> alt.Chart:
    """A step up where a run ended; how steep it is tells how fast the study goes."""
    return (
        alt.Chart(style.rows(rows, "done"))
        .mark_line(interpolate="step-after", color=style.PALETTE[0], point=alt.OverlayMarkDef(size=14))
        .encode(
            x=alt.X("time:T", title="time"),
            y=alt.Y("flops:Q", title="FLOPs", axis=alt.Axis(format=".2~e", tickCount=5)),
            tooltip=[
                alt.Tooltip("time:T", format="%d %b %H:%M:%S"),
                alt.Tooltip("flops:Q", title="FLOPs", format=".3~e"),
                alt.Tooltip("share:Q", title="of the study", format=".1%"),
            ],
        )
        .properties(width=620, height=170)
    )


def _lines(rows: list[style.Row], name: str, title: str = "nats per token", *, data: bool = True) -> alt.Chart:
    chart = alt.Chart(style.rows(rows, name)) if data else alt.Chart()
    return chart.encode(
        x=alt.X(
            "tokens:Q", scale=alt.Scale(type="log", nice=False, padding=8), axis=style.count_axis("tokens seen in all")
        ),
        y=alt.Y("loss:Q", title=title, scale=alt.Scale(zero=False, nice=False, padding=8)),
        detail="run:N",
        color=alt.Color(
            "state:N",
            title="run",
            scale=alt.Scale(domain=list(STATES), range=list(_COLOURS)),
            legend=alt.Legend(orient="bottom"),
        ),
        strokeWidth=alt.when(alt.datum.state == "working").then(alt.value(2.6)).otherwise(alt.value(1.2)),
        tooltip=[
            alt.Tooltip("run:N"),
            alt.Tooltip("state:N"),
            alt.Tooltip("mixture:N"),
            alt.Tooltip("loss:Q", title=title, format=".4f"),
            alt.Tooltip("tokens:Q", title="tokens seen in all", format=",.0f"),
        ],
    )


def _told(rows: Iterable[style.Row]) -> str:
    """How many runs have which state, for readers who do not see the chart."""
    states = {row["run"]: row["state"] for row in rows}
    counted = [f"{sum(each == state for each in states.values())} {state}" for state in STATES]
    return ", ".join(told for told in counted if not told.startswith("0 ")) or "no runs"
