"""A walk as the sections of a page: what was trained, what it showed, and what it does not show."""

import math
from typing import Any

import polars as pl

from babelscale import charts, languages
from babelscale.charts import style
from babelscale.charts.training import loss_rows
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.reporting import endings, words
from babelscale.reporting.page import Figure, Section, Table
from babelscale.reporting.result import Walk

# Beyond this many rows a table says less than the file it was made from.
MOST_ROWS = 1500
PHRASEBOOK = (
    "The text behind these runs is a phrasebook: sentences composed at run time from names, numbers, dates and units. "
    "It shows that every step works. It is not natural language, so nothing here says how these languages behave in "
    "real text; use a corpus of your own for that."
)


def about(walk: Walk) -> Section:
    """What this is: the study, its text, its languages and groups of runs."""
    runs, design = walk.runs, walk.design
    corpus = design.get("corpus", {})
    said = [_extent(walk)]
    if corpus:
        said.append("Text: " + words.corpus(corpus))
    if tokenizer := design.get("tokenizer"):
        said.append("Tokenizer: " + words.settings(tokenizer) + ".")
    known: dict[str, Any] = {row["language"]: row for row in _exposure(walk).to_dicts()}
    rows = [[*_kin(code), words.count(known[code]["unique"]), str(known[code]["runs"])] for code in runs.languages]
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


def trained(walk: Walk) -> Section:
    """The table of runs."""
    found = walk.runs.table.sort("params", "tokens", "run")
    rows = [
        [
            row["run"], row["size"] or "", words.count(row["params"]), words.count(row["tokens"]),
            row["mixture"] or "", f"from {row['base']}" if row["base"] else row["start"] or "scratch",
            words.text(row["seed"]), words.flops(row["flops"]),
        ]
        for row in found.to_dicts()
    ]  # fmt: skip
    columns = ("run", "size", "parameters (N)", "tokens (D)", "mixture", "start", "seed", "compute (FLOPs)")
    return Section("Runs", "runs", tables=[Table("Every run", columns, rows, numeric=(2, 3, 6, 7))])


def losses(walk: Walk) -> Section:
    """Learning curves and final losses, on the languages each run trains on."""
    runs = walk.runs
    frame = loss_rows(runs)
    title = style.metric_title(runs.metric)
    columns = ("language", "run", "step", "learning rate", "tokens of the language", "tokens in all", title)

    def table(kept: pl.DataFrame, caption: str) -> Table:
        rows = [
            [style.name(row["language"]), row["run"], str(row["step"]), row["lr_state"], words.count(row["tokens"]),
             words.count(row["total_tokens"]), f"{row['loss']:.4f}"]
            for row in kept.head(MOST_ROWS).to_dicts()
        ]  # fmt: skip
        cut = f", the first {MOST_ROWS} of {kept.height}" if kept.height > MOST_ROWS else ""
        return Table(caption + cut, columns, rows, numeric=(2, 4, 5, 6))

    figures = []
    ended = frame.filter(lr_state="decayed")
    if frame["step"].n_unique() > 1:
        reading = (
            "One line a run, thicker for larger models. Compare lines at equal tokens. Circles are measured under a "
            "stable learning rate, diamonds after its decay: the drop at a line's end is the decay's doing."
        )
        chart = charts.learning_curves(runs)
        figures.append(Figure("learning-curves", chart, reading, table(frame, "Losses at every checkpoint")))
    if ended.height:
        reading = "Each mark is the end of a run on one of its training languages. Further left is better."
        chart = charts.final_losses(runs)
        figures.append(Figure("final-losses", chart, reading, table(ended, "Losses at the end of training")))
    said = ["Losses are measured on held-out text. Only languages that a run trains on are shown."]
    units = [endings.in_every_unit(walk, MOST_ROWS)] if ended.height else []
    return Section("Losses by language", "losses", said, figures=figures, tables=units)


