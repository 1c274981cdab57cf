"""The beginning and the end of a report: what it found in a few lines, the plan, and what cannot be concluded."""

import math
from collections.abc import Iterable

import numpy as np
import polars as pl

from babelscale.charts import plans, style
from babelscale.charts.plans import baseline_rows, loss_rows, token_rows
from babelscale.formatting import count, count_interval, flops, interval, number
from babelscale.planning import Plan
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.reporting.report.study_analysis import StudyAnalysis


def in_short(analysis: StudyAnalysis) -> Section:
    """The findings in a few lines, each with how sure it is."""
    lines = []
    if (best := _best_pair(analysis)) is not None:
        lines.append(best)
    if analysis.fits:
        fits = analysis.best_fits
        scatter = [fit.residual_sd for fit in fits if fit.residual_sd is not None]
        told = f" around which runs scatter by {100 * float(np.median(scatter)):.2g} %" if scatter else ""
        laws = " and ".join(dict.fromkeys(fit.law.name for fit in fits))
        lines.append(f"{laws.capitalize()} laws were fitted for {_list(fit.target for fit in fits)},{told}.")
        lines[-1] = lines[-1].replace(",.", ".")
    if analysis.comparison is not None and (won := _winner(analysis)) is not None:
        lines.append(won)
    if analysis.plan is not None:
        lines.append(_headline(analysis.plan))
    if not lines:
        lines.append("There are too few runs for scores, laws or a plan; their losses are below.")
    return Section("In short", "in-short", lines=lines)


def planned(analysis: StudyAnalysis) -> Section | None:
    """The plan: size, tokens by language, expected losses, and how far it extrapolates."""
    return None if analysis.plan is None else plan_section(analysis.plan)


def plan_section(plan: Plan) -> Section:
    """A plan as a section of a page."""
    rows = [
        ["parameters (N)", count(plan.params), count_interval(plan.params_interval, "unknown")],
        ["tokens in all (D)", count(plan.total_tokens), count_interval(_tokens_in_all(plan), "unknown")],
        ["compute (C, FLOPs)", flops(plan.compute), "given"],
    ]
    size = Table("The model to train", ("", "planned", "90 % interval"), rows, (1, 2))
    tokens = Table(
        "Tokens by language",
        ("language", "tokens", "90 % interval", "share (%)", "unique tokens", "epochs"),
        [
            [
                row["name"],
                count(row["tokens"]),
                count_interval(plan.tokens_interval.get(row["language"]), "unknown"),
                f"{100 * row['share']:.1f}",
                _unique(plan, row["language"]),
                number(row["epochs"], ".3g") or "unknown",
            ]
            for row in token_rows(plan)
        ],
        (1, 2, 3, 4, 5),
    )
    losses = Table(
        f"Expected {style.metric_title(plan.metric)}",
        ("language", "expected", "90 % interval"),
        [
            [
                row["name"] + (" (pooled)" if row["language"] in plan.pooled else ""),
                number(row["loss"], ".4f"),
                interval(row["low"], row["high"]),
            ]
            for row in loss_rows(plan)
        ],
        (1, 2),
    )
    reading = (
        "The labels give the number of epochs of each language; an orange tick marks one epoch if it is "
        "inside the chart."
    )
    figures = [Figure("plan-tokens", plans.tokens_spec(plan), reading, tokens)]
    reading = "Dots are the expected losses after training as planned, and bars are their 90 % intervals."
    figures.append(Figure("plan-losses", plans.losses_spec(plan), reading, losses))
    if plan.baselines:
        figures.append(_baselines(plan))
    warning = []
    if plan.extrapolation:
        warning = ["This plan is beyond the runs to which the laws were fitted, and nothing has tested the laws there."]
        warning += [f"{part[:1].upper()}{part[1:]}." for part in plan.extrapolation.split("; ")]
    notes = [*plan.notes, *([f"Source: {plan.source}"] if plan.source else [])]
    return Section("Plan", "plan", [_headline(plan)], warning=warning, tables=[size], figures=figures, notes=notes)


def _baselines(plan: Plan) -> Figure:
    """What simpler mixtures of the same compute lose against the plan."""
    rows = [
        [row["name"], number(row["loss"], "+.4f"), interval(row["low"], row["high"])] for row in baseline_rows(plan)
    ]
    table = Table("Loss above the plan's, each at its best size", ("mixture", "loses", "90 % interval"), rows, (1, 2))
    reading = (
        "To the right of the line a simpler mixture with the same compute is worse than the plan; to the left "
        "it is better."
    )
    return Figure("plan-baselines", plans.baselines_spec(plan), reading, table)


