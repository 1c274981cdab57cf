"""Charts of transfer: a heat map, rankings of targets and sources, pairs, and scores along size and tokens.

Means and pairs use scores with a number only: a bound has no place in a mean or on an axis of numbers.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import altair as alt
import numpy as np
import polars as pl

from babelscale.charts import style
from babelscale.charts.live import Drawing, templated
from babelscale.charts.style import Drawn
from babelscale.formatting import count, minus, number

if TYPE_CHECKING:
    from babelscale.transfer import TransferMatrix
    from babelscale.transfer.along import Along

Order = Literal["branch", "script", "clusters", "given", "gains", "helps"]
Shown = Literal["score", "low", "high", "half"]
ORDERS: dict[str, str] = {
    "branch": "by family and branch",
    "script": "by script",
    "clusters": "by clusters of mutual help",
    "gains": "by their gain as targets, highest first",
    "helps": "by their help as sources, highest first",
    "given": "in the order of the matrix",
}
SHOWN: dict[str, str] = {
    "score": "transfer score",
    "low": "lower end of the 90 % interval",
    "high": "upper end of the 90 % interval",
    "half": "half the width of the 90 % interval",
}
# Up to so many languages: the size of a cell and of its number in pixels (0: no number).
_SIZES = ((12, 52, 11), (24, 38, 9), (50, 17, 0), (10**9, 10, 0))
_NOTES = {
    "censored": "Dashed: censored, only the bound shown is known.",
    "predicted": "Dotted, in brackets: predicted, not measured.",
}
_UNKNOWN = "#9a9a9a"
_STEP, _MOST_LABELS = 15, 14
_BARE = alt.Axis(grid=False, ticks=False, domain=False, labelLimit=200)
_AXIS, _SPAN = alt.Axis(format="+.2~f", tickCount=7), alt.Scale(nice=False, padding=8)


def cells(matrix: "TransferMatrix", codes: Sequence[str] | None = None, shows: Shown = "score") -> list[style.Row]:
    """One row a known cell: target, source, score (of a censored cell its bound), interval, status and its text.

    `shown` is the number of the cell's colour and text (see `SHOWN`), null if it is not known; `row` and `column` are
    its places in the order of `codes`.
    """
    codes = codes or matrix.languages
    place = {code: index for index, code in enumerate(matrix.languages)}
    names = {code: style.name(code) for code in codes}
    found = []
    for row, target in enumerate(codes):
        for column, source in enumerate(codes):
            i, j = place[target], place[source]
            value, low, high = (float(grid[i, j]) for grid in (matrix.values, matrix.low, matrix.high))
            status = str(matrix.status[i, j])
            score, text = _shown(value, low, high, status)
            if i == j or not math.isfinite(score):
                continue
            end = {"score": score, "low": low, "high": high, "half": (high - low) / 2}[shows]
            found.append(
                {
                    "target": target,
                    "source": source,
                    "target_name": names[target],
                    "source_name": names[source],
                    "score": score,
                    "status": status,
                    "interval": _interval(low, high),
                    "text": text,
                    "shown": end if math.isfinite(end) else None,
                    "row": row,
                    "column": column,
                    "label": text if shows == "score" else number(end, ".2f"),
                }
            )
    return found


@templated
def transfer_map(
    matrix: "TransferMatrix", *, order: Order = "branch", size: int | None = None, shows: Shown = "score"
) -> Drawing:
    """Bilingual transfer scores: a row a target, a column a source, green for help and purple for interference.

    Colours are centred on zero and saturate at the largest score or at 1. A dashed cell is censored: the bilingual run
    did not reach the loss within its tokens (or was already below it), and the number is a bound. Dotted is predicted.

    Args:
        size: of a cell, pixels (default: by the number of languages).
        shows: the number in the cells.
    """
    data = cells(matrix, ordered(matrix, order), shows)
    step, font = next((step, font) for most, step, font in _SIZES if len(matrix.languages) <= most)
    # Colours saturate at the largest score, at most at 1.
    bound = min(1.0, max((abs(cell["shown"]) for cell in data if cell["shown"] is not None), default=1.0)) or 1.0
    description = (
        f"Heat map of transfer scores between {len(matrix.languages)} languages, {len(data)} cells known; rows are "
        f"targets, columns sources; positive values mean that the source helps the target. Cells show the "
        f"{SHOWN[shows]}."
    )
    notes = [note for status, note in _NOTES.items() if any(cell["status"] == status for cell in data)]
    fixed = (shows, repr(bound), str(size or step), str(font))
    return Drawing(_heat_map, data, "Transfer between languages", description, fixed, notes)


def _heat_map(data: list[style.Row], shows: str, bound: str, step: str, font: str) -> Drawn:
    """The map of `cells` rows: colours end at `bound`, cells have `step` pixels and their numbers `font` (0: none)."""
    scale = alt.Scale(padding=0.06)
    side = int(step)
    bare: dict[str, Any] = {"grid": False, "domain": False, "ticks": False, "labelFontSize": min(11, side - 1)}
    top = alt.Axis(labelAngle=-90 if side < 50 else 0, orient="top", title="source", **bare)
    left = alt.Axis(title="target", **bare)
    base = alt.Chart(style.rows(data, "cells")).encode(
        x=alt.X("source:N", sort=alt.EncodingSortField("column", op="min"), scale=scale, axis=top),
        y=alt.Y("target:N", sort=alt.EncodingSortField("row", op="min"), scale=scale, axis=left),
    )
    boxes = base.mark_rect(invalid="show").encode(
        color=_colour(shows, float(bound)),
        tooltip=style.tips(
            "target_name|target; source_name|source; text|transfer score; interval|90 % interval; status"
        ),
    )
    layers: list[alt.Chart] = [boxes]
    # Rectangles have no channel for dashes, so that each kind is a layer of its own.
    for status, dash in (("censored", [4, 3]), ("predicted", [1, 3])):
        frame = base.mark_rect(fillOpacity=0, stroke=style.INK, strokeWidth=1.6, strokeDash=dash, tooltip=None)
        layers.append(frame.transform_filter(f"datum.status == '{status}'"))
    if font != "0":
        dark = f"datum.shown !== null && abs(datum.shown) > {0.7 * float(bound)}"
        colour = alt.condition(dark, alt.value("white"), alt.value("#111"))
        layers.append(base.mark_text(fontSize=int(font), tooltip=None).encode(text="label:N", color=colour))
    return alt.layer(*layers).properties(width=alt.Step(side), height=alt.Step(min(side, 34)))


def _colour(shows: str, bound: float) -> alt.Color:
    """Diverging around zero for scores, from white on for widths, grey where the number is not known."""
    legend = alt.Legend(format=".2f" if shows == "half" else "+.1f", gradientLength=140, tickCount=5, titleLimit=150)
    title = ["half the width", "of the interval"] if shows == "half" else SHOWN[shows].split(" of ")
    if shows == "half":
        scale = alt.Scale(domain=[0, bound], range=[style.DIVERGING[3], style.PALETTE[4]], clamp=True)
    else:
        ends = [style.DIVERGING[0], style.DIVERGING[len(style.DIVERGING) // 2], style.DIVERGING[-1]]
        scale = alt.Scale(domain=[-bound, 0, bound], range=ends, clamp=True, interpolate="lab")
    coloured = alt.Color("shown:Q", title=title, scale=scale, legend=legend)
    return alt.condition("datum.shown === null", alt.value(_UNKNOWN), coloured)


def ordered(matrix: "TransferMatrix", order: Order) -> list[str]:
    """Languages in an order; by branch where there are no clusters."""
    match order:
        case "clusters":
            from babelscale.transfer.analysis import clusters

            found = clusters(matrix)
            return list(found.order) if found else style.by_kinship(matrix.languages)
        case "gains" | "helps":
            means = mean_scores(matrix, order)
            return sorted(matrix.languages, key=lambda code: (-means.get(code, -math.inf), code))
        case "given":
            return list(matrix.languages)
        case _:
            return style.by_kinship(matrix.languages, order)


def mean_scores(matrix: "TransferMatrix", side: str) -> dict[str, float]:
    """Mean of the known scores by language: as a target ("gains") or as a source ("helps")."""
    grid = matrix.values if side == "gains" else matrix.values.T
    means = {}
    for code, row in zip(matrix.languages, grid, strict=True):
        known = row[np.isfinite(row)]
        if len(known):
            # Means that differ by rounding errors alone are equal.
            means[code] = round(float(known.mean()), 12)
    return means


def _shown(value: float, low: float, high: float, status: str) -> tuple[float, str]:
    """The number of a cell and its text; a censored cell shows its bound."""
    if math.isfinite(value):
        text = number(value, ".2f")
        return value, f"({text})" if status == "predicted" else text
    # Scores never exceed 2, so an upper bound of 2 or more is no information; then the lower bound is shown.
    if math.isfinite(high) and high < 2:
        return high, f"<{number(high, '.2f')}"
    return low, f">{number(low, '.2f')}"


def _interval(low: float, high: float) -> str:
    if math.isnan(low) and math.isnan(high):
        return "unknown"
    return f"{number(low, '+.2f', 'no lower bound')} to {number(high, '+.2f', 'no upper bound')}"


def source_rows(matrix: "TransferMatrix") -> list[style.Row]:
    """One row a score, with what it is less the target's mean; sources with the best mean first."""
    known = np.isfinite(matrix.values)
    means = np.where(known, matrix.values, 0).sum(1) / np.maximum(known.sum(1), 1)
    above = np.where(known, matrix.values - means[:, None], np.nan)
    names = [style.name(code) for code in matrix.languages]
    rows = [
        {
            "source": matrix.languages[j],
            "source_name": names[j],
            "target_name": names[i],
            "score": float(matrix.values[i, j]),
            "above": float(above[i, j]),
            "status": str(matrix.status[i, j]),
        }
        for i, j in np.argwhere(known)
    ]
    return _ranked(rows, "source", "above")


