"""Which mixtures to train next: those whose readings would shrink the uncertainty of the gains most.

A reading of target t in a mixture is y = h'g_t + noise, h the weight of each source in the form that was fitted. With S
the covariance of t's gains, it takes |S h|^2 / (h'S h + s^2) off the sum of their variances, and leaves
S - S h h'S / (h'S h + s^2) (Gaussian conditioning; A-optimal design). A mixture's worth is the sum over its languages;
mixtures are chosen one after another, each by exchange of single languages from several random mixtures, given those
chosen before. What targets learn from each other is ignored, so the promised reduction is a lower bound.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.transfer import mixed
from babelscale.transfer.mixtures import FORMS, MixtureEstimate

Array = NDArray[np.float64]

_BEGINNINGS, _PASSES = 12, 4


@dataclass(frozen=True)
class Proposal:
    """Mixtures in the order in which to train them, and the expected reduction of uncertainty.

    Attributes:
        mixtures: languages of each, evenly sampled.
        sd: root mean square of the standard deviations of the log gains before, and after each mixture.
    """

    mixtures: tuple[tuple[str, ...], ...]
    sd: tuple[float, ...]


def balanced(languages: Sequence[str], width: int, count: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Random mixtures in which every language comes equally often, give or take one: random orders, cut into pieces.

    Raises:
        InputError: fewer languages than a mixture is to hold, or a width below two.
    """
    if not 2 <= width <= len(languages):
        raise InputError(f"mixtures of {width} out of {len(languages)} languages", hint=f"2 to {len(languages)}")
    rng = np.random.default_rng(seed)
    found: list[tuple[str, ...]] = []
    queue: list[str] = []
    while len(found) < count:
        mixture: list[str] = []
        while len(mixture) < width:
            if not any(code not in mixture for code in queue):
                queue += [str(code) for code in rng.permutation(list(languages))]
            code = next(code for code in queue if code not in mixture)
            queue.remove(code)
            mixture.append(code)
        found.append(tuple(sorted(mixture)))
    return found


def propose(
    estimate: MixtureEstimate,
    widths: Sequence[int],
    *,
    noise: float | None = None,
    seed: int = 0,
    targets: Sequence[str] | None = None,
    avoid: Collection[frozenset[str]] = (),
) -> Proposal:
    """The next mixtures, one of each width.

    Args:
        estimate: the gains estimated so far.
        widths: languages of each mixture.
        noise: standard deviation of a reading (default: the estimate's own).
        targets: the languages whose gains matter (default all).
        avoid: mixtures that were trained already; none of them is proposed, and none twice.

    Raises:
        InputError: fewer languages than a mixture is to hold, an unknown target, or no other mixture of a width.
    """
    codes = estimate.matrix.languages
    n = len(codes)
    if wrong := [width for width in widths if not 2 <= width <= n]:
        raise InputError(f"mixtures of {wrong[0]} out of {n} languages", hint=f"2 to {n}")
    if unknown := [code for code in targets or () if code not in codes]:
        raise InputError(f"{unknown[0]!r} is not among the languages", hint=f"the languages are {', '.join(codes)}")
    weight = np.array([1.0 if targets is None or code in targets else 0.0 for code in codes])
    S = np.nan_to_num(estimate.covariance)
    rng = np.random.default_rng(seed)
    chosen, sd = [], [_rms(S, weight)]
    taken = {frozenset(codes.index(code) for code in mixture) for mixture in avoid if mixture <= set(codes)}
    for width in widths:
        variance = _variance(estimate, width, noise)
        tried = [_climb(S, weight, variance, width, rng, taken) for _ in range(_BEGINNINGS)]
        worth, members = max(tried, key=lambda pair: pair[0])
        if worth == -math.inf:
            raise InputError(f"no mixture of {width} languages is left that was not trained", hint="give another width")
        taken.add(frozenset(members))
        for t in members:
            others = [k for k in members if k != t]
            column = S[t][:, others].sum(1)
            S[t] -= np.outer(column, column) / (float(column[others].sum()) + variance)
        chosen.append(tuple(codes[k] for k in sorted(members)))
        sd.append(_rms(S, weight))
    return Proposal(tuple(chosen), tuple(sd))


def _variance(estimate: MixtureEstimate, width: int, noise: float | None) -> float:
    """Variance of a reading in an even mixture, where each source is given the weight 1.

    Forms weigh the sources of a mixture of k by w = (2 / k)^dilution and are rougher by (log 2/k)^2; a reading with
    weights w and variance v has as much information as one with weights 1 and variance v / w^2.
    """
    variance = (estimate.reading_sd if noise is None else noise) ** 2
    rough = estimate.spread.get(mixed.ROUGH, 0.0) ** 2 * math.log(2 / width) ** 2
    return (variance + rough) / (2 / width) ** (2 * FORMS[estimate.form].dilution)


def _climb(
    S: Array, weight: Array, variance: float, width: int, rng: np.random.Generator, taken: set[frozenset[int]]
) -> tuple[float, list[int]]:
    """The best mixture that exchanges of single languages reach from a random one, and its worth."""
    n = len(S)

    def worth(members: list[int]) -> float:
        return -math.inf if frozenset(members) in taken else _worth(S, weight, variance, members)

    members = [int(k) for k in rng.choice(n, width, replace=False)]
    best = worth(members)
    for _ in range(_PASSES):
        before = best
        for place in range(width):
            # A few random exchanges a place are as good as all of them over several passes, and far fewer.
            outside = [k for k in range(n) if k not in members]
            for candidate in rng.permutation(outside)[:6].tolist():
                trial = [*members[:place], candidate, *members[place + 1 :]]
                gained = worth(trial)
                if gained > best:
                    best, members = gained, trial
        if best <= before:
            break
    return best, members


def _worth(S: Array, weight: Array, variance: float, members: list[int]) -> float:
    total = 0.0
    for t in members:
        if weight[t]:
            others = [k for k in members if k != t]
            column = S[t][:, others].sum(1)
            total += weight[t] * float(column @ column) / (float(column[others].sum()) + variance)
    return total


def _rms(S: Array, weight: Array) -> float:
    n = len(S)
    traces = np.einsum("tii->t", S)
    return float(np.sqrt((weight @ traces) / max(weight.sum() * (n - 1), 1)))
