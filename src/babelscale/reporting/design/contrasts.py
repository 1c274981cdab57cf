"""What the differences among a design's runs can measure at a given noise, before any run is trained.

Runs are matched by their properties (shape, mixture, length, vocabulary, start), never by the names of groups. A
contrast of losses is known to

    q sd sqrt(v),      v = sum of 1/n over the means that it compares,

with sd the scatter of log loss between seeds and q Student's 95 % quantile at the degrees of freedom of the design's
repeats (normal, where the noise is assumed). `transfer_contrasts` judges transfer scores, and `simulated_contrasts`
what needs simulated tables.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import polars as pl
from scipy.special import gammaincinv, stdtrit

from babelscale.formatting import count, plural
from babelscale.intervals import Z90
from babelscale.runs import METRICS, Runs
from babelscale.study.spec import RunSpec

LOSS_MATTERS = 0.01
"""Share of a loss: a model a tenth larger gains about this much where size is a quarter of the loss and alpha 0.35."""
NOISE_MATTERS = 0.25
"""Relative error of the noise: intervals made with it are then at most a quarter too wide or too narrow."""
ASSUMED_NOISE = 0.005
"""Standard deviation of log loss between seeds, where no runs measure it."""
# Shares count as equal up to this difference, because token counts are whole sequences.
EVEN = 0.02

Key = TypeVar("Key")


@dataclass(frozen=True)
class Noise:
    """Scatter of log loss between seeds: standard deviation, its degrees of freedom (0: assumed), and its source."""

    sd: float
    degrees: int
    source: str

    @property
    def quantile(self) -> float:
        return float(stdtrit(self.degrees, 0.95)) if self.degrees else Z90

    def half_width(self, variance: float) -> float:
        """Half the 90 % interval of a contrast whose variance is `variance` times that of one log loss."""
        return self.quantile * self.sd * math.sqrt(variance)


@dataclass(frozen=True)
class DesignAnswer:
    """Whether a design can measure something.

    Args:
        question, subject: what is measured, and on which runs.
        basis: the runs that the answer rests on, in words.
        width: half the expected 90 % interval; None where there is none.
        threshold: the largest width at which the question counts as answered.
        unit: of both: "loss" and "noise" (shares), "BTS", "log R_D*", "exponent", "tables" (share of wrong answers).
        obstacle: why it cannot be measured at any width; None where nothing prevents it.
        add: the runs that would answer it.
    """

    question: str
    subject: str
    basis: str
    width: float | None
    threshold: float = LOSS_MATTERS
    unit: str = "loss"
    obstacle: str | None = None
    add: str | None = None

    @property
    def can_tell(self) -> bool:
        return self.obstacle is None and self.width is not None and self.width <= self.threshold

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"can_tell": self.can_tell}

    def __str__(self) -> str:
        known = "" if self.width is None else f": {_width(self.width, self.unit)}"
        limit = f"limit {_width(self.threshold, self.unit)}"
        if self.can_tell:
            return f"{self.subject}: {self.basis}{known} - measurable ({limit})"
        why = "; ".join(part for part in (self.obstacle or limit, self.add and f"add {self.add}") if part)
        return f"{self.subject}: {self.basis}{known} - not measurable ({why})"


def _width(value: float, unit: str) -> str:
    """A width in words of its unit."""
    match unit:
        case "loss" | "noise":
            return f"±{100 * value:.2g} % of {'the loss' if unit == 'loss' else 'itself'}"
        case "log R_D*":
            return f"R_D* known within a factor of {math.exp(value):.2g}"
        case "tables":
            return f"wrong in {100 * value:.0f} % of the tables"
    return f"±{value:.2g}{' BTS' if unit == 'BTS' else ''}"


def contrasts(specs: Sequence[RunSpec], noise: Noise) -> list[DesignAnswer]:
    """Every question that a difference of losses answers.

    Args:
        specs: the runs of a design, once each.
    """
    runs = distinct(specs)
    questions = (noise_known, vocabularies, starts, stages, skewed_pairs)
    return [answer for question in questions for answer in question(runs, noise)]


def noise_known(specs: Sequence[RunSpec], noise: Noise) -> list[DesignAnswer]:
    """How well the design's repeats measure the noise itself, over all sizes and by size."""
    question, sets = "the noise of a loss (runs that differ in their seeds alone)", repeats(specs)
    if not sets:
        add = "seeds = [0, 1, 2] of a few mixtures at three sizes or more"
        return [DesignAnswer(question, "all sizes", "no two such runs", None, NOISE_MATTERS, "noise", add=add)]
    by_size: dict[str, list[list[RunSpec]]] = {}
    for same in sets:
        by_size.setdefault(same[0].size, []).append(same)
    answers = []
    for subject, part in [("all sizes", sets), *((f"size {size}", part) for size, part in sorted(by_size.items()))]:
        degrees = sum(len(same) - 1 for same in part)
        low, high = spread_of_sd(degrees)
        basis = (
            f"{len(part)} sets, {degrees} degrees of freedom; an sd of {100 * noise.sd:.2g} % would be measured as "
            f"{100 * noise.sd * low:.2g} to {100 * noise.sd * high:.2g} %"
        )
        wanted = degrees
        while _spread(wanted) > NOISE_MATTERS:
            wanted += 1
        more = f"{wanted - degrees} further seeds" if wanted > degrees else None
        answers.append(DesignAnswer(question, subject, basis, _spread(degrees), NOISE_MATTERS, "noise", add=more))
    return answers


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
    variances: dict[str, list[float]] = {code: [] for code, _, _ in own}
    unmatched: dict[str, list[str]] = {code: [] for code in variances}
    for (code, shape, tokens), runs in own.items():
        same_shape = shared.get((code, shape), [])
        equal = [s for s in same_shape if s.tokens == tokens]
        if equal:
            variances[code].append(1 / len(runs) + 1 / len(equal))
        elif same_shape:
            nearest = min(same_shape, key=lambda s: abs(math.log(s.tokens / tokens)))
            unmatched[code].append(f"{runs[0].size} (nearest {count(nearest.tokens)} tokens)")
        else:
            unmatched[code].append(runs[0].size)
    patterns: dict[tuple[Any, ...], list[str]] = {}
    for code in variances:
        patterns.setdefault((tuple(variances[code]), tuple(unmatched[code])), []).append(code)
    answers = []
    for (found, sizes), codes in patterns.items():
        without = f"; no run of equal tokens at sizes {named(sizes, 'sizes')}" if sizes else ""
        basis, subject = f"{len(found)} sizes with runs of equal tokens{without}", named(codes, "languages")
        if found:
            answers.append(contrast(question, f"{subject}, each", basis, sum(found) / len(found) ** 2, noise))
        else:
            add = "runs under the shared vocabulary of the same sizes and tokens"
            answers.append(DesignAnswer(question, subject, basis, None, add=add))
    means = [sum(part) / len(part) ** 2 for part in variances.values() if part]
    if len(means) > 1:
        basis, subject = "for these languages, not for languages in general", f"mean of {len(means)} languages"
        answers.append(contrast(question, subject, basis, sum(means) / len(means) ** 2, noise))
    return answers


