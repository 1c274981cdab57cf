"""The transfer matrix as a heat map."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import altair as alt
import numpy as np

from babelscale.charts import live, style
from babelscale.formatting import number

Drawn = alt.LayerChart | alt.FacetChart

if TYPE_CHECKING:
    from babelscale.transfer import TransferMatrix

Order = Literal["branch", "script", "clusters", "given", "gains", "helps"]
Shown = Literal["score", "low", "high", "half"]
ORDERS: dict[str, str] = {
    "branch": "by family and branch",
    "script": "by script",
    "clusters": "by clusters of mutual help",
    "gains": "by what they gain as targets, most first",
    "helps": "by what they give as sources, most first",
    "given": "as the matrix has them",
}
SHOWN: dict[str, str] = {
    "score": "transfer score",
    "low": "lower end of the 90 % interval",
    "high": "upper end of the 90 % interval",
    "half": "half the width of the 90 % interval",
}
# Up to so many languages: the size of a cell and of its number in pixels; a cell of the last rows has no room for one.
_SIZES = ((12, 52, 11), (24, 38, 9), (50, 17, 0), (10**9, 10, 0))
_NOTES = {
    "censored": "Dashed: censored, only the bound shown is known.",
    "predicted": "Dotted, in brackets: predicted, not measured.",
}
_TITLE, _UNKNOWN = "Transfer between languages", "#9a9a9a"


def cells(matrix: "TransferMatrix", codes: Sequence[str] | None = None, shows: Shown = "score") -> list[style.Row]:
    """One row a known cell: target, source, score (of a censored cell its bound), interval, status and its text.

    `shown` is what the cell's colour and text stand for (see `SHOWN`), null where that is not known; `row` and `column`
    are its places in the order of `codes`.
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


def transfer_map(
    matrix: "TransferMatrix", *, order: Order = "branch", size: int | None = None, shows: Shown = "score"
) -> alt.TopLevelMixin:
    """Bilingual transfer scores: a row a target, a column a source, green for help and purple for interference.

    Colours are centred on zero and saturate at the largest score or at 1. A dashed cell is censored: the bilingual run
    did not reach the loss within its tokens (or was already past it), and the number is a bound. Dotted is predicted.

    Args:
        size: of a cell, pixels (default: by the number of languages).
        shows: what stands in the cells.
    """
    data = cells(matrix, ordered(matrix, order), shows)
    step, font = _room(len(matrix.languages))
    chart = heat_map(data, shows, _bound(data), str(size or step), str(font))
    return style.finish(chart, _TITLE, told_map(matrix, data, shows), map_notes(data))


def map_spec(matrix: "TransferMatrix", *, order: Order = "branch", shows: Shown = "score") -> live.Spec:
    """The spec of `transfer_map`, from a template; the notes below its title are left to the page."""
    data = cells(matrix, ordered(matrix, order), shows)
    step, font = map(str, _room(len(matrix.languages)))
    description = told_map(matrix, data, shows)
    return live.filled(heat_map, data, shows, _bound(data), step, font, title=_TITLE, description=description)


def told_map(matrix: "TransferMatrix", data: list[style.Row], shows: Shown) -> str:
    return (
        f"Heat map of transfer scores between {len(matrix.languages)} languages, {len(data)} cells known; rows are "
        f"targets, columns sources; positive values mean that the source helps the target. Cells show the "
        f"{SHOWN[shows]}."
    )


def map_notes(data: list[style.Row]) -> list[str]:
    """How to read cells that are not simply measured."""
    return [note for status, note in _NOTES.items() if any(cell["status"] == status for cell in data)]


