"""MixtureObservations: what the tokens of each language were worth in each mixture, compared with a monolingual run."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.runs import Runs
from babelscale.tables import LRState
from babelscale.transfer.curve import LearningCurve, every_curve
from babelscale.transfer.measure import Twin, from_scratch, most_used_size, runs_of_size

Array = NDArray[np.float64]


At = Literal["anchor", "end"]
# Share of the readings that may fall short of an anchor that is not given.
_SHORT = 0.1
# Beyond this share of bounds there is too little else.
_MOST_SHORT = 0.5


@dataclass(frozen=True)
class MixtureObservations:
    """One entry for each mixture and language in it.

    Attributes:
        languages: n codes.
        target: of each reading, shape (m,), an index into languages.
        share: of the target in the mixture, shape (m,).
        ratio: tokens of each language per token of the target, shape (m, n), 0 for the target itself.
        worth: log(D_eff / D_t), shape (m,), D_eff the tokens that the monolingual run of the target needs for the same
            loss; NaN where only bounds are known.
        low, high: bounds where worth is NaN.
        noise: variance of it from the mixture's own checkpoints, shape (m,); 0 where unknown.
        base: number of the monolingual curve it was compared with, shape (m,); its error is common to all of them.
        base_noise: the variance that comes from that curve.
        run: names, shape (m,).
        tokens: of the mixture where it was read, all languages together, shape (m,).
        anchor: D_eff of every reading that is not a bound; None where they were read at the mixtures' ends.
    """

    languages: tuple[str, ...]
    target: NDArray[np.int64]
    share: Array
    ratio: Array
    worth: Array
    low: Array
    high: Array
    noise: Array
    base: NDArray[np.int64]
    base_noise: Array
    run: NDArray[np.str_]
    tokens: Array
    anchor: float | None = None

    def __len__(self) -> int:
        return len(self.worth)

    @property
    def pairs(self) -> NDArray[np.bool_]:
        """Which pairs (target, source) come together in some reading, shape (n, n)."""
        n = len(self.languages)
        seen = np.zeros((n, n), bool)
        np.logical_or.at(seen, self.target, self.ratio > 0)
        return seen

    def at(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "MixtureObservations":
        """Some of them."""
        arrays = ("target", "share", "ratio", "worth", "low", "high", "noise", "base", "base_noise", "run", "tokens")
        return replace(self, **{name: getattr(self, name)[chosen] for name in arrays})


@dataclass(frozen=True)
class _Read:
    """One reading before it is put beside the others; `worth` NaN where only bounds are known."""

    worth: float
    low: float
    high: float
    noise: float
    base_noise: float
    tokens: float


@dataclass(frozen=True)
class _Entry:
    """One language of one mixture, with the curves it is read from."""

    code: str
    shares: Mapping[str, float]
    run: str
    mixture: LearningCurve
    mono: LearningCurve
    base: int

    @property
    def share(self) -> float:
        return self.shares[self.code]


def observe_mixtures(
    runs: Runs,
    *,
    params: float | None = None,
    anchor: float | None = None,
    at: At = "anchor",
    lr_state: LRState = "stable",
    split: str = "validation",
) -> MixtureObservations:
    """Every reading of the mixtures of one size, two languages or more, against monolingual runs of that size.

    A mixture is read where it reaches the loss of the monolingual run at the anchor, as the score of a pair is, so that
    readings of narrow and wide mixtures are comparable: transfer falls as tokens grow. If it never reaches that loss,
    or reached it before its first checkpoint, the reading is a bound.

    Args:
        params: N of the runs to use; left out, the size with the most mixtures.
        anchor: D_eff of all readings, as a share of the shortest monolingual curve; left out, 0.4 or what nine tenths
            of the readings reach.
        at: "end" reads each mixture at its last checkpoint instead, whatever D_eff is there. This gives more readings
            of wide mixtures for the same compute, and assumes that transfer does not change with tokens.
        lr_state: state of all losses read, of mixtures and monolingual runs alike.

    Raises:
        InputError: no size has a mixture and a monolingual run of one of its languages, or most mixtures end before
            they reach the anchor or the beginning of the monolingual curves.
    """
    scratch = from_scratch(runs)
    size = float(params) if params is not None else most_used_size(scratch)
    entries = _entries(scratch, size, every_curve(scratch, lr_state=lr_state, split=split), lr_state)
    if at == "end":
        return _assemble(entries, [_at_end(entry) for entry in entries], None)
    most = (0.4 if anchor is None else anchor) * min(float(entry.mono.tokens[-1]) for entry in entries)
    first = max(float(entry.mono.tokens[0]) for entry in entries)
    ends = np.array([entry.mono.tokens_to(entry.mixture.at(float(entry.mixture.tokens[-1]))) for entry in entries])
    d_eff = most if anchor is not None else min(most, max(first, float(np.quantile(ends, _SHORT))))
    short = float(np.mean(ends < d_eff))
    if d_eff < first:
        shortest = most / (0.4 if anchor is None else anchor)
        raise InputError(
            f"the anchor of {d_eff:.3g} tokens is before the first checkpoint of monolingual runs ({first:.3g})",
            hint=f"give an anchor of {first / shortest:.2g} or more, or monolingual runs that are measured earlier",
        )
    if anchor is None and short > _MOST_SHORT:
        raise InputError(
            f"at N = {size:.4g} {short:.0%} of the readings of mixtures do not reach {d_eff:.3g} tokens; monolingual "
            f"runs are measured from {first:.3g} tokens on",
            hint="train mixtures longer, measure monolingual runs earlier, or read mixtures at their ends",
        )
    return _assemble(entries, [_at_anchor(entry, d_eff) for entry in entries], d_eff)


def _entries(
    runs: Runs, size: float, curves: Mapping[tuple[str, str], LearningCurve], lr_state: LRState
) -> list[_Entry]:
    mono: dict[tuple[str, str, str], dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    mixtures: list[tuple[str, Twin, dict[str, float]]] = []
    for run, twin, shares in runs_of_size(runs, size):
        match tuple(shares):
            case (language,) if (run, language) in curves:
                mono[language, twin[0], twin[1]][twin[2]].append(run)
            case (_, _, *_):
                mixtures.append((run, twin, shares))
    bases = {key: {seed: _longest(names, key[0], curves) for seed, names in of.items()} for key, of in mono.items()}
    numbers: dict[tuple[str, str, str, int], int] = {}
    entries = []
    for run, (tokenizer, corpus, seed), shares in mixtures:
        for code in shares:
            of = bases.get((code, tokenizer, corpus))
            if of is None or (run, code) not in curves:
                continue
            # A monolingual run of the same seed where there is one.
            twin = seed if seed in of else min(of)
            number = numbers.setdefault((code, tokenizer, corpus, twin), len(numbers))
            entries.append(_Entry(code, shares, run, curves[run, code], of[twin], number))
    if not entries:
        raise InputError(
            f"no mixture can be read at N = {size:.4g}: {len(mixtures)} mixtures, monolingual runs with {lr_state} "
            f"losses of {len(bases)} languages",
            hint="train a monolingual run of each language at the mixtures' size, with the same tokenizer and corpus",
        )
    return entries


def _longest(names: list[str], language: str, curves: Mapping[tuple[str, str], LearningCurve]) -> LearningCurve:
    return max((curves[name, language] for name in sorted(names)), key=lambda curve: curve.tokens[-1])


def _assemble(entries: list[_Entry], reads: list[_Read], anchor: float | None) -> MixtureObservations:
    codes = tuple(sorted({code for entry in entries for code in entry.shares}))
    ratio = np.zeros((len(entries), len(codes)))
    for row, entry in zip(ratio, entries, strict=True):
        for other, share in entry.shares.items():
            if other != entry.code:
                row[codes.index(other)] = share / entry.share
    return MixtureObservations(
        codes,
        target=np.array([codes.index(entry.code) for entry in entries]),
        share=np.array([entry.share for entry in entries]),
        ratio=ratio,
        base=np.array([entry.base for entry in entries]),
        run=np.array([entry.run for entry in entries], np.str_),
        anchor=anchor,
        **{name: np.array([getattr(each, name) for each in reads]) for name in _Read.__dataclass_fields__},
    )


def _at_anchor(entry: _Entry, d_eff: float) -> _Read:
    loss = entry.mono.at(d_eff)
    at = entry.mixture.tokens_to(loss)
    # Where the loss lies outside the mixture's curve, its end or beginning bounds what its tokens were worth.
    first, last = (math.log(d_eff / (entry.share * float(entry.mixture.tokens[k]))) for k in (0, -1))
    if math.isinf(at):
        return _Read(math.nan, -math.inf, last, 0.0, 0.0, float(entry.mixture.tokens[-1]))
    if at == 0:
        return _Read(math.nan, first, math.inf, 0.0, 0.0, float(entry.mixture.tokens[0]))
    return _measured(entry, loss, at, d_eff)


def _at_end(entry: _Entry) -> _Read:
    at = float(entry.mixture.tokens[-1])
    loss = entry.mixture.at(at)
    d_eff = entry.mono.tokens_to(loss)
    first, last = (math.log(float(entry.mono.tokens[k]) / (entry.share * at)) for k in (0, -1))
    if d_eff == 0:
        return _Read(math.nan, -math.inf, first, 0.0, 0.0, at)
    if math.isinf(d_eff):
        return _Read(math.nan, last, math.inf, 0.0, 0.0, at)
    return _measured(entry, loss, at, d_eff)


def _measured(entry: _Entry, loss: float, at: float, d_eff: float) -> _Read:
    noise = [_in_tokens(curve, loss, d) for curve, d in ((entry.mixture, at), (entry.mono, d_eff))]
    return _Read(math.log(d_eff / (entry.share * at)), -math.inf, math.inf, noise[0], noise[1], at)


def _in_tokens(curve: LearningCurve, loss: float, tokens: float) -> float:
    """Variance of log tokens that the noise of a curve's checkpoints makes; 0 where it is unknown."""
    noise = curve.noise(tokens)
    if math.isnan(noise):
        return 0.0
    # Read both ways along the curve, which is bent; at an end of it one side is all there is.
    ends = [curve.tokens_to(loss * math.exp(shift)) for shift in (-noise, noise)]
    logs = [abs(math.log(end / tokens)) for end in ends if 0 < end < math.inf]
    return float(np.mean(logs)) ** 2 if logs else 0.0
