"""What more languages cost, as sections of a page: equal loss at other sizes, and what a study's own runs show."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from babelscale import formatting
from babelscale.charts import adding_languages as drawn
from babelscale.charts import style
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.planning import CandidateLanguage, Expansion, expand
from babelscale.planning.expansion import Multiplier
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.reporting.report.study_analysis import ENOUGH_COUNTS, LAW, StudyAnalysis, widths
from babelscale.runs import Runs

_MOST_ROWS, _POINTS = 1500, 40


def frontier_to(languages: int, to: int, **given: Any) -> Expansion:
    """An expansion whose frontier reaches beyond its cheapest point on both sides.

    Args:
        given: params, tokens and fit, as in `expand`.
    """
    found = expand(languages, to, **given)
    cheap = 1.0 if found.cheapest is None else found.cheapest.params / found.params.value
    ends = 0.55 * min(1.0, cheap), 5.0 * max(1.0, cheap)
    return expand(languages, to, **given, sizes=tuple(float(size) for size in np.geomspace(*ends, _POINTS)))


def priced(
    ends: Sequence[Expansion], curve: Sequence[Expansion], *, most: int | None = None, title: str = ""
) -> Section:
    """What it costs to keep the loss with more languages.

    Args:
        ends: expansions from the same languages to several numbers of them; the last one is told in words.
        curve: expansions for the chart of multipliers, ascending.
        most: the most languages of the runs behind a fit.
    """
    asked = ends[-1]
    rows = [
        [f"multiply {name}", f"{m.value:.3g}×", _within(m)]
        for name, m in (
            ("parameters N", asked.params),
            ("tokens D in all", asked.tokens),
            ("tokens of each language", asked.tokens_per_language),
            ("compute C", asked.compute),
        )
    ]
    if asked.now and asked.then:
        names = (("parameters", formatting.count), ("tokens in all", formatting.count), ("FLOPs", formatting.flops))
        for (name, say), now, then in zip(names, asked.now, asked.then, strict=True):
            rows.append([f"{name}, from {say(now)} to", say(then), ""])
    caption = f"From {asked.languages} to {asked.to} languages at equal loss"
    table = Table(caption, ("", "by", f"interval ({asked.interval})"), rows, (1, 2))
    said = [_headline(asked)]
    warning = [f"{asked.extrapolation[:1].upper()}{asked.extrapolation[1:]}."] if asked.extrapolation else []
    if most is not None and asked.to > most:
        warning.append(f"Extrapolated: the runs behind the fit have at most {most} languages, not {asked.to}.")
    notes = [f"{note[:1].upper()}{note[1:]}." for note in asked.notes]
    notes.append(f"Source: {asked.source}.")
    figures = [_frontier(ends), _multipliers(curve)]
    return Section(
        title or "What more languages cost",
        "curse",
        said,
        warning=warning,
        tables=[table],
        figures=figures,
        notes=notes,
    )


def _headline(found: Expansion) -> str:
    if found.to == found.languages:
        return f"{found.languages} languages stay {found.languages}: nothing changes."
    best = found.cheapest
    told = (
        f"From {found.languages} to {found.to} languages at equal loss, multiply the parameters by "
        f"{found.params.value:.3g} and all tokens by {found.tokens.value:.3g} (the tokens of each language "
        f"by {found.tokens_per_language.value:.3g}). The compute is then multiplied by "
        f"{found.compute.value:.3g}."
    )
    if best is not None and best.compute.value < 0.999 * found.compute.value:
        told += (
            f" The cheapest way takes {best.params:.3g} times the parameters and {best.tokens.value:.3g} times the "
            f"tokens: {best.compute.value:.3g} times the compute."
        )
    return told


def _frontier(ends: Sequence[Expansion]) -> Figure:
    counts = bool(ends[0].now)
    say = (lambda value: formatting.count(value)) if counts else (lambda value: f"{value:.3g}×")
    rows = [
        [
            row["text"],
            "cheapest" if row["cheapest"] else "",
            say(row["N"]),
            say(row["D"]),
            f"{say(row['low'])} to {say(row['high'])}",
            row["compute"],
        ]
        for row in drawn.frontier_rows(ends)
    ]
    interval = f"interval of the tokens ({ends[0].interval})"
    columns = ("languages", "", "parameters N", "tokens D in all", interval, "times the compute")
    table = Table("Sizes and tokens that keep the loss", columns, rows, (2, 3, 4, 5))
    reading = (
        "Along a line the loss stays the same, and the dot marks the least compute. To the left of the dot "
        "a smaller model sees more tokens; to the right a larger model sees fewer. Bands are intervals."
    )
    return Figure("languages-frontier", drawn.frontier_spec(ends), reading, table)


def _multipliers(curve: Sequence[Expansion]) -> Figure:
    rows = [
        [
            str(row["languages"]),
            f"{row['ratio']:.3g}",
            row["quantity"],
            f"{row['value']:.3g}×",
            f"{row['low']:.3g}× to {row['high']:.3g}×",
        ]
        for row in drawn.multiplier_rows(curve)
    ]
    columns = ("languages", "r", "quantity", "multiply by", "interval")
    table = Table("Multipliers at equal loss", columns, rows, (0, 1, 3, 4))
    reading = (
        "The factors by which parameters, total tokens and compute must be multiplied when languages are "
        "added. Bands are intervals."
    )
    return Figure("languages-multipliers", drawn.multipliers_spec(curve), reading, table)


def added(first: Sequence[CandidateLanguage]) -> Section:
    """Which languages to add first, by transfer scores."""
    rows = [
        [
            style.name(one.language),
            formatting.number(one.gives, "+.2f"),
            formatting.number(one.gets, "+.2f"),
            formatting.interval(one.low, one.high, "+.2f"),
            str(one.known),
        ]
        for one in first
    ]
    columns = ("language", "gives", "gets", "mean of both, interval", "scores")
    table = Table("In the order in which to add them", columns, rows, (1, 2, 3, 4))
    said = [
        "Languages are added one at a time: each is the language with the highest transfer to and from all "
        "languages before it. The law of the number of languages does not depend on which languages they "
        "are."
    ]
    reading = (
        "Circles show what a language gives to the languages before it, diamonds show what it gets from them, "
        "and bars are the intervals of the mean."
    )
    figure = Figure("languages-additions", drawn.additions_spec(first), reading, table)
    return Section("Which languages to add first", "additions", said, figures=[figure])


def section(analysis: StudyAnalysis) -> Section | None:
    """Losses by the number of languages, and the law of it where the runs tell one; None for one language and pairs."""
    runs = analysis.runs
    frame = drawn.width_frame(runs)
    counts = sorted(int(each) for each in frame["languages"].unique())
    if len(counts) < 2 or counts[-1] < ENOUGH_COUNTS:
        return None
    shared = frame.group_by("language").agg(pl.col("languages").n_unique()).filter(pl.col("languages") > 1)["language"]
    frame = frame.filter(pl.col("language").is_in(shared.to_list()))
    if not frame.height:
        return None
    said = [
        f"Runs of {', '.join(map(str, counts[:-1]))} and {counts[-1]} languages were trained. At one size "
        "and one total number of tokens, a model of more languages sees fewer tokens of each language and "
        "divides its capacity between more languages. Its losses also include the help from the text of "
        "the other languages."
    ]
    fits, tables, notes = analysis.pricing, [], []
    if fits:
        tables = [_exponents(fits), _doubled(fits, counts)]
        notes.append(
            "The law applies to languages that are sampled evenly. It counts the languages with tokens and "
            "does not depend on which ones they are. If phi is above 0, every further language needs "
            "capacity; if psi is below 0, the text of the other languages helps."
        )
    notes += _unfitted(runs, {fit.target for fit in fits}, shared.to_list())
    return Section(
        "What more languages cost", "curse", said, tables=tables, figures=[_losses(frame, runs.metric)], notes=notes
    )


def _losses(frame: pl.DataFrame, metric: str) -> Figure:
    rows = [
        [
            style.name(row["language"]),
            str(row["languages"]),
            formatting.count(row["params"]),
            formatting.count(row["tokens"]),
            formatting.count(row["total_tokens"]),
            f"{row['loss']:.4f}",
            row["run"],
        ]
        for row in frame.head(_MOST_ROWS).to_dicts()
    ]
    title = style.metric_title(metric)
    columns = (
        "language",
        "languages of the run",
        "parameters",
        "tokens of the language",
        "tokens in all",
        title,
        "run",
    )
    table = Table("Final losses by the number of languages", columns, rows, (1, 2, 3, 4, 5))
    reading = "Each dot is the end of a run on one of its languages. A rising line shows the cost of more languages."
    return Figure("languages-losses", drawn.losses_by_width(frame, metric), reading, table)


def _exponents(fits: Sequence[Fit]) -> Table:
    rows = []
    for fit in fits:
        told = [style.name(fit.target) if fit.target else "all"]
        for name in ("phi", "psi", "alpha", "beta"):
            low, high = fit.intervals.get(name, (math.nan, math.nan))
            told.append(f"{formatting.number(fit.parameters[name], '.3f')} ({formatting.interval(low, high, '.3f')})")
        rows.append(told)
    return Table("The multilinguality law, with 90 % intervals", ("target", "phi", "psi", "alpha", "beta"), rows)


def _doubled(fits: Sequence[Fit], counts: Sequence[int]) -> Table:
    """What doubling the languages takes at equal loss, inside the numbers of languages that were trained."""
    start = max(1, counts[-1] // 2)
    rows = []
    for fit in fits:
        found = expand(start, 2 * start, fit=fit)
        each = (found.params, found.tokens, found.compute)
        rows.append(
            [style.name(fit.target) if fit.target else "all", *(f"{m.value:.3g}× ({_within(m)})" for m in each)]
        )
    columns = ("target", "parameters N", "tokens D in all", "compute C")
    return Table(f"From {start} to {2 * start} languages at equal loss, multiply by (90 %)", columns, rows)


def _unfitted(runs: Runs, fitted: set[str | None], codes: Sequence[str]) -> list[str]:
    """Why a target has no law of its own."""
    few = [code for code in codes if code not in fitted and len(widths(runs, code)) < ENOUGH_COUNTS]
    if not few:
        return []
    told = ", ".join(style.name(code) for code in few)
    return [
        f"No multilinguality law was fitted for {told}: the law needs runs with at least {ENOUGH_COUNTS} different "
        "numbers of languages, each with a final loss on the target."
    ]


def own_fit(analysis: StudyAnalysis, target: str | None) -> tuple[Fit, int]:
    """The multilinguality law of one target of a analysis (default: its first), and the most languages of its runs.

    Raises:
        InputError: there is none, with the reason.
    """
    fits = analysis.pricing
    chosen = [fit for fit in fits if target in (None, fit.target)]
    if chosen:
        counts = widths(analysis.runs, analysis.runs.target(chosen[0].target))
        return chosen[0], counts[-1]
    codes = [target] if target is not None else list(analysis.runs.targets)
    there = {code: widths(analysis.runs, code) for code in codes}
    reason = next((limit for limit in analysis.limits if LAW in limit), None)
    few = "; ".join(f"{code}: {', '.join(map(str, each)) or 'none'}" for code, each in list(there.items())[:6])
    raise InputError(
        f"source: no multilinguality law of {target or 'any language'} in these runs",
        hint=reason
        or f"the law needs runs with {ENOUGH_COUNTS} different numbers of languages and at least six final "
        f"losses; there are: {few}",
    )


def _within(m: Multiplier) -> str:
    low, high = (f"{x:.4g}×" if math.isfinite(x) else "no amount" for x in (m.low, m.high))
    return f"{low} to {high}"
