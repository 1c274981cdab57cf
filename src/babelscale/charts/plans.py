"""Charts of a plan: tokens by language, expected losses, and the losses of simpler mixtures.

Each is built from its rows alone, and only the data of its spec depends on them (see `live`).
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from babelscale.charts import style
from babelscale.charts.live import Drawing, templated
from babelscale.formatting import count

if TYPE_CHECKING:
    from babelscale.planning import Decision, ModelPartition, Plan

# The axis of tokens is longer than its longest bar by this factor, for the labels behind the bars.
_ROOM = 1.35
_TOKENS, _LOSSES = "Tokens by language", "Expected losses, with 90 % intervals"
_BASELINES = "What simpler mixtures lose"


def token_rows(plan: "Plan") -> list[style.Row]:
    """One row a language: tokens, share, unique tokens and epochs, most tokens first."""
    found: list[style.Row] = []
    most, total = max(map(float, plan.tokens.values())), math.fsum(plan.tokens.values())
    for order, (code, tokens) in enumerate(sorted(plan.tokens.items(), key=lambda pair: -float(pair[1]))):
        unique = float(plan.unique_tokens.get(code, np.inf))
        known = bool(np.isfinite(unique))
        epochs = float(tokens) / unique
        repeats = f"{epochs:.2g} {'epoch' if epochs == 1 else 'epochs'}" if known else "epochs unknown"
        found.append(
            {
                "language": code,
                "name": style.name(code),
                "tokens": float(tokens),
                "share": float(tokens) / total,
                "order": order,
                "span": _ROOM * most,
                "unique": unique if known else None,
                "epochs": epochs if known else None,
                "label": f"{count(float(tokens))}, {repeats}" if tokens > 0 else "none",
            }
        )
    return found


@templated
def plan_tokens(plan: "Plan") -> Drawing:
    """Tokens by language as bars, labelled with epochs; a tick marks the end of the unique tokens."""
    data = token_rows(plan)
    listed = "; ".join(f"{row['name']} {row['label']}" for row in data)
    return Drawing(_tokens, data, _TOKENS, f"Tokens by language: {listed}.")


def _tokens(data: list[style.Row]) -> style.Drawn:
    base = alt.Chart(style.rows(data, "tokens")).encode(y=_names())
    x = alt.X("tokens:Q", title="tokens", scale=alt.Scale(nice=False), axis=style.count_axis("tokens"))
    tips = style.tips("name|language; tokens||,.0f; share||.1%; unique|unique tokens|,.0f; epochs||.3~g")
    bars = base.mark_bar(color=style.PALETTE[0], height=16).encode(x=x, tooltip=tips)
    labels = base.mark_text(align="left", dx=6, color=style.INK).encode(x=x, text="label:N")
    ends = (
        base.transform_filter(f"datum.tokens > 0 && datum.unique !== null && datum.unique <= datum.span / {_ROOM}")
        .mark_tick(color=style.PALETTE[1], thickness=3, height=20)
        .encode(x=alt.X("unique:Q", title="tokens"))
    )
    # Invisible points that make room for the labels.
    room = base.mark_point(opacity=0, tooltip=None).encode(x=alt.X("span:Q", title="tokens"))
    return alt.layer(bars, ends, labels, room).properties(width=520, height=alt.Step(26))


def loss_rows(plan: "Plan") -> list[style.Row]:
    """One row a target language: expected loss and its interval."""
    return [
        {"language": code, "name": style.name(code), "loss": one.loss, "low": one.low, "high": one.high, "order": k}
        for k, (code, one) in enumerate(plan.losses.items())
    ]


@templated
def plan_losses(plan: "Plan") -> Drawing:
    """Expected loss by target language with its 90 % interval."""
    data = loss_rows(plan)
    listed = "; ".join(f"{r['name']} {r['loss']:.3f} ({r['low']:.3f} to {r['high']:.3f})" for r in data)
    return Drawing(_losses, data, _LOSSES, f"Expected losses: {listed}.", (plan.metric,))


def _losses(data: list[style.Row], metric: str) -> style.Drawn:
    tips = style.tips("name|language; loss||.4f; low|low (90 %)|.4f; high|high (90 %)|.4f")
    x = {"scale": alt.Scale(zero=False, nice=True, padding=12), "axis": style.loss_axis(metric, prefix="expected ")}
    return alt.layer(*_intervals(data, "losses", x, tips, style.PALETTE[0])).properties(width=520, height=alt.Step(30))


def baseline_rows(plan: "Plan") -> list[style.Row]:
    """One row a simpler mixture: its loss above the plan's, with its interval."""
    return [
        {
            "name": b.name,
            "loss": b.loss[0],
            **{end: b.loss[0] if math.isnan(b.loss[k]) else b.loss[k] for k, end in ((1, "low"), (2, "high"))},
            "order": order,
        }
        for order, b in enumerate(plan.baselines)
    ]


@templated
def plan_baselines(plan: "Plan") -> Drawing:
    """Losses of simpler mixtures of the same compute above the plan's, with 90 % intervals; the line is the plan."""
    data = baseline_rows(plan)
    listed = "; ".join(f"{row['name']} {row['loss']:+.4f}" for row in data)
    return Drawing(_baselines, data, _BASELINES, f"Loss above the plan's: {listed}.", (plan.metric,))


