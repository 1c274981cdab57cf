"""What the page Laws shows, as sections."""

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from babelscale import charts, formatting, published
from babelscale.allocation import Allocation
from babelscale.charts import style
from babelscale.fitting import Fit, Profile, simulate
from babelscale.laws import AdaptiveTransfer
from babelscale.reporting.report import law_sections
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.runs import Runs

USUAL = ("chinchilla", "adaptive-transfer")
# Curves of more laws and targets than that are in nobody's eye at once.
_MOST_CURVES = 6
_COLUMNS = (
    ("params", "yes", "N, parameters of the model, the embedding included"),
    ("tokens", "yes", "D, tokens of the language that the run was trained on"),
    ("loss", "yes", "measured at the end of the run, nats per token; empty where it was not measured"),
    ("run", "with several languages", "name of the run: its rows, one a language, belong together"),
    ("language", "with several languages", "code such as sw, fil or no"),
    ("unique_tokens", "no", "U, unique tokens of the language; tokens beyond them are repeats"),
    ("flops", "no", "compute of the run; 6 N D where it is left out"),
    ("mixture", "no", "name of the run's mixture"),
    ("seed", "no", "seed of the run"),
)


def laws(fits: Sequence[Fit], runs: Runs, limits: Sequence[str]) -> Section:
    """Parameters, curves, and measured against predicted losses; what could not be fitted stands out."""
    if not fits:
        return Section("Laws", "laws", [_extent(runs), "No law could be fitted."], warning=limits)
    made = law_sections.laws(fits, (), runs)
    curves = [
        replace(law_sections.curves(fit, runs), name=f"curves-{fit.law.name}-{fit.target}")
        for fit in fits[:_MOST_CURVES]
    ]
    told = [_extent(runs), *made.paragraphs]
    left = len(fits) - len(curves)
    notes = [f"The curves of {left} more fits are not drawn."] if left > 0 else []
    return replace(
        made, paragraphs=told, warning=limits, figures=[*curves, *made.figures], lines=made.notes, notes=notes
    )


def _extent(runs: Runs) -> str:
    sizes = runs.table["params"].n_unique()
    said = f"{len(runs)} {'runs' if len(runs) != 1 else 'run'} of {sizes} {'sizes' if sizes != 1 else 'size'}"
    count = len(runs.languages)
    return f"{said} on {count} {'languages' if count != 1 else 'language'}; {style.metric_title(runs.metric)}."


def residuals(fits: Sequence[Fit], runs: Runs) -> Section:
    """What the laws leave over, against the predicted loss, N and D."""
    rows = charts.residual_rows(fits, runs)
    listed = [
        [
            row["law"],
            row["target"],
            row["run"],
            formatting.number(row["residual"], "+.3f"),
            f"{row['predicted']:.4f}",
            formatting.count(row["params"]),
            formatting.count(row["tokens"]),
        ]
        for row in sorted(rows, key=lambda row: -abs(row["residual"]))
    ]
    columns = ("law", "target", "run", "residual", "predicted", "parameters", "tokens")
    table = Table("Residuals, the largest first", columns, listed, (3, 4, 5, 6))
    reading = {
        "predicted": "If a law fits well, there is no trend, only scatter around the dashed line.",
        "params": "A bend or a slope here means that the law's term of N has the wrong form.",
        "tokens": "A slope among the longest runs shows where predictions beyond them will be wrong.",
    }
    figures = [
        Figure(f"residuals-{by}", charts.residuals(rows, by, fits[0].metric), reading[by], table, half=True)
        for by in charts.AGAINST
    ]
    said = [
        "A residual is the log of the measured loss minus the log of the predicted loss, times 100: about "
        "the error in per cent. Above zero the run is worse than the law predicts.",
        *(_scatter(fit) for fit in fits if fit.residual_sd is not None),
    ]
    return Section("Residuals of the laws", "residuals", said, figures=figures)


def _scatter(fit: Fit) -> str:
    target = style.name(fit.target) if fit.target else "all text"
    return f"{fit.law.name} of {target}: runs scatter by {100 * (fit.residual_sd or 0.0):.3g} % around the law."


