"""questions: what a design's runs can tell, from the differences that its runs make possible (see `answers`).

Transfer scores are judged in `questions_transfer`, what needs simulated tables in `questions_simulated`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from babelscale.formatting import count
from babelscale.reporting.design.contrasts import (
    LOSS_MATTERS,
    NOISE_MATTERS,
    DesignAnswer,
    Noise,
    contrast,
    distinct,
    grouped,
    named,
    only,
    plain,
    repeats,
    spread_of_sd,
)
from babelscale.study.spec import RunSpec

# Shares count as equal up to this difference, as token counts are whole sequences.
_EVEN = 0.02


def contrasts(specs: Sequence[RunSpec], noise: Noise) -> list[DesignAnswer]:
    """Every question that a difference of losses answers.

    Args:
        specs: the runs of a design, once each.
    """
    runs = distinct(specs)
    asked = (noise_known, vocabularies, starts, stages, skewed_pairs)
    return [answer for ask in asked for answer in ask(runs, noise)]


def noise_known(specs: Sequence[RunSpec], noise: Noise) -> list[DesignAnswer]:
    """How well the design's repeats tell the noise itself, over all and by size."""
    question, sets = "the noise of a loss (runs that differ only in their seeds)", repeats(specs)
    add = "seeds = [0, 1, 2] of a few mixtures at three sizes or more"
    if not sets:
        return [DesignAnswer(question, "all sizes", "no two such runs", None, NOISE_MATTERS, "noise", add=add)]
    by_size: dict[str, list[list[RunSpec]]] = {}
    for same in sets:
        by_size.setdefault(same[0].size, []).append(same)
    parts = [("all sizes", sets), *((f"size {size}", part) for size, part in sorted(by_size.items()))]
    return [_repeat_answer(question, subject, part, noise) for subject, part in parts]


def _repeat_answer(question: str, subject: str, sets: Sequence[Sequence[RunSpec]], noise: Noise) -> DesignAnswer:
    degrees = sum(len(same) - 1 for same in sets)
    low, high = spread_of_sd(degrees)
    basis = (
        f"{len(sets)} sets, {degrees} degrees of freedom; sd {100 * noise.sd:.2g} % would read as "
        f"{100 * noise.sd * low:.2g} to {100 * noise.sd * high:.2g} %"
    )
    wanted = degrees
    while _spread(wanted) > NOISE_MATTERS:
        wanted += 1
    more = f"{wanted - degrees} further seeds" if wanted > degrees else None
    return DesignAnswer(question, subject, basis, _spread(degrees), NOISE_MATTERS, "noise", add=more)


def _spread(degrees: int) -> float:
    """Half the relative width of the 90 % interval of a standard deviation."""
    low, high = spread_of_sd(degrees)
    return (high - low) / 2


def vocabularies(specs: Sequence[RunSpec], noise: Noise) -> list[DesignAnswer]:
    """A language's own vocabulary against the shared one: runs of equal language, shape and length."""
    question = "separate against shared vocabulary"
    own = grouped((s for s in specs if s.own is not None), lambda s: (s.own or "", s.shape, s.tokens))
    shared = grouped((s for s in specs if plain(s) and only(s)), lambda s: (only(s), s.shape))
    if not own:
        return []
    found: dict[str, list[float]] = {code: [] for code, _, _ in own}
    apart: dict[str, list[str]] = {code: [] for code in found}
    for (code, shape, tokens), runs in own.items():
        beside = shared.get((code, shape), [])
        equal = [s for s in beside if s.tokens == tokens]
        if equal:
            found[code].append(1 / len(runs) + 1 / len(equal))
        elif beside:
            nearest = min(beside, key=lambda s: abs(math.log(s.tokens / tokens)))
            apart[code].append(f"{runs[0].size} (nearest {count(nearest.tokens)} tokens)")
        else:
            apart[code].append(runs[0].size)
    patterns: dict[tuple[Any, ...], list[str]] = {}
    for code in found:
        patterns.setdefault((tuple(found[code]), tuple(apart[code])), []).append(code)
    answers = []
    for (variances, sizes), codes in patterns.items():
        without = f"; no run of equal tokens at sizes {named(sizes, 'sizes')}" if sizes else ""
        basis, subject = f"{len(variances)} sizes with runs of equal tokens{without}", named(codes, "languages")
        if variances:
            each = sum(variances) / len(variances) ** 2
            answers.append(contrast(question, f"{subject}, each", basis, each, noise))
        else:
            add = "runs with the shared vocabulary, of the same sizes and tokens"
            answers.append(DesignAnswer(question, subject, basis, None, LOSS_MATTERS, "loss", add=add))
    means = [sum(part) / len(part) ** 2 for part in found.values() if part]
    if len(means) > 1:
        basis = "this holds for these languages, not for languages in general"
        answers.append(
            contrast(question, f"mean of {len(means)} languages", basis, sum(means) / len(means) ** 2, noise)
        )
    return answers