def laws(walk: Walk) -> Section | None:
    """The fitted laws: parameters with intervals, curves, and how they fare on runs they did not see."""
    if not walk.fits:
        return None
    said = [
        "Each law gives the loss on one target language from the size of the model and the tokens of each language. "
        "Intervals are 90 %, from refits to resampled runs; a prediction's interval also holds the scatter of runs. "
        "In the curves, lines are the law for a model trained on one language alone, bands its prediction interval, "
        "dots the monolingual runs; dashed lines lie beyond the longest run, where the law has not been tested.",
    ]
    figures = [_agreement(walk), *(_curves(walk, fit) for fit in walk.best_fits)]
    return Section("Laws", "laws", said, figures=figures, tables=[_parameters(walk)], notes=_fit_notes(walk))


def held_out(walk: Walk) -> Section | None:
    """The comparison of laws on runs left out of the fit."""
    if walk.comparison is None:
        return None
    frame = walk.comparison.table
    said = [
        "Each law is fitted again without some of the runs, and asked for their losses: random runs, the largest size, "
        "the runs of most tokens or compute, or every mixture of more than two languages. R² of 1 is perfect; 0 is no "
        "better than the mean of the runs left out; below 0 is worse. A good fit to the runs it saw proves little.",
    ]
    rows = [
        [str(row["law"]), style.name(row["target"] or ""), charts.HELD_OUT_BY.get(row["axis"], row["axis"]),
         words.number(row["R2"], ".3f"), words.percent(row["mean_relative_error"]), words.percent(row["bias"], "+"),
         words.text(row["n_train"]), words.text(row["n_test"]), row["note"] or ""]
        for row in frame.to_dicts()
    ]  # fmt: skip
    columns = ("law", "target", "held out", "R²", "mean error (%)", "bias (%)", "fitted", "held out (n)", "note")
    table = Table("Laws on held-out runs", columns, rows, numeric=(3, 4, 5, 6, 7))
    known = [row for row in frame["R2"].to_list() if row is not None and math.isfinite(row)]
    later = _later(walk)
    if not known:
        return Section("Held-out comparison", "held-out", said, figures=later, tables=[table])
    reading = (
        "Each dot is one target language, the bar their median; triangles at the edge lie below −0.5. Where few runs "
        "are left out, R² jumps about: look at the number held out before trusting a difference."
    )
    figure = Figure("held-out-r2", charts.held_out(walk.comparison), reading, table)
    return Section("Held-out comparison", "held-out", said, figures=[figure, *later], notes=_not_computed(frame))


def _later(walk: Walk) -> list[Figure]:
    """The expanding windows, where one could be computed."""
    if walk.comparison is None or not charts.expanding_rows(walk.comparison):
        return []
    rows = [
        [row["law"], row["language"], f"{row['by']} {row['upto']:.3g}", f"{row['reach']:.3g}",
         words.percent(row["mean_relative_error"]), words.percent(row["bias"], "+"), words.number(row["R2"], ".3f"),
         words.text(row["n_train"]), words.text(row["n_test"]), words.text(row["n_outside"])]
        for row in charts.expanding_rows(walk.comparison)
    ]  # fmt: skip
    scores = ("mean error (%)", "bias (%)", "R²")
    columns = ("law", "target", "fitted up to", "farthest (×)", *scores, "fitted", "later (n)", "left out")
    table = Table("Laws on later runs", columns, rows, numeric=(3, 4, 5, 6, 7, 8, 9))
    reading = (
        "Each law is fitted to the runs up to a rung and asked for every later one, which is how a law is used. Lines "
        "are medians over targets, dots targets; a hollow dot leaves out losses on which the fitted law has none."
    )
    return [Figure("expanding-window", charts.expanding(walk.comparison), reading, table)]


def _not_computed(frame: pl.DataFrame) -> list[str]:
    """What the comparison could not tell, one sentence a reason, with the laws and targets it holds for."""
    said: dict[tuple[str, str], list[str]] = {}
    for row in frame.filter(pl.col("R2").is_null() & (pl.col("note") != "")).to_dicts():
        axis = str(charts.HELD_OUT_BY.get(row["axis"], row["axis"]))
        reason = row["note"].removeprefix(f"law {row['law']!r}: ").rstrip(".")
        said.setdefault((axis, reason), []).append(f"{row['law']} of {row['target']}")
    return [f"Not computed, {axis} ({', '.join(who)}): {reason}." for (axis, reason), who in said.items()]