def target_rows(matrix: "TransferMatrix") -> list[style.Row]:
    """One row a score; targets with the best mean first."""
    names = [style.name(code) for code in matrix.languages]
    rows = [
        {
            "target": matrix.languages[i],
            "target_name": names[i],
            "source_name": names[j],
            "score": float(matrix.values[i, j]),
            "status": str(matrix.status[i, j]),
        }
        for i, j in np.argwhere(np.isfinite(matrix.values))
    ]
    return _ranked(rows, "target", "score")


@templated
def source_ranking(matrix: "TransferMatrix") -> Drawing:
    """Sources by how much more they help than the others do: a dot a target, the bar their mean.

    The mean of its target is subtracted from each score; it is most of a matrix's variance.
    """
    return _ranking_of(source_rows(matrix), "source", "Which sources help most")


@templated
def target_ranking(matrix: "TransferMatrix") -> Drawing:
    """Targets by how much the others help them: a dot a source, the bar their mean."""
    return _ranking_of(target_rows(matrix), "target", "Which targets gain most")


def _ranking_of(rows: list[style.Row], side: str, title: str) -> Drawing:
    order = list(dict.fromkeys(row[f"{side}_name"] for row in rows))
    less = " less the target's mean" if side == "source" else ""
    best = f", best: {', '.join(order[:3])}" if order else ""
    description = (
        f"Ranking of {len(order)} {side} languages by their mean transfer score{less}, from {len(rows)} scores; one "
        f"dot a {'target' if side == 'source' else 'source'}, an orange bar the mean{best}."
    )
    predicted = any(row["status"] == "predicted" for row in rows)
    notes = ["Orange: the mean." + (" Predicted scores are among the dots." if predicted else "")]
    return Drawing(_ranking, rows, title, description, (side,), notes)


