"""What every chart shares: colours, number formats, names of languages and the look.

Text and axes are drawn in `currentColor`, so a chart follows the page it stands on, light or dark.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from babelscale import languages
from babelscale.errors import InputError
from babelscale.formatting import json_ready

Row = dict[str, Any]

# Okabe and Ito (2008), without black and yellow, which vanish on a dark or a light page.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
# Purple to green through white (ColorBrewer PRGn): told apart under every common colour blindness.
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
    """Rows as a chart's data; no limit on their number. What is not finite becomes null, as JSON asks.

    Args:
        name: by which a drawn chart takes new rows (see `babelscale.charts.live`).
    """
    return alt.InlineData(values=json_ready(list(data)), name=alt.Undefined if name is None else name)


def name(code: str) -> str:
    """A language's name with its code, or the bare code where no table knows it (`x-python`, `und`)."""
    try:
        known = languages.lookup(code)
    except InputError:
        return code
    return known.name if known.name == code else f"{known.name} ({code})"


def by_kinship(codes: Iterable[str], first: str = "branch") -> list[str]:
    """Codes with relatives side by side: by family, branch and script, or by script first.

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
    told = metric.replace("_", " ") or "unit unknown"
    return METRIC_TITLES.get(metric, f"loss, {told}" if "(" in told else f"loss ({told})")


def balanced(panels: int, most: int) -> int:
    """Columns for so many panels, the last row as full as can be."""
    return -(-panels // -(-panels // most))


def log_ticks(values: Iterable[float], most: int = 6) -> list[float]:
    """Round ticks of a logarithmic axis over the range of `values`, as dense as `most` allows."""
    given = [float(value) for value in values if value > 0 and math.isfinite(value)]
    if not given:
        return []
    low, high = min(given) / 1.001, max(given) * 1.001
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    best: list[float] = []
    for steps in _TICKS:
        best = [tick for power in decades for step in steps if low <= (tick := step * 10.0**power) <= high]
        if len(best) <= most:
            return best
    return best[:: -(-len(best) // most)]


def count_axis(title: str, values: Iterable[float] = ()) -> alt.Axis:
    """An axis of counts (tokens, parameters) with suffixes; logarithmic where it is given the values it spans."""
    ticks = log_ticks(values)
    given: dict[str, Any] = {"values": ticks} if ticks else {"tickCount": 5}
    return alt.Axis(title=title, labelExpr=_SI, labelOverlap="greedy", labelSeparation=6, **given)


def loss_axis(metric: str, values: Iterable[float] = (), *, prefix: str = "") -> alt.Axis:
    """An axis of losses; logarithmic where it is given the values it spans."""
    ticks = log_ticks(values)
    given: dict[str, Any] = {"values": ticks} if ticks else {"tickCount": 5}
    return alt.Axis(title=prefix + metric_title(metric), format=".3~f", labelOverlap="greedy", **given)


def log_scale(values: Iterable[float]) -> alt.Scale:
    """Logarithmic where every value is positive, otherwise linear (the unigram-normalised loss is negative)."""
    if all(value > 0 for value in values):
        return alt.Scale(type="log", nice=False, padding=8)
    return alt.Scale(type="linear", zero=False, nice=False, padding=8)


def finish(
    chart: alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart | alt.VConcatChart,
    title: str,
    description: str,
    notes: Sequence[str] = (),
) -> alt.TopLevelMixin:
    """Give a chart its title (with notes below it), a description for screen readers, and the common style."""
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
