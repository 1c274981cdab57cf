"""partition_models(): one model for all languages, or several that share the same training compute or inference memory.

Every model is planned for its own languages (with helpers, where the laws name any); a partition is judged by the same
weighted mean loss as one model for all. Which losses fall when languages part, and why, is in the laws: K^phi of the
multilinguality law is paid per model, and transfer is lost between models.

A translation-style split is judged too where a `pivot` is named: "pairs", a model for the pivot and each other
language, or "hub", one model of the pivot alone and a translator of all languages. No law gives the loss of a
translated answer, so a hub's two losses are told side by side and its compute is divided to minimise the mean of both.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from babelscale import files
from babelscale import languages as language_table
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.formatting import count, json_ready, text_table
from babelscale.intervals import interval
from babelscale.planning import group_models
from babelscale.planning.budget import Budget, optimum
from babelscale.planning.group_models import GroupModel, ModelCache
from babelscale.planning.law_source import FittedLaws, LawSource
from babelscale.planning.optimiser.setting import Setting, problem
from babelscale.planning.request import DRAWS, PlanRequest, check_unique, check_weights
from babelscale.transfer import TransferMatrix

Array = NDArray[np.float64]
Split = Literal["pairs", "hub"]
_INFERENCE_BYTES = 2.0


@dataclass(frozen=True)
class Part:
    """One model: its languages, N, tokens by language, compute and expected losses."""

    languages: tuple[str, ...]
    params: float
    tokens: Mapping[str, float]
    compute: float
    losses: Mapping[str, float]


@dataclass(frozen=True)
class ModelPartition:
    """One model against several of the same compute.

    `gain` is the objective of one model for all less that of the parts, with its 90 % interval over draws at these
    allocations: positive where several are better. `losses` pair each language's loss under one model and under the
    parts. `tried` partitions were judged; `all` says whether those are all there are.
    """

    answer: Literal["one", "several", "either"]
    parts: tuple[Part, ...]
    one: Part
    objective: float
    gain: tuple[float, float, float]
    losses: Mapping[str, tuple[float, float]]
    compute: float
    memory: float | None
    tried: int
    all: bool
    metric: str
    notes: tuple[str, ...]
    source: str
    split: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return json_ready({"kind": "modular", **asdict(self)})

    def save(self, path: str | Path) -> Path:
        return files.write_json(path, self.to_dict())

    def __str__(self) -> str:
        words = {"one": "one model for all", "several": f"{len(self.parts)} models", "either": "either"}
        gain, low, high = self.gain
        within = "unknown" if math.isnan(low) else f"90 % {low:+.4f} to {high:+.4f}"
        lines = [
            f"{words[self.answer]}, for {self.compute:.3g} FLOPs of training in all"
            + (f" and {count(self.memory)} parameters in memory" if self.memory else ""),
            f"  loss in {self.metric.replace('_', ' ')}",
            f"  several models lower the objective by {gain:+.4f} ({within})",
            "",
        ]
        rows = [
            [", ".join(part.languages), count(part.params), count(sum(part.tokens.values())), f"{part.compute:.3g}"]
            for part in (self.one, *self.parts)
        ]
        rows[0][0] = "one for all"
        lines += ["  " + line.rstrip() for line in text_table(("model", "parameters", "tokens", "FLOPs"), rows)]
        rows = [[code, f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}"] for code, (a, b) in self.losses.items()]
        lines += ["", *("  " + line for line in text_table(("language", "one model", "parts", "change"), rows)), ""]
        return "\n".join([*lines, *(f"  * {sentence}" for sentence in self.notes), f"  source: {self.source}"])


def partition_models(
    fits: Fit | Sequence[Fit] | None = None,
    *,
    compute: float,
    languages: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    unique_tokens: Mapping[str, float] | None = None,
    models: int | None = None,
    memory: float | bool | None = None,
    bytes_per_param: float = _INFERENCE_BYTES,
    pivot: str | None = None,
    split: Split | None = None,
    matrix: TransferMatrix | None = None,
    published: bool = False,
    most: int = 300,
    draws: int = DRAWS,
    seed: int = 0,
) -> ModelPartition:
    """One model or several.

    Args:
        fits, published, languages, weights, unique_tokens: as in `plan`; languages beyond the targets may be trained on
            in every model.
        compute: C of all models together, FLOPs.
        models: how many models (default: as many as lower the objective, at least two).
        memory: bytes that all models may fill when served, at `bytes_per_param`; True for what one model would fill.
        pivot, split: a translation-style split into "pairs" with the pivot, or a "hub" with a translator.
        matrix: transfer scores that guide the search (default with `published=True`: the study's).
        most: partitions to try at most, where there are too many for all.
        draws: of the laws, for the interval of the gain.

    Raises:
        InputError: fewer than two targets, an unknown pivot, more models than languages, or what `plan` refuses.
    """
    budget = Budget.of(PlanRequest(compute=compute))
    if published:
        from babelscale import published as figures
        from babelscale.planning.published_laws import PublishedLaws

        if fits is not None:
            raise InputError("both fits and published=True", hint="plan from your fits or from the printed figures")
        basis: LawSource = PublishedLaws.of(languages, None, unique_tokens)
        matrix = matrix or figures.transfer_matrix()
    else:
        basis = FittedLaws.of(fits)
    codes = language_table.check(dict.fromkeys(languages or basis.languages()), "languages")
    targets = basis.targets
    if len(targets) < 2:
        raise InputError("one target needs one model", hint="name two languages or more")
    if missing := [code for code in targets if code not in codes]:
        raise InputError(f"target {missing[0]!r} is not among the languages", hint=f"add it: {', '.join(codes)}")
    if models is not None and not 2 <= models <= len(targets):
        raise InputError(f"models is {models}", hint=f"between 2 and {len(targets)}, a model a language")
    if (pivot is None) != (split is None):
        raise InputError("pivot and split go together", hint='for example pivot="en", split="pairs"')
    if pivot is not None and pivot not in targets:
        raise InputError(f"pivot {pivot!r} is not a target", hint=f"targets: {', '.join(targets)}")
    shares = check_weights(weights, targets)
    unique = basis.unique(codes) | check_unique(unique_tokens, codes)
    shop = ModelCache(basis, shares, unique, [code for code in codes if code not in targets])
    whole = shop(frozenset(targets))
    if whole is None:
        raise InputError(
            "one model cannot hold these languages: no mixture at which every target's effective tokens are positive",
            hint="transfer is too negative; plan fewer languages together",
        )
    one = _exact(basis, whole, compute, None, budget, seed)
    room = None
    if memory is True:
        room = one.params
    elif memory:
        room = float(memory) / bytes_per_param
    if room is not None and not room >= 1e3:
        raise InputError(f"memory {memory} holds no model", hint=f"the least is {1e3 * bytes_per_param:.3g} bytes")
    if room is not None and room < one.params:
        one = _exact(basis, whole, compute, math.log(room), budget, seed)
    if split is not None and pivot is not None:
        chosen, tried, every = _translated(targets, pivot, split), 1, False
    else:

        def cost(parts: Partition) -> float:
            made = [shop(part) for part in parts]
            return math.inf if len(parts) < 2 or None in made else _cost([b for b in made if b], compute, room)

        chosen, tried, every = search(targets, cost, matrix, models, most)
    made = [shop(part) for part in chosen]
    if None in made:
        raise InputError("no partition lies in the laws' domain", hint="leave out languages that interfere")
    return _judged(basis, shop, budget, [b for b in made if b], one, room, (tried, every), split, pivot, draws, seed)


def _translated(targets: Sequence[str], pivot: str, split: Split) -> tuple[frozenset[str], ...]:
    if split == "pairs":
        return tuple(frozenset([pivot, code]) for code in targets if code != pivot)
    return (frozenset([pivot]), frozenset(targets))


def _cost(made: Sequence[GroupModel], compute: float, room: float | None) -> float:
    """The objective of several models from the tables, their compute divided as best it can be."""
    if room is None:
        parts = group_models.split(made, compute)
        return math.fsum(group_models.value(b, float(C))[0] for b, C in zip(made, parts, strict=True))
    C, n = group_models.split_with_memory(made, compute, room)
    x = np.log(C / 6) - n
    return math.fsum(float((b.cap(n[i : i + 1]) + b.h(x[i : i + 1]))[0]) for i, b in enumerate(made))


def _exact(basis: LawSource, block: GroupModel, compute: float, n: float | None, budget: Budget, seed: int) -> Part:
    """A block's own plan, solved and not read from tables."""
    setting = replace(block.setting, compute=compute)
    one = problem(basis.only(block.codes).point(setting), setting)
    question = replace(budget, compute=compute, params=None if n is None else math.exp(n))
    found = optimum(one, question, seed=seed)
    if found is None or not np.isfinite(found.objective[0]):
        raise InputError(f"no plan for {', '.join(block.codes)} lies in the laws' domain")
    X = float(one.budget(found.n)[0][0])
    losses = one.losses(found.shares, found.n)[0]
    tokens = {code: float(p) * X for code, p in zip(setting.languages, found.shares[0], strict=False)}
    return Part(
        block.codes,
        float(found.params[0]),
        tokens,
        compute,
        {code: float(loss) for code, loss in zip(block.codes, losses, strict=True)},
    )


def _judged(
    basis: LawSource,
    shop: ModelCache,
    budget: Budget,
    made: Sequence[GroupModel],
    one: Part,
    room: float | None,
    tried: tuple[int, bool],
    split: str | None,
    pivot: str | None,
    draws: int,
    seed: int,
) -> ModelPartition:
    compute, targets = budget.compute or 0.0, basis.targets
    if room is None:
        C = group_models.split(made, compute)
        parts = [_exact(basis, b, float(c), None, budget, seed) for b, c in zip(made, C, strict=True)]
    else:
        C, n = group_models.split_with_memory(made, compute, room)
        parts = [_exact(basis, b, float(c), float(m), budget, seed) for b, c, m in zip(made, C, n, strict=True)]
    weights = shop.weights
    losses = {code: (one.losses[code], _of(parts, code, pivot, split)) for code in targets}
    gain = math.fsum(weights[code] * (a - b) for code, (a, b) in losses.items())
    low, high = _interval(basis, shop, one, parts, (pivot, split), draws, seed)
    low, high = min(low, gain), max(high, gain)
    answer = "either" if math.isnan(low) or low <= 0 <= high else "several" if gain > 0 else "one"
    return ModelPartition(
        answer=answer,
        parts=tuple(parts),
        one=one,
        objective=math.fsum(weights[code] * b for code, (_, b) in losses.items()),
        gain=(gain, low, high),
        losses=losses,
        compute=compute,
        memory=room,
        tried=tried[0],
        all=tried[1],
        metric=basis.metric,
        notes=tuple(_notes(basis, tried, room, split, pivot, len(targets))),
        source=basis.source,
        split=split,
    )


def _of(parts: Sequence[Part], code: str, pivot: str | None, split: str | None) -> float:
    """A language's loss under the parts: the hub's for its pivot, the mean over pairs for theirs."""
    own = [part.losses[code] for part in parts if code in part.losses]
    return own[0] if split == "hub" and code == pivot else math.fsum(own) / len(own)


def _interval(
    basis: LawSource,
    shop: ModelCache,
    one: Part,
    parts: Sequence[Part],
    how: tuple[str | None, str | None],
    draws: int,
    seed: int,
) -> tuple[float, float]:
    """90 % of the gain over draws, both allocations held; paired, since a draw is a law and not a model."""

    def drawn(part: Part) -> dict[str, Array] | None:
        codes = (*part.languages, *shop.helpers)
        setting = Setting(codes, shop.weights, shop.unique, part.compute)
        laws = basis.only(part.languages).drawn(setting, draws, seed)
        if laws is None:
            return None
        many = problem(laws, setting)
        total = math.fsum(part.tokens.values())
        shares = np.array([[part.tokens[code] / total for code in codes]])
        values = many.losses(np.repeat(shares, draws, 0), np.full(draws, math.log(part.params)))
        return {code: values[:, t] for t, code in enumerate(part.languages)}

    before, after = drawn(one), [drawn(part) for part in parts]
    if before is None or any(each is None for each in after):
        return math.nan, math.nan
    gain = np.zeros(draws)
    for code in basis.targets:
        own = [each[code] for each in after if each and code in each]
        mine = own[0] if how[1] == "hub" and code == how[0] else np.mean(own, axis=0)
        gain += shop.weights[code] * (before[code] - mine)
    return interval(gain[np.isfinite(gain)])


def _notes(
    basis: LawSource, tried: tuple[int, bool], room: float | None, split: str | None, pivot: str | None, K: int
) -> list[str]:
    notes = []
    if split == "hub":
        notes.append(
            f"a question in another language passes the translator and the {pivot} model: no law gives the loss of a "
            "translated answer, so both parts' losses are what is told, and the gain compares the translator's"
        )
    elif split == "pairs":
        notes.append(f"a model for {pivot} and each other language; {pivot}'s loss is the mean over these models")
    elif tried[1]:
        notes.append(f"all {tried[0]} partitions of {K} languages into two models or more were tried")
    else:
        notes.append(f"{tried[0]} partitions were tried, guided by transfer scores; a better one cannot be ruled out")
    if hasattr(basis, "helpers"):
        notes.append(
            "the printed law prices the number of languages of a model and not which they are: transfer between them "
            "only guides the search; fits of the adaptive transfer law price it"
        )
    if room is not None:
        notes.append("memory bounds the sum of the models' parameters when served")
    return notes


Array = NDArray[np.float64]
Codes = frozenset[str]
Partition = tuple[Codes, ...]
EXHAUSTIVE = 6
_NEAREST = 3


def affinity(codes: Sequence[str], matrix: TransferMatrix | None) -> Array:
    """Mean score of both directions, shape (K, K); the mean of all known ones where a pair has none."""
    K = len(codes)
    found = np.full((K, K), np.nan)
    for i, a in enumerate(codes):
        for j, b in enumerate(codes):
            if matrix is not None and i != j and a in matrix.languages and b in matrix.languages:
                x, y = matrix.languages.index(a), matrix.languages.index(b)
                both = np.array([matrix.values[x, y], matrix.values[y, x]])
                found[i, j] = both[np.isfinite(both)].mean() if np.isfinite(both).any() else np.nan
    known = found[np.isfinite(found)]
    return np.where(np.isfinite(found), found, known.mean() if len(known) else 0.0)


def ordered(blocks: Iterable[Codes]) -> Partition:
    return tuple(sorted((block for block in blocks if block), key=lambda block: sorted(block)))


def every(codes: Sequence[str]) -> Iterator[Partition]:
    """Every partition of a few languages."""
    if not codes:
        yield ()
        return
    first, rest = codes[0], codes[1:]
    for smaller in every(rest):
        yield ordered([frozenset([first]), *smaller])
        for i, block in enumerate(smaller):
            yield ordered([*smaller[:i], block | {first}, *smaller[i + 1 :]])


def linkage(codes: Sequence[str], near: Array) -> list[Partition]:
    """One partition of every number of models, from all apart to all together, by average linkage."""
    blocks = [frozenset([i]) for i in range(len(codes))]
    found = []
    while True:
        found.append(ordered(frozenset(codes[i] for i in block) for block in blocks))
        if len(blocks) == 1:
            return found
        pairs = [(i, j) for i in range(len(blocks)) for j in range(i)]
        i, j = max(pairs, key=lambda pair: (_between(blocks[pair[0]], blocks[pair[1]], near), -pair[0], -pair[1]))
        blocks = [b for k, b in enumerate(blocks) if k not in (i, j)] + [blocks[i] | blocks[j]]


def _between(a: Iterable[int], b: Iterable[int], near: Array) -> float:
    return float(near[np.ix_(list(a), list(b))].mean())


def neighbours(partition: Partition, codes: Sequence[str], near: Array, models: int | None) -> Iterator[Partition]:
    """Partitions one move away: a language to one of the models nearest to it, or alone; two models merged."""
    index = {code: i for i, code in enumerate(codes)}
    for block in partition:
        for code in sorted(block):
            rest = [other for other in partition if other is not block]
            left = block - {code}
            ranked = sorted(rest, key=lambda other: -_between([index[code]], [index[c] for c in other], near))
            for other in ranked[:_NEAREST]:
                moved = ordered([left, other | {code}, *(b for b in rest if b is not other)])
                if models is None or len(moved) == models:
                    yield moved
            if left and models is None:
                yield ordered([left, frozenset([code]), *rest])
    if models is None:
        for i, a in enumerate(partition):
            for b in partition[:i]:
                yield ordered([a | b, *(c for c in partition if c is not a and c is not b)])


def search(
    codes: Sequence[str],
    cost: Callable[[Partition], float],
    matrix: TransferMatrix | None,
    models: int | None,
    most: int,
) -> tuple[Partition, int, bool]:
    """The best partition found, how many were tried, and whether that was all of them.

    Args:
        models: how many models; None for any number. most: partitions to try at most where not all are.
    """
    tried: dict[Partition, float] = {}

    def judged(partition: Partition) -> float:
        if partition not in tried:
            tried[partition] = cost(partition)
        return tried[partition]

    fits = [p for p in every(codes) if len(p) > 1 and models in (None, len(p))] if len(codes) <= EXHAUSTIVE else None
    if fits is not None:
        return min(fits, key=judged), len(tried), True
    near = affinity(codes, matrix)
    starts = [p for p in linkage(codes, near) if models in (None, len(p))]
    best = min(starts, key=judged)
    improved = True
    while improved and len(tried) < most:
        improved = False
        for other in neighbours(best, codes, near, models):
            if judged(other) < judged(best) * (1 - 1e-9):
                best, improved = other, True
                break
            if len(tried) >= most:
                break
    return best, len(tried), False
