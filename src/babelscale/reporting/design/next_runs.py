"""The next runs of a study that would measure transfer between its languages best, for a budget.

The first ones spread the languages evenly over random mixtures. Once a few mixtures are measured, the next are those
that reduce the uncertainty of the gains most (`transfer.acquisition`). Mixtures have several widths, pairs among them:
without pairs, neither the form of a mixture nor the cost of many languages can be separated from the gains. A language
gets as many tokens in a wide mixture as in a narrow one, so that all are measured at one anchor. Languages without a
monolingual run, which is the baseline of every mixture, come first.
"""

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from babelscale import files
from babelscale.errors import InputError
from babelscale.formatting import json_ready
from babelscale.reporting.report.language_features import language_features
from babelscale.transfer.acquisition import balanced, propose
from babelscale.transfer.measure import from_scratch, trained_on
from babelscale.transfer.mixture_observations import observe_mixtures
from babelscale.transfer.mixtures import MixtureEstimate, estimate

if TYPE_CHECKING:
    from babelscale.runs import Runs
    from babelscale.study.design import Design
    from babelscale.study.study import Study

WIDTH = 8
# Tokens of a language in a mixture, as a share of its monolingual run: enough to reach the loss at 0.4 of that run's
# tokens where the other languages interfere.
_ENOUGH = 0.75
# Makes the random mixtures of a second proposal differ from those of the first.
_STEP = 1000


@dataclass(frozen=True)
class NextRuns:
    """Runs to train next.

    Attributes:
        design: the study's design with the new groups, ready to run in the same folder.
        baselines: languages that lack a monolingual run.
        mixtures: languages of each new mixture, evenly sampled, the most informative first.
        size: of all of them.
        tokens: of each language in a mixture; `baseline_tokens` of a monolingual run.
        compute: FLOPs of all of them.
        chosen: "evenly" (random, every language equally often) or "by uncertainty".
        sd: root mean square of the standard deviations of the log gains, now and expected after these runs; None where
            no mixture is measured yet.
    """

    design: "Design"
    baselines: tuple[str, ...]
    mixtures: tuple[tuple[str, ...], ...]
    size: str
    tokens: float
    baseline_tokens: float
    compute: float
    chosen: str
    sd: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        return json_ready({name: value for name, value in vars(self).items() if name != "design"})

    def __str__(self) -> str:
        first = f"; first {len(self.baselines)} monolingual runs" if self.baselines else ""
        lines = [
            f"{len(self.mixtures)} mixtures of size {self.size}, {self.tokens:,.0f} tokens per language, chosen "
            f"{self.chosen}{first}; {self.compute:.3g} FLOPs in total",
            *(f"  {' '.join(mixture)}" for mixture in self.mixtures),
        ]
        if self.baselines:
            lines.append(f"monolingual, {self.baseline_tokens:,.0f} tokens each: {' '.join(self.baselines)}")
        if self.sd is not None:
            lines.append(
                f"uncertainty of a log gain (standard deviation over all pairs): {self.sd[0]:.3f} now, expected "
                f"{self.sd[1]:.3f} after these runs"
            )
        return "\n".join(lines)

    def save(self, path: Path) -> Path:
        """Write the design as TOML; one that exists is not overwritten.

        Raises:
            InputError: the file exists.
        """
        from babelscale.study.design import to_toml

        if path.exists():
            raise InputError(f"{path} exists already", hint="give another file with --file")
        about = f"{self.design.name} with {len(self.mixtures)} more mixtures, chosen {self.chosen}.\n"
        about += "Run it in the study's own folder: runs that are finished there are not trained again."
        return files.write_text(path, to_toml(self.design, about))


