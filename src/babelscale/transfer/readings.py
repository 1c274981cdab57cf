"""Readings: what each mixture of a table of runs says its languages' tokens were worth there, beside alone."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.runs import Runs
from babelscale.tables import LRState
from babelscale.transfer.curve import LearningCurve, every_curve
from babelscale.transfer.measure import Twin, from_scratch, most_used_size, trained_on

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Readings:
    """What mixtures say: one entry a mixture and language in it.

    Attributes:
        languages: n codes.
        target: of each reading, shape (m,), an index into languages.
        ratio: tokens of each language per token of the target, shape (m, n), 0 for the target itself.
        worth: log(D_eff / D_t), shape (m,), D_eff the tokens that the monolingual run of the target needs for the same
            loss; NaN where only bounds are known.
        low, high: bounds where worth is NaN.
        noise: variance of it from the mixture's own checkpoints, shape (m,); 0 where unknown.
        base: which monolingual curve it was read against, shape (m,); a wrong one moves all its readings alike.
        base_noise: the variance that comes from there.
        run: names, shape (m,).
        tokens: of the mixture where it was read, all languages together, shape (m,).
    """

    languages: tuple[str, ...]
    target: NDArray[np.int64]
    ratio: Array
    worth: Array
    low: Array
    high: Array
    noise: Array
    base: NDArray[np.int64]
    base_noise: Array
    run: NDArray[np.str_]
    tokens: Array

    def __len__(self) -> int:
        return len(self.worth)

    @property
    def pairs(self) -> NDArray[np.bool_]:
        """Which pairs (target, source) come together in some reading, shape (n, n)."""
        n = len(self.languages)
        seen = np.zeros((n, n), bool)
        np.logical_or.at(seen, self.target, self.ratio > 0)
        return seen

    def at(self, kept: NDArray[np.bool_] | NDArray[np.int64]) -> "Readings":
        """Some of them."""
        arrays = ("target", "ratio", "worth", "low", "high", "noise", "base", "base_noise", "run", "tokens")
        return Readings(self.languages, **{name: getattr(self, name)[kept] for name in arrays})


@dataclass(frozen=True)
class _Read:
    """One reading before it is put beside the others; `worth` NaN where only bounds are known."""

    worth: float
    low: float
    high: float
    noise: float
    base_noise: float
    tokens: float


def read(
    runs: Runs, *, params: float | None = None, anchor: float = 0.4, lr_state: LRState = "stable",
    split: str = "validation",
) -> Readings:  # fmt: skip
    """Every reading of the mixtures of one size, two languages or more, against monolingual runs of that size.

    A mixture is read where it reaches the loss of the monolingual run at the anchor, as a pair's score is; one that
    does not is read at its end, and one that was past it before its first checkpoint there. A bound is all that is
    known where the monolingual run never had that loss.

    Args:
        params: N of the runs to use; left out, the size with the most mixtures.
        anchor: d_mono as a share of the shortest monolingual curve (see `measure.from_runs`).
        lr_state: state of all losses read, of mixtures and monolingual runs alike.

    Raises:
        InputError: no size has a mixture and a monolingual run of one of its languages.
    """
    scratch = from_scratch(runs)
    size = float(params) if params is not None else most_used_size(scratch)
    mono: dict[tuple[str, str, str], dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    mixtures: list[tuple[str, Twin, dict[str, float]]] = []
    curves = every_curve(scratch, lr_state=lr_state, split=split)
    for row in trained_on(scratch).iter_rows(named=True):
        if not math.isclose(row["params"], size, rel_tol=1e-9):
            continue
        twin = (row["tokenizer"], row["corpus"], row["seed"])
        match row["language"]:
            case [language] if (row["run"], language) in curves:
                mono[language, twin[0], twin[1]][twin[2]].append(row["run"])
            case [_, _, *_]:
                mixtures.append((row["run"], twin, dict(zip(row["language"], row["share"], strict=True))))
    bases = {key: {seed: _longest(names, key[0], curves) for seed, names in of.items()} for key, of in mono.items()}
    if not bases or not mixtures:
        raise InputError(
            f"no mixture can be read at N = {size:.4g}: {len(mixtures)} mixtures, monolingual runs with {lr_state} "
            f"losses of {len(bases)} languages",
            hint="train a monolingual run of each language at the mixtures' size",
        )
    return _assemble(mixtures, bases, curves, anchor)


def _longest(names: list[str], language: str, curves: dict[tuple[str, str], LearningCurve]) -> LearningCurve:
    return max((curves[name, language] for name in sorted(names)), key=lambda curve: curve.tokens[-1])


def _assemble(
    mixtures: list[tuple[str, Twin, dict[str, float]]],
    bases: dict[tuple[str, str, str], dict[int, LearningCurve]],
    curves: dict[tuple[str, str], LearningCurve],
    anchor: float,
) -> Readings:
    codes = tuple(sorted({code for _, _, shares in mixtures for code in shares}))
    place = {code: k for k, code in enumerate(codes)}
    numbers: dict[tuple[str, str, str, int], int] = {}
    d_mono = anchor * min(float(curve.tokens[-1]) for of in bases.values() for curve in of.values())
    rows: list[tuple[int, Array, _Read, int, str]] = []
    for run, (tokenizer, corpus, seed), shares in mixtures:
        for code, share in shares.items():
            of = bases.get((code, tokenizer, corpus))
            if of is None or (run, code) not in curves:
                continue
            # A monolingual run of the same seed where there is one.
            twin = seed if seed in of else min(of)
            number = numbers.setdefault((code, tokenizer, corpus, twin), len(numbers))
            ratio = np.zeros(len(codes))
            for other, part in shares.items():
                if other != code:
                    ratio[place[other]] = part / share
            rows.append((place[code], ratio, _reading(of[twin], curves[run, code], share, d_mono), number, run))
    if not rows:
        raise InputError(
            "no mixture has a monolingual run beside it", hint="same size, tokenizer and corpus are needed"
        )
    target, ratio, reads, base, run = zip(*rows, strict=True)
    numbers_of = {name: np.array([getattr(each, name) for each in reads]) for name in _Read.__dataclass_fields__}
    return Readings(
        codes, np.array(target), np.array(ratio), base=np.array(base), run=np.array(run, np.str_), **numbers_of
    )  # fmt: skip


def _reading(mono: LearningCurve, mixture: LearningCurve, share: float, d_mono: float) -> _Read:
    loss = mono.at(d_mono)
    at = mixture.tokens_to(loss)
    d_eff = d_mono
    if not 0 < at < math.inf:
        at = float(mixture.tokens[0] if at == 0 else mixture.tokens[-1])
        loss = mixture.at(at)
        d_eff = mono.tokens_to(loss)
    own = share * at
    if d_eff == 0:
        return _Read(math.nan, -math.inf, math.log(mono.tokens[0] / own), 0.0, 0.0, at)
    if math.isinf(d_eff):
        return _Read(math.nan, math.log(mono.tokens[-1] / own), math.inf, 0.0, 0.0, at)
    noise = [_in_tokens(curve, loss, d) for curve, d in ((mixture, at), (mono, d_eff))]
    return _Read(math.log(d_eff / own), -math.inf, math.inf, noise[0], noise[1], at)


def _in_tokens(curve: LearningCurve, loss: float, tokens: float) -> float:
    """Variance of log tokens that the noise of a curve's checkpoints makes; 0 where it is unknown."""
    noise = curve.noise(tokens)
    if math.isnan(noise):
        return 0.0
    # Read both ways along the curve, which is bent; at an end of it one side is all there is.
    ends = [curve.tokens_to(loss * math.exp(shift)) for shift in (-noise, noise)]
    logs = [abs(math.log(end / tokens)) for end in ends if 0 < end < math.inf]
    return float(np.mean(logs)) ** 2 if logs else 0.0
