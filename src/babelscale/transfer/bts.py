"""The Bilingual Transfer Score of the ATLAS study: how much a source language helps a target.

    BTS(s -> t) = 2 - d_bi / d_mono

L_t(d) is the loss on t of a monolingual t model after d tokens; d_bi is the number of tokens, of both languages
together, that a 50/50 (s, t) model needs to reach L_t(d_mono). 0 is no transfer, above 0 help, below 0 interference;
1 says that the source is as good as the target, and no score exceeds 2.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from babelscale.errors import InputError
from babelscale.intervals import Z90
from babelscale.transfer.curve import LearningCurve

Status = Literal["measured", "censored", "predicted", "printed", "missing"]


@dataclass(frozen=True)
class TransferScore:
    """One transfer score.

    Attributes:
        value: the score; NaN where it is censored, because only an interval is known then.
        low, high: 90 % interval (NaN where nothing is known of the noise), or the bounds of a censored score.
        status: "measured" or "censored".
        d_mono, d_bi: tokens; d_bi is inf where the loss was never reached, 0 where before the first checkpoint.
        interval: in words, what the interval was made from.
    """

    value: float
    low: float
    high: float
    status: Status
    d_mono: float
    d_bi: float
    interval: str


def to_tau(bts: float) -> float:
    """tau = BTS / (2 - BTS), the source's weight in D_eff, if data act through D_eff alone and nothing repeats."""
    if not bts < 2:
        raise InputError(f"a transfer score must be below 2, got {bts}")
    return bts / (2 - bts)


def from_tau(tau: float) -> float:
    """BTS = 2 tau / (1 + tau), the inverse of `to_tau`; tau > -1."""
    if not tau > -1:
        raise InputError(f"tau {tau} has no transfer score", hint="with tau <= -1 the loss is never reached")
    return 2.0 if math.isinf(tau) else 2 * tau / (1 + tau)


def to_gain(bts: ArrayLike) -> NDArray[np.float64]:
    """log(1 + tau) = log(2 / (2 - BTS)): the log of what a target's token is worth in a 50/50 mixture. Any shape.

    It is log 2 less the log of d_bi / d_mono, has no upper limit, and its noise depends little on its size, so scores
    are averaged, modelled and predicted in it.
    """
    with np.errstate(divide="ignore"):
        return -np.log1p(-np.asarray(bts, np.float64) / 2)


def from_gain(gain: ArrayLike) -> NDArray[np.float64]:
    """BTS = 2 - 2 exp(-gain), the inverse of `to_gain`."""
    return -2 * np.expm1(-np.asarray(gain, np.float64))


def score(
    mono: LearningCurve, bilingual: LearningCurve, *, anchor: float = 0.4, tokens: float | None = None
) -> TransferScore:
    """BTS from one monolingual and one 50/50 bilingual learning curve of the same target.

    Args:
        mono: the target's monolingual curve.
        bilingual: loss on the target of the 50/50 model; its `tokens` count both languages.
        anchor: d_mono as a share of the monolingual curve's last checkpoint.
        tokens: d_mono in tokens, instead of `anchor`.

    If the bilingual model never reaches the loss, the score lies in [-inf, 2 - d_end / d_mono]; if it reached the loss
    before its first checkpoint, in [2 - d_first / d_mono, 2]. Both are censored and have no value.

    Raises:
        InputError: the curves differ in learning-rate state or language, or the anchor lies outside the curve.
    """
    if mono.lr_state != bilingual.lr_state:
        raise InputError(
            f"transfer on {mono.language!r}: {mono.lr_state} losses of run {mono.run!r} against {bilingual.lr_state} "
            f"losses of run {bilingual.run!r}",
            hint="compare stable losses with stable losses, or decayed with decayed; otherwise the schedule alone "
            "looks like transfer",
        )
    if mono.language != bilingual.language:
        raise InputError(f"the two curves must have one language, got {mono.language!r} and {bilingual.language!r}")
    if tokens is None and not 0 < anchor <= 1:
        raise InputError(f"anchor {anchor} must be above 0 and at most 1")
    d_mono = float(anchor * mono.tokens[-1] if tokens is None else tokens)
    loss = mono.at(d_mono)
    d_bi = bilingual.tokens_to(loss)
    if math.isinf(d_bi):
        high = 2 - float(bilingual.tokens[-1]) / d_mono
        return TransferScore(math.nan, -math.inf, high, "censored", d_mono, d_bi, "the loss is never reached")
    if d_bi == 0:
        low = 2 - float(bilingual.tokens[0]) / d_mono
        return TransferScore(
            math.nan, low, 2.0, "censored", d_mono, d_bi, "the loss is reached before the first checkpoint"
        )
    noise = math.hypot(mono.noise(d_mono), bilingual.noise(d_bi))
    if math.isnan(noise):
        low, high, words = math.nan, math.nan, "there are too few checkpoints to estimate the noise"
    else:
        # The noise in loss is translated to tokens on the bilingual curve, so a flat curve gives a wide interval.
        low, high = (2 - bilingual.tokens_to(loss * math.exp(shift)) / d_mono for shift in (-Z90 * noise, Z90 * noise))
        words = "checkpoint noise"
    return TransferScore(2 - d_bi / d_mono, low, high, "measured", d_mono, d_bi, words)


