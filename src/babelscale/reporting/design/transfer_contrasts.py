"""How well a design would measure transfer scores, and which differences the scores would show.

A score is BTS = 2 - d_bi / d_mono. An error e of a log loss moves log d_bi by e / slope, with slope = -dlog L / dlog D
of the learning curve at the anchor, so near a score of 0, where d_bi = 2 d_mono, the score has the error 2 e / slope.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from babelscale import published
from babelscale.formatting import count
from babelscale.reporting.design.contrasts import (
    EVEN,
    DesignAnswer,
    Noise,
    distinct,
    grouped,
    named,
    only,
    plain,
    stable_tokens,
)
from babelscale.study.spec import RunSpec
from babelscale.transfer.relations import TRAITS, Trait, same

Array = NDArray[np.float64]
Slope = Callable[[str, float, float], float]
"""(language, N, D) -> -dlog L / dlog D of a monolingual learning curve."""

BTS_MATTERS = 0.1
"""Of a score: the ATLAS study prints its scores in steps of 0.1, and its gap between scripts is 0.16."""
ANCHOR = 0.4
"""The share of the shortest monolingual curve at which scores are read (`transfer.measure`)."""
LOW_SCORES = 0.1
"""Share of the printed scores of the ATLAS study that may lie below the lowest score that a design can measure."""


@dataclass(frozen=True)
class Pairs:
    """The directed pairs of one size that have a score, by (target, source), and what they are measured from.

    Attributes:
        seeds: common seeds of the pair's bilingual and monolingual runs.
        mono_end, bilingual_end: last tokens of the shortest learning curve of each kind, before the decay.
        mono_start: first tokens of the latest-beginning monolingual curve.
        checkpoints: tokens at which the monolingual losses are measured.
    """

    size: str
    params: float
    seeds: Mapping[tuple[str, str], int]
    mono_start: float
    mono_end: float
    bilingual_end: float
    checkpoints: tuple[float, ...]

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(sorted({code for pair in self.seeds for code in pair}))

    def floor(self, anchor: float) -> float:
        """The lowest score that is measured and not censored."""
        return 2 - self.bilingual_end / anchor

    @property
    def anchor(self) -> float:
        """d_mono in tokens: the usual anchor, or less where low scores would be censored."""
        return min(ANCHOR * self.mono_end, self.bilingual_end / (2 - low_score()))


def low_score() -> float:
    """The score below which `LOW_SCORES` of the ATLAS study's printed ones lie."""
    values = published.transfer_matrix().values
    return float(np.quantile(values[np.isfinite(values)], LOW_SCORES))


def pair_scatter() -> float:
    """Standard deviation of the printed scores around the means of their targets and sources."""
    values = published.transfer_matrix().values
    n = len(values)
    target, source = np.nonzero(np.isfinite(values))
    X, y = _effects(target, source, n), values[target, source]
    rest = y - X @ np.linalg.lstsq(X, y)[0]
    return math.sqrt(float(rest @ rest) / (len(y) - (2 * n - 1)))


def pairs_by_size(specs: Sequence[RunSpec]) -> list[Pairs]:
    """The sizes at which scores can be read, smallest first."""
    runs = [s for s in distinct(specs) if plain(s)]
    mono = grouped((s for s in runs if only(s)), lambda s: (s.size, only(s), s.seed))
    even = (s for s in runs if len(s.mixture.languages) == 2 and abs(min(s.mixture.shares.values()) - 0.5) <= EVEN)
    both = grouped(even, lambda s: (s.size, s.mixture.languages, s.seed))
    found: dict[str, dict[tuple[str, str], int]] = {}
    curves: dict[str, tuple[list[list[int]], list[list[int]]]] = {}
    shapes: dict[str, float] = {}
    for (size, codes, seed), bilingual in both.items():
        for target, source in (codes, codes[::-1]):
            base = mono.get((size, target, seed))
            if base:
                seeds = found.setdefault(size, {})
                seeds[target, source] = seeds.get((target, source), 0) + 1
                shapes[size] = float(base[0].shape.params)
                for side, kind in zip(curves.setdefault(size, ([], [])), (base, bilingual), strict=True):
                    side.append(stable_tokens(max(kind, key=lambda s: s.tokens)))
    sizes = []
    for size, seeds in found.items():
        alone, beside = curves[size]
        shortest = min(alone, key=lambda curve: curve[-1])
        start, end = max(curve[0] for curve in alone), min(curve[-1] for curve in beside)
        sizes.append(Pairs(size, shapes[size], seeds, start, shortest[-1], end, tuple(map(float, shortest))))
    return sorted(sizes, key=lambda pairs: pairs.params)