def heat_map(data: list[style.Row], shows: str, bound: str, step: str, font: str) -> Drawn:
    """The map of `cells` rows; colours end at `bound`, cells are `step` pixels and their numbers `font`, 0 for none."""
    scale = alt.Scale(padding=0.06)
    side = int(step)
    top = alt.Axis(
        labelAngle=-90 if side < 50 else 0,
        orient="top",
        title="source",
        grid=False,
        domain=False,
        ticks=False,
        labelFontSize=min(11, side - 1),
    )
    left = alt.Axis(title="target", grid=False, domain=False, ticks=False, labelFontSize=min(11, side - 1))
    base = alt.Chart(style.rows(data, "cells")).encode(
        x=alt.X("source:N", sort=alt.EncodingSortField("column", op="min"), scale=scale, axis=top),
        y=alt.Y("target:N", sort=alt.EncodingSortField("row", op="min"), scale=scale, axis=left),
    )
    boxes = base.mark_rect(invalid="show").encode(
        color=_colour(shows, float(bound)),
        tooltip=[
            alt.Tooltip("target_name:N", title="target"),
            alt.Tooltip("source_name:N", title="source"),
            alt.Tooltip("text:N", title="transfer score"),
            alt.Tooltip("interval:N", title="90 % interval"),
            alt.Tooltip("status:N"),
        ],
    )
    # A dash is a property of a mark here, not a channel: rectangles have no channel for it.
    line = base.mark_rect(fillOpacity=0, stroke=style.INK, strokeWidth=1.6, strokeDash=[4, 3], tooltip=None)
    dots = base.mark_rect(fillOpacity=0, stroke=style.INK, strokeWidth=1.6, strokeDash=[1, 3], tooltip=None)
    layers = [boxes, line.transform_filter("datum.status == 'censored'")]
    layers.append(dots.transform_filter("datum.status == 'predicted'"))
    if font != "0":
        dark = f"datum.shown !== null && abs(datum.shown) > {0.7 * float(bound)}"
        colour = alt.condition(dark, alt.value("white"), alt.value("#111"))
        layers.append(base.mark_text(fontSize=int(font), tooltip=None).encode(text="label:N", color=colour))
    return alt.layer(*layers).properties(width=alt.Step(side), height=alt.Step(min(side, 34)))


def _colour(shows: str, bound: float) -> alt.Color:
    """Around zero where zero means no transfer; from white on for a width, which has no better side; grey: unknown."""
    legend = alt.Legend(format=".2f" if shows == "half" else "+.1f", gradientLength=140, tickCount=5, titleLimit=150)
    title = ["half the width", "of the interval"] if shows == "half" else SHOWN[shows].split(" of ")
    if shows == "half":
        scale = alt.Scale(domain=[0, bound], range=[style.DIVERGING[3], style.PALETTE[4]], clamp=True)
    else:
        ends = [style.DIVERGING[0], style.DIVERGING[len(style.DIVERGING) // 2], style.DIVERGING[-1]]
        scale = alt.Scale(domain=[-bound, 0, bound], range=ends, clamp=True, interpolate="lab")
    coloured = alt.Color("shown:Q", title=title, scale=scale, legend=legend)
    return alt.condition("datum.shown === null", alt.value(_UNKNOWN), coloured)


def _bound(data: list[style.Row]) -> str:
    """Where colours saturate: at the largest score, at most at 1."""
    return repr(min(1.0, max((abs(cell["shown"]) for cell in data if cell["shown"] is not None), default=1.0)) or 1.0)


def _room(languages: int) -> tuple[int, int]:
    """The size of a cell, and of the number in it."""
    return next((step, font) for most, step, font in _SIZES if languages <= most)


def ordered(matrix: "TransferMatrix", order: Order) -> list[str]:
    """Languages in the order asked for; clusters that cannot be told fall back to branches."""
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
            # Means that differ by rounding alone are equal.
            means[code] = round(float(known.mean()), 12)
    return means


def _shown(value: float, low: float, high: float, status: str) -> tuple[float, str]:
    """The number a cell stands for and its text; a censored cell shows the bound that is known."""
    if math.isfinite(value):
        text = number(value, ".2f")
        return value, f"({text})" if status == "predicted" else text
    # Scores never exceed 2, so an upper bound of 2 or more tells nothing and the lower one is the news.
    if math.isfinite(high) and high < 2:
        return high, f"<{number(high, '.2f')}"
    return low, f">{number(low, '.2f')}"


def _interval(low: float, high: float) -> str:
    if math.isnan(low) and math.isnan(high):
        return "unknown"
    return f"{number(low, '+.2f', 'no lower bound')} to {number(high, '+.2f', 'no upper bound')}"