def next_runs(
    study: "Study",
    *,
    compute: float | None = None,
    count: int | None = None,
    width: int | None = None,
    tokens: float | None = None,
    size: str | None = None,
    targets: Sequence[str] | None = None,
    seed: int = 0,
) -> NextRuns:
    """Propose the next runs of a study.

    Args:
        study: its finished runs are used, if there are any.
        compute: FLOPs for all of them; or give `count`, the number of mixtures.
        width: languages of the widest mixtures (default 8, or two thirds of a study of fewer than twelve); others have
            half as many, or two.
        tokens: of each language in a mixture (default: as in the longest mixtures of the study at that size, otherwise
            three quarters of a monolingual run's).
        size: of the design's (default: of the most mixtures, otherwise the first).
        targets: languages whose gains matter (default all).
        seed: of the random mixtures and of the starts of their search.

    Raises:
        InputError: neither or both of compute and count, an unknown size or language, or a budget below one run.
    """
    design = study.design
    if (compute is None) == (count is None):
        raise InputError("give either compute or count", hint="--compute 1e15, or --count 10")
    runs = study.runs() if (study.folder / "finished").exists() else None
    size = size or _usual_size(study, runs)
    if size not in design.sizes:
        raise InputError(f"the design has no size {size!r}", hint=f"the design has {', '.join(design.sizes)}")
    trained = _trained(runs, design.shape(size).params)
    single = (
        max((t for codes, t in trained.items() if len(codes) == 1), default=None)
        or _monolingual_length(design, size)
        or tokens
    )
    if single is None:
        raise InputError("the study has no monolingual run to take a length from", hint="give --tokens")
    each = tokens or max((t / len(codes) for codes, t in trained.items() if len(codes) > 1), default=_ENOUGH * single)
    alone = {code for codes in trained if len(codes) == 1 for code in codes}
    baselines = tuple(code for code in design.languages if code not in alone)
    rate = design.shape(size).flops_per_token(design.training_recipe(size).sequence_length)
    widest = min(WIDTH, max(2, 2 * len(design.languages) // 3)) if width is None else width
    there = {frozenset(codes) for codes in trained} | _planned(design, size)
    unused = _unused(widest, len(design.languages), there)
    widths = _widths(widest, unused, each * rate, count, compute, len(baselines) * single * rate)
    estimated = _estimate(study, runs, design.shape(size).params)
    number = 1 + len({group.name.split("-")[1] for group in design.groups if group.name.startswith("next-")})
    if estimated is None:
        mixtures, chosen, sd = _evenly(design.languages, widths, there, seed + _STEP * number), "evenly", None
    else:
        proposal = propose(estimated, widths, targets=targets, seed=seed, avoid=there)
        mixtures, chosen, sd = proposal.mixtures, "by uncertainty", (proposal.sd[0], proposal.sd[-1])
    spent = rate * (len(baselines) * single + each * sum(widths))
    grown = _grown(design, baselines, mixtures, size, single, each, number)
    return NextRuns(grown, baselines, mixtures, size, each, single, spent, chosen, sd)


def _planned(design: "Design", size: str) -> set[frozenset[str]]:
    """Even mixtures that the design's groups name at a size, whether trained or not."""
    found: set[frozenset[str]] = set()
    for group in design.groups:
        if size not in group.sizes or group.continue_from or group.checkpoint or group.then:
            continue
        codes = group.languages or design.languages
        match group.mixture:
            case "bilingual":
                found |= {frozenset(pair) for pair in group.pairs or itertools.combinations(codes, 2)}
            case "uniform":
                found.add(frozenset(codes))
            case "shares":
                found |= {frozenset(mixture) for mixture in group.shares or () if len(set(mixture.values())) == 1}
    return found


def _unused(widest: int, languages: int, there: Collection[frozenset[str]]) -> dict[int, int]:
    """Mixtures that are neither trained nor planned yet, by width."""
    if not 2 <= widest <= languages:
        raise InputError(f"mixtures of {widest} out of {languages} languages", hint=f"2 to {languages}")
    done = Counter(len(codes) for codes in there)
    return {width: math.comb(languages, width) - done[width] for width in (widest, max(2, widest // 2), 2)}


def _widths(
    widest: int, unused: Mapping[int, int], price: float, count: int | None, compute: float | None, before: float
) -> list[int]:
    """Languages of each mixture, as many as the count or the budget allows: wide, half as wide, wide, pairs, and again.

    Args:
        unused: number of mixtures of each width that are neither trained nor planned.
        price: FLOPs of one language in a mixture; `before`: FLOPs of the monolingual runs.
    """
    rest = dict(unused)
    found: list[int] = []
    for width in itertools.cycle((widest, max(2, widest // 2), widest, 2)):
        over = compute is not None and before + price * (sum(found) + width) > compute
        if over or len(found) == count or not any(rest.values()):
            break
        if rest[width]:
            rest[width] -= 1
            found.append(width)
    if not found and compute is not None:
        raise InputError(
            f"{compute:.3g} FLOPs are not enough for the monolingual runs and one mixture",
            hint=f"give at least {before + price * widest:.3g}, or fewer --tokens",
        )
    return found


def _evenly(
    languages: Sequence[str], widths: Sequence[int], there: Collection[frozenset[str]], seed: int
) -> tuple[tuple[str, ...], ...]:
    """New mixtures of the given widths, in their order, with every language about equally often in those of a width."""
    taken = set(there)
    dealt: dict[int, Iterator[tuple[str, ...]]] = {}
    for width in dict.fromkeys(widths):
        deals = (balanced(languages, width, len(languages), seed + width + _STEP * k) for k in itertools.count())
        dealt[width] = itertools.chain.from_iterable(deals)
    found = []
    for width in widths:
        mixture = next(mixture for mixture in dealt[width] if frozenset(mixture) not in taken)
        taken.add(frozenset(mixture))
        found.append(mixture)
    return tuple(found)


def _usual_size(study: "Study", runs: "Runs | None") -> str:
    if runs is not None:
        several = trained_on(from_scratch(runs)).filter(pl.col("language").list.len() > 1)
        sizes = runs.table.filter(pl.col("run").is_in(several["run"].to_list()))["size"].drop_nulls()
        if len(sizes):
            return str(sizes.value_counts().sort("count", "size", descending=True)["size"][0])
    return next(iter(study.design.sizes))


def _trained(runs: "Runs | None", params: int) -> Mapping[tuple[str, ...], float]:
    """Longest run from scratch of each set of languages at one size, in tokens."""
    if runs is None:
        return {}
    scratch = from_scratch(runs)
    rows = trained_on(scratch).join(scratch.table.select("run", "tokens"), on="run").filter(pl.col("params") == params)
    found: dict[tuple[str, ...], float] = {}
    for row in rows.iter_rows(named=True):
        key = tuple(row["language"])
        found[key] = max(found.get(key, 0.0), row["tokens"])
    return found


def _monolingual_length(design: "Design", size: str) -> float | None:
    """Tokens of the design's longest monolingual run from scratch at a size."""
    lengths = [
        length
        for group in design.groups
        if group.mixture == "monolingual" and size in group.sizes and not group.continue_from and not group.then
        for length in design.lengths(group, size)
    ]
    return max(lengths, default=None)


def _estimate(study: "Study", runs: "Runs | None", params: int) -> MixtureEstimate | None:
    """The estimated gains; None where some language has no measured mixture."""
    if runs is None:
        return None
    try:
        readings = observe_mixtures(runs, params=params)
        known = language_features(study.folder, readings.languages)
        found = estimate(readings, known)
    except InputError:
        # There are too few mixtures or baselines yet. The first proposals do not need them.
        return None
    return found if set(found.matrix.languages) == set(study.design.languages) else None


def _grown(
    design: "Design",
    baselines: Sequence[str],
    mixtures: Sequence[Sequence[str]],
    size: str,
    single: float,
    each: float,
    number: int,
) -> "Design":
    """The design with groups for the baselines and for the mixtures of each width."""
    from babelscale.study.design import Group

    def group(name: str, why: str, tokens: float, **more: Any) -> Group:
        return Group(name=f"next-{number}-{name}", why=why, sizes=(size,), tokens=(float(math.ceil(tokens)),), **more)

    groups = list(design.groups)
    if baselines:
        more: dict[str, Any] = {"mixture": "monolingual", "languages": tuple(baselines)}
        groups.append(group("baselines", "baselines of the mixtures", single, **more))
    for width in sorted({len(mixture) for mixture in mixtures}):
        shares = tuple(dict.fromkeys(mixture, 1.0) for mixture in mixtures if len(mixture) == width)
        why = "mixtures that measure transfer best"
        groups.append(group(str(width), why, width * each, mixture="shares", shares=shares))
    return design.model_copy(update={"groups": tuple(groups)})
