"""Transfer scores read from runs: which runs belong together, and the scores that they give."""

import functools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.runs import Runs
from babelscale.tables import LRState
from babelscale.transfer.bts import SeedNoise, TransferScore, combine, score
from babelscale.transfer.curve import LearningCurve

# A mixture counts as 50/50 up to this difference of shares.
_EVEN = 0.02
# A run has all the text of a language from this share of the most unique tokens on.
_ALL_TEXT = 0.99

# What a monolingual and a bilingual run must share: tokenizer, corpus and seed.
Twin = tuple[str, str, int]
Grid = NDArray[np.float64]
# Languages, values, low, high, status, provenance.
MatrixFields = tuple[tuple[str, ...], Grid, Grid, Grid, NDArray[np.str_], dict[str, Any]]


def matrix_fields(
    runs: Runs, params: float | None, anchor: float, tokens: float | None, lr_state: LRState, split: str
) -> MatrixFields:
    """The fields of the matrix that `TransferMatrix.from_runs` describes."""
    scratch = from_scratch(runs)
    size = float(params) if params is not None else most_used_size(scratch, pairs=True)
    mono: dict[tuple[str, Twin], list[str]] = defaultdict(list)
    bilingual: dict[tuple[str, str, Twin], list[str]] = defaultdict(list)
    for run, twin, shares in runs_of_size(scratch, size):
        match tuple(shares):
            case (language,):
                mono[language, twin].append(run)
            case (first, second) if abs(shares[first] - shares[second]) <= 2 * _EVEN:
                bilingual[first, second, twin].append(run)

    @functools.cache
    def curve(names: tuple[str, ...], language: str) -> LearningCurve | None:
        return _curve(scratch, names, language, lr_state, split)

    pairs: list[tuple[str, str, LearningCurve, LearningCurve]] = []
    unmatched = set()
    for (first, second, twin), names in bilingual.items():
        for target, source in ((first, second), (second, first)):
            alone, both = curve(tuple(mono.get((target, twin), ())), target), curve(tuple(names), target)
            if alone is None or both is None:
                unmatched.add(f"{source}->{target}")
            else:
                pairs.append((target, source, alone, both))
    if not pairs:
        raise InputError(
            f"no transfer score can be read at N = {size:.4g}: {len(mono)} monolingual and {len(bilingual)} bilingual "
            f"kinds of run with {lr_state} losses",
            hint="a score needs a monolingual run of the target and a 50/50 run of both, of one size and seed, each "
            "with two checkpoints or more",
        )
    if tokens is None and not 0 < anchor <= 1:
        raise InputError(f"anchor {anchor} must be above 0 and at most 1")
    d_mono = anchor * min(float(alone.tokens[-1]) for _, _, alone, _ in pairs) if tokens is None else float(tokens)
    scores: dict[tuple[str, str], list[TransferScore]] = defaultdict(list)
    for target, source, alone, both in pairs:
        scores[target, source].append(score(alone, both, tokens=d_mono))
    provenance = {
        "runs": runs.hash,
        "params": size,
        "anchor": anchor if tokens is None else None,
        "lr_state": lr_state,
        "metric": runs.metric,
        "unmatched": sorted(unmatched),
        "on_part_of_the_text": on_part_of_the_text(runs),
    }
    return _assemble(scores, provenance)


def _assemble(scores: Mapping[tuple[str, str], list[TransferScore]], provenance: dict[str, Any]) -> MatrixFields:
    languages = sorted({code for pair in scores for code in pair})
    n = len(languages)
    values, low, high = (np.full((n, n), np.nan) for _ in range(3))
    status = np.full((n, n), "missing", dtype="U9")
    made: dict[str, list[str]] = defaultdict(list)
    anchors: dict[str, float] = {}
    noise = SeedNoise.pooled(scores.values())
    for (target, source), parts in sorted(scores.items()):
        one = combine(parts, noise)
        i, j = languages.index(target), languages.index(source)
        values[i, j], low[i, j], high[i, j], status[i, j] = one.value, one.low, one.high, one.status
        made[one.interval].append(f"{source}->{target}")
        anchors[target] = one.d_mono
    provenance |= {"anchor_tokens": anchors, "intervals": dict(made)}
    if noise is not None:
        provenance["seed_noise"] = {"sd_of_gain": noise.sd, "degrees": noise.degrees}
    return tuple(languages), values, low, high, status, provenance