def profiles(title: str, found: Sequence[Profile]) -> Section:
    """How well the runs identify a parameter, a chart a fit."""
    figures, said, notes = [], [], []
    for each in found:
        parameter = each.parameter
        rows = [
            [
                f"{row['value']:.6g}",
                formatting.number(row["objective"], ".8g"),
                formatting.number(row["units"], ".4g"),
                "inside" if row["inside"] else "",
            ]
            for row in charts.profile_rows(each)
        ]
        columns = (parameter, "objective", "rise (thresholds)", "90 % interval")
        who = f"{each.law} of {style.name(each.target) if each.target else 'all text'}"
        table = Table(f"Profile of {parameter}, {who}", columns, rows, (0, 1, 2))
        reading = (
            f"{who}: best {each.best:.5g}, {charts.describe_interval(each)}. The line is the least objective with the "
            f"parameter held at a value; where it lies under the dashed threshold, the value is as good as the best."
        )
        figures.append(Figure(f"profile-{each.law}-{each.target}", charts.profile(each), reading, table, half=True))
        notes += [f"{who}: {note}" for note in (f"threshold {each.threshold:.3g}, {each.why}.", *each.notes)]
        said.append(f"{who}: {parameter} is {each.best:.5g}, {charts.describe_interval(each)}.")
    return Section(title, "profile", said, figures=figures, notes=notes)


def saved(fits: Sequence[Fit]) -> Section:
    """Fits without the runs behind them: what they say, and no chart."""
    said = [
        "These fits are served without their runs, so only their parameters are shown. Serve or upload the "
        "runs to see more."
    ]
    return Section("Saved fits", "laws", said, lines=law_sections.notes(fits), tables=[law_sections.parameters(fits)])


def without_runs() -> list[Section]:
    """What a table of runs holds, and the laws that the study printed."""
    columns = Table("Columns of a table of runs", ("column", "needed", "what it holds"), _COLUMNS)
    first = Section(
        "Laws are fitted to runs",
        "table",
        [
            "Upload a table of finished runs, or start the page with one (babelscale serve PATH). One row is one "
            "language of one run, as CSV, Excel, JSON, Parquet or Arrow. A law of five parameters needs more than five "
            "runs, of two sizes or more.",
            "The example beside the upload is computed from a known law with half a per cent of noise: no "
            "model was trained for it.",
        ],
        tables=[columns],
    )
    return [first, _printed()]


@functools.cache
def _printed() -> Section:
    """Table C.1 of the study."""
    rows = [
        [
            row.vocabulary,
            row.training,
            style.name(row.language),
            f"{row.E:.2f}",
            f"{row.log_A:.2f}",
            f"{row.log_B:.2f}",
            f"{row.alpha:.2f}",
            f"{row.beta:.2f}",
            formatting.count(row.unique_tokens),
        ]
        for row in published.table_c1()
    ]
    columns = ("vocabulary", "training", "language", "E", "log A", "log B", "alpha", "beta", "unique tokens (U)")
    said = [
        "L = E + A / N^alpha + B / D^beta, alpha tied to beta, as the study printed them (Table C.1). It prints no "
        "intervals and two decimals; E is 0 in seven rows, so no row carries far beyond the sizes it was fitted on."
    ]
    table = Table("Printed coefficients", columns, rows, (3, 4, 5, 6, 7, 8))
    return Section("Laws the ATLAS study printed", "printed", said, tables=[table])


@functools.cache
def example() -> str:
    """A flat table whose losses follow an adaptive transfer law of Swahili with English as its source."""
    law = AdaptiveTransfer("sw", ("en",), other=False)
    numbers = {"E": 1.4, "A": 90.0, "B": 900.0, "alpha": 0.3, "beta": 0.33, "lambda": 0.07, "tau_en": 0.25}
    made = [(N, D, share) for N in (4e7, 1.2e8, 4e8, 1e9) for D in (1e9, 4e9, 1.6e10) for share in (1.0, 0.5, 0.1)]
    N, D, share = (np.array(column) for column in zip(*made, strict=True))
    unique = {"sw": np.full(len(N), 7e8), "en": np.full(len(N), 5e12)}
    runs = simulate(law, numbers, Allocation(N, {"sw": D * share, "en": D * (1 - share)}, unique), seed=0)
    losses = runs.losses.select("run", "language", loss=pl.col("nats") / pl.col("tokens"))
    rows = runs.exposure.join(losses, on=["run", "language"], how="left").join(
        runs.table.select("run", "params"), on="run"
    )
    kept = rows.filter(pl.col("tokens") > 0).sort("run", "language", descending=[False, True])
    return kept.select("run", "params", "language", "tokens", "unique_tokens", pl.col("loss").round(5)).write_csv()
