"""What a table of runs holds, as babelscale understands it, and what looks wrong in it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from babelscale import laws, tables
from babelscale.errors import BabelscaleError, InputError
from babelscale.fitting.estimate import far_off, fit
from babelscale.formatting import count, number, plural, text_table
from babelscale.result import JsonResult
from babelscale.runs import METRICS, Observations, Runs
from babelscale.tabular import Notice, Options

# Kinds of notices that say how a table was understood, and nothing that may be wrong in it.
UNDERSTOOD = ("alias", "wide", "code", "percent", "unused", "bits-per-byte", "encoding", "epochs-given")
_ORDER = {"error": 0, "warning": 1, "notice": 2}
_SMALLEST_MODEL = 1e3  # parameters
_MOST_EPOCHS = 50.0
# ln of the largest vocabularies in use (about 260,000 tokens), and the bits of a byte: losses of a uniform guess.
_MOST_NATS, _MOST_BITS = math.log(300_000), 8.0
_FLOPS_OFF = 3.0  # factor between `flops` and 6 N D; attention and embeddings make less
_SAME_RUN = 0.10  # difference of losses at equal N, D and mixture, as a share; seeds differ by far less
_LARGE_LAW, _FEWEST, _MOST_SUSPECTS = 7, 8, 10  # parameters; losses of one language; runs named a language
_MOST_FITTED, _FEWEST_FITTED = 2400, 100  # runs that are fitted, of all languages and of each
_PAIR_EPOCHS = 4.0  # times the epochs of the pair


@dataclass(frozen=True, repr=False)
class CheckResult(JsonResult):
    """What was understood and what was found.

    Attributes:
        path: what was checked.
        runs: number of runs.
        losses: number of losses.
        languages: one record a language: code, runs, tokens, epochs and losses from lowest to highest.
        facts: further facts of the whole table: params, tokens per parameter, units, splits, ...
        findings: most serious first.
    """

    path: str
    runs: int
    losses: int
    languages: list[dict[str, Any]]
    facts: dict[str, Any]
    findings: tuple[Notice, ...]

    @property
    def worst(self) -> str:
        """The most serious severity among the findings; "" where there are none."""
        return self.findings[0].severity if self.findings else ""

    @property
    def headline(self) -> str:
        serious = sum(finding.severity != "notice" for finding in self.findings)
        found = f"{plural(serious, 'finding')} that may be wrong" if serious else "nothing looks wrong"
        what = (plural(self.runs, "run"), f"{self.losses} losses", plural(len(self.languages), "language"))
        return f"{self.path}: {', '.join(what)}; {found}"

    def to_frame(self) -> pl.DataFrame:
        """One row a language."""
        return pl.DataFrame(self.languages)

    def summary(self) -> str:
        lines = [self.headline, *(f"  {name}: {value}" for name, value in self.facts.items() if name != "understood")]
        lines += [f"  {sentence}" for sentence in self.facts.get("understood", ())]
        header = ("language", "runs", "tokens", "epochs", "losses", "from", "to")
        rows = [
            (
                row["language"],
                str(row["runs"]),
                f"{count(row['fewest_tokens'])} to {count(row['most_tokens'])}" if row["most_tokens"] else "none",
                number(row["most_epochs"], ".3g", "unknown"),
                str(row["losses"]),
                number(row["lowest_loss"], ".4f"),
                number(row["highest_loss"], ".4f"),
            )
            for row in self.languages
        ]
        if rows:
            lines += [f"  {line}" for line in text_table(header, rows)]
        lines += [f"{finding.severity}: {finding}" for finding in self.findings]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        findings = [vars(finding) for finding in self.findings]
        return {
            "path": self.path,
            "runs": self.runs,
            "losses": self.losses,
            "languages": self.languages,
            "facts": self.facts,
            "findings": findings,
        }


def check(source: str | Path | Runs, options: Options | None = None, *, fits: bool = True) -> CheckResult:
    """Read a table of runs, say what it holds, and look for what is wrong in it.

    Args:
        source: a folder of runs, a study's folder, a table of any dialect, or Runs.
        options: what the table cannot say by itself.
        fits: look for runs that are far off every law, and for what cannot be fitted.

    Returns:
        what was understood; a table that cannot be read is a result with one finding of severity "error".
    """
    if isinstance(source, Runs):
        return check_runs(source, "runs", fits=fits)
    path = Path(source)
    try:
        found = Runs.read(path, options)
    except InputError as error:
        return CheckResult(str(path), 0, 0, [], {}, (Notice("error", "unreadable", error.message, error.hint or ""),))
    return check_runs(found, str(path), fits=fits)


def serious(runs: Runs) -> list[str]:
    """The findings that a fit should not pass over in silence, without fitting anything."""
    return [f"{finding.severity}: {finding}" for finding in _findings(runs, fits=False) if finding.severity != "notice"]


def check_runs(runs: Runs, where: str, *, fits: bool = True) -> CheckResult:
    """What `check` finds in runs that are already read; `where` names them."""
    if not len(runs):
        return CheckResult(where, 0, 0, [], {}, (Notice("warning", "no-runs", f"{where}: holds no runs"),))
    findings = sorted(_findings(runs, fits=fits), key=lambda finding: _ORDER[finding.severity])
    return CheckResult(where, len(runs), runs.losses.height, _languages(runs), _facts(runs), tuple(findings))


# ------------------------------------------------------------------------------------------------ what was understood


def _facts(runs: Runs) -> dict[str, Any]:
    table = runs.table
    ratio, sizes = table["tokens"] / table["params"], table["params"]
    return {
        "params": f"{count(_least(sizes))} to {count(_most(sizes))}, {sizes.n_unique()} sizes",
        "tokens": f"{count(_least(table['tokens']))} to {count(_most(table['tokens']))} a run",
        "tokens per parameter": f"{_least(ratio):.3g} to {_most(ratio):.3g}",
        "unit of losses": {"bits_per_byte": "bits per byte", "nats_per_token": "nats per token"}[runs.metric],
        "splits": ", ".join(runs.losses["split"].unique().sort()),
        "learning rate": ", ".join(runs.losses["lr_state"].unique().sort()),
        "seeds": ", ".join(map(str, table["seed"].drop_nulls().unique().sort())) or "not given",
        "understood": [str(notice) for notice in runs.notices if notice.kind in UNDERSTOOD],
    }


def _least(values: pl.Series) -> float:
    return float(np.min(values.to_numpy()))


def _most(values: pl.Series) -> float:
    return float(np.max(values.to_numpy()))


def _languages(runs: Runs) -> list[dict[str, Any]]:
    seen = (
        runs.exposure.filter(pl.col("tokens") > 0)
        .group_by("language")
        .agg(
            pl.col("run").n_unique().alias("runs"),
            pl.min("tokens").alias("fewest_tokens"),
            pl.max("tokens").alias("most_tokens"),
            (pl.col("tokens") / pl.col("unique_tokens")).max().alias("most_epochs"),
        )
    )
    losses = (
        runs.losses.with_columns(loss=METRICS[runs.metric])
        .group_by("language")
        .agg(pl.len().alias("losses"), pl.min("loss").alias("lowest_loss"), pl.max("loss").alias("highest_loss"))
    )
    joined = seen.join(losses, on="language", how="full", coalesce=True).sort("language")
    return joined.with_columns(pl.col("runs", "losses").fill_null(0)).to_dicts()


# --------------------------------------------------------------------------------------------------- what looks wrong


def _findings(runs: Runs, *, fits: bool) -> Iterator[Notice]:
    yield from (notice for notice in runs.notices if notice.kind not in UNDERSTOOD)
    for look in (_sizes, _operations, _repeats, _units, _tokenizers, _untuned, _states, _pairs):
        yield from look(runs)
    if fits:
        for target in runs.targets:
            yield from _fits(runs, target)


def _sizes(runs: Runs) -> Iterator[Notice]:
    small = runs.table.filter(pl.col("params") < _SMALLEST_MODEL)
    if small.height:
        yield Notice(
            "error",
            "unit",
            f"run {small['run'][0]!r} has {small['params'][0]:g} parameters",
            "params are counts, not millions or billions",
        )


def _operations(runs: Runs) -> Iterator[Notice]:
    """`flops` against 6 N D. Fewer than 6 N D is a mistake; many more may be attention at small sizes."""
    known = runs.table.filter(pl.col("flops").is_not_null())
    off = known.with_columns(ratio=pl.col("flops") / (6 * pl.col("params") * pl.col("tokens")))
    off = off.filter((pl.col("ratio") > 10 * _FLOPS_OFF) | (pl.col("ratio") < 1 / _FLOPS_OFF))
    if off.height:
        row = off.row(0, named=True)
        yield Notice(
            "error",
            "flops",
            f"{off.height} of {known.height} runs have flops that contradict their tokens: run "
            f"{row['run']!r} has {row['ratio']:.3g} times 6 N D",
            "check the units, and whether `tokens` are those of the row's language",
        )


def _repeats(runs: Runs) -> Iterator[Notice]:
    epochs = runs.exposure.with_columns(epochs=pl.col("tokens") / pl.col("unique_tokens"))
    if any(notice.kind == "epochs-given" for notice in runs.notices):
        return
    many = epochs.filter(pl.col("epochs") > _MOST_EPOCHS).sort("epochs", descending=True)
    if many.height:
        row = many.row(0, named=True)
        yield Notice(
            "warning",
            "epochs",
            f"run {row['run']!r} repeats {row['language']!r} {row['epochs']:.3g} times, and so do "
            f"{many['run'].n_unique() - 1} further runs more than {_MOST_EPOCHS:g} times",
            "check unique_tokens",
        )


def _units(runs: Runs) -> Iterator[Notice]:
    limit = _MOST_BITS if runs.metric == "bits_per_byte" else _MOST_NATS
    losses = runs.losses.with_columns(loss=METRICS[runs.metric])
    high = losses.filter(pl.col("loss") > limit)
    if not high.height:
        return
    row = high.row(0, named=True)
    usual = float(np.median(losses["loss"].to_numpy()))
    unit = "bits per byte" if runs.metric == "bits_per_byte" else "nats per token"
    hint = "are these perplexities? loss = ln(perplexity)" if usual > limit else "correct or remove the run"
    yield Notice(
        "error",
        "loss",
        f"run {row['run']!r} has a loss of {row['loss']:.4g} {unit} on {row['language']!r}, worse than a "
        f"uniform guess; {high.height} losses are",
        hint,
    )


def _tokenizers(runs: Runs) -> Iterator[Notice]:
    kinds = runs.table["tokenizer"].drop_nulls().unique().sort()
    if len(kinds) < 2:
        return
    names = ", ".join(kinds[:5])
    if runs.metric == "nats_per_token":
        yield Notice(
            "error",
            "tokenizers",
            f"losses are per token, and tokens are of {len(kinds)} tokenizers ({names})",
            "give bytes, so that losses are bits per byte, or keep the runs of one tokenizer",
        )
    else:
        yield Notice(
            "warning",
            "tokenizers",
            f"D counts tokens of {len(kinds)} tokenizers ({names}); losses per byte compare, D does not",
            "keep the runs of one tokenizer",
        )


def _untuned(runs: Runs) -> Iterator[Notice]:
    """Runs from scratch of equal N, mixture and tokens whose losses differ by more than seeds do."""
    scratch = runs.table.filter(pl.col("start").fill_null(tables.SCRATCH) == tables.SCRATCH)
    last = runs.losses.filter(split="validation", lr_state="decayed").with_columns(loss=METRICS[runs.metric])
    last = last.join(scratch.select("run"), on="run", how="semi")
    exposure = runs.exposure.filter(pl.col("tokens") > 0).sort("language")
    mixtures = exposure.group_by("run", "step").agg(
        pl.concat_str(
            pl.col("language"),
            pl.col("tokens").round_sig_figs(6).cast(pl.String),
            pl.col("unique_tokens").cast(pl.String).fill_null(""),
            separator=":",
        )
        .str.join(",")
        .alias("mix")
    )
    # Losses of two tokenizers or corpora differ by what they are measured in, and tuning has no part in it.
    kinds = runs.table.select("run", "params", "tokenizer", "corpus")
    tagged = last.join(mixtures, on=["run", "step"]).join(kinds, on="run")
    alike = ("params", "mix", "language", "tokenizer", "corpus")
    groups = tagged.group_by(alike, maintain_order=True).agg(
        pl.col("run"), pl.min("loss").alias("low"), pl.max("loss").alias("high"), pl.len()
    )
    spread = groups.filter((pl.col("len") > 1) & (pl.col("high") / pl.col("low") - 1 > _SAME_RUN))
    if spread.height:
        row = spread.sort(pl.col("high") / pl.col("low"), descending=True).row(0, named=True)
        yield Notice(
            "error",
            "untuned",
            f"runs of equal size and tokens differ by up to {row['high'] / row['low'] - 1:.0%} of the loss, such "
            f"as {row['run'][0]!r} and {row['run'][1]!r}; {spread.height} groups do",
            "keep the tuned run of each group (the lowest loss): a law describes tuned runs",
        )


def _states(runs: Runs) -> Iterator[Notice]:
    states = runs.losses.filter(split="validation").group_by("run").agg(pl.col("lr_state").unique())
    decayed = states.filter(pl.col("lr_state").list.contains("decayed"))
    if 0 < decayed.height < states.height:
        yield Notice(
            "warning",
            "lr-state",
            f"{states.height - decayed.height} of {states.height} runs have no loss under a decayed learning "
            "rate, and a fit leaves them out",
            "losses under a stable and a decayed rate do not compare",
        )
    elif states.height and not decayed.height:
        yield Notice(
            "warning", "lr-state", "no loss is under a decayed learning rate", "fits read decayed losses by default"
        )


def _pairs(runs: Runs) -> Iterator[Notice]:
    """A monolingual run that repeats its text far beyond its pair's makes the pair look helpful."""
    seen = runs.exposure.filter(pl.col("tokens") > 0)
    final = seen.filter(pl.col("step") == pl.col("step").max().over("run"))
    final = final.with_columns(
        epochs=(pl.col("tokens") / pl.col("unique_tokens")).fill_null(0.0), languages=pl.len().over("run")
    )
    alone = final.filter(languages=1).group_by("language").agg(pl.max("epochs").alias("alone"))
    pairs = final.filter(languages=2).group_by("language").agg(pl.max("epochs").alias("paired"))
    both = alone.join(pairs, on="language").sort("language")
    far = both.filter((pl.col("alone") > _PAIR_EPOCHS) & (pl.col("alone") > _PAIR_EPOCHS * pl.col("paired")))
    for row in far.to_dicts():
        yield Notice(
            "warning",
            "pair-epochs",
            f"monolingual runs of {row['language']!r} repeat their text up to {row['alone']:.3g} times, "
            f"bilingual ones {row['paired']:.3g} times",
            "transfer scores then measure repetition, not transfer",
        )


