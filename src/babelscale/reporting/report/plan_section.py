"""A plan as a section of a report."""

import math

from babelscale.charts import plans, style
from babelscale.formatting import count, count_interval, flops, interval, number
from babelscale.planning import Plan
from babelscale.reporting.report.document import Figure, Section, Table


def plan_section(plan: Plan) -> Section:
    """Model size, tokens by language, expected losses, simpler mixtures, and how far the plan extrapolates."""
    rows = [
        ["parameters (N)", count(plan.params), count_interval(plan.params_interval, "unknown")],
        ["total tokens (D)", count(plan.total_tokens), count_interval(_tokens_in_all(plan), "unknown")],
        ["compute (C, FLOPs)", flops(plan.compute), "given"],
    ]
    size = Table("The model to train", ("", "planned", "90 % interval"), rows, (1, 2))
    columns = ("language", "tokens", "90 % interval", "share (%)", "unique tokens", "epochs")
    rows = [
        [
            row["name"],
            count(row["tokens"]),
            count_interval(plan.tokens_interval.get(row["language"]), "unknown"),
            f"{100 * row['share']:.1f}",
            _unique(plan, row["language"]),
            number(row["epochs"], ".3g", "unknown"),
        ]
        for row in plans.token_rows(plan)
    ]
    tokens = Table("Tokens by language", columns, rows, (1, 2, 3, 4, 5))
    reading = "Labels give the epochs of each language's text. An orange tick marks one epoch, where it fits."
    figures = [Figure("plan-tokens", plans.plan_tokens.spec(plan), reading, tokens)]
    rows = [
        [
            row["name"] + (" (pooled)" if row["language"] in plan.pooled else ""),
            number(row["loss"], ".4f"),
            interval(row["low"], row["high"]),
        ]
        for row in plans.loss_rows(plan)
    ]
    caption = f"Expected {style.metric_title(plan.metric)}"
    losses = Table(caption, ("language", "expected", "90 % interval"), rows, (1, 2))
    reading = "Dots are the expected losses after training as planned, bars their 90 % intervals."
    figures.append(Figure("plan-losses", plans.plan_losses.spec(plan), reading, losses))
    if plan.baselines:
        rows = [
            [row["name"], number(row["loss"], "+.4f"), interval(row["low"], row["high"])]
            for row in plans.baseline_rows(plan)
        ]
        caption = "Loss above the plan's, each mixture at its best size"
        simpler = Table(caption, ("mixture", "difference", "90 % interval"), rows, (1, 2))
        reading = "Right of the line, a simpler mixture of the same compute is worse than the plan; left of it, better."
        figures.append(Figure("plan-baselines", plans.plan_baselines.spec(plan), reading, simpler))
    warning = []
    if plan.extrapolation:
        warning = ["This plan extrapolates beyond the runs that the laws were fitted to; it is not tested there."]
        warning += [f"{part[:1].upper()}{part[1:]}." for part in plan.extrapolation.split("; ")]
    notes = [*plan.notes, *([f"Source: {plan.source}"] if plan.source else [])]
    return Section("Plan", "plan", [headline(plan)], warning=warning, tables=[size], figures=figures, notes=notes)


def headline(plan: Plan) -> str:
    """The plan in one sentence."""
    rows = [row for row in plans.token_rows(plan) if row["share"] >= 0.005]
    shares = ", ".join(f"{100 * row['share']:.0f} % {style.name(row['language'])}" for row in rows)
    return (
        f"With {flops(plan.compute)} FLOPs, train {count(plan.params)} parameters on {count(plan.total_tokens)} "
        f"tokens: {shares}."
    )


def _tokens_in_all(plan: Plan) -> tuple[float, float] | None:
    """D follows from N at a given C = 6 N D, and so does its interval."""
    if plan.params_interval is None:
        return None
    low, high = plan.params_interval
    return plan.compute / 6 / high, plan.compute / 6 / low


def _unique(plan: Plan, code: str) -> str:
    unique = plan.unique_tokens.get(code, math.inf)
    text = count(unique) if math.isfinite(unique) else "unknown"
    return f"{text} (estimated)" if code in plan.estimated else text
