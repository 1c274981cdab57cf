"""Charts of runs: learning curves and final losses."""

from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from babelscale import tables
from babelscale.charts import style
from babelscale.runs import METRICS, Metric, Runs

KINDS = ("one language", "two languages", "several languages", "continued", "two stages")


def loss_rows(runs: Runs, *, metric: Metric | None = None, split: str = "validation") -> pl.DataFrame:
    """One row a run, step and language that the run trains on: loss, tokens, and what kind of run it is.

    Losses on languages that a run never sees are left out: they are much larger and would hide the others.
    """
    metric = metric or runs.metric
    totals = runs.exposure.group_by("run", "step").agg(pl.sum("tokens").alias("total_tokens"))
    spread = (
        runs.exposure.filter(pl.col("tokens") > 0).group_by("run").agg(pl.col("language").n_unique().alias("languages"))
    )
    table = runs.table.join(spread, on="run").select(
        "run", "params", "start", "languages", mixture=pl.col("mixture").fill_null(pl.col("run"))
    )
    start = pl.col("start").fill_null(tables.SCRATCH)
    kind = (
        pl.when(start == tables.TWO_STAGE)
        .then(pl.lit(KINDS[4]))
        .when(start != tables.SCRATCH)
        .then(pl.lit(KINDS[3]))
        .when(pl.col("languages") == 1)
        .then(pl.lit(KINDS[0]))
        .when(pl.col("languages") == 2)
        .then(pl.lit(KINDS[1]))
        .otherwise(pl.lit(KINDS[2]))
    )
    return (
        runs.losses.filter(split=split)
        .select("run", "step", "language", "lr_state", loss=METRICS[metric])
        .filter(pl.col("loss").is_not_null())
        .join(runs.exposure.filter(pl.col("tokens") > 0), on=["run", "step", "language"])
        .join(totals, on=["run", "step"])
        .join(table, on="run")
        .with_columns(kind=kind)
        .sort("language", "run", "step")
    )


def learning_curves(runs: Runs, *, metric: Metric | None = None, columns: int = 3) -> alt.TopLevelMixin:
    """Loss against total tokens seen, one panel a language and one line a run.

    Dots are measured at a stable learning rate, diamonds after its decay; the two cannot be compared.
    """
    metric = metric or runs.metric
    frame = loss_rows(runs, metric=metric)
    values = _named(frame)
    base = alt.Chart().encode(
        x=alt.X(
            "total_tokens:Q",
            scale=style.log_scale(frame["total_tokens"]),
            axis=style.count_axis("total tokens seen", frame["total_tokens"]),
        ),
        y=alt.Y("loss:Q", scale=style.log_scale(frame["loss"]), axis=style.loss_axis(metric, frame["loss"])),
        color=_kind_colour(frame),
        tooltip=_tooltip(metric),
    )
    width = alt.StrokeWidth(
        "params:O", title="parameters", scale=alt.Scale(range=[0.6, 2.6]), legend=_params_legend(frame)
    )
    line = base.mark_line(opacity=0.75, interpolate="linear").encode(detail="run:N", strokeWidth=width)
    states = [state for state in ("warmup", "stable", "decayed") if state in set(frame["lr_state"])]
    looks = {"warmup": ("triangle-up", 14), "stable": ("circle", 14), "decayed": ("diamond", 60)}
    shapes, sizes = zip(*(looks[state] for state in states), strict=True)
    points = base.mark_point(filled=True, opacity=1).encode(
        shape=alt.Shape("lr_state:N", title="learning rate", scale=alt.Scale(domain=states, range=list(shapes))),
        size=alt.Size(
            "lr_state:N", sort=states, title="learning rate", scale=alt.Scale(domain=states, range=list(sizes))
        ),
    )
    panels = style.by_kinship(frame["language"].unique())
    chart = (
        alt.layer(line, points, data=style.rows(values))
        .properties(width=235, height=190)
        .facet(
            facet=alt.Facet("name:N", title=None, sort=[style.name(code) for code in panels]),
            columns=style.balanced(len(panels), columns),
        )
    )
    description = (
        f"Held-out {style.metric_title(metric)} against tokens seen by {frame['run'].n_unique()} runs, "
        f"one panel for each of {len(panels)} languages."
    )
    return style.finish(chart, "Learning curves", description)


def final_losses(runs: Runs, *, metric: Metric | None = None) -> alt.TopLevelMixin:
    """The loss at the end of every run, after the learning rate's decay: a row a language, a mark a run."""
    metric = metric or runs.metric
    frame = loss_rows(runs, metric=metric).filter(lr_state="decayed")
    order = [style.name(code) for code in style.by_kinship(frame["language"].unique())]
    kinds = _present(frame)
    chart = (
        alt.Chart(style.rows(_named(frame)))
        .mark_point(filled=True, opacity=0.85, stroke=style.INK, strokeWidth=0.4, strokeOpacity=0.5)
        .encode(
            x=alt.X("loss:Q", scale=style.log_scale(frame["loss"]), axis=style.loss_axis(metric, frame["loss"])),
            y=alt.Y("name:N", title=None, sort=order, axis=alt.Axis(labelLimit=220, grid=True)),
            yOffset=alt.YOffset("kind:N", sort=kinds),
            color=_kind_colour(frame),
            shape=alt.Shape("kind:N", sort=kinds, title="trained on", scale=alt.Scale(domain=kinds)),
            size=alt.Size(
                "params:O", title="parameters", scale=alt.Scale(range=[22, 150]), legend=_params_legend(frame)
            ),
            tooltip=_tooltip(metric),
        )
        .properties(width=560, height=alt.Step(9 if len(kinds) > 1 else 20))
    )
    description = (
        f"Final held-out {style.metric_title(metric)} of {frame['run'].n_unique()} runs on {len(order)} languages."
    )
    return style.finish(chart, "Losses at the end of training", description)


def _named(frame: pl.DataFrame) -> list[style.Row]:
    return [row | {"name": style.name(row["language"])} for row in frame.to_dicts()]


def _present(frame: pl.DataFrame) -> list[str]:
    there = set(frame["kind"])
    return [kind for kind in KINDS if kind in there]


def _kind_colour(frame: pl.DataFrame) -> alt.Color:
    colours: Mapping[str, str] = dict(zip(KINDS, style.PALETTE, strict=False))
    kinds: Sequence[str] = _present(frame)
    scale = alt.Scale(domain=list(kinds), range=[colours[kind] for kind in kinds])
    return alt.Color("kind:N", title="trained on", scale=scale, sort=list(kinds))


def _params_legend(frame: pl.DataFrame) -> alt.Legend | None:
    """Sizes with suffixes; no legend where all runs have one size."""
    if frame["params"].n_unique() < 2:
        return None
    return alt.Legend(labelExpr="replace(format(datum.value, '.3~s'), 'G', 'B')", symbolFillColor=style.INK)


def _tooltip(metric: Metric) -> list[alt.Tooltip]:
    return style.tips(
        f"run; name|language; mixture; loss|{style.metric_title(metric)}|.4f; lr_state|learning rate; "
        "total_tokens|total tokens seen|,.0f; tokens|tokens of the language|,.0f; params|parameters|,.0f"
    )