def starts(specs: Sequence[RunSpec], noise: Noise) -> list[DesignAnswer]:
    """From scratch against continued: at which token counts both are known, and whether a crossing can be seen.

    Continued runs that share their base are assumed to share one error.
    """
    question = "from scratch against continued (equal new tokens)"
    after = grouped((s for s in specs if s.base is not None and only(s)), lambda s: (s.size, only(s) or ""))
    fresh = grouped((s for s in specs if plain(s) and only(s)), lambda s: (s.size, only(s) or ""))
    patterns: dict[_CommonLengths | None, list[tuple[str, str]]] = {}
    for cell, runs in after.items():
        patterns.setdefault(_common_lengths(runs, fresh[cell]) if cell in fresh else None, []).append(cell)
    answers = []
    for both, cells in patterns.items():
        sizes, codes = {size for size, _ in cells}, {code for _, code in cells}
        subject = f"size {named(sizes, 'sizes')}; {named(codes, 'languages')}"
        if both is None:
            add = "monolingual runs from scratch of these sizes, as long as the continued ones"
            answers.append(DesignAnswer(question, subject, "no such run from scratch", None, add=add))
            continue
        about: dict[str, str] = {}
        if max(len(both.common), both.checkpoints) < 2:
            obstacle = "one token count shows which start is better there, but no crossing"
            about = {"obstacle": obstacle, "add": both.missing}
        variance = 1 / both.after + 1 / both.fresh
        answers.append(contrast(question, f"{subject}, each", both.describe(), variance, noise, **about))
        if len(codes) > 1:
            mean, subject = 1 / both.after + 1 / both.fresh / len(codes), f"{subject}, their mean at a size"
            answers.append(contrast(question, subject, both.describe(), mean, noise, **about))
    return answers


