"""A analysis as the sections of a page: what was trained, what it showed, and what it does not show."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from babelscale import charts, formatting, languages
from babelscale.charts import style
from babelscale.charts.training import loss_rows
from babelscale.errors import InputError
from babelscale.reporting.report import final_losses, law_sections
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.reporting.report.study_analysis import StudyAnalysis

# Beyond this many rows a table says less than the file it was made from.
MOST_ROWS = 1500
PHRASEBOOK = (
    "The text of these runs is a phrasebook: sentences composed at run time from names, numbers, dates and "
    "units. It shows that every step works. It is not natural language, so this report says nothing about "
    "how these languages behave in real text. To learn that, use a corpus of your own."
)


def about(analysis: StudyAnalysis) -> Section:
    """What this is: the study, its text, its languages and groups of runs."""
    runs, design = analysis.runs, analysis.design
    corpus = design.get("corpus", {})
    said = [_extent(analysis)]
    if corpus:
        said.append("Text: " + _corpus(corpus))
    if tokenizer := design.get("tokenizer"):
        said.append("Tokenizer: " + _settings(tokenizer) + ".")
    known: dict[str, Any] = {row["language"]: row for row in _exposure(analysis).to_dicts()}
    rows = [[*_kin(code), formatting.count(known[code]["unique"]), str(known[code]["runs"])] for code in runs.languages]
    table = Table(
        "Languages trained on",
        ("language", "script", "family and branch", "unique tokens (U)", "runs"),
        rows,
        numeric=(3, 4),
    )
    tables = [table]
    if groups := design.get("groups"):
        listed = [[str(g.get("name", "")), str(g.get("why", "")), str(len(g.get("runs", ())))] for g in groups]
        tables.append(Table("Groups of runs and their purpose", ("group", "why", "runs"), listed, numeric=(2,)))
    composed = "phrasebook" in (corpus.get("kind"), corpus.get("source"))
    return Section("What this is", "about", said, warning=[PHRASEBOOK] if composed else [], tables=tables)


def trained(analysis: StudyAnalysis) -> Section:
    """The table of runs."""
    found = analysis.runs.table.sort("params", "tokens", "run")
    rows = [
        [
            row["run"],
            row["size"] or "",
            formatting.count(row["params"]),
            formatting.count(row["tokens"]),
            row["mixture"] or "",
            f"from {row['base']}" if row["base"] else row["start"] or "scratch",
            formatting.cell(row["seed"]),
            formatting.flops(row["flops"]),
        ]
        for row in found.to_dicts()
    ]
    columns = ("run", "size", "parameters (N)", "tokens (D)", "mixture", "start", "seed", "compute (FLOPs)")
    return Section("Runs", "runs", tables=[Table("Every run", columns, rows, numeric=(2, 3, 6, 7))])


def losses(analysis: StudyAnalysis) -> Section:
    """Learning curves and final losses, on the languages each run trains on."""
    runs = analysis.runs
    frame = loss_rows(runs)
    title = style.metric_title(runs.metric)
    columns = ("language", "run", "step", "learning rate", "tokens of the language", "tokens in all", title)

    def table(kept: pl.DataFrame, caption: str) -> Table:
        rows = [
            [
                style.name(row["language"]),
                row["run"],
                str(row["step"]),
                row["lr_state"],
                formatting.count(row["tokens"]),
                formatting.count(row["total_tokens"]),
                f"{row['loss']:.4f}",
            ]
            for row in kept.head(MOST_ROWS).to_dicts()
        ]
        cut = f", the first {MOST_ROWS} of {kept.height}" if kept.height > MOST_ROWS else ""
        return Table(caption + cut, columns, rows, numeric=(2, 4, 5, 6))

    figures = []
    ended = frame.filter(lr_state="decayed")
    if frame["step"].n_unique() > 1:
        reading = (
            "Each line is a run; thicker lines are larger models. Compare lines at equal tokens. Circles "
            "are measured at a stable learning rate, diamonds after its decay: the decay causes the drop "
            "at the end of a line."
        )
        chart = charts.learning_curves(runs)
        figures.append(Figure("learning-curves", chart, reading, table(frame, "Losses at every checkpoint")))
    if ended.height:
        reading = (
            "Each mark is the end of a run on one of its training languages. A mark further to the left is better."
        )
        chart = charts.final_losses(runs)
        figures.append(Figure("final-losses", chart, reading, table(ended, "Losses at the end of training")))
    said = ["Losses are measured on held-out text. Only languages that a run trains on are shown."]
    units = [final_losses.in_every_unit(analysis, MOST_ROWS)] if ended.height else []
    return Section("Losses by language", "losses", said, figures=figures, tables=units)


def laws(analysis: StudyAnalysis) -> Section | None:
    """The fitted laws: parameters with intervals, curves, and how they fare on the runs they were fitted to."""
    return law_sections.laws(analysis.fits, analysis.best_fits, analysis.runs) if analysis.fits else None


def held_out(analysis: StudyAnalysis) -> Section | None:
    """The comparison of laws on runs left out of the fit."""
    return None if analysis.comparison is None else law_sections.held_out(analysis.comparison)


def _extent(analysis: StudyAnalysis) -> str:
    table = analysis.runs.table
    sizes = sorted(table["params"].unique())
    largest = (
        f"{formatting.count(sizes[0])} to {formatting.count(sizes[-1])}"
        if len(sizes) > 1
        else formatting.count(sizes[0])
    )
    seeds = table["seed"].drop_nulls().n_unique()
    tokens = [float(t) for t in (table["tokens"].min(), table["tokens"].max()) if isinstance(t, int | float)]
    length = (
        f"{formatting.count(tokens[0])} to {formatting.count(tokens[1])}"
        if tokens[0] != tokens[1]
        else formatting.count(tokens[0])
    )
    return (
        f"{len(analysis.runs)} runs on {len(analysis.runs.languages)} languages, of {len(sizes)} "
        f"{'sizes' if len(sizes) > 1 else 'size'} ({largest} parameters), {length} tokens each"
        + (f", {seeds} {'seeds' if seeds > 1 else 'seed'}" if seeds else "")
        + f". Losses are in {style.metric_title(analysis.runs.metric).removeprefix('loss (').removesuffix(')')}."
    )


def _exposure(analysis: StudyAnalysis) -> pl.DataFrame:
    seen = analysis.runs.exposure.filter(pl.col("tokens") > 0)
    return seen.group_by("language").agg(
        pl.max("unique_tokens").alias("unique"), pl.col("run").n_unique().alias("runs")
    )


def _kin(code: str) -> list[str]:
    try:
        known = languages.lookup(code)
    except InputError:
        return [code, "", ""]
    return [style.name(code), known.script, " > ".join(part for part in (known.family, *known.branch[-1:]) if part)]


def _corpus(facts: Mapping[str, Any]) -> str:
    """What a design says of its text, in a sentence or two."""
    told = str(facts.get("sentence") or facts.get("kind") or facts.get("source") or "not described").rstrip(".")
    parts = []
    if isinstance(sizes := facts.get("bytes_per_language"), dict) and all(sizes.values()):
        low, high = min(sizes.values()), max(sizes.values())
        parts.append(
            f"{formatting.count(low)} bytes a language"
            if low == high
            else f"{formatting.count(low)} to {formatting.count(high)} bytes each"
        )
    if share := facts.get("held_out_share"):
        parts.append(f"{100 * float(share):.3g} % of it held out")
    if facts.get("seed") is not None:
        parts.append(f"seed {facts['seed']}")
    return f"{told}{' (' + ', '.join(parts) + ')' if parts else ''}."


def _settings(facts: Mapping[str, Any]) -> str:
    """Short settings in one line, such as a tokenizer's."""
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items() if value not in (None, ""))