def transfer_questions(
    specs: Sequence[RunSpec], noise: Noise, slope: Slope, unique_tokens: Mapping[str, float]
) -> list[DesignAnswer]:
    """Every question on transfer scores.

    Args:
        unique_tokens: U by language of the design; more of these languages could be paired.
    """
    sizes = pairs_by_size(specs)
    if not sizes:
        return []
    most = max(sizes, key=lambda pairs: (sum(pairs.seeds.values()), pairs.params))
    answers = [_one_score(alike, noise, slope) for alike in _patterns(sizes)]
    answers += [_relatedness(most, trait, noise, slope, unique_tokens) for trait in TRAITS]
    return answers + _by_size(sizes, noise, slope) + [_by_tokens(alike, noise, slope) for alike in _patterns(sizes)]


def _patterns(sizes: Sequence[Pairs]) -> list[list[Pairs]]:
    """Sizes with the same scores, seeds and curves together."""
    found: dict[tuple[object, ...], list[Pairs]] = {}
    for pairs in sizes:
        key = tuple(sorted(pairs.seeds.items())), pairs.checkpoints, pairs.bilingual_end
        found.setdefault(key, []).append(pairs)
    return list(found.values())


def _variance(pairs: Pairs, slope: Slope, anchor: float, target: str) -> float:
    """Variance of a score near 0 for each run behind it, in units of the noise's."""
    return (2 / slope(target, pairs.params, anchor)) ** 2


def _one_score(alike: Sequence[Pairs], noise: Noise, slope: Slope) -> DesignAnswer:
    """One score by itself, at the worst of these sizes."""
    pairs = alike[0]
    widths = [noise.half_width(float(np.median(_variances(size, slope)))) for size in alike]
    seeds = sorted(set(pairs.seeds.values()))
    each = f"{' or '.join(map(str, seeds))} {'seeds' if seeds[-1] > 1 else 'seed'} each"
    basis = (
        f"{len(pairs.seeds)} scores among {named(pairs.languages, 'languages')}, {each}; "
        f"d_mono {count(pairs.anchor)} tokens"
    )
    usual = ANCHOR * pairs.mono_end
    if pairs.anchor < usual:
        basis += f" (at the usual {count(usual)} scores below {pairs.floor(usual):+.2f} are censored)"
    if len(alike) > 1:
        basis += f"; ±{min(widths):.2g} at the best size"
    obstacle = None
    if pairs.anchor < pairs.mono_start:
        obstacle = f"scores below {pairs.floor(pairs.mono_start):+.2f} are censored; train the pairs longer"
    width = max(widths)
    times = math.ceil((width / BTS_MATTERS) ** 2)
    add = f"{times * seeds[-1]} seeds of every pair and of every language alone" if times > 1 else None
    subject = f"size {named((each.size for each in alike), 'sizes')}"
    return DesignAnswer("one transfer score", subject, basis, width, BTS_MATTERS, "BTS", obstacle=obstacle, add=add)


def _variances(pairs: Pairs, slope: Slope) -> list[float]:
    """Of every score by itself: a monolingual and a bilingual run a seed."""
    return [2 * _variance(pairs, slope, pairs.anchor, target) / n for (target, _), n in pairs.seeds.items()]


def _relatedness(
    pairs: Pairs, trait: Trait, noise: Noise, slope: Slope, unique_tokens: Mapping[str, float]
) -> DesignAnswer:
    """The smallest difference between the mean scores of related and other pairs that an interval separates from 0."""
    codes = pairs.languages
    sd = noise.sd * math.sqrt(float(np.mean(_variances(pairs, slope))))
    scatter = math.hypot(pair_scatter(), sd)
    at = np.array([(codes.index(t), codes.index(s)) for t, s in pairs.seeds])
    related = same(codes, trait)
    width, units = _separated(at[:, 0], at[:, 1], related, scatter)
    shared = int(related[at[:, 0], at[:, 1]].sum())
    basis = (
        f"{shared} of {len(at)} directed pairs share it, {units} languages have pairs of both kinds; "
        f"scatter of a pair {scatter:.2g}, of which noise {sd:.2g}"
    )
    question = "do related pairs help each other more (languages as units)"
    subject = f"one {trait}, size {pairs.size}"
    add = None
    if width is None or width > BTS_MATTERS:
        add = _more_languages(pairs, trait, scatter, unique_tokens)
    obstacle = "fewer than three languages have pairs of both kinds" if width is None else None
    return DesignAnswer(question, subject, basis, width, BTS_MATTERS, "BTS", obstacle=obstacle, add=add)


def _more_languages(pairs: Pairs, trait: Trait, scatter: float, unique_tokens: Mapping[str, float]) -> str | None:
    """The languages whose pairs with each other and with the measured ones would answer, the most useful first."""
    codes = pairs.languages
    chosen, others = list(codes), [code for code in sorted(unique_tokens) if code not in codes]
    while others:
        widths = {code: _complete([*chosen, code], trait, scatter) for code in others}
        best = min(others, key=lambda code: widths[code])
        chosen.append(best)
        others.remove(best)
        if widths[best] <= BTS_MATTERS:
            new = chosen[len(codes) :]
            runs = math.comb(len(chosen), 2) - math.comb(len(codes), 2)
            add = f"the {runs} pairs that {' '.join(new)} make with each other and with {named(codes, 'languages')}"
            fewest = min(new, key=lambda code: unique_tokens[code])
            epochs = pairs.anchor / unique_tokens[fewest]
            text = (
                f", whose text must grow: {fewest} is repeated {epochs:.2g} times before d_mono" if epochs > 1 else ""
            )
            return f"{add}{text}, in as many seeds"
    return None