@dataclass(frozen=True)
class _CommonLengths:
    """What runs from scratch and continued ones have in common.

    `common` are token counts with decayed losses of both, `checkpoints` those of the longest curves in their common
    range `between`, `after` and `fresh` the runs of both kinds at the longest common count, and `missing` the runs
    that would give both the same lengths.
    """

    common: tuple[int, ...]
    between: tuple[int, int] | None
    checkpoints: int
    after: int
    fresh: int
    missing: str

    def describe(self) -> str:
        ends = f"decayed losses of both at {' '.join(map(count, self.common))} tokens" if self.common else ""
        curves = f"curves of both from {' to '.join(map(count, self.between))}" if self.between else ""
        return ", ".join(part for part in (ends, curves) if part) or "no token count in common"


def _common_lengths(after: Sequence[RunSpec], fresh: Sequence[RunSpec]) -> _CommonLengths:
    common = tuple(sorted({s.tokens for s in after} & {s.tokens for s in fresh}))
    curves = [stable_tokens(max(runs, key=lambda s: s.tokens)) for runs in (after, fresh)]
    low, high = max(curve[0] for curve in curves), min(curve[-1] for curve in curves)
    inside = min(sum(low <= tokens <= high for tokens in curve) for curve in curves)
    counts = [max(1, sum(s.tokens == max(common, default=0) for s in runs)) for runs in (after, fresh)]
    lengths = [" ".join(map(count, sorted({s.tokens for s in runs}))) for runs in (after, fresh)]
    missing = f"runs from scratch of {lengths[0]} tokens and continued ones of {lengths[1]}"
    between = (low, high) if low < high else None
    return _CommonLengths(common, between, inside if between else 0, counts[0], counts[1], missing)


def stable_tokens(spec: RunSpec) -> list[int]:
    """Tokens at which a run's loss is measured before its decay; its end where there is no such evaluation."""
    steps = [step for step in spec.recipe.evaluation_steps(spec.steps) if step <= spec.fork]
    return [step * spec.recipe.tokens_per_step for step in steps] or [spec.tokens]


