"""How transfer changes with size and tokens: scores at several N and d_mono, and their mean change per doubling."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.formatting import json_ready
from babelscale.runs import Runs
from babelscale.tables import LRState
from babelscale.transfer.bts import to_gain
from babelscale.transfer.matrix import TransferMatrix
from babelscale.transfer.measure import from_scratch, trained_on
from babelscale.transfer.permutation import node_jackknife

ANCHORS = (0.2, 0.4, 0.6, 0.8)
# Share of pairs that must have a number for a place to count, and the fewest pairs of a trend.
_MOST, _FEWEST = 0.5, 3


@dataclass(frozen=True)
class Trend:
    """Mean change of the log gain per doubling, over pairs measured at two places or more, with a 90 % interval."""

    by: str
    change: float
    low: float
    high: float
    pairs: int
    places: int


@dataclass(frozen=True)
class Along:
    """Scores along size and tokens.

    Attributes:
        table: target, source, params, d_mono, score, low, high, status; a row a score.
        trends: by params and by d_mono, where there are two of them.
    """

    table: pl.DataFrame
    trends: tuple[Trend, ...]

    @property
    def common(self) -> pl.DataFrame:
        """The places (params, d_mono) at which most pairs have a number; a mean over the others would be biased."""
        return _common(self.table)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for strict JSON: null for no number and for open bounds."""
        return {"scores": json_ready(self.table.to_dicts()), "trends": [asdict(trend) for trend in self.trends]}

    def __str__(self) -> str:
        labels = {"params": "size N", "d_mono": "tokens d_mono"}
        combinations = self.table.select("params", "d_mono").n_unique()
        lines = [f"{self.table.height} scores at {combinations} combinations of size and tokens"]
        for t in self.trends:
            lines.append(
                f"  per doubling of {labels[t.by]}: log gain {t.change:+.3f} (90 % {t.low:+.3f} to {t.high:+.3f}; "
                f"{t.pairs} pairs measured at all {t.places} combinations)"
            )
        return "\n".join(lines)


def along(
    runs: Runs, *, anchors: Sequence[float] = ANCHORS, lr_state: LRState = "stable", split: str = "validation"
) -> Along:
    """Every score at every size and at several numbers of tokens.

    Args:
        anchors: d_mono as shares of the shortest monolingual curve of the smallest size; the same tokens at all sizes.

    Raises:
        InputError: no size has a monolingual and a bilingual run that belong together.
    """
    scratch = from_scratch(runs)
    sizes = trained_on(scratch).filter(pl.col("language").list.len() == 2)["params"].unique().sort().to_list()
    frames: list[pl.DataFrame] = []
    tokens: list[float] | None = None
    failed: InputError | None = None
    for params in sizes:
        try:
            if tokens is None:
                first = TransferMatrix.from_runs(scratch, params=params, anchor=1.0, lr_state=lr_state, split=split)
                end = next(iter(first.provenance["anchor_tokens"].values()))
                tokens = [share * end for share in anchors]
            for d_mono in tokens:
                at = TransferMatrix.from_runs(scratch, params=params, tokens=d_mono, lr_state=lr_state, split=split)
                frames.append(_rows(at, params, d_mono))
        except InputError as error:
            # A size without a monolingual and a bilingual run of one seed, or whose curves end before.
            failed = error
    if not frames:
        raise failed or InputError("there is no bilingual run among these runs")
    table = pl.concat(frames)
    members = table.join(_common(table), on=["params", "d_mono"], how="semi")
    trends = [trend for by in ("params", "d_mono") if (trend := _trend(members, by)) is not None]
    return Along(table, tuple(trends))


def _common(table: pl.DataFrame) -> pl.DataFrame:
    known = table.group_by("params", "d_mono").agg(share=pl.col("score").is_finite().mean())
    return known.filter(pl.col("share") > _MOST).select("params", "d_mono")


def _rows(matrix: TransferMatrix, params: float, d_mono: float) -> pl.DataFrame:
    frame = (
        matrix.to_frame()
        .filter(pl.col("status") != "missing")
        .with_columns(pl.col("score", "low", "high").fill_null(math.nan))
    )
    place = (pl.lit(value).alias(name) for name, value in (("params", params), ("d_mono", d_mono)))
    return frame.select("target", "source", *place, "score", "low", "high", "status")


def _trend(table: pl.DataFrame, by: str) -> Trend | None:
    """Slopes of each pair by log2 of one axis, the other held, averaged; the interval is a jackknife over languages.

    Only pairs measured at every one of these places count: a pair that is censored at some would bias the mean towards
    pairs that help.
    """
    other = "d_mono" if by == "params" else "params"
    if table[by].n_unique() < 2:
        return None
    codes = sorted({*table["target"], *table["source"]})
    slopes = np.full((len(codes), len(codes)), np.nan)
    for (target, source), part in table.group_by(["target", "source"], maintain_order=True):
        if part["score"].is_nan().any() or part[by].n_unique() < table[by].n_unique():
            continue
        x, y = np.log2(part[by].to_numpy()), to_gain(part["score"].to_numpy())
        for place in part[other].unique():
            at = part[other].to_numpy() == place
            x[at], y[at] = x[at] - x[at].mean(), y[at] - y[at].mean()
        slopes[codes.index(str(target)), codes.index(str(source))] = float(x @ y / (x @ x))
    known = np.isfinite(slopes)
    if known.sum() < _FEWEST:
        return None

    def mean(members: NDArray[np.int64]) -> float:
        part = slopes[np.ix_(members, members)]
        return float(np.nanmean(part)) if np.isfinite(part).any() else math.nan

    change, half = node_jackknife(mean, len(codes))
    return Trend(
        by, change, change - half, change + half, int(known.sum()), table.select("params", "d_mono").n_unique()
    )
