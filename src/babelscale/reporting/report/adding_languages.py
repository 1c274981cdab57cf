"""The cost of more languages as sections of a report: equal loss at other sizes, and the losses of a study's runs."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from babelscale.charts import adding_languages as charts
from babelscale.charts import style
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.formatting import count, flops, interval, number
from babelscale.planning import CandidateLanguage, Expansion, expand
from babelscale.planning.expansion import Multiplier
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.reporting.report.study_analysis import ENOUGH_COUNTS, LAW, StudyAnalysis, widths
from babelscale.runs import Runs

_MOST_ROWS, _POINTS = 1500, 40


def frontier_to(languages: int, to: int, **options: Any) -> Expansion:
    """An expansion whose frontier extends beyond its cheapest point on both sides.

    Args:
        options: params, tokens and fit, as in `expand`.
    """
    found = expand(languages, to, **options)
    cheap = 1.0 if found.cheapest is None else found.cheapest.params / found.params.value
    ends = 0.55 * min(1.0, cheap), 5.0 * max(1.0, cheap)
    return expand(languages, to, **options, sizes=tuple(float(size) for size in np.geomspace(*ends, _POINTS)))


def priced(ends: Sequence[Expansion], curve: Sequence[Expansion], *, most: int | None = None) -> Section:
    """The cost of keeping the loss with more languages.

    Args:
        ends: expansions from the same languages to several numbers of them; the text describes the last one.
        curve: expansions for the chart of multipliers, ascending.
        most: the most languages of the runs behind a fit.
    """
    found = ends[-1]
    multipliers = {
        "parameters N": found.params,
        "total tokens D": found.tokens,
        "tokens of each language": found.tokens_per_language,
        "compute C": found.compute,
    }
    rows = [[name, f"{m.value:.3g}×", _within(m)] for name, m in multipliers.items()]
    if found.now and found.then:
        kinds = (("parameters", count), ("total tokens", count), ("FLOPs", flops))
        for (name, form), now, then in zip(kinds, found.now, found.then, strict=True):
            rows.append([f"{name}, from {form(now)} to", form(then), ""])
    caption = f"From {found.languages} to {found.to} languages at equal loss"
    table = Table(caption, ("quantity", "factor", f"interval ({found.interval})"), rows, (1, 2))
    warning = [f"{found.extrapolation[:1].upper()}{found.extrapolation[1:]}."] if found.extrapolation else []
    if most is not None and found.to > most:
        warning.append(f"Extrapolated: the runs behind the fit have at most {most} languages, not {found.to}.")
    notes = [f"{note[:1].upper()}{note[1:]}." for note in found.notes]
    return Section(
        "The cost of more languages",
        "adding-languages",
        [_headline(found)],
        warning=warning,
        tables=[table],
        figures=[_frontier(ends), _multipliers(curve)],
        notes=[*notes, f"Source: {found.source}."],
    )


def _headline(found: Expansion) -> str:
    if found.to == found.languages:
        return f"The number of languages stays {found.languages}, so nothing changes."
    text = (
        f"From {found.languages} to {found.to} languages at equal loss: {found.params.value:.3g} times the parameters "
        f"and {found.tokens.value:.3g} times the total tokens ({found.tokens_per_language.value:.3g} times those of "
        f"each language), which is {found.compute.value:.3g} times the compute."
    )
    best = found.cheapest
    if best is not None and best.compute.value < 0.999 * found.compute.value:
        text += (
            f" The cheapest way takes {best.params:.3g} times the parameters and {best.tokens.value:.3g} times the "
            f"tokens: {best.compute.value:.3g} times the compute."
        )
    return text


def _frontier(ends: Sequence[Expansion]) -> Figure:
    def form(value: float) -> str:
        return count(value) if ends[0].now else f"{value:.3g}×"

    rows = [
        [
            row["text"],
            "cheapest" if row["cheapest"] else "",
            form(row["N"]),
            form(row["D"]),
            f"{form(row['low'])} to {form(row['high'])}",
            row["compute"],
        ]
        for row in charts.frontier_rows(ends)
    ]
    tokens = ("total tokens D", f"interval of the tokens ({ends[0].interval})")
    columns = ("languages", "", "parameters N", *tokens, "times the compute")
    table = Table("Sizes and tokens that keep the loss", columns, rows, (2, 3, 4, 5))
    reading = (
        "Along each line the loss stays as it is; the dot needs the least compute. Left of the dot, a smaller model "
        "sees more tokens; right of it, a larger model sees fewer. Bands are intervals."
    )
    return Figure("languages-frontier", charts.frontier.spec(ends), reading, table)


def _multipliers(curve: Sequence[Expansion]) -> Figure:
    rows = [
        [
            str(row["languages"]),
            f"{row['ratio']:.3g}",
            row["quantity"],
            f"{row['value']:.3g}×",
            f"{row['low']:.3g}× to {row['high']:.3g}×",
        ]
        for row in charts.multiplier_rows(curve)
    ]
    columns = ("languages", "r", "quantity", "factor", "interval")
    table = Table("Multipliers at equal loss", columns, rows, (0, 1, 3, 4))
    reading = "The factors of parameters, total tokens and compute as languages are added; bands are intervals."
    return Figure("languages-multipliers", charts.multipliers.spec(curve), reading, table)


def added(first: Sequence[CandidateLanguage]) -> Section:
    """The languages to add first, by transfer scores."""
    rows = [
        [
            style.name(one.language),
            number(one.gives, "+.2f"),
            number(one.gets, "+.2f"),
            interval(one.low, one.high, "+.2f"),
            str(one.known),
        ]
        for one in first
    ]
    columns = ("language", "gives", "gets", "interval of their mean", "scores")
    table = Table("Languages in the order in which to add them", columns, rows, (1, 2, 3, 4))
    paragraph = (
        "Languages are added one at a time, each time the language with the highest transfer to and from all those "
        "before it. The law of the number of languages does not depend on which languages they are."
    )
    reading = "Circles: what a language gives to those before it. Diamonds: what it gets. Bars: interval of their mean."
    figure = Figure("languages-additions", charts.additions.spec(first), reading, table)
    return Section("Which languages to add first", "additions", [paragraph], figures=[figure])


def section(analysis: StudyAnalysis) -> Section | None:
    """Losses by the number of languages, and the fitted law; None for runs of one language and of pairs alone."""
    runs = analysis.runs
    frame = charts.width_frame(runs)
    counts = sorted(map(int, frame["languages"].unique()))
    if len(counts) < 2 or counts[-1] < ENOUGH_COUNTS:
        return None
    shared = frame.group_by("language").agg(pl.col("languages").n_unique()).filter(pl.col("languages") > 1)["language"]
    frame = frame.filter(pl.col("language").is_in(shared.to_list()))
    if not frame.height:
        return None
    paragraph = (
        f"There are runs of {', '.join(map(str, counts[:-1]))} and {counts[-1]} languages. At one size and one total "
        "number of tokens, a model of more languages sees fewer tokens of each and shares its capacity among more of "
        "them. Its losses also include what it gains from the text of the other languages."
    )
    fits, tables, notes = analysis.pricing, [], []
    if fits:
        tables = [_exponents(fits), _doubled(fits, counts)]
        notes.append(
            "The law holds for evenly sampled languages. It counts the languages with tokens and does not depend on "
            "which they are. phi above 0: each further language takes capacity. psi below 0: the text of the other "
            "languages helps."
        )
    notes += _unfitted(runs, {fit.target for fit in fits}, shared.to_list())
    figures = [_losses(frame, runs.metric)]
    title = "The cost of more languages"
    return Section(title, "adding-languages", [paragraph], tables=tables, figures=figures, notes=notes)


def _losses(frame: pl.DataFrame, metric: str) -> Figure:
    rows = [
        [
            style.name(row["language"]),
            str(row["languages"]),
            *(count(row[name]) for name in ("params", "tokens", "total_tokens")),
            f"{row['loss']:.4f}",
            row["run"],
        ]
        for row in frame.head(_MOST_ROWS).to_dicts()
    ]
    sizes = ("languages of the run", "parameters", "tokens of the language", "total tokens")
    columns = ("language", *sizes, style.metric_title(metric), "run")
    table = Table("Final losses by the number of languages", columns, rows, (1, 2, 3, 4, 5))
    reading = "Each dot is the end of one run on one of its languages. A rising line shows the cost of more languages."
    return Figure("languages-losses", charts.losses_by_width(frame, metric), reading, table)


def _exponents(fits: Sequence[Fit]) -> Table:
    names = ("phi", "psi", "alpha", "beta")
    rows = []
    for fit in fits:
        ends = (interval(*fit.intervals.get(name, (math.nan, math.nan)), ".3f") for name in names)
        cells = [f"{number(fit.parameters[n], '.3f')} ({between})" for n, between in zip(names, ends, strict=True)]
        rows.append([style.name(fit.target) if fit.target else "all", *cells])
    return Table("The multilinguality law, with 90 % intervals", ("target", *names), rows)


def _doubled(fits: Sequence[Fit], counts: Sequence[int]) -> Table:
    """Multipliers for twice the languages at equal loss, within the numbers of languages that were trained."""
    start = max(1, counts[-1] // 2)
    rows = []
    for fit in fits:
        found = expand(start, 2 * start, fit=fit)
        each = (found.params, found.tokens, found.compute)
        target = style.name(fit.target) if fit.target else "all"
        rows.append([target, *(f"{m.value:.3g}× ({_within(m)})" for m in each)])
    columns = ("target", "parameters N", "total tokens D", "compute C")
    return Table(f"Factors from {start} to {2 * start} languages at equal loss (90 %)", columns, rows)


def _unfitted(runs: Runs, fitted: set[str | None], codes: Sequence[str]) -> list[str]:
    """Why a target has no law of its own."""
    few = [code for code in codes if code not in fitted and len(widths(runs, code)) < ENOUGH_COUNTS]
    if not few:
        return []
    return [
        f"No multilinguality law was fitted for {', '.join(map(style.name, few))}: the law needs runs with at least "
        f"{ENOUGH_COUNTS} different numbers of languages, each with a final loss on the target."
    ]


def own_fit(analysis: StudyAnalysis, target: str | None) -> tuple[Fit, int]:
    """The multilinguality law of one target of an analysis (default: its first), and the most languages of its runs.

    Raises:
        InputError: there is none, with the reason.
    """
    chosen = [fit for fit in analysis.pricing if target in (None, fit.target)]
    if chosen:
        counts = widths(analysis.runs, analysis.runs.target(chosen[0].target))
        return chosen[0], counts[-1]
    codes = [target] if target is not None else list(analysis.runs.targets)
    trained = {code: ", ".join(map(str, widths(analysis.runs, code))) or "none" for code in codes[:6]}
    reason = next((limit for limit in analysis.limits if LAW in limit), None)
    listed = "; ".join(f"{code}: {numbers}" for code, numbers in trained.items())
    raise InputError(
        f"source: no multilinguality law of {target or 'any language'} in these runs",
        hint=reason
        or f"it needs runs of {ENOUGH_COUNTS} numbers of languages and at least 6 final losses; there are: {listed}",
    )


def _within(m: Multiplier) -> str:
    low, high = (f"{x:.4g}×" if math.isfinite(x) else "no amount" for x in (m.low, m.high))
    return f"{low} to {high}"
