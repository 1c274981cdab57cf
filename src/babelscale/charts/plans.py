"""Charts of a plan: where the tokens go, what losses to expect, and what simpler mixtures would lose."""

import math
from typing import TYPE_CHECKING

import altair as alt
import numpy as np

from babelscale.charts import style

if TYPE_CHECKING:
    from babelscale.planning import Plan


def token_rows(plan: "Plan") -> list[style.Row]:
    """One row a language: tokens, share, unique tokens and epochs, most tokens first."""
    found: list[style.Row] = []
    for code, tokens in sorted(plan.tokens.items(), key=lambda pair: -float(pair[1])):
        unique = float(plan.unique_tokens.get(code, np.inf))
        epochs = float(tokens) / unique
        repeats = f"{epochs:.2g} {'epoch' if epochs == 1 else 'epochs'}" if np.isfinite(unique) else "epochs unknown"
        told = f"{style.human(float(tokens))}, {repeats}" if tokens > 0 else "none"
        found.append(
            {
                "language": code, "name": style.name(code), "tokens": float(tokens),
                "share": float(tokens) / float(sum(plan.tokens.values())),
                "unique": unique if np.isfinite(unique) else None,
                "epochs": epochs if np.isfinite(unique) else None, "label": told,
            }
        )  # fmt: skip
    return found


def plan_tokens(plan: "Plan") -> alt.TopLevelMixin:
    """Tokens by language as bars, labelled with epochs; a tick stands where the unique tokens end."""
    told = "; ".join(f"{row['name']} {row['label']}" for row in token_rows(plan))
    return style.finish(_tokens(plan), "Tokens by language", f"Tokens by language: {told}.")


def _tokens(plan: "Plan") -> alt.LayerChart | alt.FacetChart:
    data = token_rows(plan)
    order = [str(row["name"]) for row in data]
    top = max(row["tokens"] for row in data)
    span = alt.Scale(domain=[0, top * 1.35], nice=False)
    base = alt.Chart(style.rows(data)).encode(y=alt.Y("name:N", sort=order, title=None, axis=alt.Axis(labelLimit=220)))
    bars = base.mark_bar(color=style.PALETTE[0], height=16).encode(
        x=alt.X("tokens:Q", scale=span, axis=style.count_axis("tokens")),
        tooltip=[
            alt.Tooltip("name:N", title="language"),
            alt.Tooltip("tokens:Q", format=",.0f"),
            alt.Tooltip("share:Q", format=".1%"),
            alt.Tooltip("unique:Q", title="unique tokens", format=",.0f"),
            alt.Tooltip("epochs:Q", format=".3~g"),
        ],
    )
    labels = base.mark_text(align="left", dx=6, color=style.INK).encode(x="tokens:Q", text="label:N")
    ends = (
        base.transform_filter(f"datum.tokens > 0 && datum.unique !== null && datum.unique <= {top}")
        .mark_tick(color=style.PALETTE[1], thickness=3, height=20)
        .encode(x=alt.X("unique:Q"))
    )
    return alt.layer(bars, ends, labels).properties(width=520, height=alt.Step(26))


def loss_rows(plan: "Plan") -> list[style.Row]:
    """One row a target language: expected loss and its interval."""
    return [
        {"language": code, "name": style.name(code), "loss": told.loss, "low": told.low, "high": told.high}
        for code, told in plan.losses.items()
    ]


def plan_losses(plan: "Plan") -> alt.TopLevelMixin:
    """Expected loss by target language with its 90 % interval."""
    told = "; ".join(f"{r['name']} {r['loss']:.3f} ({r['low']:.3f} to {r['high']:.3f})" for r in loss_rows(plan))
    return style.finish(_losses(plan), "Expected losses, with 90 % intervals", f"Expected losses: {told}.")


def _losses(plan: "Plan") -> alt.LayerChart | alt.FacetChart:
    data = loss_rows(plan)
    base = alt.Chart(style.rows(data)).encode(
        y=alt.Y("name:N", sort=[str(row["name"]) for row in data], title=None, axis=alt.Axis(labelLimit=220, grid=True))
    )
    tips = [
        alt.Tooltip("name:N", title="language"),
        alt.Tooltip("loss:Q", format=".4f"),
        alt.Tooltip("low:Q", title="low (90 %)", format=".4f"),
        alt.Tooltip("high:Q", title="high (90 %)", format=".4f"),
    ]
    span = alt.Scale(zero=False, nice=True, padding=12)
    axis = style.loss_axis(plan.metric, prefix="expected ")
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
        {"name": b.name, "loss": b.loss[0], "low": _else(b.loss[1], b.loss[0]), "high": _else(b.loss[2], b.loss[0])}
        for b in plan.baselines
    ]


def plan_baselines(plan: "Plan") -> alt.TopLevelMixin:
    """What simpler mixtures of the same compute lose against the plan, with 90 % intervals; the line is the plan."""
    told = "; ".join(f"{row['name']} {row['loss']:+.4f}" for row in baseline_rows(plan))
    return style.finish(_baselines(plan), "What simpler mixtures lose", f"Loss above the plan's: {told}.")


def _baselines(plan: "Plan") -> alt.LayerChart | alt.FacetChart:
    data = baseline_rows(plan)
    base = alt.Chart(style.rows(data)).encode(
        y=alt.Y("name:N", sort=[str(row["name"]) for row in data], title=None, axis=alt.Axis(labelLimit=220, grid=True))
    )
    tips = [
        alt.Tooltip("name:N", title="mixture"),
        *(alt.Tooltip(f"{n}:Q", format="+.4f") for n in ("loss", "low", "high")),
    ]
    axis = alt.Axis(title=f"loss above the plan's ({plan.metric.replace('_', ' ')})", titleLimit=520)
    bars = base.mark_rule(strokeWidth=3, opacity=0.5, color=style.PALETTE[1]).encode(
        x=alt.X("low:Q", axis=axis), x2="high:Q", tooltip=tips
    )
    points = base.mark_point(filled=True, size=80, opacity=1, color=style.PALETTE[1]).encode(
        x=alt.X("loss:Q", axis=axis), tooltip=tips
    )
    zero = alt.Chart(style.rows([{"zero": 0}])).mark_rule(color=style.INK, opacity=0.6).encode(x="zero:Q")
    return alt.layer(zero, bars, points).properties(width=520, height=alt.Step(26))


def plan(plan: "Plan") -> alt.TopLevelMixin:
    """A whole plan as one chart: tokens, losses and simpler mixtures, one below the other."""
    parts = [_tokens(plan).properties(title="Tokens by language")]
    parts.append(_losses(plan).properties(title="Expected losses, with 90 % intervals"))
    if plan.baselines:
        parts.append(_baselines(plan).properties(title="What simpler mixtures lose"))
    shares = ", ".join(f"{row['name']} {100 * row['share']:.0f} %" for row in token_rows(plan) if row["share"] > 0)
    title = f"A plan of {plan.compute:.3g} FLOPs: {style.human(plan.params)} parameters"
    return style.finish(alt.vconcat(*parts), title, f"{title}, tokens {shares}.")


def _else(value: float, absent: float) -> float:
    return absent if math.isnan(value) else value
