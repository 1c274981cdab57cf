"""The transfer matrix as a heat map."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import altair as alt

from babelscale.charts import style

if TYPE_CHECKING:
    from babelscale.transfer import TransferMatrix

Order = Literal["branch", "script", "clusters", "given"]
# Beyond this many languages a cell has no room for its number.
_MOST_WITH_NUMBERS = 24
_NOTES = {
    "censored": "Dashed: censored, only the bound shown is known.",
    "predicted": "Dotted, in brackets: predicted, not measured.",
}


def cells(matrix: "TransferMatrix", codes: Sequence[str] | None = None) -> list[style.Row]:
    """One row a known cell: target, source, score (of a censored cell its bound), interval, status and its text."""
    codes = codes or matrix.languages
    place = {code: index for index, code in enumerate(matrix.languages)}
    found = []
    for target in codes:
        for source in codes:
            i, j = place[target], place[source]
            value, low, high = (float(grid[i, j]) for grid in (matrix.values, matrix.low, matrix.high))
            shown, text = _shown(value, low, high, str(matrix.status[i, j]))
            if i == j or not math.isfinite(shown):
                continue
            found.append(
                {
                    "target": target, "source": source, "target_name": style.name(target),
                    "source_name": style.name(source), "score": shown, "status": str(matrix.status[i, j]),
                    "interval": _interval(low, high), "text": text,
                }
            )  # fmt: skip
    return found


def transfer_map(matrix: "TransferMatrix", *, order: Order = "branch", size: int | None = None) -> alt.TopLevelMixin:
    """Bilingual transfer scores: a row a target, a column a source, green for help and purple for interference.

    Colours are centred on zero and saturate at the largest score or at 1. A dashed cell is censored: the bilingual run
    did not reach the loss within its tokens (or was already past it), and the number is a bound. Dotted is predicted.
    """
    codes = _ordered(matrix, order)
    data = cells(matrix, codes)
    bound = min(1.0, max((abs(cell["score"]) for cell in data), default=1.0)) or 1.0
    numbers = len(codes) <= _MOST_WITH_NUMBERS
    step = size or (52 if len(codes) <= 12 else 38 if numbers else 17)
    scale = alt.Scale(domain=codes, padding=0.06)
    angle = -90 if len(codes) > 12 else 0
    top = alt.Axis(labelAngle=angle, orient="top", title="source", grid=False, domain=False, ticks=False)
    left = alt.Axis(title="target", grid=False, domain=False, ticks=False)
    base = alt.Chart(style.rows(data)).encode(
        x=alt.X("source:N", sort=codes, scale=scale, axis=top), y=alt.Y("target:N", sort=codes, scale=scale, axis=left)
    )
    ends = [style.DIVERGING[0], style.DIVERGING[len(style.DIVERGING) // 2], style.DIVERGING[-1]]
    boxes = base.mark_rect().encode(
        color=alt.Color(
            "score:Q",
            title="transfer score",
            scale=alt.Scale(domain=[-bound, 0, bound], range=ends, clamp=True, interpolate="lab"),
            legend=alt.Legend(format="+.1f", gradientLength=140, tickCount=5),
        ),
        tooltip=[
            alt.Tooltip("target_name:N", title="target"),
            alt.Tooltip("source_name:N", title="source"),
            alt.Tooltip("text:N", title="transfer score"),
            alt.Tooltip("interval:N", title="90 % interval"),
            alt.Tooltip("status:N"),
        ],
    )
    # A dash is a property of a mark here, not a channel: rectangles have no channel for it.
    line = base.mark_rect(fillOpacity=0, stroke=style.INK, strokeWidth=1.6, strokeDash=[4, 3])
    dots = base.mark_rect(fillOpacity=0, stroke=style.INK, strokeWidth=1.6, strokeDash=[1, 3])
    layers = [boxes, line.transform_filter("datum.status == 'censored'")]
    layers.append(dots.transform_filter("datum.status == 'predicted'"))
    if numbers:
        dark = f"abs(datum.score) > {0.7 * bound}"
        colour = alt.condition(dark, alt.value("white"), alt.value("#111"))
        layers.append(base.mark_text(fontSize=11 if step > 40 else 9).encode(text="text:N", color=colour))
    chart = alt.layer(*layers).properties(width=alt.Step(step), height=alt.Step(min(step, 34)))
    notes = [note for status, note in _NOTES.items() if any(cell["status"] == status for cell in data)]
    description = (
        f"Heat map of transfer scores between {len(codes)} languages, {len(data)} cells known; rows are targets, "
        "columns sources; positive values mean that the source helps the target."
    )
    return style.finish(chart, "Transfer between languages", description, notes)


def _ordered(matrix: "TransferMatrix", order: Order) -> list[str]:
    """Languages in the order asked for; clusters that cannot be told fall back to branches."""
    if order == "clusters":
        from babelscale.transfer.clusters import clusters

        found = clusters(matrix)
        return list(found.order) if found else style.by_kinship(matrix.languages)
    return list(matrix.languages) if order == "given" else style.by_kinship(matrix.languages, order)


def _shown(value: float, low: float, high: float, status: str) -> tuple[float, str]:
    """The number a cell stands for and its text; a censored cell shows the bound that is known."""
    if math.isfinite(value):
        text = f"{value:.2f}".replace("-", "−")
        return value, f"({text})" if status == "predicted" else text
    # Scores never exceed 2, so an upper bound of 2 or more tells nothing and the lower one is the news.
    if math.isfinite(high) and high < 2:
        return high, f"<{high:.2f}".replace("-", "−")
    return low, f">{low:.2f}".replace("-", "−")


def _interval(low: float, high: float) -> str:
    if math.isnan(low) and math.isnan(high):
        return "unknown"
    lower = f"{low:+.2f}" if math.isfinite(low) else "no lower bound"
    upper = f"{high:+.2f}" if math.isfinite(high) else "no upper bound"
    return f"{lower} to {upper}".replace("-", "−")
