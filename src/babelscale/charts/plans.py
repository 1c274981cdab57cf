"""Charts of a plan: where the tokens go, and what losses to expect."""

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
    chart = alt.layer(bars, ends, labels).properties(width=520, height=alt.Step(26))
    description = "Tokens by language: " + "; ".join(f"{row['name']} {row['label']}" for row in data) + "."
    return style.finish(chart, "Tokens by language", description)


def loss_rows(plan: "Plan") -> list[style.Row]:
    """One row a target language: expected loss and its interval."""
    return [
        {"language": code, "name": style.name(code), "loss": told.loss, "low": told.low, "high": told.high}
        for code, told in plan.losses.items()
    ]


def plan_losses(plan: "Plan") -> alt.TopLevelMixin:
    """Expected loss by target language with its 90 % interval."""
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
    chart = alt.layer(bars, points).properties(width=520, height=alt.Step(30))
    told = "; ".join(f"{row['name']} {row['loss']:.3f} ({row['low']:.3f} to {row['high']:.3f})" for row in data)
    return style.finish(chart, "Expected losses, with 90 % intervals", f"Expected losses: {told}.")
