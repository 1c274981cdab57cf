"""The Finetuning Adaptation Score of the ATLAS study: what continuing on a source does to every target.

    FAS(s -> t) = mean over tokens d of [L_t(base) - L_{s -> t}(d)]

L_t(base) is the loss on t of a multilingual checkpoint, L_{s -> t}(d) that of the same model after d more tokens of
s alone. One run gives a whole column of the matrix. Its features of a pair are what source and target gain from their
own text, g_s = FAS(s -> s) and g_t = FAS(t -> t), their difference, and FAS(s -> t) itself; the study prints their
names and not their definition; this definition is ours.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.runs import METRICS, Metric, Runs

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Adaptation:
    """Adaptation scores, row = target, column = source, the diagonal included.

    Attributes:
        languages: n codes.
        values: shape (n, n), in the unit of the loss, positive where the source lowers the target's loss; NaN where
            there is no run.
        sd: standard deviation between seeds, NaN with one.
        metric: the unit.
        tokens: d at the end of the shortest run; all are read up to there.
    """

    languages: tuple[str, ...]
    values: Array
    sd: Array
    metric: Metric
    tokens: float

    def features(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Features of pairs and of languages, as `Relations.of` takes them."""
        own = np.diag(self.values)
        pairs = {"adaptation": self.values, "own gain, source less target": own[None, :] - own[:, None]}
        return pairs, {"own gain": own}


def adaptation(
    runs: Runs, *, metric: Metric | None = None, split: str = "validation", params: float | None = None
) -> Adaptation:
    """Adaptation scores from every run that continues a run of several languages on one language alone.

    Losses along the continued run are those of its stable phase; the first of them is taken to hold from the start, as
    the base's own loss is a decayed one. All seeds of a pair are averaged.

    Args:
        params: N of the runs (default: the size with the most of them).

    Raises:
        InputError: there is no such run, or its base is not among the runs.
    """
    metric = metric or runs.metric
    continued = _continued(runs)
    if not continued:
        raise InputError(
            "no run continues a model of several languages on one of them",
            hint='add a group with continue_from and mixture = "monolingual" to the design',
        )
    sizes = dict(zip(runs.table["run"], runs.table["params"], strict=True))
    counts = Counter(sizes[name] for name in continued)
    size = params or max(counts, key=lambda each: (counts[each], each))
    chosen = {name: pair for name, pair in continued.items() if math.isclose(sizes[name], size, rel_tol=1e-9)}
    if not chosen:
        raise InputError(f"no run of N = {size:.4g} continues a model of several languages on one of them")
    losses = runs.losses.filter(split=split).with_columns(value=METRICS[metric])
    totals = runs.exposure.group_by("run", "step").agg(total=pl.sum("tokens"))
    losses = losses.join(totals, on=["run", "step"])
    ends = [float(np.max(losses.filter(run=name, lr_state="stable")["total"].to_numpy())) for name in chosen]
    return _scores(losses, chosen, metric, min(ends))


def _continued(runs: Runs) -> Mapping[str, tuple[str, str]]:
    """Continued runs on one language whose base is among the runs: name -> (source, base)."""
    last = runs.exposure.filter(pl.col("tokens") > 0).group_by("run").agg(pl.col("language").unique())
    alone = {row["run"]: row["language"][0] for row in last.to_dicts() if len(row["language"]) == 1}
    several = {row["run"] for row in last.to_dicts() if len(row["language"]) > 1}
    return {
        row["run"]: (alone[row["run"]], row["base"])
        for row in runs.table.select("run", "base").sort("run").to_dicts()
        if row["run"] in alone and row["base"] in several
    }


def _scores(losses: pl.DataFrame, chosen: Mapping[str, tuple[str, str]], metric: Metric, end: float) -> Adaptation:
    found: dict[tuple[str, str], list[float]] = {}
    for name, (source, base) in chosen.items():
        before = losses.filter(run=base, lr_state="decayed")
        start = dict(zip(before["language"], before["value"], strict=True))
        after = losses.filter(run=name, lr_state="stable").sort("total")
        for (language,), part in after.group_by(["language"], maintain_order=True):
            if language in start:
                gain = _mean_over_tokens(part["total"].to_numpy(), start[language] - part["value"].to_numpy(), end)
                found.setdefault((str(language), source), []).append(gain)
    codes = tuple(sorted({code for pair in found for code in pair}))
    n = len(codes)
    values, sd = np.full((n, n), np.nan), np.full((n, n), np.nan)
    for (target, source), gains in found.items():
        i, j = codes.index(target), codes.index(source)
        values[i, j] = float(np.mean(gains))
        if len(gains) > 1:
            sd[i, j] = float(np.std(gains, ddof=1))
    return Adaptation(codes, values, sd, metric, end)


def _mean_over_tokens(tokens: Array, gain: Array, end: float) -> float:
    """Mean over 0 to `end`, straight lines between checkpoints, the first one's value before it."""
    x = np.concatenate([[0.0], tokens[tokens < end], [end]])
    y = np.interp(x, tokens, gain)
    return float(np.trapezoid(y, x) / end)