def _complete(codes: Sequence[str], trait: Trait, scatter: float) -> float:
    """`_separated` where all pairs of these languages are measured; infinite where it has no answer."""
    target, source = np.nonzero(~np.eye(len(codes), dtype=bool))
    width = _separated(target, source, same(codes, trait), scatter)[0]
    return math.inf if width is None else width


def _separated(
    target: NDArray[np.intp], source: NDArray[np.intp], related: NDArray[np.bool_], scatter: float
) -> tuple[float | None, int]:
    """Half the 90 % interval of the difference given effects of targets and sources, and the number of languages that
    have pairs of both kinds, which gives the degrees of freedom."""
    own = related[target, source]
    units = [k for k in np.unique(target) if own[target == k].any() and not own[target == k].all()]
    if len(units) < 3:
        return None, len(units)
    X = _effects(target, source, len(related))
    rest = own - X @ np.linalg.lstsq(X, own.astype(np.float64))[0]
    remaining = float(rest @ rest)
    if remaining < 1e-9:
        return None, len(units)
    return float(stdtrit(len(units) - 1, 0.95)) * scatter / math.sqrt(remaining), len(units)


def _effects(target: NDArray[np.intp], source: NDArray[np.intp], n: int) -> Array:
    """Indicators of targets and sources, shape (pairs, 2 n)."""
    return np.column_stack([np.eye(n)[target], np.eye(n)[source]])


def _mean_variance(pairs: Pairs, slope: Slope, anchor: float, used: Sequence[tuple[str, str]]) -> float:
    """Variance of the mean of these scores, in units of the noise's: a target's baseline is common to its scores."""
    total = 0.0
    targets = sorted({t for t, _ in used})
    for target in targets:
        counts = [pairs.seeds[pair] for pair in used if pair[0] == target]
        one = _variance(pairs, slope, anchor, target)
        total += one * (sum(1 / n for n in counts) + len(counts) ** 2 / max(counts))
    return total / len(used) ** 2


def _trend(question: str, subject: str, basis: str, x: Array, variances: Array, noise: Noise) -> DesignAnswer:
    """The slope of a mean score by log2 of something, over its whole range."""
    x = x - x.mean()
    weights = x / (x @ x)
    width = noise.half_width(float(weights**2 @ variances))
    doublings = float(np.ptp(x))
    threshold = BTS_MATTERS / doublings
    add = None
    if width > threshold:
        add = f"more seeds: {math.ceil((width / threshold) ** 2)} times as many runs at the smallest and the largest"
    about = f"{basis}, {doublings:.2g} doublings"
    return DesignAnswer(question, subject, about, width, threshold, "BTS", add=add)


def _by_size(sizes: Sequence[Pairs], noise: Noise, slope: Slope) -> list[DesignAnswer]:
    question = "change of transfer per doubling of N"
    common = [pair for pair in sizes[0].seeds if all(pair in pairs.seeds for pairs in sizes)]
    if len(sizes) < 2 or not common:
        return []
    x = np.log2([pairs.params for pairs in sizes])
    anchor = min(pairs.anchor for pairs in sizes)
    basis = f"{len(sizes)} sizes with {len(common)} scores in common, d_mono {count(anchor)} tokens"
    answers = []
    for subject, used in (("one pair", common[:1]), ("mean of the pairs", common)):
        variances = np.array([_mean_variance(pairs, slope, anchor, used) for pairs in sizes])
        answers.append(_trend(question, subject, basis, x, variances, noise))
    return answers


def _by_tokens(alike: Sequence[Pairs], noise: Noise, slope: Slope) -> DesignAnswer:
    """Several anchors on the same curves, over sizes; the errors of checkpoints are taken to be independent."""
    question = "change of transfer per doubling of D (d_mono)"
    pairs = alike[0]
    places = [tokens for tokens in pairs.checkpoints if tokens <= pairs.bilingual_end / (2 - low_score())]
    subject = f"size {named((each.size for each in alike), 'sizes')}, mean of {len(pairs.seeds)} scores"
    if len(places) < 2:
        basis = f"{len(places)} checkpoints from which scores down to {low_score():+.2f} are measured"
        add = "longer bilingual runs, or more evaluations of the monolingual ones"
        return DesignAnswer(question, subject, basis, None, BTS_MATTERS, "BTS", add=add)
    basis = f"{len(places)} checkpoints of d_mono from {count(places[0])} to {count(places[-1])} tokens"
    variances = [[_mean_variance(each, slope, tokens, list(pairs.seeds)) for tokens in places] for each in alike]
    return _trend(question, subject, basis, np.log2(places), np.mean(variances, axis=0) / len(alike), noise)