def starts(specs: Sequence[RunSpec], noise: Noise) -> list[DesignAnswer]:
    """From scratch against continued: at which token counts both are known, and whether a crossing would be seen.

    Continued runs that share their base are taken to have one common error.
    """
    question = "from scratch against continued (equal new tokens)"
    after = grouped((s for s in specs if s.base is not None and only(s)), lambda s: (s.size, only(s) or ""))
    fresh = grouped((s for s in specs if plain(s) and only(s)), lambda s: (s.size, only(s) or ""))
    patterns: dict[_Both | None, list[tuple[str, str]]] = {}
    for cell, runs in after.items():
        patterns.setdefault(_both(runs, fresh[cell]) if cell in fresh else None, []).append(cell)
    answers = []
    for both, cells in patterns.items():
        sizes, codes = {size for size, _ in cells}, {code for _, code in cells}
        subject = f"size {named(sizes, 'sizes')}; {named(codes, 'languages')}"
        if both is None:
            add = "monolingual runs from scratch of these sizes, as long as the continued ones"
            answers.append(
                DesignAnswer(question, subject, "no such run from scratch", None, LOSS_MATTERS, "loss", add=add)
            )
            continue
        obstacle = None
        if max(len(both.common), both.checkpoints) < 2:
            obstacle = "one token count shows which is ahead there, but no crossing"
        about: dict[str, Any] = {"obstacle": obstacle}
        if obstacle:
            about["add"] = both.missing
        variance = 1 / both.after + 1 / both.fresh
        answers.append(contrast(question, f"{subject}, each", both.words, variance, noise, **about))
        if len(codes) > 1:
            mean = 1 / both.after + 1 / both.fresh / len(codes)
            answers.append(contrast(question, f"{subject}, their mean at a size", both.words, mean, noise, **about))
    return answers


@dataclass(frozen=True)
class _Both:
    """What runs from scratch and continued ones have in common: token counts with decayed losses, checkpoints of the
    longest curves in their common range, how many runs of both kinds stand at the longest common count, and the runs
    that would give both the same lengths."""

    common: tuple[int, ...]
    between: tuple[int, int] | None
    checkpoints: int
    after: int
    fresh: int
    missing: str

    @property
    def words(self) -> str:
        ends = f"decayed losses of both at {' '.join(map(count, self.common))} tokens" if self.common else ""
        curves = f"curves of both from {' to '.join(map(count, self.between))}" if self.between else ""
        return ", ".join(part for part in (ends, curves) if part) or "no common token count"


def _both(after: Sequence[RunSpec], fresh: Sequence[RunSpec]) -> _Both:
    common = tuple(sorted({s.tokens for s in after} & {s.tokens for s in fresh}))
    curves = [_stable(max(runs, key=lambda s: s.tokens)) for runs in (after, fresh)]
    low, high = max(curve[0] for curve in curves), min(curve[-1] for curve in curves)
    inside = min(sum(low <= tokens <= high for tokens in curve) for curve in curves)
    counts = [max(1, sum(s.tokens == max(common, default=0) for s in runs)) for runs in (after, fresh)]
    lengths = [" ".join(count(tokens) for tokens in sorted({s.tokens for s in runs})) for runs in (after, fresh)]
    missing = f"runs from scratch of {lengths[0]} tokens and continued ones of {lengths[1]}"
    between = (low, high) if low < high else None
    return _Both(common, between, inside if between else 0, counts[0], counts[1], missing)


