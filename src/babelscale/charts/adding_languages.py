"""Charts of adding languages: frontiers of equal loss, multipliers, and losses by the number of languages.

Rows come from `babelscale.planning.Expansion` or from runs. Only the data of a spec depends on them (see `live`), and
whether an axis shows counts or multiples.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import altair as alt
import polars as pl

from babelscale.charts import style
from babelscale.charts.live import Drawing, templated
from babelscale.charts.style import Drawn
from babelscale.formatting import count
from babelscale.runs import METRICS

if TYPE_CHECKING:
    from babelscale.planning import CandidateLanguage, Expansion
    from babelscale.runs import Runs

# Below the chart, because beside it a legend would take half of a narrow screen.
_LEGEND = alt.Legend(symbolOpacity=1, orient="bottom", columns=3)
QUANTITIES = {"params": "parameters N", "tokens": "total tokens D", "compute": "compute C"}
# A frontier is drawn as far as this many times the compute of its cheapest point.
_DEAREST = 12.0


def frontier_rows(expansions: "Sequence[Expansion]") -> list[style.Row]:
    """One row for each point of a frontier and one for its cheapest point, without points of far more compute.

    N and D_tot are multiples, or counts where a size was given; `low` and `high` are the interval of D_tot.
    """
    rows = []
    for found in expansions:
        best = found.cheapest
        if best is None:
            continue
        N, D, C = found.now or (1.0, 1.0, 1.0)
        points = [(point, False) for point in found.frontier] + [(best, True)]
        for point, cheapest in points:
            tokens, compute = point.tokens, point.compute
            if not math.isfinite(tokens.value) or compute.value > _DEAREST * best.compute.value:
                continue
            # If an end of the interval lies beyond every amount of data, the band ends at the top of the chart.
            high = min(tokens.high, 10 * tokens.value)
            rows.append(
                {
                    "languages": f"{found.to} languages",
                    "to": found.to,
                    "N": N * point.params,
                    "D": D * tokens.value,
                    "low": D * tokens.low,
                    "high": D * high,
                    "C": C * compute.value,
                    "cheapest": cheapest,
                    "compute": f"{_times(compute.value)} ({_times(compute.low)} to {_times(compute.high)})",
                    "text": f"{found.to}",
                }
            )
    return rows


@templated
def frontier(expansions: "Sequence[Expansion]") -> Drawing:
    """Sizes and tokens that keep the loss as languages are added: a line a number of languages, its band 90 % or the
    rounding of the publication, and a dot at the least compute."""
    listed = "; ".join(
        f"{found.to} languages {_times(found.cheapest.params)} parameters, {_times(found.cheapest.tokens.value)} tokens"
        for found in expansions
        if found.cheapest is not None
    )
    K = expansions[0].languages if expansions else 0
    description = f"Sizes and tokens that keep the loss of {K} languages, the cheapest of each: {listed or 'none'}."
    unit = "counts" if expansions and expansions[0].now else "multiples"
    return Drawing(_iso_loss, frontier_rows(expansions), "Equal loss with more languages", description, (unit,))


def _iso_loss(rows: list[style.Row], unit: str) -> Drawn:
    """Lines of `frontier_rows` on logarithmic axes; `unit` is "counts" or "multiples"."""
    base = alt.Chart(style.rows(rows, "frontier"))
    span = alt.Scale(type="log", nice=False, padding=12)
    counts, form = unit == "counts", ".3~s" if unit == "counts" else ".3~g"
    label = "replace(format(datum.value, '.2~s'), 'G', 'B')" if counts else "format(datum.value, '~g') + '×'"
    axis = alt.Axis(labelExpr=label, tickCount=6, labelOverlap="greedy", labelSeparation=6)
    of = "" if counts else ", multiple of the present"
    x = alt.X("N:Q", title=f"parameters (N){of}", scale=span, axis=axis)
    y = alt.Y("D:Q", title=f"total tokens (D){of}", scale=span, axis=axis)
    colour = alt.Color(
        "languages:N",
        title=None,
        legend=_LEGEND,
        sort=alt.EncodingSortField("to", op="min"),
        scale=alt.Scale(range=list(style.PALETTE)),
    )
    tips = style.tips(
        f"languages|to; N|parameters|{form}; D|total tokens|{form}; low|tokens, low|{form}; high|tokens, high|{form}; "
        "compute|times the compute"
    )
    line = base.transform_filter("!datum.cheapest")
    band = line.mark_area(opacity=0.18, tooltip=None).encode(
        x=x, y=alt.Y("low:Q", scale=span), y2="high:Q", color=colour
    )
    lines = line.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour)
    hits = line.mark_circle(size=70, opacity=0).encode(x=x, y=y, tooltip=tips)
    best = base.transform_filter("datum.cheapest")
    dots = best.mark_point(filled=True, size=110, opacity=1).encode(x=x, y=y, color=colour, tooltip=tips)
    names = best.mark_text(align="left", dx=8, dy=-8, color=style.INK, tooltip=None).encode(x=x, y=y, text="text:N")
    return alt.layer(band, lines, hits, dots, names).properties(width=520, height=360)


def multiplier_rows(expansions: "Sequence[Expansion]") -> list[style.Row]:
    """One row a number of languages and quantity: the multiplier with its interval."""
    return [
        {
            "languages": found.to,
            "ratio": found.to / found.languages,
            "quantity": title,
            "value": getattr(found, name).value,
            "low": getattr(found, name).low,
            "high": getattr(found, name).high,
        }
        for found in expansions
        for name, title in QUANTITIES.items()
    ]


def expansion(expansion: "Expansion") -> alt.TopLevelMixin:
    """The frontier of one expansion."""
    return frontier([expansion])


@templated
def multipliers(expansions: "Sequence[Expansion]") -> Drawing:
    """Multipliers of N, D_tot and C against the number of languages."""
    description = "Multipliers of parameters, tokens and compute; no number of languages is given."
    if expansions:
        last = expansions[-1]
        listed = ", ".join(f"{title} {_times(getattr(last, name).value)}" for name, title in QUANTITIES.items())
        description = f"Multipliers at equal loss from {last.languages} languages on; at {last.to} languages: {listed}."
    return Drawing(_growth, multiplier_rows(expansions), "Multipliers at equal loss", description)


def _growth(rows: list[style.Row]) -> Drawn:
    base = alt.Chart(style.rows(rows, "multipliers"))
    span = alt.Scale(type="log", nice=False, padding=10)
    ticks = alt.Axis(format="~g", tickCount=6, labelOverlap="greedy")
    x = alt.X("languages:Q", title="number of languages", scale=span, axis=ticks)
    axis = alt.Axis(labelExpr="format(datum.value, '~g') + '×'", tickCount=6, labelOverlap="greedy")
    colour = alt.Color(
        "quantity:N",
        title=None,
        legend=_LEGEND,
        scale=alt.Scale(domain=list(QUANTITIES.values()), range=[style.PALETTE[0], style.PALETTE[2], style.PALETTE[4]]),
    )
    title = "multiply by, at equal loss"
    band = base.mark_area(opacity=0.18, tooltip=None)
    band = band.encode(x=x, y=alt.Y("low:Q", title=title, scale=span, axis=axis), y2="high:Q", color=colour)
    lines = base.mark_line(strokeWidth=2, point={"size": 24, "filled": True}).encode(
        x=x,
        y=alt.Y("value:Q", title=title, scale=span, axis=axis),
        color=colour,
        tooltip=style.tips("quantity; languages:Q; ratio||.3~g; value||.3~g; low||.3~g; high||.3~g"),
    )
    return alt.layer(band, lines).properties(width=520, height=300)


def addition_rows(first: "Sequence[CandidateLanguage]") -> list[style.Row]:
    """Two rows a language, what it gives and what it gets, and the interval of the mean of both."""
    rows = []
    for order, one in enumerate(first):
        for kind, value in (("gives to those before it", one.gives), ("gets from them", one.gets)):
            rows.append(
                {
                    "name": style.name(one.language),
                    "language": one.language,
                    "kind": kind,
                    "score": value if math.isfinite(value) else None,
                    "low": one.low,
                    "high": one.high,
                    "order": order,
                    "scores": one.known,
                }
            )
    return rows


@templated
def additions(first: "Sequence[CandidateLanguage]") -> Drawing:
    """Languages in the order in which to add them."""
    listed = ", ".join(style.name(one.language) for one in first)
    description = f"Languages in the order in which to add them: {listed or 'none'}."
    return Drawing(_additions, addition_rows(first), "Which languages to add first", description)


def _additions(rows: list[style.Row]) -> Drawn:
    axis = alt.Axis(grid=False, ticks=False, domain=False, labelLimit=200)
    base = alt.Chart(style.rows(rows, "additions")).encode(y=style.by_order("name", axis))
    span, title = alt.Scale(nice=False, padding=8), "mean transfer score"
    x = alt.Axis(format="+.2~f", tickCount=7)
    bars = base.transform_filter("datum.low !== null && datum.high !== null")
    bars = bars.mark_rule(strokeWidth=3, opacity=0.4, color=style.INK, tooltip=None)
    bars = bars.encode(x=alt.X("low:Q", title=title, scale=span, axis=x), x2="high:Q")
    kinds = ["gives to those before it", "gets from them"]
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("score:Q", title=title, scale=span, axis=x),
        color=alt.Color(
            "kind:N",
            title=None,
            legend=_LEGEND,
            scale=alt.Scale(domain=kinds, range=[style.PALETTE[2], style.PALETTE[3]]),
        ),
        shape=alt.Shape(
            "kind:N", title=None, legend=_LEGEND, scale=alt.Scale(domain=kinds, range=["circle", "diamond"])
        ),
        tooltip=style.tips("name|language; kind; score||+.2f"),
    )
    return alt.layer(bars, dots).properties(width=400, height=alt.Step(22))


def width_frame(runs: "Runs") -> pl.DataFrame:
    """Final losses of runs from scratch on the languages they train on, with the number of these languages.

    Columns: run, language, languages (how many), params, tokens (of the language), total_tokens, loss.
    """
    seen = runs.exposure.filter(pl.col("tokens") > 0)
    widths = seen.group_by("run", "step").agg(languages=pl.len(), total_tokens=pl.sum("tokens"))
    fresh = runs.table.filter(pl.col("start").fill_null("scratch") == "scratch").select("run", "params")
    return (
        runs.losses.filter(split="validation", lr_state="decayed")
        .with_columns(loss=METRICS[runs.metric])
        .filter(pl.col("loss").is_not_null())
        .join(seen.select("run", "step", "language", own="tokens"), on=["run", "step", "language"])
        .join(widths, on=["run", "step"])
        .join(fresh, on="run")
        .select("run", "language", "languages", "params", tokens="own", total_tokens="total_tokens", loss="loss")
        .sort("language", "languages", "params", "run")
    )


def losses_by_width(frame: pl.DataFrame, metric: str) -> alt.TopLevelMixin:
    """Final losses of every language against the number of languages of its run; lines join equal sizes and tokens.

    Args:
        frame: `width_frame`.
    """
    sizes = [count(value) for value in sorted(frame["params"].unique())]
    rows = [
        row
        | {
            "name": style.name(row["language"]),
            "size": count(row["params"]),
            "join": f"{row['params']:g} {row['total_tokens']:.3g}",
        }
        for row in frame.to_dicts()
    ]
    widths = sorted(frame["languages"].unique())
    base = alt.Chart().encode(
        x=alt.X(
            "languages:Q",
            title="languages of the run",
            scale=alt.Scale(type="log", nice=False, padding=12),
            axis=alt.Axis(values=widths, format="d", labelOverlap="greedy"),
        ),
        color=style.colours("size", sizes, sort=sizes, title="parameters (N)"),
    )
    y = alt.Y(
        "loss:Q", title=style.metric_title(metric), scale=alt.Scale(zero=False, padding=8), axis=alt.Axis(tickCount=5)
    )
    lines = base.mark_line(opacity=0.5, strokeWidth=1.2, tooltip=None).encode(y=alt.Y("mean(loss):Q"), detail="join:N")
    dots = base.mark_circle(size=32, opacity=0.8).encode(
        y=y,
        tooltip=style.tips(
            "name|language; run; languages:Q; loss||.4f; tokens|tokens of the language|,.0f; "
            "total_tokens|tokens in all|,.0f"
        ),
    )
    panels = frame["language"].n_unique()
    chart = (
        alt.layer(lines, dots, data=style.rows(rows))
        .properties(width=200, height=170)
        .facet(facet=alt.Facet("name:N", title=None), columns=min(3, style.balanced(panels, 3)))
        .resolve_scale(y="independent")
    )
    description = (
        f"Final losses of {panels} languages in runs of {widths[0]} to {widths[-1]} languages, a panel a language, a "
        "colour a size of model."
    )
    return style.finish(
        chart,
        "Losses by the number of languages",
        description,
        ["Lines join runs of one size and one number of tokens in all."],
    )


def _times(value: float) -> str:
    return f"{value:.3g}×" if math.isfinite(value) else "no amount"