# ------------------------------------------------------------------------------------------------------ runs and laws


def _fits(runs: Runs, target: str) -> Iterator[Notice]:
    """Runs far off every law, and why a law cannot be fitted."""
    try:
        seen = runs.observations(target)
    except InputError as error:
        yield Notice("warning", "no-fit", f"{target}: {error.message}", error.hint or "")
        return
    if not seen.allocation.D(target).any():
        yield Notice("notice", "evaluated", f"{target}: evaluated only; no run was trained on it, so no law is fitted")
        return
    if len(seen) < _FEWEST:
        yield Notice("notice", "few", f"{target}: too few losses for most laws ({len(seen)})")
        return
    few, refused, fitted = _subset(runs, seen), "", 0
    far, off, sign = np.ones(len(seen), bool), np.full(len(seen), np.inf), np.zeros(len(seen))
    for name in laws.LAWS:
        try:
            law = laws.by_name(name, target, few)
            if len(law.parameter_names) > _LARGE_LAW:
                continue
            residuals = _residuals(law, few, seen)
        except BabelscaleError as error:
            refused = refused or f"{target}: law {name} cannot be fitted: {getattr(error, 'message', error)}"
            continue
        fitted += 1
        far &= far_off(residuals, law, seen)
        off, sign = np.minimum(off, np.abs(residuals)), np.sign(residuals)
        # A run that one law describes is no suspect, so that most tables need one fit a language.
        if not far.any():
            return
    if not fitted:
        yield Notice("warning", "no-fit", refused)
        return
    for index in np.flatnonzero(far)[np.argsort(-off[far])][:_MOST_SUSPECTS]:
        side = "above" if sign[index] > 0 else "below"
        yield Notice(
            "warning",
            "suspect",
            f"run {str(seen.run[index])!r}: its loss on {target!r} ({seen.loss[index]:.4g}) lies "
            f"{abs(np.expm1(sign[index] * off[index])):.0%} {side} every law",
            "look at its log, and remove it where it diverged or was mistyped",
        )


def _subset(runs: Runs, seen: Observations) -> Runs:
    """Some of many runs, evenly from all, so that large tables take seconds."""
    names = np.unique(seen.run)
    most = max(_MOST_FITTED // max(len(runs.targets), 6), _FEWEST_FITTED)
    return runs.select(names if len(names) <= most else names[np.linspace(0, len(names) - 1, most).astype(int)])


def _residuals(law: Any, few: Runs, seen: Observations) -> NDArray[np.float64]:
    found = fit(law, few, resamples=0)
    return np.log(seen.loss) - np.log(found.predict(seen.allocation).loss)