def _stable(spec: RunSpec) -> list[int]:
    """Tokens at which a run's loss is measured before its decay; its end where there is none."""
    steps = [step for step in spec.recipe.evaluation_steps(spec.steps) if step <= spec.fork]
    return [step * spec.recipe.tokens_per_step for step in steps] or [spec.tokens]


def stages(specs: Sequence[RunSpec], noise: Noise) -> list[DesignAnswer]:
    """Two stages against one: runs of the first mixture, of the second, or of the same totals in one stage."""
    question = "two stages against one (equal size and tokens)"
    staged = [(s, s.then) for s in specs if s.then is not None]
    single = grouped((s for s in specs if plain(s)), lambda s: (s.size, s.tokens))
    answers = []
    for what in ("the first mixture", "the second mixture", "the same totals"):
        found: dict[tuple[Any, ...], list[list[RunSpec]]] = {}
        for spec, then in staged:
            wanted = {"the first mixture": spec.mixture.shares, "the second mixture": then.mixture.shares}
            shares = wanted.get(what, spec.shares)
            beside = [s for s in single.get((spec.size, spec.tokens), []) if _same(s.mixture.shares, shares)]
            if beside:
                second = tuple(sorted(round(share, 3) for share in then.mixture.shares.values()))
                key = spec.size, spec.tokens, round(then.start / spec.steps, 2), second
                found.setdefault(key, []).append(beside)
        subject = f"against one stage of {what}"
        if found:
            every = [beside for part in found.values() for beside in part]
            basis = f"{len(every)} of {len(staged)} two-stage runs have such a run"
            worst = max(1 + 1 / len(beside) for beside in every)
            answers.append(contrast(question, f"{subject}, each", basis, worst, noise))
            means = [1 / len(part) + 1 / len({s.name for beside in part for s in beside}) for part in found.values()]
            basis = f"{len(found)} boundaries and final shares"
            answers.append(contrast(question, f"{subject}, mean of the languages", basis, max(means), noise))
        elif staged:
            add = f"runs of {what} in one stage, of equal size and tokens"
            answers.append(DesignAnswer(question, subject, "no such run", None, LOSS_MATTERS, "loss", add=add))
    return answers


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return all(abs(one.get(code, 0.0) - other.get(code, 0.0)) <= _EVEN for code in {*one, *other})


def skewed_pairs(specs: Sequence[RunSpec], noise: Noise) -> list[DesignAnswer]:
    """Skewed pairs of languages against the even pair of equal size and tokens."""
    question = "skewed against even pairs (equal size and tokens)"
    pairs = grouped(
        (s for s in specs if plain(s) and len(s.mixture.languages) == 2),
        lambda s: (s.size, s.tokens, s.mixture.languages),
    )
    patterns: dict[tuple[Any, ...], list[str]] = {}
    for (size, tokens, codes), runs in pairs.items():
        levels = grouped(runs, lambda s: round(s.mixture.shares[s.mixture.languages[0]], 3))
        even = [s for share, found in levels.items() if abs(share - 0.5) <= _EVEN for s in found]
        counts = {share: len(found) for share, found in sorted(levels.items()) if abs(share - 0.5) > _EVEN}
        if counts:
            key = (size, tokens, tuple(counts), min(counts.values()), len(even))
            patterns.setdefault(key, []).append("-".join(codes))
    answers = []
    for (size, tokens, levels, runs, even), found in patterns.items():
        shares = ", ".join(f"{100 * share:.3g}" for share in levels)
        subject = f"size {size}, {count(tokens)} tokens; {named(found, 'pairs')}"
        basis = f"shares of the first language {shares} % ({_seeds(runs)}), even pair ({_seeds(even)})"
        if not even:
            add = "the even pairs of this size and length"
            answers.append(DesignAnswer(question, subject, basis, None, LOSS_MATTERS, "loss", add=add))
            continue
        answers.append(contrast(question, f"{subject}, one mixture", basis, 1 / runs + 1 / even, noise))
        if len(found) > 1:
            mean = (1 / runs + 1 / even) / len(found)
            answers.append(contrast(question, f"{subject}, one share over the pairs", basis, mean, noise))
    return answers


def _seeds(count: int) -> str:
    return f"{count} {'seed' if count == 1 else 'seeds'}"
