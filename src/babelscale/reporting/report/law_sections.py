"""Fitted laws and their comparison as the sections of a page: what they say, and how far to believe them."""

import math
from collections.abc import Sequence

import polars as pl

from babelscale import charts, formatting
from babelscale.charts import style
from babelscale.fitting import Comparison, Fit
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.runs import Runs


def laws(fits: Sequence[Fit], best: Sequence[Fit], runs: Runs) -> Section:
    """The fitted laws: parameters with intervals, curves of the `best`, and how they fare on the runs fitted."""
    said = [
        "Each law gives the loss on one target language from the size of the model and the tokens of each "
        "language. Intervals are 90 %, from refits to resampled runs; the interval of a prediction also "
        "includes the scatter of runs. In the curves, lines show the law for a model trained on one "
        "language alone, bands are its prediction intervals, and dots are the monolingual runs. Dashed "
        "lines are beyond the longest run, where the law has not been tested."
    ]
    figures = [agreement(fits, runs), *(curves(fit, runs) for fit in best)]
    return Section("Laws", "laws", said, figures=figures, tables=[parameters(fits)], notes=notes(fits))


def held_out(comparison: Comparison) -> Section:
    """The comparison of laws on runs left out of the fit."""
    frame = comparison.table
    said = [
        "Each law is fitted again without some of the runs and predicts their losses: random runs, the "
        "largest size, the runs with the most tokens or compute, or every mixture of more than two "
        "languages. An R² of 1 is perfect, 0 is no better than the mean of the runs that were left out, "
        "and below 0 is worse. A good fit to its own runs proves little."
    ]
    rows = [
        [
            str(row["law"]),
            style.name(row["target"] or ""),
            charts.HELD_OUT_BY.get(row["axis"], row["axis"]),
            formatting.number(row["R2"], ".3f"),
            formatting.percent(row["mean_relative_error"]),
            formatting.percent(row["bias"], "+"),
            formatting.cell(row["n_train"]),
            formatting.cell(row["n_test"]),
            row["note"] or "",
        ]
        for row in frame.to_dicts()
    ]
    columns = ("law", "target", "held out", "R²", "mean error (%)", "bias (%)", "fitted", "held out (n)", "note")
    table = Table("Laws on held-out runs", columns, rows, numeric=(3, 4, 5, 6, 7))
    known = [row for row in frame["R2"].to_list() if row is not None and math.isfinite(row)]
    later = _later(comparison)
    if not known:
        return Section("Held-out comparison", "held-out", said, figures=later, tables=[table])
    reading = (
        "Each dot is a target language, and the bar is their median. Triangles at the edge are below −0.5. "
        "If few runs are left out, R² varies much: look at the number of held-out runs before you trust a "
        "difference."
    )
    figure = Figure("held-out-r2", charts.held_out(comparison), reading, table)
    return Section("Held-out comparison", "held-out", said, figures=[figure, *later], notes=_not_computed(frame))


def _later(comparison: Comparison) -> list[Figure]:
    """The expanding windows, where one could be computed."""
    if not charts.expanding_rows(comparison):
        return []
    rows = [
        [
            row["law"],
            row["language"],
            f"{row['by']} {row['upto']:.3g}",
            f"{row['reach']:.3g}",
            formatting.percent(row["mean_relative_error"]),
            formatting.percent(row["bias"], "+"),
            formatting.number(row["R2"], ".3f"),
            formatting.cell(row["n_train"]),
            formatting.cell(row["n_test"]),
            formatting.cell(row["n_outside"]),
        ]
        for row in charts.expanding_rows(comparison)
    ]
    scores = ("mean error (%)", "bias (%)", "R²")
    columns = ("law", "target", "fitted up to", "farthest (×)", *scores, "fitted", "later (n)", "left out")
    table = Table("Laws on later runs", columns, rows, numeric=(3, 4, 5, 6, 7, 8, 9))
    reading = (
        "Each law is fitted to the runs up to a rung and predicts every later run, because laws are used "
        "in this way. Lines are medians over targets, and dots are targets. A hollow dot leaves out losses "
        "for which the fitted law has no prediction."
    )
    return [Figure("expanding-window", charts.expanding(comparison), reading, table)]


def _not_computed(frame: pl.DataFrame) -> list[str]:
    """What the comparison could not tell, one sentence a reason, with the laws and targets it holds for."""
    said: dict[tuple[str, str], list[str]] = {}
    for row in frame.filter(pl.col("R2").is_null() & (pl.col("note") != "")).to_dicts():
        axis = str(charts.HELD_OUT_BY.get(row["axis"], row["axis"]))
        reason = row["note"].removeprefix(f"law {row['law']!r}: ").rstrip(".")
        said.setdefault((axis, reason), []).append(f"{row['law']} of {row['target']}")
    return [f"Not computed, {axis} ({', '.join(who)}): {reason}." for (axis, reason), who in said.items()]


def agreement(fits: Sequence[Fit], runs: Runs) -> Figure:
    """Measured against predicted losses, and both as a table."""
    rows = [
        [
            row["law"],
            row["target"],
            row["run"],
            f"{row['measured']:.4f}",
            f"{row['predicted']:.4f}",
            formatting.interval(row["low"], row["high"]),
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
            formatting.count(row["tokens"]),
            f"{row['loss']:.4f}",
            formatting.interval(row["low"], row["high"]),
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
    meanings = {p.name: p.meaning for fit in fits for p in fit.law.parameters}
    rows = []
    for fit in fits:
        for name, value in fit.parameters.items():
            low, high = fit.intervals.get(name, (math.nan, math.nan))
            target = style.name(fit.target) if fit.target else "all text"
            rows.append(
                [target, fit.law.name, name, f"{value:.4g}", formatting.interval(low, high, ".4g"), meanings[name]]
            )
    columns = ("target", "law", "parameter", "value", "90 % interval", "meaning")
    return Table("Parameters of every law", columns, rows, numeric=(3, 4))


def notes(fits: Sequence[Fit]) -> list[str]:
    """What the fits say about themselves, each sentence once with the targets it holds for."""
    said: dict[str, list[str]] = {}
    for fit in fits:
        for note in fit.notes:
            said.setdefault(note, []).append(f"{fit.law.name} of {fit.target or 'all'}")
    return [f"{', '.join(dict.fromkeys(who))}: {note}" for note, who in said.items()]
