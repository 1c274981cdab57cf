"""Charts of a plan: where the tokens go, what losses to expect, and what simpler mixtures would lose.

Each is built from its rows alone, and nothing but the data of its spec depends on them: a page that follows a slider
fills the same spec with new rows (see `live`).
"""

import math
from typing import TYPE_CHECKING

import altair as alt
import numpy as np

from babelscale.charts import live, style
from babelscale.formatting import count

if TYPE_CHECKING:
    from babelscale.planning import Decision, ModelPartition, Plan

Drawn = alt.LayerChart | alt.FacetChart
# The axis of tokens is this much longer than its longest bar: labels stand behind bars.
_ROOM = 1.35
_TOKENS, _LOSSES, _BASELINES = (
    "Tokens by language",
    "Expected losses, with 90 % intervals",
    "What simpler mixtures lose",
)


def token_rows(plan: "Plan") -> list[style.Row]:
    """One row a language: tokens, share, unique tokens and epochs, most tokens first."""
    found: list[style.Row] = []
    most, total = max(map(float, plan.tokens.values())), math.fsum(plan.tokens.values())
    for order, (code, tokens) in enumerate(sorted(plan.tokens.items(), key=lambda pair: -float(pair[1]))):
        unique = float(plan.unique_tokens.get(code, np.inf))
        epochs = float(tokens) / unique
        repeats = f"{epochs:.2g} {'epoch' if epochs == 1 else 'epochs'}" if np.isfinite(unique) else "epochs unknown"
        told = f"{count(float(tokens))}, {repeats}" if tokens > 0 else "none"
        found.append(
            {
                "language": code,
                "name": style.name(code),
                "tokens": float(tokens),
                "share": float(tokens) / total,
                "order": order,
                "span": _ROOM * most,
                "unique": unique if np.isfinite(unique) else None,
                "epochs": epochs if np.isfinite(unique) else None,
                "label": told,
            }
        )
    return found


def plan_tokens(plan: "Plan") -> alt.TopLevelMixin:
    """Tokens by language as bars, labelled with epochs; a tick stands where the unique tokens end."""
    data = token_rows(plan)
    return style.finish(tokens(data), _TOKENS, told_tokens(data))


def tokens_spec(plan: "Plan") -> live.Spec:
    """The spec of `plan_tokens`, from a template."""
    data = token_rows(plan)
    return live.filled(tokens, data, title=_TOKENS, description=told_tokens(data))


def told_tokens(data: list[style.Row]) -> str:
    told = "; ".join(f"{row['name']} {row['label']}" for row in data)
    return f"Tokens by language: {told}."


def tokens(data: list[style.Row]) -> Drawn:
    base = alt.Chart(style.rows(data, "tokens")).encode(y=_names())
    x = alt.X("tokens:Q", title="tokens", scale=alt.Scale(nice=False), axis=style.count_axis("tokens"))
    bars = base.mark_bar(color=style.PALETTE[0], height=16).encode(
        x=x,
        tooltip=[
            alt.Tooltip("name:N", title="language"),
            alt.Tooltip("tokens:Q", format=",.0f"),
            alt.Tooltip("share:Q", format=".1%"),
            alt.Tooltip("unique:Q", title="unique tokens", format=",.0f"),
            alt.Tooltip("epochs:Q", format=".3~g"),
        ],
    )
    labels = base.mark_text(align="left", dx=6, color=style.INK).encode(x=x, text="label:N")
    ends = (
        base.transform_filter(f"datum.tokens > 0 && datum.unique !== null && datum.unique <= datum.span / {_ROOM}")
        .mark_tick(color=style.PALETTE[1], thickness=3, height=20)
        .encode(x=alt.X("unique:Q", title="tokens"))
    )
    # Not seen: it makes room for the labels.
    room = base.mark_point(opacity=0, tooltip=None).encode(x=alt.X("span:Q", title="tokens"))
    return alt.layer(bars, ends, labels, room).properties(width=520, height=alt.Step(26))


def loss_rows(plan: "Plan") -> list[style.Row]:
    """One row a target language: expected loss and its interval."""
    return [
        {"language": code, "name": style.name(code), "loss": told.loss, "low": told.low, "high": told.high, "order": k}
        for k, (code, told) in enumerate(plan.losses.items())
    ]