def _ranking(rows: list[style.Row], side: str) -> Drawn:
    """A dot a score by its source or its target, whichever is the `side`, best mean first."""
    other = "target" if side == "source" else "source"
    value = "above" if side == "source" else "score"
    title = "transfer score less the target's mean" if side == "source" else "transfer score"
    above = "above|less the target's mean|+.2f; " if side == "source" else ""
    base = alt.Chart(style.rows(rows, "ranking")).encode(y=style.by_order(f"{side}_name", _BARE))
    x = alt.X(f"{value}:Q", title=title, axis=_AXIS, scale=_SPAN)
    dots = base.mark_circle(size=26, opacity=0.35, color=style.PALETTE[0]).encode(
        x=x, tooltip=style.tips(f"{side}_name|{side}; {other}_name|{other}; score|transfer score|+.2f; {above}status")
    )
    bars = base.mark_tick(thickness=3, height=12, color=style.PALETTE[4]).encode(
        x=alt.X(f"mean({value}):Q", title=title)
    )
    return alt.layer(style.zero(rows, "ranking", 0.4, tooltip=None), dots, bars).properties(
        width=290, height=alt.Step(_STEP)
    )


def helper_rows(matrix: "TransferMatrix", target: str) -> list[style.Row]:
    """One row a source with a known score for the target, best first; a censored one is drawn at its bound.

    Raises:
        InputError: the target is not in the matrix.
    """
    rows = []
    for helper in matrix.helpers(target, most=len(matrix.languages)):
        bound = not math.isfinite(helper.value)
        text = f"above {helper.low:+.2f}" if bound else f"{helper.value:+.2f}"
        rows.append(
            {
                "source": helper.source,
                "name": style.name(helper.source),
                "score": helper.low if bound else helper.value,
                "low": None if bound else helper.low,
                "high": None if bound else helper.high,
                "status": helper.status,
                "text": minus(text),
                "bound": bound,
            }
        )
    return [row | {"order": k} for k, row in enumerate(rows)]