def stages(specs: Sequence[RunSpec], noise: Noise) -> list[DesignAnswer]:
    """Two stages against one: runs of the first mixture, of the second, or of the same totals in one stage."""
    question = "two stages against one (equal size and tokens)"
    staged = [(s, s.then) for s in specs if s.then is not None]
    single = grouped((s for s in specs if plain(s)), lambda s: (s.size, s.tokens))
    answers = []
    for what in ("the first mixture", "the second mixture", "the same totals") if staged else ():
        found: dict[tuple[Any, ...], list[list[RunSpec]]] = {}
        for spec, then in staged:
            wanted = {"the first mixture": spec.mixture.shares, "the second mixture": then.mixture.shares}
            shares = wanted.get(what, spec.shares)
            matches = [s for s in single.get((spec.size, spec.tokens), []) if _same(s.mixture.shares, shares)]
            if matches:
                second = tuple(sorted(round(share, 3) for share in then.mixture.shares.values()))
                key = spec.size, spec.tokens, round(then.start / spec.steps, 2), second
                found.setdefault(key, []).append(matches)
        subject = f"against one stage of {what}"
        if not found:
            add = f"runs of {what} in one stage, of equal size and tokens"
            answers.append(DesignAnswer(question, subject, "no such run", None, add=add))
            continue
        every = [matches for part in found.values() for matches in part]
        basis = f"{len(every)} of {len(staged)} two-stage runs have such a run"
        worst = max(1 + 1 / len(matches) for matches in every)
        means = [1 / len(part) + 1 / len({s.name for matches in part for s in matches}) for part in found.values()]
        answers.append(contrast(question, f"{subject}, each", basis, worst, noise))
        basis, subject = f"{len(found)} boundaries and final shares", f"{subject}, mean of the languages"
        answers.append(contrast(question, subject, basis, max(means), noise))
    return answers


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return all(abs(one.get(code, 0.0) - other.get(code, 0.0)) <= EVEN for code in {*one, *other})


def skewed_pairs(specs: Sequence[RunSpec], noise: Noise) -> list[DesignAnswer]:
    """Skewed pairs of languages against the even pair of equal size and tokens."""
    question = "skewed against even pairs (equal size and tokens)"
    bilingual = (s for s in specs if plain(s) and len(s.mixture.languages) == 2)
    pairs = grouped(bilingual, lambda s: (s.size, s.tokens, s.mixture.languages))
    patterns: dict[tuple[Any, ...], list[str]] = {}
    for (size, tokens, codes), runs in pairs.items():
        levels = grouped(runs, lambda s: round(s.mixture.shares[s.mixture.languages[0]], 3))
        even = [s for share, found in levels.items() if abs(share - 0.5) <= EVEN for s in found]
        counts = {share: len(found) for share, found in sorted(levels.items()) if abs(share - 0.5) > EVEN}
        if counts:
            key = (size, tokens, tuple(counts), min(counts.values()), len(even))
            patterns.setdefault(key, []).append("-".join(codes))
    answers = []
    for (size, tokens, levels, runs, even), found in patterns.items():
        shares = ", ".join(f"{100 * share:.3g}" for share in levels)
        subject = f"size {size}, {count(tokens)} tokens; {named(found, 'pairs')}"
        basis = f"shares of the first language {shares} % ({plural(runs, 'seed')}), even pair ({plural(even, 'seed')})"
        if not even:
            answers.append(DesignAnswer(question, subject, basis, None, add="the even pairs of this size and length"))
            continue
        variance = 1 / runs + 1 / even
        answers.append(contrast(question, f"{subject}, one mixture", basis, variance, noise))
        if len(found) > 1:
            answers.append(
                contrast(question, f"{subject}, one share over the pairs", basis, variance / len(found), noise)
            )
    return answers


def contrast(
    question: str,
    subject: str,
    basis: str,
    variance: float,
    noise: Noise,
    *,
    obstacle: str | None = None,
    add: str | None = None,
) -> DesignAnswer:
    """An answer about a difference of losses; without an `obstacle`, more seeds narrow its interval."""
    width = noise.half_width(variance)
    times = math.ceil((width / LOSS_MATTERS) ** 2)
    if obstacle is None and times > 1:
        add = f"seeds: {times} times as many runs on both sides"
    return DesignAnswer(question, subject, basis, width, obstacle=obstacle, add=add)


def noise_of(
    specs: Sequence[RunSpec], fixed: float | None, runs: Runs | None = None, names: Mapping[str, RunSpec] | None = None
) -> Noise:
    """The noise to judge a design by: the fixed one, otherwise that of finished runs, otherwise an assumed one.

    Args:
        runs: finished runs of the study. names: their specifications, by name.
    """
    degrees = sum(len(same) - 1 for same in repeats(specs))
    if fixed is not None:
        return Noise(fixed, degrees, "as given")
    if runs is not None and names is not None and (found := measured_noise(runs, names)) is not None:
        # Intervals are those of the whole design once it is trained, and so are their degrees of freedom.
        return replace(found, degrees=max(degrees, found.degrees))
    return Noise(ASSUMED_NOISE, degrees, "assumed")