def _agreement(walk: Walk) -> Figure:
    rows = [
        [row["law"], row["target"], row["run"], f"{row['measured']:.4f}", f"{row['predicted']:.4f}",
         words.interval(row["low"], row["high"]), f"{row['error']:+.2f}"]
        for row in charts.prediction_rows(walk.fits, walk.runs)
    ]  # fmt: skip
    columns = ("law", "target", "run", "measured", "predicted", "90 % interval", "error (%)")
    table = Table(f"Measured and predicted {style.metric_title(walk.fits[0].metric)}", columns, rows, (3, 4, 5, 6))
    reading = "On the dashed line, prediction equals measurement. Bars are 90 % prediction intervals."
    return Figure("measured-predicted", charts.measured_predicted(walk.fits, walk.runs), reading, table)


def _curves(walk: Walk, fit: Fit) -> Figure:
    target = walk.runs.target(fit.target)
    rows = [
        [row["size"], words.count(row["tokens"]), f"{row['loss']:.4f}", words.interval(row["low"], row["high"]),
         "extrapolated" if row["beyond"] else ""]
        for row in charts.curve_rows(fit, walk.runs)[::4]
    ]  # fmt: skip
    columns = ("parameters", "tokens", "loss", "90 % interval", "")
    table = Table(f"The {fit.law.name} law of {style.name(target)}", columns, rows, (1, 2, 3))
    reading = f"Loss on {style.name(target)} by its own tokens and the size of the model."
    return Figure(f"law-{target}", charts.law_curves(fit, walk.runs), reading, table, half=True)


def _parameters(walk: Walk) -> Table:
    meanings = {p.name: p.meaning for fit in walk.fits for p in fit.law.parameters}
    rows = []
    for fit in walk.fits:
        for name, value in fit.parameters.items():
            low, high = fit.intervals.get(name, (math.nan, math.nan))
            target = style.name(walk.runs.target(fit.target))
            rows.append([target, fit.law.name, name, f"{value:.4g}", words.interval(low, high, ".4g"), meanings[name]])
    columns = ("target", "law", "parameter", "value", "90 % interval", "meaning")
    return Table("Parameters of every law", columns, rows, numeric=(3, 4))


def _fit_notes(walk: Walk) -> list[str]:
    """What the fits say about themselves, each sentence once with the targets it holds for."""
    said: dict[str, list[str]] = {}
    for fit in walk.fits:
        for note in fit.notes:
            said.setdefault(note, []).append(f"{fit.law.name} of {fit.target or 'all'}")
    return [f"{', '.join(dict.fromkeys(who))}: {note}" for note, who in said.items()]


def _extent(walk: Walk) -> str:
    table = walk.runs.table
    sizes = sorted(table["params"].unique())
    largest = f"{words.count(sizes[0])} to {words.count(sizes[-1])}" if len(sizes) > 1 else words.count(sizes[0])
    seeds = table["seed"].drop_nulls().n_unique()
    tokens = [float(t) for t in (table["tokens"].min(), table["tokens"].max()) if isinstance(t, int | float)]
    length = (
        f"{words.count(tokens[0])} to {words.count(tokens[1])}" if tokens[0] != tokens[1] else words.count(tokens[0])
    )
    return (
        f"{len(walk.runs)} runs on {len(walk.runs.languages)} languages, of {len(sizes)} "
        f"{'sizes' if len(sizes) > 1 else 'size'} ({largest} parameters), {length} tokens each"
        + (f", {seeds} {'seeds' if seeds > 1 else 'seed'}" if seeds else "")
        + f". Losses are in {style.metric_title(walk.runs.metric).removeprefix('loss (').removesuffix(')')}."
    )


def _exposure(walk: Walk) -> pl.DataFrame:
    seen = walk.runs.exposure.filter(pl.col("tokens") > 0)
    return seen.group_by("language").agg(
        pl.max("unique_tokens").alias("unique"), pl.col("run").n_unique().alias("runs")
    )


def _kin(code: str) -> list[str]:
    try:
        known = languages.lookup(code)
    except InputError:
        return [code, "", ""]
    return [style.name(code), known.script, " > ".join(part for part in (known.family, *known.branch[-1:]) if part)]