@templated
def helpers(matrix: "TransferMatrix", target: str) -> Drawing:
    """The sources of one target, best first, with 90 % intervals where they are known."""
    rows, name = helper_rows(matrix, target), style.name(target)
    best = ", ".join(f"{row['name']} {row['text']}" for row in rows[:5]) or "none known"
    description = f"Sources of {name} by transfer score, best first: {best}."
    return Drawing(_helpers, rows, f"Sources that help {name}", description)


def _helpers(rows: list[style.Row]) -> Drawn:
    """Scores of `helper_rows` with their intervals; an arrow marks a lower bound."""
    base = alt.Chart(style.rows(rows, "helpers")).encode(y=style.by_order("name", _BARE))
    tips = style.tips("name|source; text|transfer score; low|low (90 %)|+.2f; high|high (90 %)|+.2f; status")
    title = "transfer score to this target"
    bars = base.transform_filter("datum.low !== null && datum.high !== null")
    bars = bars.mark_rule(strokeWidth=3, opacity=0.5, color=style.PALETTE[0])
    bars = bars.encode(x=alt.X("low:Q", title=title, axis=_AXIS, scale=_SPAN), x2="high:Q", tooltip=tips)
    points = base.mark_point(filled=True, size=55, opacity=1).encode(
        x=alt.X("score:Q", title=title, axis=_AXIS, scale=_SPAN),
        tooltip=tips,
        shape=alt.condition("datum.bound", alt.value("triangle-right"), alt.value("circle")),
        color=alt.condition("datum.status === 'predicted'", alt.value(style.PALETTE[3]), alt.value(style.PALETTE[0])),
    )
    return alt.layer(style.zero(rows, "helpers", 0.4, tooltip=None), bars, points).properties(
        width=290, height=alt.Step(_STEP)
    )