def _curve(runs: Runs, names: tuple[str, ...], language: str, lr_state: LRState, split: str) -> LearningCurve | None:
    """The curve of the longest run (stable) or through the ends of all (decayed), None with fewer than two points."""
    if not names:
        return None
    if lr_state != "decayed":
        lengths = runs.table.filter(pl.col("run").is_in(names)).sort("tokens", "run", descending=[True, False])
        names = (str(lengths["run"][0]),)
    rows = runs.losses.filter(pl.col("run").is_in(names)).filter(language=language, split=split, lr_state=lr_state)
    if rows.height < 2:
        return None
    return LearningCurve.from_runs(runs, names, language, lr_state=lr_state, split=split)


def from_scratch(runs: Runs) -> Runs:
    """The runs that scores can be read from: from scratch, on all the text that there is of their languages.

    Runs that continue others have seen tokens that their exposure does not count.
    """
    from_start = runs.table.filter(pl.col("start").fill_null("scratch") == "scratch")["run"].to_list()
    cut = set(on_part_of_the_text(runs))
    return runs.select([name for name in from_start if name not in cut])


def on_part_of_the_text(runs: Runs) -> list[str]:
    """Runs that had fewer unique tokens of a language than other runs with the same tokenizer and corpus.

    They repeat text that the others do not repeat, so neither kind is a baseline for the other.
    """
    last = runs.exposure.filter(pl.col("step") == pl.col("step").max().over("run"))
    known = last.filter((pl.col("tokens") > 0) & pl.col("unique_tokens").is_not_null())
    known = known.join(runs.table.select("run", "tokenizer", "corpus"), on="run")
    most = pl.col("unique_tokens").max().over("language", "tokenizer", "corpus")
    return known.filter(pl.col("unique_tokens") < _ALL_TEXT * most)["run"].unique().sort().to_list()


def trained_on(runs: Runs) -> pl.DataFrame:
    """One row a run with its size, twin, languages trained on (sorted) and their shares at its last step."""
    last = runs.exposure.filter(pl.col("tokens") > 0)
    last = last.filter(pl.col("step") == pl.col("step").max().over("run")).sort("run", "language")
    mixes = last.group_by("run", maintain_order=True).agg("language", share=pl.col("tokens") / pl.col("tokens").sum())
    twin = runs.table.select(
        "run",
        "params",
        tokenizer=pl.col("tokenizer").fill_null(""),
        corpus=pl.col("corpus").fill_null(""),
        seed=pl.col("seed").fill_null(-1),
    )
    return mixes.join(twin, on="run").sort("run")


def runs_of_size(runs: Runs, size: float) -> Iterator[tuple[str, Twin, dict[str, float]]]:
    """Name, twin, and shares by language of every run of one size."""
    for row in trained_on(runs).iter_rows(named=True):
        if math.isclose(row["params"], size, rel_tol=1e-9):
            shares = dict(zip(row["language"], row["share"], strict=True))
            yield row["run"], (row["tokenizer"], row["corpus"], row["seed"]), shares


def most_used_size(runs: Runs, *, pairs: bool = False) -> float:
    """N of the most runs of several languages, or of two; the larger of equals."""
    languages = pl.col("language").list.len()
    mixed = trained_on(runs).filter(languages == 2 if pairs else languages > 1)
    if not mixed.height:
        raise InputError(
            f"among these runs there is no {'bilingual run' if pairs else 'run of several languages'}",
            hint="a transfer score compares a 50/50 run with a monolingual one",
        )
    counts = mixed.group_by("params").len().sort("len", "params", descending=True)
    return float(counts["params"][0])