def measured_noise(runs: Runs, names: Mapping[str, RunSpec]) -> Noise | None:
    """The scatter of decayed log losses between finished runs that differ in their seeds alone; None without such runs.

    Losses on all languages of a run are pooled. The degrees of freedom count runs, because the losses of one run are
    correlated.
    """
    total, losses, degrees = 0.0, 0, 0
    known = set(runs.names)
    ends = runs.losses.filter(split="validation", lr_state="decayed")
    values = ends.select("run", "language", value=METRICS[runs.metric].log())
    for same in repeats(spec for name, spec in names.items() if name in known):
        codes = set(same[0].languages)
        part = values.filter(pl.col("run").is_in([spec.name for spec in same]) & pl.col("language").is_in(codes))
        spread = part.group_by("language").agg(pl.col("value").var(), pl.len().alias("n")).filter(pl.col("n") > 1)
        if spread.height:
            total += float((spread["value"] * (spread["n"] - 1)).sum())
            losses += int((spread["n"] - 1).sum())
            degrees += len(same) - 1
    if not losses:
        return None
    sd = math.sqrt(total / losses)
    low, high = (100 * sd * end for end in spread_of_sd(degrees))
    source = f"measured on {degrees} repeats among finished runs (90 %: {low:.2g} to {high:.2g} %)"
    return Noise(sd, degrees, source)


def spread_of_sd(degrees: int) -> tuple[float, float]:
    """Ends of the 90 % interval of a standard deviation, as multiples of its estimate (normal errors)."""
    low, high = (math.sqrt(degrees / float(2 * gammaincinv(degrees / 2, p))) for p in (0.95, 0.05))
    return low, high


def alike(spec: RunSpec) -> str:
    """What a run's expected loss depends on: its identity without seeds and without its evaluation steps."""
    identity: dict[str, Any] = spec.identity() | {"seed": None}
    identity["recipe"].pop("evaluations", None)
    if isinstance(spec.base, RunSpec):
        identity["base"] = alike(spec.base)
    return json.dumps(identity, sort_keys=True)


def _seeds(spec: RunSpec) -> tuple[int, ...]:
    return (spec.seed, *(_seeds(spec.base) if isinstance(spec.base, RunSpec) else ()))


def distinct(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Runs that end in different losses: of those that differ in their evaluations alone, the one with the most."""
    found: dict[tuple[str, tuple[int, ...]], RunSpec] = {}
    for spec in specs:
        key = alike(spec), _seeds(spec)
        if key not in found or spec.recipe.evaluations > found[key].recipe.evaluations:
            found[key] = spec
    return list(found.values())


def repeats(specs: Iterable[RunSpec]) -> list[list[RunSpec]]:
    """Sets of two or more runs that differ in their seeds alone."""
    return [same for same in grouped(distinct(specs), alike).values() if len(same) > 1]


def grouped(specs: Iterable[RunSpec], key: Callable[[RunSpec], Key]) -> dict[Key, list[RunSpec]]:
    """Runs by a key, in their order."""
    found: dict[Key, list[RunSpec]] = {}
    for spec in specs:
        found.setdefault(key(spec), []).append(spec)
    return found


def plain(spec: RunSpec) -> bool:
    """Whether a run starts from scratch, reads the whole text under the shared vocabulary and keeps one mixture."""
    return spec.base is None and spec.own is None and spec.unique_tokens is None and spec.then is None


def only(spec: RunSpec) -> str | None:
    """The language of a monolingual run."""
    return spec.languages[0] if len(spec.languages) == 1 else None


def named(items: Iterable[str], what: str) -> str:
    """A short list, or the number of items."""
    listed = sorted(set(items))
    return " ".join(listed) if len(listed) <= 12 else f"{len(listed)} {what}"