def plan_losses(plan: "Plan") -> alt.TopLevelMixin:
    """Expected loss by target language with its 90 % interval."""
    data = loss_rows(plan)
    return style.finish(losses(data, plan.metric), _LOSSES, told_losses(data))


def losses_spec(plan: "Plan") -> live.Spec:
    """The spec of `plan_losses`, from a template."""
    data = loss_rows(plan)
    return live.filled(losses, data, plan.metric, title=_LOSSES, description=told_losses(data))


def told_losses(data: list[style.Row]) -> str:
    told = "; ".join(f"{r['name']} {r['loss']:.3f} ({r['low']:.3f} to {r['high']:.3f})" for r in data)
    return f"Expected losses: {told}."


def losses(data: list[style.Row], metric: str) -> Drawn:
    base = alt.Chart(style.rows(data, "losses")).encode(y=_names(grid=True))
    tips = [
        alt.Tooltip("name:N", title="language"),
        alt.Tooltip("loss:Q", format=".4f"),
        alt.Tooltip("low:Q", title="low (90 %)", format=".4f"),
        alt.Tooltip("high:Q", title="high (90 %)", format=".4f"),
    ]
    span = alt.Scale(zero=False, nice=True, padding=12)
    axis = style.loss_axis(metric, prefix="expected ")
    bars = base.mark_rule(strokeWidth=3, opacity=0.5, color=style.PALETTE[0]).encode(
        x=alt.X("low:Q", scale=span, axis=axis), x2="high:Q", tooltip=tips
    )
    points = base.mark_point(filled=True, size=80, opacity=1, color=style.PALETTE[0]).encode(
        x=alt.X("loss:Q", scale=span, axis=axis), tooltip=tips
    )
    return alt.layer(bars, points).properties(width=520, height=alt.Step(30))


def baseline_rows(plan: "Plan") -> list[style.Row]:
    """One row a simpler mixture: what it loses against the plan, with its interval."""
    return [
        {
            "name": b.name,
            "loss": b.loss[0],
            "low": _else(b.loss[1], b.loss[0]),
            "high": _else(b.loss[2], b.loss[0]),
            "order": order,
        }
        for order, b in enumerate(plan.baselines)
    ]


def plan_baselines(plan: "Plan") -> alt.TopLevelMixin:
    """What simpler mixtures of the same compute lose against the plan, with 90 % intervals; the line is the plan."""
    data = baseline_rows(plan)
    return style.finish(baselines(data, plan.metric), _BASELINES, told_baselines(data))


def baselines_spec(plan: "Plan") -> live.Spec:
    """The spec of `plan_baselines`, from a template."""
    data = baseline_rows(plan)
    return live.filled(baselines, data, plan.metric, title=_BASELINES, description=told_baselines(data))


def told_baselines(data: list[style.Row]) -> str:
    told = "; ".join(f"{row['name']} {row['loss']:+.4f}" for row in data)
    return f"Loss above the plan's: {told}."


def baselines(data: list[style.Row], metric: str) -> Drawn:
    base = alt.Chart(style.rows(data, "baselines")).encode(y=_names(grid=True))
    tips = [
        alt.Tooltip("name:N", title="mixture"),
        *(alt.Tooltip(f"{n}:Q", format="+.4f") for n in ("loss", "low", "high")),
    ]
    axis = alt.Axis(title=f"loss above the plan's ({metric.replace('_', ' ')})", titleLimit=520)
    bars = base.mark_rule(strokeWidth=3, opacity=0.5, color=style.PALETTE[1]).encode(
        x=alt.X("low:Q", axis=axis), x2="high:Q", tooltip=tips
    )
    points = base.mark_point(filled=True, size=80, opacity=1, color=style.PALETTE[1]).encode(
        x=alt.X("loss:Q", axis=axis), tooltip=tips
    )
    once = alt.Chart(style.rows(data, "baselines")).transform_aggregate(rows="count()")
    zero = once.mark_rule(color=style.INK, opacity=0.6).encode(x=alt.datum(0, type="quantitative"))
    return alt.layer(zero, bars, points).properties(width=520, height=alt.Step(26))