@dataclass(frozen=True)
class SeedNoise:
    """How far scores of one pair scatter from seed to seed: standard deviation of their gain, and its degrees of
    freedom, pooled over all pairs of a matrix (a pair with two seeds alone would know it within a factor of ten)."""

    sd: float
    degrees: int

    @classmethod
    def pooled(cls, groups: Iterable[Sequence[TransferScore]]) -> "SeedNoise | None":
        """From the scores of several pairs, censored ones left out; None where no pair has two."""
        total, degrees = 0.0, 0
        for scores in groups:
            gains = to_gain([each.value for each in scores if each.status != "censored"])
            if len(gains) > 1:
                total += float(np.sum((gains - gains.mean()) ** 2))
                degrees += len(gains) - 1
        return cls(math.sqrt(total / degrees), degrees) if degrees else None


def combine(scores: Sequence[TransferScore], noise: SeedNoise | None = None) -> TransferScore:
    """One score from several seeds: the mean of their gains, with the wider of Student's interval and that of
    checkpoint noise.

    If any seed is censored, the pair is censored: its interval spans those of all seeds.

    Args:
        noise: scatter between seeds, known from other pairs too (default: from these scores, if there are several).
    """
    if not scores:
        raise InputError("there are no scores to combine")
    noise = noise or SeedNoise.pooled([scores])
    if len(scores) == 1 and (noise is None or scores[0].status == "censored"):
        return scores[0]
    d_mono, d_bi = (float(np.mean([getattr(each, name) for each in scores])) for name in ("d_mono", "d_bi"))
    if any(each.status == "censored" for each in scores):
        lows, highs = [each.low for each in scores], [each.high for each in scores]
        values = [each.value for each in scores if each.status != "censored"]
        low, high = np.nanmin([*lows, *values]), np.nanmax([*highs, *values])
        return TransferScore(
            math.nan, float(low), float(high), "censored", d_mono, d_bi, f"{len(scores)} seeds, some censored"
        )
    from scipy.special import stdtrit

    assert noise is not None
    n = len(scores)
    gains, lows, highs = (to_gain([getattr(each, name) for each in scores]) for name in ("value", "low", "high"))
    half = float(stdtrit(noise.degrees, 0.95)) * noise.sd / math.sqrt(n)
    below, above = (_mean_of_known(gap) / math.sqrt(n) for gap in (gains - lows, highs - gains))
    ends = (gains.mean() - max(half, below), gains.mean(), gains.mean() + max(half, above))
    low, mean, high = (float(end) for end in from_gain(ends))
    words = f"{n} seeds" if n > 1 else "1 seed, with the scatter between seeds of other pairs"
    return TransferScore(mean, low, high, "measured", d_mono, d_bi, words)


def _mean_of_known(gap: NDArray[np.float64]) -> float:
    known = gap[np.isfinite(gap)]
    return float(known.mean()) if len(known) else 0.0
