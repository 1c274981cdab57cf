"""Charts of a study under way. Only their data depend on the rows, which grow with the logs (see `live`)."""

from collections.abc import Iterable

import altair as alt

from babelscale.charts import style
from babelscale.charts.live import Drawing, templated

# States of runs; red-brown is the most salient colour. Waiting runs have nothing to draw.
STATES = ("working", "finished", "failed")
_COLOURS = (style.PALETTE[4], style.PALETTE[0], style.PALETTE[3])


@templated
def training(rows: list[style.Row]) -> Drawing:
    """Training loss against tokens, one line a run; runs under way are thicker and end in a dot.

    Args:
        rows: run, state, mixture, tokens, loss (nats per token).
    """
    description = f"Training loss in nats per token against tokens seen: {_count_states(rows)}."
    return Drawing(_training, rows, "Training losses so far", description)


def _training(rows: list[style.Row]) -> style.Drawn:
    base = _lines(rows, "training")
    last = (
        base.transform_window(newest="rank()", groupby=["run"], sort=[alt.SortField("tokens", order="descending")])
        .transform_filter("datum.newest === 1 && datum.state === 'working'")
        .mark_point(filled=True, size=60, opacity=1)
    )
    return alt.layer(base.mark_line(opacity=0.8), last).properties(width=620, height=300)


@templated
def held_out(rows: list[style.Row], metric: str) -> Drawing:
    """Held-out loss against tokens, one panel a language that a run trains on and one line a run.

    Args:
        rows: run, state, mixture, tokens, loss, name (of the language).
        metric: of the loss.
    """
    languages = len({row["name"] for row in rows})
    description = (
        f"Held-out {style.metric_title(metric)} against tokens seen, one panel for each of {languages} languages: "
        f"{_count_states(rows)}."
    )
    return Drawing(_held_out, rows, "Held-out losses so far", description, (metric,))


def _held_out(rows: list[style.Row], metric: str) -> alt.FacetChart:
    base = _lines(rows, "held-out", style.metric_title(metric), data=False)
    layers = alt.layer(
        base.mark_line(opacity=0.8), base.mark_point(filled=True, size=16, opacity=1), data=style.rows(rows, "held-out")
    )
    return layers.properties(width=235, height=150).facet(
        facet=alt.Facet("name:N", title=None, sort="ascending"), columns=3
    )


@templated
def finished(rows: list[style.Row]) -> Drawing:
    """FLOPs of finished runs over time, with a step where a run ended; its slope is the speed of the study.

    Args:
        rows: time (milliseconds since 1970), flops (of all finished runs), share (of the whole study).
    """
    total = f", {rows[-1]['flops']:.3g} FLOPs in total" if rows else ""
    description = f"FLOPs of finished runs over time: {len(rows)} runs{total}."
    return Drawing(_finished, rows, "FLOPs of finished runs", description)


def _finished(rows: list[style.Row]) -> alt.Chart:
    return (
        alt.Chart(style.rows(rows, "done"))
        .mark_line(interpolate="step-after", color=style.PALETTE[0], point=alt.OverlayMarkDef(size=14))
        .encode(
            x=alt.X("time:T", title="time"),
            y=alt.Y("flops:Q", title="FLOPs", axis=alt.Axis(format=".2~e", tickCount=5)),
            tooltip=style.tips("time:T||%d %b %H:%M:%S; flops|FLOPs|.3~e; share|of the study|.1%"),
        )
        .properties(width=620, height=170)
    )


def _lines(rows: list[style.Row], name: str, title: str = "nats per token", *, data: bool = True) -> alt.Chart:
    chart = alt.Chart(style.rows(rows, name)) if data else alt.Chart()
    return chart.encode(
        x=alt.X(
            "tokens:Q", scale=alt.Scale(type="log", nice=False, padding=8), axis=style.count_axis("total tokens seen")
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
        tooltip=style.tips(f"run; state; mixture; loss|{title}|.4f; tokens|total tokens seen|,.0f"),
    )


def _count_states(rows: Iterable[style.Row]) -> str:
    """The number of runs in each state, for the description of a chart."""
    states = {row["run"]: row["state"] for row in rows}
    counted = [f"{sum(each == state for each in states.values())} {state}" for state in STATES]
    return ", ".join(text for text in counted if not text.startswith("0 ")) or "no runs"
