"""The sections of a report on the study itself: findings, design, runs, losses, and limits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from babelscale import charts, languages
from babelscale.charts import style
from babelscale.charts.training import loss_rows
from babelscale.errors import InputError
from babelscale.formatting import cell, count, flops, interval, number, plural
from babelscale.reporting.report import final_losses
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.reporting.report.plan_section import headline
from babelscale.reporting.report.study_analysis import StudyAnalysis
from babelscale.transfer import TransferMatrix

# A longer table is cut; the files of runs have all rows.
MOST_ROWS = 1500
PHRASEBOOK = (
    "The text of these runs is a phrasebook: sentences composed at run time from names, numbers, dates and units. It "
    "shows that every step works. It is not natural language, so these results do not describe the languages in real "
    "text. Use your own corpus for that."
)


def in_short(analysis: StudyAnalysis) -> Section:
    """The findings in a few lines, each with its interval or scatter."""
    lines = []
    if analysis.matrix is not None:
        lines.append(_best_pair(analysis.matrix))
    if fits := analysis.best_fits:
        scatter = [fit.residual_sd for fit in fits if fit.residual_sd is not None]
        around = f"; runs scatter around them by {100 * float(np.median(scatter)):.2g} %" if scatter else ""
        laws = " and ".join(dict.fromkeys(fit.law.name for fit in fits))
        names = [style.name(fit.target) if fit.target else "all text" for fit in fits]
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        lines.append(f"{laws.capitalize()} laws were fitted for {listed}{around}.")
    if (best := _best_law(analysis)) is not None:
        lines.append(best)
    if analysis.plan is not None:
        lines.append(headline(analysis.plan))
    if not lines:
        lines.append("There are too few runs for scores, laws or a plan; their losses are below.")
    return Section("In short", "in-short", lines=lines)


def _best_pair(matrix: TransferMatrix) -> str:
    known = np.isfinite(matrix.values)
    if not known.any():
        return "No transfer score could be measured, only bounds."
    i, j = np.unravel_index(int(np.where(known, matrix.values, -np.inf).argmax()), known.shape)
    target, source = (style.name(matrix.languages[k]) for k in (i, j))
    between = interval(float(matrix.low[i, j]), float(matrix.high[i, j]), "+.2f")
    return (
        f"The highest transfer score is that of {source} for {target}: {number(float(matrix.values[i, j]), '+.2f')} "
        f"(90 % interval {between}). {int((matrix.values[known] > 0).sum())} of {int(known.sum())} measured scores are "
        "above zero."
    )


def _best_law(analysis: StudyAnalysis) -> str | None:
    """The laws by their median R2 on held-out runs, over targets and axes."""
    if analysis.comparison is None:
        return None
    frame = analysis.comparison.table.filter(pl.col("R2").is_finite())
    if frame["law"].n_unique() < 2:
        return None
    medians = frame.group_by("law").agg(pl.median("R2")).sort("R2", "law", descending=[True, False])
    listed = ", ".join(f"{law} {number(R2, '.2f')}" for law, R2 in medians.rows())
    return f"On runs left out of the fit, the median R² over targets and axes is: {listed}."


def about(analysis: StudyAnalysis) -> Section:
    """The study, its text, its languages and groups of runs."""
    runs, design = analysis.runs, analysis.design
    corpus = design.get("corpus", {})
    paragraphs = [_extent(analysis)]
    if corpus:
        paragraphs.append(f"Text: {_corpus(corpus)}")
    if tokenizer := design.get("tokenizer"):
        settings = (f"{key.replace('_', ' ')} {value}" for key, value in tokenizer.items() if value not in (None, ""))
        paragraphs.append(f"Tokenizer: {', '.join(settings)}.")
    seen = runs.exposure.filter(pl.col("tokens") > 0).group_by("language")
    seen = seen.agg(pl.max("unique_tokens").alias("unique"), pl.col("run").n_unique().alias("runs"))
    known: dict[str, Any] = {row["language"]: row for row in seen.to_dicts()}
    rows = [[*_kin(code), count(known[code]["unique"]), str(known[code]["runs"])] for code in runs.languages]
    columns = ("language", "script", "family and branch", "unique tokens (U)", "runs")
    tables = [Table("Languages trained on", columns, rows, numeric=(3, 4))]
    if groups := design.get("groups"):
        listed = [[str(g.get("name", "")), str(g.get("why", "")), str(len(g.get("runs", ())))] for g in groups]
        tables.append(Table("Groups of runs and their purpose", ("group", "purpose", "runs"), listed, numeric=(2,)))
    warning = [PHRASEBOOK] if "phrasebook" in (corpus.get("kind"), corpus.get("source")) else []
    return Section("The study", "about", paragraphs, warning=warning, tables=tables)


def trained(analysis: StudyAnalysis) -> Section:
    """The table of runs."""
    rows = [
        [
            row["run"],
            row["size"] or "",
            count(row["params"]),
            count(row["tokens"]),
            row["mixture"] or "",
            f"from {row['base']}" if row["base"] else row["start"] or "scratch",
            cell(row["seed"]),
            flops(row["flops"]),
        ]
        for row in analysis.runs.table.sort("params", "tokens", "run").to_dicts()
    ]
    columns = ("run", "size", "parameters (N)", "tokens (D)", "mixture", "start", "seed", "compute (FLOPs)")
    return Section("Runs", "runs", tables=[Table("Every run", columns, rows, numeric=(2, 3, 6, 7))])


def losses(analysis: StudyAnalysis) -> Section:
    """Learning curves and final losses, on the languages each run trains on."""
    runs = analysis.runs
    frame = loss_rows(runs)
    title = style.metric_title(runs.metric)
    columns = ("language", "run", "step", "learning rate", "tokens of the language", "total tokens", title)

    def table(part: pl.DataFrame, caption: str) -> Table:
        rows = [
            [
                style.name(row["language"]),
                row["run"],
                str(row["step"]),
                row["lr_state"],
                count(row["tokens"]),
                count(row["total_tokens"]),
                f"{row['loss']:.4f}",
            ]
            for row in part.head(MOST_ROWS).to_dicts()
        ]
        cut = f", the first {MOST_ROWS} of {part.height}" if part.height > MOST_ROWS else ""
        return Table(caption + cut, columns, rows, numeric=(2, 4, 5, 6))

    figures = []
    final = frame.filter(lr_state="decayed")
    if frame["step"].n_unique() > 1:
        reading = (
            "Each line is one run; thicker lines are larger models. Compare lines at equal tokens. Circles are "
            "measured at a stable learning rate, diamonds after its decay, which causes the drop at the end of a line."
        )
        chart = charts.learning_curves(runs)
        figures.append(Figure("learning-curves", chart, reading, table(frame, "Losses at every checkpoint")))
    if final.height:
        reading = "Each mark is the end of a run on one of its training languages. Further left is better."
        chart = charts.final_losses(runs)
        figures.append(Figure("final-losses", chart, reading, table(final, "Losses at the end of training")))
    paragraphs = ["Losses are measured on held-out text. Each run is shown on the languages that it trains on."]
    units = [final_losses.in_every_unit(analysis, MOST_ROWS)] if final.height else []
    return Section("Losses by language", "losses", paragraphs, figures=figures, tables=units)


def limits(analysis: StudyAnalysis) -> Section:
    """The steps that these runs did not allow, and the conclusions that they do not support."""
    runs = analysis.runs
    lines = list(analysis.limits)
    if staged := len(runs) - len(runs.one_stage()):
        lines.append(
            f"{staged} two-stage {'runs are' if staged > 1 else 'run is'} left out of the laws, their comparison and "
            "the transfer scores, which treat the totals of a run as those of one mixture."
        )
    if runs.table["seed"].drop_nulls().n_unique() < 2:
        lines.append(
            "Every run was trained with one seed (or no seed is recorded), so the scatter between seeds is not "
            "measured. Differences of a few per cent between two runs may be chance."
        )
    sizes = runs.table["params"].n_unique()
    if sizes < 3:
        lines.append(
            f"The runs have {plural(sizes, 'size')} of model, so the exponent alpha of N rests on "
            f"{'one difference' if sizes > 1 else 'no difference'}. Three sizes or more would show whether it holds."
        )
    largest = float(np.asarray(runs.table["params"]).max())
    if largest < 1e7:
        lines.append(
            f"The largest model has {count(largest)} parameters. Models a thousand times larger are known to transfer "
            "more between languages, so scores and exponents of small models may not apply to large ones."
        )
    if analysis.matrix is not None and (n := int((analysis.matrix.status == "censored").sum())):
        lines.append(f"{n} transfer scores are known only as a bound; longer bilingual runs would measure them.")
    if runs.metric == "nats_per_token":
        lines.append(
            "Losses are in nats per token, because their bytes are not recorded. They cannot be compared between "
            "tokenizers, and only with caution between languages."
        )
    lines.append("Losses are measured on held-out text like the training text. They do not measure skill at any task.")
    return Section("What these runs do not show", "limits", lines=lines)


def _extent(analysis: StudyAnalysis) -> str:
    table = analysis.runs.table
    sizes = sorted(table["params"].unique())
    lengths = sorted(table["tokens"].drop_nulls().unique())
    seeds = table["seed"].drop_nulls().n_unique()
    unit = style.metric_title(analysis.runs.metric).removeprefix("loss (").removesuffix(")")
    return (
        f"{plural(len(analysis.runs), 'run')} on {plural(len(analysis.runs.languages), 'language')}, of "
        f"{plural(len(sizes), 'size')} ({_span(sizes)} parameters), {_span(lengths)} tokens each"
        f"{', ' + plural(seeds, 'seed') if seeds else ''}. Losses are in {unit}."
    )


def _span(values: list[float]) -> str:
    ends = dict.fromkeys((count(values[0]), count(values[-1]))) if values[0] != values[-1] else (count(values[0]),)
    return " to ".join(ends)


def _corpus(facts: Mapping[str, Any]) -> str:
    """A design's description of its text, in a sentence or two."""
    text = str(facts.get("sentence") or facts.get("kind") or facts.get("source") or "not described").rstrip(".")
    parts = []
    if isinstance(sizes := facts.get("bytes_per_language"), dict) and all(sizes.values()):
        low, high = min(sizes.values()), max(sizes.values())
        parts.append(f"{count(low)} bytes a language" if low == high else f"{count(low)} to {count(high)} bytes each")
    if share := facts.get("held_out_share"):
        parts.append(f"{100 * float(share):.3g} % of it held out")
    if facts.get("seed") is not None:
        parts.append(f"seed {facts['seed']}")
    return f"{text}{' (' + ', '.join(parts) + ')' if parts else ''}."


def _kin(code: str) -> list[str]:
    try:
        known = languages.lookup(code)
    except InputError:
        return [code, "", ""]
    return [style.name(code), known.script, " > ".join(part for part in (known.family, *known.branch[-1:]) if part)]