def _ranked(rows: list[style.Row], side: str, value: str) -> list[style.Row]:
    """Rows with the rank of their language by the mean of a value, best first."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row[side], []).append(row[value])
    best = sorted(values, key=lambda code: (-float(np.mean(values[code])), code))
    places = {code: k for k, code in enumerate(best)}
    other = "target_name" if side == "source" else "source_name"
    return sorted((row | {"order": places[row[side]]} for row in rows), key=lambda row: (row["order"], row[other]))


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


@templated
def asymmetry(matrix: "TransferMatrix") -> Drawing:
    """Each pair as a point: what one language gains from the other, and what the other gains from it.

    On the line both gain equally; the farther above it, the more one language gains without giving.
    """
    rows = asymmetry_rows(matrix)
    values = [row[name] for row in rows for name in ("gain", "other")] or [0.0, 1.0]
    ends = min(values), max(values)
    room = 0.06 * (ends[1] - ends[0] or 1)
    named = {row["text"] for row in _apart(rows, ends)}
    data = [row | {"kind": "pair", "named": row["text"] in named} for row in rows]
    data += [{"kind": "end", "gain": x, "other": x} for x in (ends[0] - 3 * room, ends[1] + room)]
    predicted = "predicted" if any(row["status"] == "predicted" for row in rows) else ""
    description = (
        f"Scatter of {len(rows)} pairs of languages: what one gains from the other against what the other gains from "
        "it; points far above the diagonal are asymmetric."
    )
    notes = ["Named: the most asymmetric pairs."]
    return Drawing(_pairs, data, "What pairs give and gain", description, (predicted,), notes)


def _pairs(data: list[style.Row], predicted: str) -> Drawn:
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
            tooltip=style.tips("more|language; less|from; gain|gains|+.2f; other|gives|+.2f"),
        )
    )
    labels = base.transform_filter("datum.named === true")
    labels = labels.mark_text(align="right", dx=-6, fontSize=10, color=style.INK, tooltip=None).encode(text="text:N")
    return alt.layer(diagonal, points, labels).properties(width=320, height=320)


def _apart(rows: list[style.Row], ends: tuple[float, float]) -> list[style.Row]:
    """The most asymmetric pairs whose names do not overlap."""
    span = ends[1] - ends[0] or 1
    named: list[style.Row] = []
    for row in rows:
        clash = any(
            abs(row["gain"] - other["gain"]) < 0.035 * span and abs(row["other"] - other["other"]) < 0.25 * span
            for other in named
        )
        if not clash and len(named) < _MOST_LABELS:
            named.append(row)
    return named


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
    colour = style.colours("size", sizes, sort=sizes, title="parameters (N)")
    tokens = sorted(frame["d_mono"].unique())
    x = alt.X(
        "d_mono:Q",
        scale=style.log_scale(tokens),
        axis=style.count_axis("tokens of the monolingual run (d_mono)", tokens),
    )
    y = alt.Y("score:Q", title="transfer score", axis=alt.Axis(format="+.1f"))
    each = frame.select("pair", "size", "d_mono", "score", "low", "high").to_dicts()
    pairs = alt.Chart(style.rows(each)).mark_line(strokeWidth=0.8, opacity=0.3, point={"size": 10, "opacity": 0.3})
    pairs = pairs.encode(x=x, y=y, color=colour, detail="pair:N", tooltip=style.tips("pair; size; score||+.2f"))
    thick = alt.Chart(style.rows(mean.sort("params", "d_mono").to_dicts())).mark_line(strokeWidth=3.5)
    chart = alt.layer(pairs, thick.encode(x=x, y=y, color=colour)).properties(width=520, height=340)
    pairs_averaged = f" ({mean['pairs'][0]} pairs)" if mean.height else ""
    description = (
        f"Transfer scores of {frame['pair'].n_unique()} pairs at {len(sizes)} sizes and {len(tokens)} numbers of "
        "tokens; the thick line of each size is the mean."
    )
    notes = [f"Thick: mean of the pairs measured at all common places{pairs_averaged}; censored scores are left out."]
    return style.finish(chart, "Transfer along size and tokens", description, notes)
