"""The shared parts of all charts: colours, number formats, names of languages and the theme.

Text and axes are drawn in `currentColor`, so that a chart follows its page, light or dark.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from babelscale import languages
from babelscale.errors import InputError
from babelscale.formatting import json_ready

Row = dict[str, Any]
Drawn = alt.LayerChart | alt.FacetChart

# Okabe and Ito (2008), without black and yellow, which are not visible on a dark or a light page.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
# Purple to green through white (ColorBrewer PRGn): distinguishable with every common colour blindness.
DIVERGING = ("#762a83", "#af8dc3", "#e7d4e8", "#f7f7f7", "#d9f0d3", "#7fbf7b", "#1b7837")
INK = "currentColor"

METRIC_TITLES: dict[str, str] = {
    "bits_per_byte": "loss (bits per byte)",
    "nats_per_token": "loss (nats per token)",
    "unigram_normalised": "loss less the unigram's (nats per token)",
}
_TICKS = (
    (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0),
    (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 2.0, 5.0),
    (1.0, 3.0),
    (1.0,),
)
_SI = "replace(format(datum.value, '~s'), 'G', 'B')"


def rows(data: Iterable[Row], name: str | None = None) -> alt.InlineData:
    """Rows as a chart's data, without a limit on their number; numbers that are not finite become null.

    Args:
        name: under which new rows can be set (see `babelscale.charts.live`).
    """
    return alt.InlineData(values=json_ready(list(data)), name=alt.Undefined if name is None else name)


def name(code: str) -> str:
    """A language's name with its code, or the code alone if the language table does not have it (`x-python`, `und`)."""
    try:
        known = languages.lookup(code)
    except InputError:
        return code
    return known.name if known.name == code else f"{known.name} ({code})"


def by_kinship(codes: Iterable[str], first: str = "branch") -> list[str]:
    """Codes sorted by relatedness.

    Args:
        first: "branch" (family, branch, script, code) or "script" (script, family, branch, code).
    """

    def key(code: str) -> tuple[object, ...]:
        try:
            known = languages.lookup(code)
        except InputError:
            return (1, code)
        kin = (known.family, known.branch)
        return (0, kin, known.script, code) if first == "branch" else (0, known.script, kin, code)

    return sorted(codes, key=key)


def metric_title(metric: str) -> str:
    """The loss and its unit, for an axis or a table."""
    unit = metric.replace("_", " ") or "unit unknown"
    return METRIC_TITLES.get(metric, f"loss, {unit}" if "(" in unit else f"loss ({unit})")


def balanced(panels: int, most: int) -> int:
    """The number of columns for some panels that fills the last row best."""
    return -(-panels // -(-panels // most))


def log_ticks(values: Iterable[float], most: int = 6) -> list[float]:
    """Round ticks of a logarithmic axis over the range of `values`, as dense as `most` allows."""
    positive = [float(value) for value in values if value > 0 and math.isfinite(value)]
    if not positive:
        return []
    low, high = min(positive) / 1.001, max(positive) * 1.001
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    best: list[float] = []
    for steps in _TICKS:
        best = [tick for power in decades for step in steps if low <= (tick := step * 10.0**power) <= high]
        if len(best) <= most:
            return best
    return best[:: -(-len(best) // most)]


def count_axis(title: str, values: Iterable[float] = ()) -> alt.Axis:
    """An axis of counts (tokens, parameters) with suffixes; logarithmic ticks if `values` are given."""
    return alt.Axis(title=title, labelExpr=_SI, labelOverlap="greedy", labelSeparation=6, **_ticks(values))


def loss_axis(metric: str, values: Iterable[float] = (), *, prefix: str = "") -> alt.Axis:
    """An axis of losses; logarithmic ticks if `values` are given."""
    return alt.Axis(title=prefix + metric_title(metric), format=".3~f", labelOverlap="greedy", **_ticks(values))


def _ticks(values: Iterable[float]) -> dict[str, Any]:
    ticks = log_ticks(values)
    return {"values": ticks} if ticks else {"tickCount": 5}


def log_scale(values: Iterable[float]) -> alt.Scale:
    """Logarithmic if every value is positive, otherwise linear (the unigram-normalised loss is negative)."""
    if all(value > 0 for value in values):
        return alt.Scale(type="log", nice=False, padding=8)
    return alt.Scale(type="linear", zero=False, nice=False, padding=8)


def tips(fields: str) -> list[alt.Tooltip]:
    """Tooltips from text such as "run; name|language; loss|loss (bits)|.4f".

    Each entry is a field, its title, and its format, of which the last two are optional. A field with a format is
    quantitative, otherwise nominal, unless it states its type ("count:Q").
    """
    found = []
    for entry in fields.split("; "):
        field, title, form = [*entry.split("|"), "", ""][:3]
        more: dict[str, Any] = ({"title": title} if title else {}) | ({"format": form} if form else {})
        found.append(alt.Tooltip(field if ":" in field else f"{field}:{'Q' if form else 'N'}", **more))
    return found


def colours(field: str, names: Sequence[str], **more: Any) -> alt.Color:
    """A colour of the palette for each name."""
    scale = alt.Scale(domain=list(names), range=[PALETTE[k % len(PALETTE)] for k in range(len(names))])
    return alt.Color(f"{field}:N", scale=scale, **more)


def by_order(field: str, axis: alt.Axis) -> alt.Y:
    """One line a name, sorted by the field `order` of its rows."""
    return alt.Y(f"{field}:N", sort=alt.EncodingSortField("order", op="min"), title=None, axis=axis)


def zero(data: list[Row], name: str, opacity: float, **mark: Any) -> alt.Chart:
    """A vertical line at 0, drawn once."""
    once = alt.Chart(rows(data, name)).transform_aggregate(rows="count()")
    return once.mark_rule(color=INK, opacity=opacity, **mark).encode(x=alt.datum(0, type="quantitative"))


def finish(
    chart: alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart | alt.VConcatChart,
    title: str,
    description: str,
    notes: Sequence[str] = (),
) -> alt.TopLevelMixin:
    """Give a chart its title (with notes below it), its description for screen readers, and the theme."""
    under: dict[str, Any] = {"subtitle": list(notes)} if notes else {}
    head = alt.TitleParams(title, anchor="start", **under)
    return (
        chart.properties(title=head, description=description, background="transparent")
        .configure(font="system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif")
        .configure_view(stroke=INK, strokeOpacity=0.15)
        .configure_axis(
            labelColor=INK,
            titleColor=INK,
            tickColor=INK,
            domainColor=INK,
            gridColor=INK,
            gridOpacity=0.1,
            domainOpacity=0.4,
            tickOpacity=0.4,
            titleFontWeight="normal",
            labelFontSize=11,
            titleFontSize=12,
        )
        .configure_legend(
            labelColor=INK, titleColor=INK, titleFontWeight="normal", titleFontSize=12, labelFontSize=11, labelLimit=220
        )
        .configure_title(color=INK, fontSize=14, fontWeight=600, offset=12, subtitleColor=INK, subtitleFontSize=12)
        .configure_header(labelColor=INK, titleColor=INK, labelFontSize=12, labelFontWeight=600)
    )