def _baselines(data: list[style.Row], metric: str) -> style.Drawn:
    tips = style.tips("name|mixture; loss||+.4f; low||+.4f; high||+.4f")
    x = {"axis": alt.Axis(title=f"loss above the plan's ({metric.replace('_', ' ')})", titleLimit=520)}
    bars = _intervals(data, "baselines", x, tips, style.PALETTE[1])
    return alt.layer(style.zero(data, "baselines", 0.6), *bars).properties(width=520, height=alt.Step(26))


def plan(plan: "Plan") -> alt.TopLevelMixin:
    """A whole plan as one chart: tokens, losses and simpler mixtures, one below the other."""
    parts = [_tokens(token_rows(plan)).properties(title=_TOKENS)]
    parts.append(_losses(loss_rows(plan), plan.metric).properties(title=_LOSSES))
    if plan.baselines:
        parts.append(_baselines(baseline_rows(plan), plan.metric).properties(title=_BASELINES))
    shares = ", ".join(f"{row['name']} {100 * row['share']:.0f} %" for row in token_rows(plan) if row["share"] > 0)
    title = f"A plan of {plan.compute:.3g} FLOPs: {count(plan.params)} parameters"
    return style.finish(alt.vconcat(*parts), title, f"{title}, tokens {shares}.")


def decision(decision: "Decision") -> alt.TopLevelMixin:
    """New training tokens of the budget, and of the crossover with its interval, on one logarithmic axis."""
    low, high = decision.crossover_tokens_interval
    finite = [x for x in (decision.tokens, decision.crossover_tokens, low, high) if 0 < x < math.inf]
    bounds = min(finite) / 3, max(finite) * 3

    def row(name: str, order: int, *tokens: float) -> style.Row:
        """A crossover that is never reached, or passed from the start, lies at the end of the axis."""
        inside = (min(max(x, bounds[0]), bounds[1]) for x in tokens)
        return {"name": name, **dict(zip(("tokens", "low", "high"), inside, strict=True)), "order": order}

    data = [
        row("budget", 0, decision.tokens, decision.tokens, decision.tokens),
        row("crossover", 1, decision.crossover_tokens, low, high),
    ]
    x = {
        "scale": alt.Scale(type="log", domain=list(bounds), nice=False),
        "axis": style.count_axis("tokens of new training"),
    }
    chart = alt.layer(*_intervals(data, "crossover", x, style.tips("name; tokens||.3s"), style.PALETTE[0], "tokens"))
    title = f"{decision.headline[0].upper()}{decision.headline[1:]}"
    listed = "; ".join(f"{one['name']} {count(one['tokens'])}" for one in data)
    return style.finish(chart.properties(width=520, height=alt.Step(30)), title, f"{title}. Tokens: {listed}.")


def partition(partition: "ModelPartition") -> alt.TopLevelMixin:
    """Each language's loss under one model for all (ring) and under the parts (dot), joined by a line."""
    data: list[style.Row] = [
        {"name": style.name(code), "one": one, "parts": parts, "order": order}
        for order, (code, (one, parts)) in enumerate(partition.losses.items())
    ]
    span = alt.Scale(zero=False, nice=True, padding=12)
    axis = style.loss_axis(partition.metric, prefix="expected ")
    tips = style.tips("name|language; one|one model|.4f; parts|parts|.4f")
    base = alt.Chart(style.rows(data, "partition")).encode(y=_names(grid=True), tooltip=tips)
    one, parts = alt.X("one:Q", scale=span, axis=axis), alt.X("parts:Q", scale=span, axis=axis)
    chart = alt.layer(
        base.mark_rule(color=style.INK, opacity=0.5).encode(x=one, x2="parts:Q"),
        base.mark_point(size=80, color=style.PALETTE[1]).encode(x=one),
        base.mark_point(size=80, filled=True, opacity=1, color=style.PALETTE[0]).encode(x=parts),
    ).properties(width=520, height=alt.Step(26))
    listed = "; ".join(f"{row['name']} {row['one']:.3f} and {row['parts']:.3f}" for row in data)
    title = "Losses under one model (ring) and under the parts (dot)"
    return style.finish(chart, title, f"{title}: {listed}.")


def _intervals(
    data: list[style.Row], name: str, x: Mapping[str, Any], tips: list[alt.Tooltip], colour: str, at: str = "loss"
) -> tuple[alt.Chart, alt.Chart]:
    """A bar from `low` to `high` and a dot at the field `at`, one line a name."""
    base = alt.Chart(style.rows(data, name)).encode(y=_names(grid=True))
    bars = base.mark_rule(strokeWidth=3, opacity=0.5, color=colour)
    points = base.mark_point(filled=True, size=80, opacity=1, color=colour)
    return (
        bars.encode(x=alt.X("low:Q", **x), x2="high:Q", tooltip=tips),
        points.encode(x=alt.X(f"{at}:Q", **x), tooltip=tips),
    )


def _names(grid: bool = False) -> alt.Y:
    return style.by_order("name", alt.Axis(labelLimit=220, grid=grid))
