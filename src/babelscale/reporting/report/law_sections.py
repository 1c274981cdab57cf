"""Fitted laws and their comparison as sections of a report."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import polars as pl

from babelscale import charts
from babelscale.charts import style
from babelscale.fitting import Comparison, Fit
from babelscale.formatting import cell, count, interval, number, percent
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.runs import Runs

Key = TypeVar("Key")


def laws(fits: Sequence[Fit], best: Sequence[Fit], runs: Runs) -> Section:
    """The fitted laws: parameters with intervals, curves of the `best`, and the predictions of the runs fitted."""
    paragraph = (
        "Each law gives the loss on one target language from the size of the model and the tokens of each language. "
        "Intervals are 90 %, from refits to resampled runs; the interval of a prediction includes the scatter of runs. "
        "In the curves, lines are the law for a model trained on one language alone, bands its prediction intervals, "
        "dots the monolingual runs. Dashed lines are beyond the longest run, where the law is not tested."
    )
    figures = [agreement(fits, runs), *(curves(fit, runs) for fit in best)]
    return Section("Laws", "laws", [paragraph], figures=figures, tables=[parameters(fits)], notes=notes(fits))


def held_out(comparison: Comparison) -> Section:
    """The comparison of laws on runs left out of the fit."""
    frame = comparison.table
    paragraph = (
        "Each law is fitted again without some of the runs and predicts their losses: random runs, the largest size, "
        "the runs with the most tokens or compute, or every mixture of more than two languages. R² of 1 is perfect; 0 "
        "is no better than the mean of the runs left out, and below 0 is worse. A good fit to the runs that a law was "
        "fitted to proves little."
    )
    rows = [
        [
            str(row["law"]),
            style.name(row["target"] or ""),
            charts.HELD_OUT_BY.get(row["axis"], row["axis"]),
            number(row["R2"], ".3f"),
            percent(row["mean_relative_error"]),
            percent(row["bias"], "+"),
            cell(row["n_train"]),
            cell(row["n_test"]),
            row["note"] or "",
        ]
        for row in frame.to_dicts()
    ]
    columns = ("law", "target", "held out", "R²", "mean error (%)", "bias (%)", "fitted", "held out (n)", "note")
    table = Table("Laws on held-out runs", columns, rows, numeric=(3, 4, 5, 6, 7))
    later = _later(comparison)
    if not frame["R2"].is_finite().any():
        return Section("Held-out comparison", "held-out", [paragraph], figures=later, tables=[table])
    reading = (
        "Each dot is one target language, the bar their median; triangles at the edge are below −0.5. With few runs "
        "left out, R² varies widely: check the number held out before you rely on a difference."
    )
    figure = Figure("held-out-r2", charts.held_out(comparison), reading, table)
    return Section("Held-out comparison", "held-out", [paragraph], figures=[figure, *later], notes=_not_computed(frame))


def _later(comparison: Comparison) -> list[Figure]:
    """The expanding windows, if one could be computed."""
    rows = [
        [
            row["law"],
            row["language"],
            f"{row['by']} {row['upto']:.3g}",
            f"{row['reach']:.3g}",
            percent(row["mean_relative_error"]),
            percent(row["bias"], "+"),
            number(row["R2"], ".3f"),
            *(cell(row[name]) for name in ("n_train", "n_test", "n_outside")),
        ]
        for row in charts.expanding_rows(comparison)
    ]
    if not rows:
        return []
    scores = ("mean error (%)", "bias (%)", "R²")
    columns = ("law", "target", "fitted up to", "farthest (×)", *scores, "fitted", "later (n)", "left out")
    table = Table("Laws on later runs", columns, rows, numeric=(3, 4, 5, 6, 7, 8, 9))
    reading = (
        "Each law is fitted to the runs up to a step and predicts every later one, which is how a law is used. Lines "
        "are medians over targets, dots are targets. A hollow dot leaves out losses for which the fitted law has no "
        "value."
    )
    return [Figure("expanding-window", charts.expanding(comparison), reading, table)]


def _not_computed(frame: pl.DataFrame) -> list[str]:
    """The comparisons that could not be computed, one sentence a reason, with its laws and targets."""
    pairs = []
    for row in frame.filter(pl.col("R2").is_null() & (pl.col("note") != "")).to_dicts():
        axis = charts.HELD_OUT_BY.get(row["axis"], row["axis"])
        reason = row["note"].removeprefix(f"law {row['law']!r}: ").rstrip(".")
        pairs.append(((axis, reason), f"{row['law']} of {row['target']}"))
    return [f"Not computed, {axis} ({who}): {reason}." for (axis, reason), who in _joined(pairs)]


def _joined(pairs: Iterable[tuple[Key, str]]) -> list[tuple[Key, str]]:
    """Each key once, with its distinct texts as a list."""
    found: dict[Key, list[str]] = {}
    for key, text in pairs:
        found.setdefault(key, []).append(text)
    return [(key, ", ".join(dict.fromkeys(texts))) for key, texts in found.items()]


def agreement(fits: Sequence[Fit], runs: Runs) -> Figure:
    """Measured against predicted losses, and both as a table."""
    rows = [
        [
            row["law"],
            row["target"],
            row["run"],
            f"{row['measured']:.4f}",
            f"{row['predicted']:.4f}",
            interval(row["low"], row["high"]),
            f"{row['error']:+.2f}",
        ]
        for row in charts.prediction_rows(fits, runs)
    ]
    columns = ("law", "target", "run", "measured", "predicted", "90 % interval", "error (%)")
    table = Table(f"Measured and predicted {style.metric_title(fits[0].metric)}", columns, rows, (3, 4, 5, 6))
    reading = "On the dashed line, prediction equals measurement. Bars are 90 % prediction intervals."
    return Figure("measured-predicted", charts.measured_predicted(fits, runs), reading, table)


def curves(fit: Fit, runs: Runs) -> Figure:
    """The curves of one law by size."""
    target = runs.target(fit.target)
    rows = [
        [
            row["size"],
            count(row["tokens"]),
            f"{row['loss']:.4f}",
            interval(row["low"], row["high"]),
            "extrapolated" if row["beyond"] else "",
        ]
        for row in charts.curve_rows(fit, runs)[::4]
    ]
    columns = ("parameters", "tokens", "loss", "90 % interval", "")
    table = Table(f"The {fit.law.name} law of {style.name(target)}", columns, rows, (1, 2, 3))
    reading = f"Loss on {style.name(target)} by its own tokens and the size of the model."
    return Figure(f"law-{target}", charts.law_curves(fit, runs), reading, table, half=True)


def parameters(fits: Sequence[Fit]) -> Table:
    """Every parameter with its interval and meaning."""
    rows = []
    for fit in fits:
        target = style.name(fit.target) if fit.target else "all text"
        meanings = {p.name: p.meaning for p in fit.law.parameters}
        for name, value in fit.parameters.items():
            ends = interval(*fit.intervals.get(name, (math.nan, math.nan)), ".4g")
            rows.append([target, fit.law.name, name, f"{value:.4g}", ends, meanings[name]])
    columns = ("target", "law", "parameter", "value", "90 % interval", "meaning")
    return Table("Parameters of every law", columns, rows, numeric=(3, 4))


def notes(fits: Sequence[Fit]) -> list[str]:
    """The notes of the fits, each sentence once with the laws and targets it holds for."""
    pairs = ((note, f"{fit.law.name} of {fit.target or 'all'}") for fit in fits for note in fit.notes)
    return [f"{who}: {note}" for note, who in _joined(pairs)]