def plan(plan: "Plan") -> alt.TopLevelMixin:
    """A whole plan as one chart: tokens, losses and simpler mixtures, one below the other."""
    parts = [tokens(token_rows(plan)).properties(title=_TOKENS)]
    parts.append(losses(loss_rows(plan), plan.metric).properties(title=_LOSSES))
    if plan.baselines:
        simpler = baselines(baseline_rows(plan), plan.metric)
        parts.append(simpler.properties(title=_BASELINES))
    shares = ", ".join(f"{row['name']} {100 * row['share']:.0f} %" for row in token_rows(plan) if row["share"] > 0)
    title = f"A plan of {plan.compute:.3g} FLOPs: {count(plan.params)} parameters"
    return style.finish(alt.vconcat(*parts), title, f"{title}, tokens {shares}.")


def decision(decision: "Decision") -> alt.TopLevelMixin:
    """New training tokens of the budget, and of the crossover with its interval, on one logarithmic axis."""
    low, high = decision.crossover_tokens_interval
    finite = [x for x in (decision.tokens, decision.crossover_tokens, low, high) if 0 < x < math.inf]
    bounds = min(finite) / 3, max(finite) * 3

    def inside(tokens: float) -> float:
        """A crossover that is never reached, or passed from the start, lies at the end of the axis."""
        return min(max(tokens, bounds[0]), bounds[1])

    data: list[style.Row] = [
        {"name": "budget", "tokens": decision.tokens, "low": decision.tokens, "high": decision.tokens, "order": 0},
        {
            "name": "crossover",
            "tokens": inside(decision.crossover_tokens),
            "low": inside(low),
            "high": inside(high),
            "order": 1,
        },
    ]
    scale = alt.Scale(type="log", domain=list(bounds), nice=False)
    axis = style.count_axis("tokens of new training")
    base = alt.Chart(style.rows(data, "crossover")).encode(y=_names(grid=True))
    bars = base.mark_rule(strokeWidth=3, opacity=0.5, color=style.PALETTE[0]).encode(
        x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=80, opacity=1, color=style.PALETTE[0]).encode(
        x=alt.X("tokens:Q", scale=scale, axis=axis), tooltip=["name:N", alt.Tooltip("tokens:Q", format=".3s")]
    )
    title = f"{decision.headline[0].upper()}{decision.headline[1:]}"
    told = "; ".join(f"{row['name']} {count(row['tokens'])}" for row in data)
    return style.finish(
        alt.layer(bars, points).properties(width=520, height=alt.Step(30)), title, f"{title}. Tokens: {told}."
    )


def partition(partition: "ModelPartition") -> alt.TopLevelMixin:
    """Each language's loss under one model for all (ring) and under the parts (dot), joined by a line."""
    data: list[style.Row] = [
        {"name": style.name(code), "one": one, "parts": parts, "order": order}
        for order, (code, (one, parts)) in enumerate(partition.losses.items())
    ]
    span = alt.Scale(zero=False, nice=True, padding=12)
    axis = style.loss_axis(partition.metric, prefix="expected ")
    base = alt.Chart(style.rows(data, "partition")).encode(
        y=_names(grid=True),
        tooltip=[
            alt.Tooltip("name:N", title="language"),
            alt.Tooltip("one:Q", title="one model", format=".4f"),
            alt.Tooltip("parts:Q", title="parts", format=".4f"),
        ],
    )
    one, parts = alt.X("one:Q", scale=span, axis=axis), alt.X("parts:Q", scale=span, axis=axis)
    chart = alt.layer(
        base.mark_rule(color=style.INK, opacity=0.5).encode(x=one, x2="parts:Q"),
        base.mark_point(size=80, color=style.PALETTE[1]).encode(x=one),
        base.mark_point(size=80, filled=True, opacity=1, color=style.PALETTE[0]).encode(x=parts),
    ).properties(width=520, height=alt.Step(26))
    told = "; ".join(f"{row['name']} {row['one']:.3f} and {row['parts']:.3f}" for row in data)
    title = "Losses under one model (ring) and under the parts (dot)"
    return style.finish(chart, title, f"{title}: {told}.")


def _names(grid: bool = False) -> alt.Y:
    """A row a name, in the order of the rows."""
    by_order = alt.EncodingSortField("order", op="min")
    return alt.Y("name:N", sort=by_order, title=None, axis=alt.Axis(labelLimit=220, grid=grid))


def _else(value: float, absent: float) -> float:
    return absent if math.isnan(value) else value
