"""Rankings of languages by transfer: which sources help most, which targets gain most, and who helps one target.

Each is built from rows, and nothing but its data depends on them (see `live`). Means take scores with a number; a bound
has no place in a mean.
"""

import math
from typing import TYPE_CHECKING

import altair as alt
import numpy as np

from babelscale.charts import live, style
from babelscale.formatting import minus

Drawn = alt.LayerChart | alt.FacetChart

if TYPE_CHECKING:
    from babelscale.transfer import TransferMatrix

_SOURCES, _TARGETS = "Which sources help most", "Which targets gain most"
_STEP = 15
_AXIS, _SPAN = alt.Axis(format="+.2~f", tickCount=7), alt.Scale(nice=False, padding=8)


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


def source_ranking(matrix: "TransferMatrix") -> alt.TopLevelMixin:
    """Sources by how much more they help than the others do: a dot a target, the bar their mean.

    Each score is taken less the mean of its target, which makes up most of a matrix's variance.
    """
    rows = source_rows(matrix)
    return style.finish(ranking(rows, "source"), _SOURCES, _told(rows, "source"), _notes(rows))


def sources_spec(matrix: "TransferMatrix") -> live.Spec:
    """The spec of `source_ranking`, from a template."""
    rows = source_rows(matrix)
    return live.filled(ranking, rows, "source", title=_SOURCES, description=_told(rows, "source"))


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


def target_ranking(matrix: "TransferMatrix") -> alt.TopLevelMixin:
    """Targets by how much the others help them: a dot a source, the bar their mean."""
    rows = target_rows(matrix)
    return style.finish(ranking(rows, "target"), _TARGETS, _told(rows, "target"), _notes(rows))


def targets_spec(matrix: "TransferMatrix") -> live.Spec:
    """The spec of `target_ranking`, from a template."""
    rows = target_rows(matrix)
    return live.filled(ranking, rows, "target", title=_TARGETS, description=_told(rows, "target"))


def ranking(rows: list[style.Row], side: str) -> Drawn:
    """A dot a score by its source or its target, whichever is the `side`, best mean first."""
    other = "target" if side == "source" else "source"
    value = "above" if side == "source" else "score"
    title = "transfer score less the target's mean" if side == "source" else "transfer score"
    base = alt.Chart(style.rows(rows, "ranking")).encode(y=_by_order(f"{side}_name"))
    x = alt.X(f"{value}:Q", title=title, axis=_AXIS, scale=_SPAN)
    dots = base.mark_circle(size=26, opacity=0.35, color=style.PALETTE[0]).encode(
        x=x,
        tooltip=[
            alt.Tooltip(f"{side}_name:N", title=side),
            alt.Tooltip(f"{other}_name:N", title=other),
            alt.Tooltip("score:Q", title="transfer score", format="+.2f"),
            *([alt.Tooltip("above:Q", title="less the target's mean", format="+.2f")] if side == "source" else []),
            alt.Tooltip("status:N"),
        ],
    )
    bars = base.mark_tick(thickness=3, height=12, color=style.PALETTE[4]).encode(
        x=alt.X(f"mean({value}):Q", title=title)
    )
    return alt.layer(_zero(rows, "ranking"), dots, bars).properties(width=290, height=alt.Step(_STEP))


def helper_rows(matrix: "TransferMatrix", target: str) -> list[style.Row]:
    """One row a source with a known score for the target, best first; a censored one stands at its bound.

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


def helpers(matrix: "TransferMatrix", target: str) -> alt.TopLevelMixin:
    """The sources of one target, best first, with 90 % intervals where they are known."""
    rows = helper_rows(matrix, target)
    return style.finish(one_target(rows), _helped(target), told_helpers(rows, target))


def helpers_spec(matrix: "TransferMatrix", target: str) -> live.Spec:
    """The spec of `helpers`, from a template."""
    rows = helper_rows(matrix, target)
    spec = live.filled(one_target, rows, title="", description=told_helpers(rows, target))
    spec["title"]["text"] = _helped(target)
    return spec


def told_helpers(rows: list[style.Row], target: str) -> str:
    best = ", ".join(f"{row['name']} {row['text']}" for row in rows[:5]) or "none known"
    return f"Sources of {style.name(target)} by transfer score, best first: {best}."


def one_target(rows: list[style.Row]) -> Drawn:
    """Scores of `helper_rows` with their intervals; an arrow stands at a lower bound."""
    base = alt.Chart(style.rows(rows, "helpers")).encode(y=_by_order("name"))
    tips = [
        alt.Tooltip("name:N", title="source"),
        alt.Tooltip("text:N", title="transfer score"),
        alt.Tooltip("low:Q", title="low (90 %)", format="+.2f"),
        alt.Tooltip("high:Q", title="high (90 %)", format="+.2f"),
        alt.Tooltip("status:N"),
    ]
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
    return alt.layer(_zero(rows, "helpers"), bars, points).properties(width=290, height=alt.Step(_STEP))


def _helped(target: str) -> str:
    return f"Who helps {style.name(target)}"


def _zero(rows: list[style.Row], name: str) -> alt.Chart:
    """A line at no transfer, once."""
    line = alt.Chart(style.rows(rows, name)).transform_aggregate(rows="count()")
    return line.mark_rule(color=style.INK, opacity=0.4, tooltip=None).encode(x=alt.datum(0, type="quantitative"))


def _by_order(name: str) -> alt.Y:
    axis = alt.Axis(grid=False, ticks=False, domain=False, labelLimit=200)
    return alt.Y(f"{name}:N", sort=alt.EncodingSortField("order", op="min"), title=None, axis=axis)


def _ranked(rows: list[style.Row], side: str, value: str) -> list[style.Row]:
    """Rows with their language's place by the mean of a value, best first."""
    own: dict[str, list[float]] = {}
    for row in rows:
        own.setdefault(row[side], []).append(row[value])
    places = {code: k for k, code in enumerate(sorted(own, key=lambda code: (-float(np.mean(own[code])), code)))}
    other = "target_name" if side == "source" else "source_name"
    return sorted((row | {"order": places[row[side]]} for row in rows), key=lambda row: (row["order"], row[other]))


def _told(rows: list[style.Row], side: str) -> str:
    order = list(dict.fromkeys(row[f"{side}_name"] for row in rows))
    less = " less the target's mean" if side == "source" else ""
    best = f", best: {', '.join(order[:3])}" if order else ""
    return (
        f"Ranking of {len(order)} {side} languages by their mean transfer score{less}, from {len(rows)} scores; one "
        f"dot a {'target' if side == 'source' else 'source'}, an orange bar the mean{best}."
    )


def _notes(rows: list[style.Row]) -> list[str]:
    predicted = any(row["status"] == "predicted" for row in rows)
    return ["Orange: the mean." + (" Predicted scores are among the dots." if predicted else "")]
