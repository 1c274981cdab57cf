"""Transfer between languages beside the heat map: the ranking of sources, what pairs give and take, and how scores move
with size and tokens. Only scores with a number are drawn; a bound has no place on an axis of numbers."""

import math
from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import polars as pl

from babelscale.charts import style

if TYPE_CHECKING:
    from babelscale.transfer import TransferMatrix
    from babelscale.transfer.along import Along

_MOST_LABELS = 14


def source_rows(matrix: "TransferMatrix") -> list[style.Row]:
    """One row a score, with what it is less the target's mean; sources with the best mean first."""
    known = np.isfinite(matrix.values)
    means = np.where(known, matrix.values, 0).sum(1) / np.maximum(known.sum(1), 1)
    rows = [
        {
            "source": matrix.languages[j], "source_name": style.name(matrix.languages[j]),
            "target_name": style.name(matrix.languages[i]), "score": float(matrix.values[i, j]),
            "above": float(matrix.values[i, j] - means[i]), "status": str(matrix.status[i, j]),
        }
        for i, j in np.argwhere(known)
    ]  # fmt: skip
    average: dict[str, float] = {}
    for code in matrix.languages:
        own = [row["above"] for row in rows if row["source"] == code]
        average[code] = float(np.mean(own)) if own else -math.inf
    return sorted(rows, key=lambda row: (-average[row["source"]], row["source"], row["target_name"]))


def source_ranking(matrix: "TransferMatrix") -> alt.TopLevelMixin:
    """Sources by how much more they help than the others do: a dot a target, the bar their mean.

    Each score is taken less the mean of its target, which makes up most of a matrix's variance.
    """
    rows = source_rows(matrix)
    order = list(dict.fromkeys(row["source_name"] for row in rows))
    base = alt.Chart(style.rows(rows)).encode(
        y=alt.Y("source_name:N", sort=order, title=None, axis=alt.Axis(grid=False, ticks=False, domain=False))
    )
    x = alt.X("above:Q", title="transfer score less the target's mean", axis=alt.Axis(format="+.2~f", tickCount=7))
    dots = base.mark_circle(size=26, opacity=0.35, color=style.PALETTE[0]).encode(
        x=x,
        tooltip=[
            alt.Tooltip("source_name:N", title="source"), alt.Tooltip("target_name:N", title="target"),
            alt.Tooltip("score:Q", title="transfer score", format="+.2f"),
            alt.Tooltip("above:Q", title="less the target's mean", format="+.2f"), alt.Tooltip("status:N"),
        ],
    )  # fmt: skip
    bars = base.mark_tick(thickness=3, height=12, color=style.PALETTE[4]).encode(x=alt.X("mean(above):Q"))
    zero = alt.Chart(style.rows([{"zero": 0}])).mark_rule(color=style.INK, opacity=0.4).encode(x="zero:Q")
    predicted = any(row["status"] == "predicted" for row in rows)
    chart = alt.layer(zero, dots, bars).properties(width=290, height=alt.Step(15))
    description = (
        f"Ranking of {len(order)} source languages by their mean transfer score less the target's mean, from "
        f"{len(rows)} scores; one dot a target, an orange bar the mean."
    )
    notes = ["Orange: mean over targets." + (" Predicted scores are among the dots." if predicted else "")]
    return style.finish(chart, "Which sources help most", description, notes)


def asymmetry_rows(matrix: "TransferMatrix") -> list[style.Row]:
    """One row an unordered pair known both ways: what each gains from the other, the one that gains more first."""
    rows = []
    for i, a in enumerate(matrix.languages):
        for j, b in enumerate(matrix.languages[:i]):
            scores = float(matrix.values[i, j]), float(matrix.values[j, i])
            if not all(map(math.isfinite, scores)):
                continue
            more, less = (a, b) if scores[0] >= scores[1] else (b, a)
            statuses = {str(matrix.status[i, j]), str(matrix.status[j, i])}
            rows.append(
                {
                    "more": style.name(more), "less": style.name(less), "gain": max(scores), "other": min(scores),
                    "difference": max(scores) - min(scores), "text": f"{more} from {less}",
                    "status": "predicted" if "predicted" in statuses else "known",
                }
            )  # fmt: skip
    return sorted(rows, key=lambda row: (-row["difference"], row["text"]))