def limits(analysis: StudyAnalysis) -> Section:
    """What could not be done with these runs, and what must not be concluded from them."""
    runs = analysis.runs
    lines = list(analysis.limits)
    if staged := len(runs) - len(runs.one_stage()):
        lines.append(
            f"{staged} two-stage {'runs are' if staged > 1 else 'run is'} left out of the laws, their comparison and "
            "the transfer scores: these read the totals of a run as those of one mixture."
        )
    seeds = runs.table["seed"].drop_nulls().n_unique()
    if seeds < 2:
        lines.append(
            "Every run was trained with one seed (or none is recorded), so the effect of chance is not "
            "measured. Differences of a few per cent between two runs may be chance."
        )
    sizes = runs.table["params"].n_unique()
    if sizes < 3:
        lines.append(
            f"With {sizes} {'sizes' if sizes > 1 else 'size'} of model, the exponent alpha of N is estimated from "
            f"{'one step' if sizes > 1 else 'nothing'}; three sizes or more would show whether it is "
            "constant."
        )
    largest = float(np.asarray(runs.table["params"]).max())
    if largest < 1e7:
        lines.append(
            f"The largest model has {count(largest)} parameters. Models that are a thousand times larger "
            "are known to transfer more between languages, so scores and exponents of small models need "
            "not hold for them."
        )
    if analysis.matrix is not None:
        n = int((analysis.matrix.status == "censored").sum())
        if n:
            lines.append(f"Only a bound is known for {n} transfer scores; longer bilingual runs would measure them.")
    if runs.metric == "nats_per_token":
        lines.append(
            "Losses are in nats per token, because the bytes of the text are not recorded. They cannot be "
            "compared between tokenizers, nor fairly between languages."
        )
    lines.append(
        "Losses are measured on held-out text of the same kind as the training text. They do not say how "
        "well the model solves a task."
    )
    return Section("What cannot be concluded", "limits", lines=lines)


def _best_pair(analysis: StudyAnalysis) -> str | None:
    if analysis.matrix is None:
        return None
    values = np.where(np.isfinite(analysis.matrix.values), analysis.matrix.values, -np.inf)
    if not np.isfinite(values).any():
        return "No transfer score could be measured; only bounds are known."
    i, j = np.unravel_index(int(values.argmax()), values.shape)
    target, source = analysis.matrix.languages[i], analysis.matrix.languages[j]
    score = number(float(values[i, j]), "+.2f")
    known = int(np.isfinite(analysis.matrix.values).sum())
    good = int((values > 0).sum())
    between = interval(float(analysis.matrix.low[i, j]), float(analysis.matrix.high[i, j]), "+.2f")
    return (
        f"The strongest help measured is {style.name(source)} for {style.name(target)}: transfer score {score} "
        f"(90 % interval {between}). {good} of {known} measured scores are above zero."
    )


def _winner(analysis: StudyAnalysis) -> str | None:
    """Which law tells held-out runs best, by its median R2 over targets and axes."""
    assert analysis.comparison is not None
    frame = analysis.comparison.table.filter(pl.col("R2").is_finite())
    if frame["law"].n_unique() < 2:
        return None
    medians = frame.group_by("law").agg(pl.median("R2")).sort("R2", "law", descending=[True, False]).to_dicts()
    told = ", ".join(f"{row['law']} {row['R2']:.2f}" for row in medians).replace("-0", "−0")
    return f"On runs left out of the fit, the median R² over targets and axes is: {told}."


def _headline(plan: Plan) -> str:
    shares = ", ".join(
        f"{100 * row['share']:.0f} % {style.name(row['language'])}" for row in token_rows(plan) if row["share"] >= 0.005
    )
    return (
        f"With {flops(plan.compute)} FLOPs, train {count(plan.params)} parameters on "
        f"{count(plan.total_tokens)} tokens: {shares}."
    )


def _tokens_in_all(plan: Plan) -> tuple[float, float] | None:
    """D follows from N at a given C = 6 N D, and so does its interval."""
    if plan.params_interval is None:
        return None
    low, high = plan.params_interval
    return plan.compute / 6 / high, plan.compute / 6 / low


def _unique(plan: Plan, code: str) -> str:
    told = count(unique) if math.isfinite(unique := plan.unique_tokens.get(code, math.inf)) else "unknown"
    return f"{told} (estimated)" if code in plan.estimated else told


def _list(codes: Iterable[str | None]) -> str:
    names = [style.name(code) if code else "all text" for code in codes]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
