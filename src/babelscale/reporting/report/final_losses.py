"""Where runs ended: losses in every unit, and continuing from a checkpoint against starting over."""

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from babelscale import formatting
from babelscale.charts import style
from babelscale.errors import DomainError, InputError
from babelscale.planning import decide
from babelscale.reporting.report.document import Section, Table
from babelscale.reporting.report.study_analysis import StudyAnalysis
from babelscale.runs import METRICS, Runs

# Two runs count as trained on equally many tokens within this factor.
_EQUAL = 1.05


def in_every_unit(analysis: StudyAnalysis, most: int) -> Table:
    """Final losses as bits per byte, nats per token and below the unigram, where the totals allow."""
    final = _final(analysis.runs).sort("language", "run").head(most)
    rows = [
        [style.name(row["language"]), row["run"], *(_loss(row[metric]) for metric in METRICS)]
        for row in final.to_dicts()
    ]
    titles = [style.metric_title(metric).removeprefix("loss (").removesuffix(")") for metric in METRICS]
    return Table("Losses at the end of training, in every unit", ("language", "run", *titles), rows, (2, 3, 4))


def continued(analysis: StudyAnalysis) -> Section | None:
    """Runs that continue a checkpoint beside those that start over, and what the continued ones forget."""
    runs = analysis.runs
    followers = runs.table.filter(pl.col("start") == "checkpoint", pl.col("base").is_not_null())
    if not followers.height:
        return None
    final = _final(runs)
    gained, lost = [], []
    for follower in followers.to_dicts():
        peer = _from_scratch(runs, follower)
        for row in final.filter(run=follower["run"]).sort("language").to_dicts():
            before = _value(final, follower["base"], row["language"], runs.metric)
            said = [style.name(row["language"]), formatting.count(follower["tokens"]), _loss(row[runs.metric])]
            if row["tokens"] > 0:
                over = None if peer is None else _value(final, peer, row["language"], runs.metric)
                gained.append([*said, _loss(over), _loss(before), follower["run"], peer or "no run of that length"])
            else:
                lost.append([*said, _loss(before), follower["run"]])
    columns = ("language", "new tokens", "continued", "from scratch", "the checkpoint itself", "run", "beside it")
    tables = [Table("Continued against from scratch, at equal new tokens", columns, gained, (1, 2, 3, 4))]
    if lost:
        columns = ("language", "new tokens", "continued", "the checkpoint itself", "run")
        tables.append(
            Table("Forgetting: languages of the checkpoint that the run did not train on", columns, lost, (1, 2, 3))
        )
    unit = style.metric_title(runs.metric)
    text = (
        f"Final {unit}. At equal new tokens a continued run has seen more text in total. The checkpoint's "
        "own compute is not charged, as in the study. Continue the checkpoint while its column is lower."
    )
    crossing, notes = _crossings(_Known(runs.hash, runs))
    if crossing is not None:
        tables.append(crossing)
    return Section("From a checkpoint or from scratch", "continued", [text], tables=tables, notes=notes)


@dataclass(frozen=True)
class _Known:
    """Runs that are the same where their contents are."""

    hash: str
    runs: Runs = field(compare=False)


@functools.lru_cache(8)
def _crossings(known: _Known) -> tuple[Table | None, tuple[str, ...]]:
    """From how many new tokens on starting over is the better, by language, and why it cannot be told of the others.

    Fits of both laws take seconds, so they are kept for runs that stay the same.
    """
    runs, rows, said = known.runs, [], []
    followers = runs.table.filter(pl.col("start") == "checkpoint").select("run", "params", all="tokens")
    final = _final(runs).join(followers, on="run").filter(pl.col("tokens") > 0)
    for code in final["language"].unique().sort().to_list()[:_MOST]:
        own = final.filter(language=code)
        N, D = (float(np.max(own[name].to_numpy())) for name in ("params", "tokens"))
        try:
            found = decide(N, tokens=D, language=code, runs=runs)
        except (InputError, DomainError) as error:
            said.append(
                f"No crossover of {style.name(code)}: {error.message}{f' ({error.hint})' if error.hint else ''}."
            )
            continue
        low, high = found.crossover_tokens_interval
        compute = formatting.flops(found.crossover_compute) if math.isfinite(found.crossover_compute) else ""
        told = (_crossed(found.crossover_tokens), f"{_crossed(low)} to {_crossed(high)}")
        rows.append([style.name(code), formatting.count(N), *told, compute, _ANSWERS[found.answer]])
        said += [f"{style.name(code)}: {note}." for note in found.notes]
    columns = (
        "language",
        "parameters",
        "crossover (new tokens)",
        "90 % interval",
        "crossover (FLOPs)",
        "better at the longest continued run",
    )
    caption = "The crossover: the number of new tokens from which a model from scratch is as good as the continued one"
    return Table(caption, columns, rows, (1, 2, 3, 4)) if rows else None, tuple(said)


_ANSWERS = {"finetune": "continuing", "pretrain": "starting over", "either": "either, within the interval"}
# Each takes seconds to fit.
_MOST = 12


def _crossed(tokens: float) -> str:
    return formatting.count(tokens) if math.isfinite(tokens) else "no crossover"


def _final(runs: Runs) -> pl.DataFrame:
    """Decayed losses in every unit, with the tokens of the language that the run trained on (0: none)."""
    own = runs.exposure.select("run", "step", "language", "tokens")
    losses = runs.losses.filter(split="validation", lr_state="decayed")
    units = losses.select("run", "step", "language", **METRICS)
    return units.join(own, on=["run", "step", "language"], how="left").with_columns(pl.col("tokens").fill_null(0.0))


def _from_scratch(runs: Runs, follower: dict[str, Any]) -> str | None:
    """The run from scratch of the same size, mixture and number of tokens."""
    alike = runs.table.filter(
        pl.col("start").fill_null("scratch") == "scratch",
        pl.col("params") == follower["params"],
        pl.col("mixture").eq_missing(follower["mixture"]),
        pl.col("tokens").is_between(follower["tokens"] / _EQUAL, follower["tokens"] * _EQUAL),
    )
    return alike.sort("run")["run"][0] if alike.height else None


def _value(final: pl.DataFrame, run: str, language: str, metric: str) -> float | None:
    found = final.filter(run=run, language=language)
    return found[metric][0] if found.height else None


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