def asymmetry(matrix: "TransferMatrix") -> alt.TopLevelMixin:
    """Each pair as a point: what one language gains from the other, and what the other gains from it.

    On the line both gain alike; the farther above it, the more one side takes without giving.
    """
    rows = asymmetry_rows(matrix)
    values = [row[name] for row in rows for name in ("gain", "other")] or [0.0, 1.0]
    ends = min(values), max(values)
    room = 0.06 * (ends[1] - ends[0] or 1)
    scale = alt.Scale(domain=[ends[0] - 3 * room, ends[1] + room], nice=False)
    line = alt.Chart(style.rows([{"a": end, "b": end} for end in ends]))
    diagonal = line.mark_line(color=style.INK, opacity=0.4, strokeDash=[4, 3]).encode(x="a:Q", y="b:Q")
    axis = alt.Axis(format="+.1f", tickCount=7)
    base = alt.Chart(style.rows(rows)).encode(
        x=alt.X("other:Q", title="what the other gains from it (transfer score)", scale=scale, axis=axis),
        y=alt.Y("gain:Q", title="what a language gains from another (transfer score)", scale=scale, axis=axis),
    )
    marks = {"known": style.PALETTE[0], "predicted": style.PALETTE[3]}
    kinds = [kind for kind in marks if any(row["status"] == kind for row in rows)]
    points = base.mark_circle(size=30, opacity=0.5).encode(
        color=alt.Color(
            "status:N", title=None, scale=alt.Scale(domain=kinds, range=[marks[kind] for kind in kinds]),
            legend=alt.Legend() if len(kinds) > 1 else None,
        ),
        tooltip=[
            alt.Tooltip("more:N", title="language"), alt.Tooltip("less:N", title="from"),
            alt.Tooltip("gain:Q", title="gains", format="+.2f"), alt.Tooltip("other:Q", title="gives", format="+.2f"),
        ],
    )  # fmt: skip
    labels = alt.Chart(style.rows(_apart(rows, ends))).mark_text(align="right", dx=-6, fontSize=10, color=style.INK)
    labels = labels.encode(x=alt.X("other:Q", scale=scale), y=alt.Y("gain:Q", scale=scale), text="text:N")
    chart = alt.layer(diagonal, points, labels).properties(width=320, height=320)
    description = (
        f"Scatter of {len(rows)} pairs of languages: what one gains from the other against what the other gains from "
        "it; points far above the diagonal are one-sided."
    )
    return style.finish(chart, "What pairs give and take", description, ["Named: the most one-sided pairs."])


def _apart(rows: list[style.Row], ends: tuple[float, float]) -> list[style.Row]:
    """The most one-sided pairs whose names would not lie on one another."""
    span = ends[1] - ends[0] or 1
    kept: list[style.Row] = []
    for row in rows:
        clash = any(
            abs(row["gain"] - other["gain"]) < 0.035 * span and abs(row["other"] - other["other"]) < 0.25 * span
            for other in kept
        )
        if not clash and len(kept) < _MOST_LABELS:
            kept.append(row)
    return kept


def transfer_along(found: "Along") -> alt.TopLevelMixin:
    """Scores against tokens, a colour a size: thin lines are pairs, thick ones means of the same pairs."""
    frame = found.table.filter(pl.col("score").is_finite())
    common = found.common.height
    pair = pl.format("{} from {}", "target", "source")
    frame = frame.with_columns(
        pair=pair, size=pl.col("params").map_elements(style.human, return_dtype=pl.String),
    )  # fmt: skip
    shared = frame.join(found.common, on=["params", "d_mono"], how="semi")
    whole = shared.group_by("target", "source").len().filter(pl.col("len") == common)
    sizes = [style.human(value) for value in sorted(frame["params"].unique())]
    mean = shared.join(whole, on=["target", "source"], how="semi")
    mean = mean.group_by("params", "d_mono", "size").agg(pl.mean("score"), pairs=pl.len())
    colour = alt.Color(
        "size:N", sort=sizes, title="parameters (N)",
        scale=alt.Scale(domain=sizes, range=[style.PALETTE[k % len(style.PALETTE)] for k in range(len(sizes))]),
    )  # fmt: skip
    tokens = sorted(frame["d_mono"].unique())
    x = alt.X(
        "d_mono:Q",
        scale=style.log_scale(tokens),
        axis=style.count_axis("tokens of the monolingual run (d_mono)", tokens),
    )
    y = alt.Y("score:Q", title="transfer score", axis=alt.Axis(format="+.1f"))
    each = frame.select("pair", "size", "d_mono", "score", "low", "high").to_dicts()
    pairs = alt.Chart(style.rows(each)).mark_line(strokeWidth=0.8, opacity=0.3, point={"size": 10, "opacity": 0.3})
    pairs = pairs.encode(
        x=x, y=y, color=colour, detail="pair:N",
        tooltip=[alt.Tooltip("pair:N"), "size:N", alt.Tooltip("score:Q", format="+.2f")],
    )  # fmt: skip
    thick = alt.Chart(style.rows(mean.sort("params", "d_mono").to_dicts())).mark_line(strokeWidth=3.5)
    chart = alt.layer(pairs, thick.encode(x=x, y=y, color=colour)).properties(width=520, height=340)
    told = f" ({mean['pairs'][0]} pairs)" if mean.height else ""
    description = (
        f"Transfer scores of {frame['pair'].n_unique()} pairs at {len(sizes)} sizes and {len(tokens)} numbers of "
        "tokens; a thick line a size is the mean."
    )
    notes = [f"Thick: mean of the pairs measured wherever most are{told}; censored scores are left out."]
    return style.finish(chart, "Transfer along size and tokens", description, notes)
