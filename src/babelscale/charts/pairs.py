"""Pairs of languages: what each gives and takes, and how scores move with size and tokens. Only scores with a number
are drawn; a bound has no place on an axis of numbers."""

import math
from typing import TYPE_CHECKING

import altair as alt
import polars as pl

from babelscale.charts import live, style
from babelscale.formatting import count

Drawn = alt.LayerChart | alt.FacetChart

if TYPE_CHECKING:
    from babelscale.transfer import TransferMatrix
    from babelscale.transfer.along import Along

_MOST_LABELS, _PAIRS = 14, "What pairs give and take"


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
                    "more": style.name(more),
                    "less": style.name(less),
                    "gain": max(scores),
                    "other": min(scores),
                    "difference": max(scores) - min(scores),
                    "text": f"{more} from {less}",
                    "status": "predicted" if "predicted" in statuses else "known",
                }
            )
    return sorted(rows, key=lambda row: (-row["difference"], row["text"]))


def asymmetry(matrix: "TransferMatrix") -> alt.TopLevelMixin:
    """Each pair as a point: what one language gains from the other, and what the other gains from it.

    On the line both gain alike; the farther above it, the more one side takes without giving.
    """
    data, predicted, told = _drawn(matrix)
    return style.finish(give_and_take(data, predicted), _PAIRS, told, ["Named: the most one-sided pairs."])


def asymmetry_spec(matrix: "TransferMatrix") -> live.Spec:
    """The spec of `asymmetry`, from a template."""
    data, predicted, told = _drawn(matrix)
    return live.filled(give_and_take, data, predicted, title=_PAIRS, description=told)


def _drawn(matrix: "TransferMatrix") -> tuple[list[style.Row], str, str]:
    """Pairs and the ends of the diagonal as rows, whether any is predicted, and the description."""
    rows = asymmetry_rows(matrix)
    values = [row[name] for row in rows for name in ("gain", "other")] or [0.0, 1.0]
    ends = min(values), max(values)
    room = 0.06 * (ends[1] - ends[0] or 1)
    named = {row["text"] for row in _apart(rows, ends)}
    data = [row | {"kind": "pair", "named": row["text"] in named} for row in rows]
    data += [{"kind": "end", "gain": x, "other": x} for x in (ends[0] - 3 * room, ends[1] + room)]
    predicted = "predicted" if any(row["status"] == "predicted" for row in rows) else ""
    told = (
        f"Scatter of {len(rows)} pairs of languages: what one gains from the other against what the other gains from "
        "it; points far above the diagonal are one-sided."
    )
    return data, predicted, told


def give_and_take(data: list[style.Row], predicted: str) -> Drawn:
    """Pairs and the diagonal; a legend where some scores are `predicted`."""
    scale, axis = alt.Scale(nice=False, zero=False), alt.Axis(format="+.1f", tickCount=7)
    base = alt.Chart(style.rows(data, "pairs")).encode(
        x=alt.X("other:Q", title="what the other gains from it (transfer score)", scale=scale, axis=axis),
        y=alt.Y("gain:Q", title="what a language gains from another (transfer score)", scale=scale, axis=axis),
    )
    diagonal = base.transform_filter("datum.kind === 'end'")
    diagonal = diagonal.mark_line(color=style.INK, opacity=0.4, strokeDash=[4, 3], tooltip=None)
    marks = {"known": style.PALETTE[0], "predicted": style.PALETTE[3]}
    points = (
        base.transform_filter("datum.kind === 'pair'")
        .mark_circle(size=30, opacity=0.5)
        .encode(
            color=alt.Color(
                "status:N",
                title=None,
                scale=alt.Scale(domain=list(marks), range=list(marks.values())),
                legend=alt.Legend() if predicted else None,
            ),
            tooltip=[
                alt.Tooltip("more:N", title="language"),
                alt.Tooltip("less:N", title="from"),
                alt.Tooltip("gain:Q", title="gains", format="+.2f"),
                alt.Tooltip("other:Q", title="gives", format="+.2f"),
            ],
        )
    )
    labels = base.transform_filter("datum.named === true")
    labels = labels.mark_text(align="right", dx=-6, fontSize=10, color=style.INK, tooltip=None).encode(text="text:N")
    return alt.layer(diagonal, points, labels).properties(width=320, height=320)


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
    frame = frame.with_columns(pair=pair, size=pl.col("params").map_elements(count, return_dtype=pl.String))
    shared = frame.join(found.common, on=["params", "d_mono"], how="semi")
    whole = shared.group_by("target", "source").len().filter(pl.col("len") == common)
    sizes = [count(value) for value in sorted(frame["params"].unique())]
    mean = shared.join(whole, on=["target", "source"], how="semi")
    mean = mean.group_by("params", "d_mono", "size").agg(pl.mean("score"), pairs=pl.len())
    colour = alt.Color(
        "size:N",
        sort=sizes,
        title="parameters (N)",
        scale=alt.Scale(domain=sizes, range=[style.PALETTE[k % len(style.PALETTE)] for k in range(len(sizes))]),
    )
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
        x=x,
        y=y,
        color=colour,
        detail="pair:N",
        tooltip=[alt.Tooltip("pair:N"), "size:N", alt.Tooltip("score:Q", format="+.2f")],
    )
    thick = alt.Chart(style.rows(mean.sort("params", "d_mono").to_dicts())).mark_line(strokeWidth=3.5)
    chart = alt.layer(pairs, thick.encode(x=x, y=y, color=colour)).properties(width=520, height=340)
    told = f" ({mean['pairs'][0]} pairs)" if mean.height else ""
    description = (
        f"Transfer scores of {frame['pair'].n_unique()} pairs at {len(sizes)} sizes and {len(tokens)} numbers of "
        "tokens; a thick line a size is the mean."
    )
    notes = [f"Thick: mean of the pairs measured wherever most are{told}; censored scores are left out."]
    return style.finish(chart, "Transfer along size and tokens", description, notes)
