"""Final losses: in every unit, and of runs that continue a checkpoint against runs from scratch."""

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from babelscale.charts import style
from babelscale.errors import DomainError, InputError
from babelscale.formatting import count, flops
from babelscale.planning import decide
from babelscale.reporting.report.document import Section, Table
from babelscale.reporting.report.study_analysis import StudyAnalysis
from babelscale.runs import METRICS, Runs

# Two runs count as trained on equally many tokens within this factor.
_EQUAL = 1.05
# Crossovers are fitted for at most so many languages; each takes seconds.
_MOST_FITTED = 12
_ANSWERS = {"finetune": "continuing", "pretrain": "from scratch", "either": "either, within the interval"}


def in_every_unit(analysis: StudyAnalysis, most: int) -> Table:
    """Final losses as bits per byte, nats per token and relative to the unigram's, where the totals allow it."""
    final = _final(analysis.runs).sort("language", "run").head(most)
    rows = [
        [style.name(row["language"]), row["run"], *(_loss(row[metric]) for metric in METRICS)]
        for row in final.to_dicts()
    ]
    titles = [style.metric_title(metric).removeprefix("loss (").removesuffix(")") for metric in METRICS]
    return Table("Losses at the end of training, in every unit", ("language", "run", *titles), rows, (2, 3, 4))


def continued(analysis: StudyAnalysis) -> Section | None:
    """Runs that continue a checkpoint against runs from scratch, and what the continued runs forget."""
    runs = analysis.runs
    continuations = runs.table.filter(pl.col("start") == "checkpoint", pl.col("base").is_not_null())
    if not continuations.height:
        return None
    final = _final(runs)
    trained, forgotten = [], []
    for run in continuations.to_dicts():
        peer = _from_scratch(runs, run)
        for row in final.filter(run=run["run"]).sort("language").to_dicts():
            before = _value(final, run["base"], row["language"], runs.metric)
            cells = [style.name(row["language"]), count(run["tokens"]), _loss(row[runs.metric])]
            if row["tokens"] > 0:
                scratch = "" if peer is None else _value(final, peer, row["language"], runs.metric)
                trained.append([*cells, scratch, before, run["run"], peer or "none of that length"])
            else:
                forgotten.append([*cells, before, run["run"]])
    columns = ("language", "new tokens", "continued", "from scratch", "the checkpoint itself", "run", "compared with")
    tables = [Table("Continued runs and runs from scratch at equal new tokens", columns, trained, (1, 2, 3, 4))]
    if forgotten:
        columns = ("language", "new tokens", "continued", "the checkpoint itself", "run")
        caption = "Forgetting: languages of the checkpoint that the continued run does not train on"
        tables.append(Table(caption, columns, forgotten, (1, 2, 3)))
    text = (
        f"Final {style.metric_title(runs.metric)}. At equal new tokens a continued run has seen more text in all; the "
        "compute of the checkpoint is not counted, as in the ATLAS study. Continuing is better while its column is "
        "lower."
    )
    crossing, notes = _crossovers(_CachedRuns(runs.hash, runs))
    if crossing is not None:
        tables.append(crossing)
    return Section("From a checkpoint or from scratch", "continued", [text], tables=tables, notes=notes)


@dataclass(frozen=True)
class _CachedRuns:
    """Runs as a key of a cache: equal where their contents are."""

    hash: str
    runs: Runs = field(compare=False)


@functools.lru_cache(8)
def _crossovers(cached: _CachedRuns) -> tuple[Table | None, tuple[str, ...]]:
    """By language, the new tokens from which a run from scratch is better, and why others have no such number.

    The fits of both laws take seconds, so that the table is kept for equal runs.
    """
    runs, rows, notes = cached.runs, [], []
    continuations = runs.table.filter(pl.col("start") == "checkpoint").select("run", "params", all="tokens")
    final = _final(runs).join(continuations, on="run").filter(pl.col("tokens") > 0)
    for code in final["language"].unique().sort().to_list()[:_MOST_FITTED]:
        part = final.filter(language=code)
        N, D = (float(np.max(part[name].to_numpy())) for name in ("params", "tokens"))
        try:
            found = decide(N, tokens=D, language=code, runs=runs)
        except (InputError, DomainError) as error:
            hint = f" ({error.hint})" if error.hint else ""
            notes.append(f"No crossover of {style.name(code)}: {error.message}{hint}.")
            continue
        low, high = map(_crossover, found.crossover_tokens_interval)
        compute = flops(found.crossover_compute) if math.isfinite(found.crossover_compute) else ""
        crossover = (_crossover(found.crossover_tokens), f"{low} to {high}", compute)
        rows.append([style.name(code), count(N), *crossover, _ANSWERS[found.answer]])
        notes += [f"{style.name(code)}: {note}." for note in found.notes]
    crossover = ("crossover (new tokens)", "90 % interval", "crossover (FLOPs)")
    columns = ("language", "parameters", *crossover, "better at the longest continued run")
    caption = "Crossover: the new tokens at which a model from scratch is as good as the continued one"
    return Table(caption, columns, rows, (1, 2, 3, 4)) if rows else None, tuple(notes)


def _crossover(tokens: float) -> str:
    return count(tokens) if math.isfinite(tokens) else "none in range"


def _final(runs: Runs) -> pl.DataFrame:
    """Decayed losses in every unit, with the tokens of the language that the run trained on (0: none)."""
    tokens = runs.exposure.select("run", "step", "language", "tokens")
    losses = runs.losses.filter(split="validation", lr_state="decayed")
    units = losses.select("run", "step", "language", **METRICS)
    return units.join(tokens, on=["run", "step", "language"], how="left").with_columns(pl.col("tokens").fill_null(0.0))


def _from_scratch(runs: Runs, continuation: dict[str, Any]) -> str | None:
    """The run from scratch of the same size, mixture and number of tokens."""
    matches = runs.table.filter(
        pl.col("start").fill_null("scratch") == "scratch",
        pl.col("params") == continuation["params"],
        pl.col("mixture").eq_missing(continuation["mixture"]),
        pl.col("tokens").is_between(continuation["tokens"] / _EQUAL, continuation["tokens"] * _EQUAL),
    )
    return matches.sort("run")["run"][0] if matches.height else None


def _value(final: pl.DataFrame, run: str, language: str, metric: str) -> str:
    found = final.filter(run=run, language=language)
    return _loss(found[metric][0]) if found.height else ""


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
