"""partition_models(): one model for all languages, or several that share the training compute or the inference memory.

Every model is planned for its own languages (with helpers, where the laws name any); a partition is judged by the same
weighted mean loss as one model for all. The laws decide which losses fall when languages part: K^phi of the
multilinguality law is paid by each model, and transfer is lost between models.

A translation-style split is judged too where a `pivot` is named: "pairs", a model for the pivot and each other
language, or "hub", one model of the pivot alone and a translator of all languages. No law predicts the loss of a
translated answer, so the two losses of a hub are shown side by side and its compute minimises the mean of both.

Up to `EXHAUSTIVE` languages every partition is tried. Above, average linkage of the transfer scores (the mean of both
directions) gives one partition for each number of models; from the best of these, languages are moved to the models
they have most in common with, models are merged and languages set apart, as long as the objective falls.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, ParamSpec, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from babelscale import languages as language_table
from babelscale import published
from babelscale.errors import InputError
from babelscale.formatting import count, fill_none, indented_table, json_ready
from babelscale.intervals import interval
from babelscale.options import takes
from babelscale.planning import group_models
from babelscale.planning.budget import Budget, optimum
from babelscale.planning.fitted_laws import FittedLaws
from babelscale.planning.group_models import GroupModel, ModelCache
from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.optimiser.setting import LawSource, Setting
from babelscale.planning.planner import Fits
from babelscale.planning.published_laws import PublishedLaws
from babelscale.planning.request import PartitionRequest, PlanRequest, check_unique, check_weights
from babelscale.result import JsonResult
from babelscale.transfer import TransferMatrix

Array = NDArray[np.float64]
Codes = frozenset[str]
Partition = tuple[Codes, ...]
P = ParamSpec("P")
EXHAUSTIVE = 6
_NEAREST = 3


@dataclass(frozen=True)
class PlannedModel:
    """One model: its languages, N, tokens by language, compute and expected losses."""

    languages: tuple[str, ...]
    params: float
    tokens: Mapping[str, float]
    compute: float
    losses: Mapping[str, float]


@dataclass(frozen=True, repr=False)
class ModelPartition(JsonResult):
    """One model against several of the same compute.

    `gain` is the objective of one model for all less that of the parts, with its 90 % interval over draws at these
    allocations: positive where several are better. `losses` pair each language's loss under one model and under the
    parts. `tried` is the number of partitions compared; `all` says whether those are all there are.
    """

    indent: ClassVar[int | None] = 1

    answer: Literal["one", "several", "either"]
    parts: tuple[PlannedModel, ...]
    one: PlannedModel
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

    @property
    def headline(self) -> str:
        words = {"one": "one model for all", "several": f"{len(self.parts)} models", "either": "either"}
        memory = f" and {count(self.memory)} parameters in memory" if self.memory else ""
        return f"{words[self.answer]}, for {self.compute:.3g} FLOPs of training in all{memory}"

    def to_dict(self) -> dict[str, Any]:
        return json_ready({"kind": "modular", **asdict(self)})

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**data, "gain": fill_none(data["gain"], math.nan)}

    def to_frame(self) -> pl.DataFrame:
        """One row for each model; the first is the one model for all languages."""
        models = (self.one, *self.parts)
        return pl.DataFrame(
            {
                "model": ["one model for all", *(f"part {i}" for i in range(1, len(models)))],
                "languages": [", ".join(model.languages) for model in models],
                "params": [model.params for model in models],
                "tokens": [math.fsum(model.tokens.values()) for model in models],
                "compute": [model.compute for model in models],
            }
        )

    def summary(self) -> str:
        gain, low, high = self.gain
        within = "unknown" if math.isnan(low) else f"90 % {low:+.4f} to {high:+.4f}"
        models = [
            [", ".join(model.languages), count(model.params), count(sum(model.tokens.values())), f"{model.compute:.3g}"]
            for model in (self.one, *self.parts)
        ]
        models[0][0] = "one model for all"
        losses = [[code, f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}"] for code, (a, b) in self.losses.items()]
        lines = [
            self.headline,
            f"  loss in {self.metric.replace('_', ' ')}",
            f"  several models lower the objective by {gain:+.4f} ({within})",
            "",
            *indented_table(("model", "parameters", "tokens", "FLOPs"), models),
            "",
            *indented_table(("language", "one model", "parts", "change"), losses),
            "",
            *(f"  * {note}" for note in self.notes),
            f"  source: {self.source}",
        ]
        return "\n".join(lines)


class _Partitions(Protocol[P]):
    """The type of `partition_models`: fits, transfer scores, and the options of its request."""

    def __call__(
        self, fits: Fits = None, matrix: TransferMatrix | None = None, *args: P.args, **kwargs: P.kwargs
    ) -> ModelPartition: ...


def _takes_laws(model: Callable[P, Any]) -> Callable[[Callable[..., ModelPartition]], _Partitions[P]]:
    return takes(model)  # pyright: ignore[reportReturnType]  # `takes` keeps parameters that stand before the request


def solve_partition(fits: Fits, matrix: TransferMatrix | None, request: PartitionRequest) -> ModelPartition:
    """One model or several.

    Args:
        fits: as in `plan`. Languages beyond the targets may be trained on in every model.
        matrix: transfer scores that guide the search (default with `published=True`: the study's).
        OPTIONS

    Raises:
        InputError: fewer than two targets, an unknown pivot, more models than languages, or what `plan` refuses.
    """
    laws: LawSource
    if request.published:
        if fits is not None:
            raise InputError("both fits and published=True", hint="plan from your fits or from the published figures")
        laws, matrix = (
            PublishedLaws.of(request.languages, None, request.unique_tokens),
            matrix or published.transfer_matrix(),
        )
    else:
        laws = FittedLaws.of(fits)
    return _Partitioner.of(laws, request).best(matrix)


partition_models = _takes_laws(PartitionRequest)(solve_partition)


@dataclass(frozen=True)
class _Partitioner:
    """A checked request to divide the targets of laws over models; `models` are made from tables and kept."""

    laws: LawSource
    request: PartitionRequest
    budget: Budget
    models: ModelCache

    @classmethod
    def of(cls, laws: LawSource, request: PartitionRequest) -> "_Partitioner":
        codes = language_table.check(request.languages or laws.languages(), "languages")
        targets, models, pivot = laws.targets, request.models, request.pivot
        if len(targets) < 2:
            raise InputError("one target needs one model", hint="name two languages or more")
        if missing := [code for code in targets if code not in codes]:
            raise InputError(f"target {missing[0]!r} is not among the languages", hint=f"add it: {', '.join(codes)}")
        if models is not None and not 2 <= models <= len(targets):
            raise InputError(f"models is {models}", hint=f"between 2 and {len(targets)}, a model a language")
        if (pivot is None) != (request.split is None):
            raise InputError("give pivot and split together", hint='for example pivot="en", split="pairs"')
        if pivot is not None and pivot not in targets:
            raise InputError(f"pivot {pivot!r} is not a target", hint=f"targets: {', '.join(targets)}")
        weights = check_weights(request.weights, targets)
        unique = laws.unique(codes) | check_unique(request.unique_tokens, codes)
        cache = ModelCache(laws, weights, unique, [code for code in codes if code not in targets])
        return cls(laws, request, Budget.of(PlanRequest(compute=request.compute)), cache)

    def best(self, matrix: TransferMatrix | None) -> ModelPartition:
        request, targets = self.request, self.laws.targets
        whole = self.models(frozenset(targets))
        if whole is None:
            raise InputError(
                "one model cannot hold these languages: no mixture at which every target's effective tokens are "
                "positive",
                hint="transfer is too negative; plan fewer languages together",
            )
        one = self._planned(whole, request.compute)
        room = self._room(one)
        if room is not None and room < one.params:
            one = self._planned(whole, request.compute, room)
        if request.split is None:
            chosen, tried, every = search(targets, partial(self._cost, room=room), matrix, request.models, request.most)
        else:
            others = [code for code in targets if code != request.pivot]
            pairs = tuple(frozenset([request.pivot or "", code]) for code in others)
            hub = (frozenset([request.pivot or ""]), frozenset(targets))
            chosen, tried, every = pairs if request.split == "pairs" else hub, 1, False
        made = [self.models(part) for part in chosen]
        if None in made:
            raise InputError("no partition lies in the laws' domain", hint="omit languages that interfere")
        divided = self._divided([model for model in made if model], room)
        parts = [self._planned(model, C, None if n is None else math.exp(n)) for model, C, n in divided]
        return self._compared(one, parts, room, (tried, every))

    def _room(self, one: PlannedModel) -> float | None:
        """Parameters that all models together may have; None where memory is not bounded."""
        memory, size = self.request.memory, self.request.bytes_per_param
        if memory is None or memory is False:
            return None
        room = one.params if memory is True else float(memory) / size
        if not room >= 1e3:
            raise InputError(f"memory {memory} is too small for a model", hint=f"the least is {1e3 * size:.3g} bytes")
        return room

    def _cost(self, parts: Partition, room: float | None) -> float:
        """The objective of several models from the tables, their compute divided as best it can be."""
        made = [model for part in parts if (model := self.models(part)) is not None]
        if len(parts) < 2 or len(made) < len(parts):
            return math.inf
        return math.fsum(
            group_models.value(model, C)[0] if n is None else model.value(C, n)
            for model, C, n in self._divided(made, room)
        )

    def _divided(
        self, made: Sequence[GroupModel], room: float | None
    ) -> Iterator[tuple[GroupModel, float, float | None]]:
        """Each model with its part of the compute, and its log N where memory is bounded."""
        if room is None:
            C, n = group_models.split(made, self.request.compute).tolist(), [None] * len(made)
        else:
            C, n = (each.tolist() for each in group_models.split_with_memory(made, self.request.compute, room))
        return zip(made, C, n, strict=True)

    def _planned(self, model: GroupModel, compute: float, params: float | None = None) -> PlannedModel:
        """A group's own plan, solved and not read from tables."""
        setting = replace(model.setting, compute=compute)
        one = LossEvaluator.of(self.laws.only(model.codes).point(setting), setting)
        found = optimum(one, replace(self.budget, compute=compute, params=params), seed=self.request.seed)
        if found is None or not np.isfinite(found.objective[0]):
            raise InputError(f"no plan for {', '.join(model.codes)} lies in the laws' domain")
        X = float(one.budget(found.n)[0][0])
        losses = one.losses(found.shares, found.n)[0]
        return PlannedModel(
            model.codes,
            float(found.params[0]),
            {code: float(p) * X for code, p in zip(setting.languages, found.shares[0], strict=False)},
            compute,
            dict(zip(model.codes, losses.tolist(), strict=True)),
        )

    def _compared(
        self, one: PlannedModel, parts: Sequence[PlannedModel], room: float | None, tried: tuple[int, bool]
    ) -> ModelPartition:
        weights = self.models.weights
        own = self._of_parts([part.losses for part in parts])
        losses = {code: (one.losses[code], float(own[code])) for code in self.laws.targets}
        gain = math.fsum(weights[code] * (a - b) for code, (a, b) in losses.items())
        low, high = self._interval(one, parts)
        low, high = min(low, gain), max(high, gain)
        return ModelPartition(
            answer="either" if math.isnan(low) or low <= 0 <= high else "several" if gain > 0 else "one",
            parts=tuple(parts),
            one=one,
            objective=math.fsum(weights[code] * b for code, (_, b) in losses.items()),
            gain=(gain, low, high),
            losses=losses,
            compute=self.request.compute,
            memory=room,
            tried=tried[0],
            all=tried[1],
            metric=self.laws.metric,
            notes=tuple(self._notes(tried, room)),
            source=self.laws.source,
            split=self.request.split,
        )

    def _of_parts(self, losses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Each language's loss under the parts: the hub's for its pivot, the mean over pairs for theirs."""
        found = {}
        for code in self.laws.targets:
            own = [each[code] for each in losses if code in each]
            found[code] = own[0] if self.request.split == "hub" and code == self.request.pivot else sum(own) / len(own)
        return found

    def _interval(self, one: PlannedModel, parts: Sequence[PlannedModel]) -> tuple[float, float]:
        """90 % of the gain over draws with both allocations fixed; paired, since a draw is a law and not a model."""
        before, *after = (self._drawn(model) for model in (one, *parts))
        if not before:
            return math.nan, math.nan
        own, weights = self._of_parts(after), self.models.weights
        gain = sum((weights[code] * (before[code] - own[code]) for code in self.laws.targets), np.zeros(1))
        return interval(gain[np.isfinite(gain)])

    def _drawn(self, model: PlannedModel) -> dict[str, Array]:
        """The losses of a model's languages at the draws of their laws; empty where there are no draws."""
        codes, count = (*model.languages, *self.models.helpers), self.request.draws
        setting = Setting(codes, self.models.weights, self.models.unique, model.compute)
        laws = self.laws.only(model.languages).drawn(setting, count, self.request.seed)
        if laws is None:
            return {}
        total = math.fsum(model.tokens.values())
        shares = np.array([[model.tokens[code] / total for code in codes]])
        losses = LossEvaluator.of(laws, setting).losses(
            np.repeat(shares, count, 0), np.full(count, math.log(model.params))
        )
        return dict(zip(model.languages, losses.T, strict=True))

    def _notes(self, tried: tuple[int, bool], room: float | None) -> Iterator[str]:
        pivot = self.request.pivot
        if self.request.split == "hub":
            yield (
                f"a question in another language goes through the translator and the {pivot} model. No law predicts "
                "the loss of a translated answer, so both losses are shown; the gain compares the translator's loss"
            )
        elif self.request.split == "pairs":
            yield f"a model for {pivot} and each other language; {pivot}'s loss is the mean over these models"
        elif tried[1]:
            yield f"all {tried[0]} partitions of {len(self.laws.targets)} languages into two models or more were tried"
        else:
            yield f"{tried[0]} partitions were tried, guided by transfer scores; a better one cannot be ruled out"
        if isinstance(self.laws, PublishedLaws):
            yield (
                "the published law reads the number of languages of a model, not which languages they are. Transfer "
                "between them only guides the search; fits of the adaptive transfer law include it in the losses"
            )
        if room is not None:
            yield "memory bounds the sum of the models' parameters when served"


def affinity(codes: Sequence[str], matrix: TransferMatrix | None) -> Array:
    """Mean score of both directions, shape (K, K); the mean of all known scores where a pair has none."""
    scores = np.full((len(codes), len(codes)), np.nan)
    if matrix is not None:
        known = [i for i, code in enumerate(codes) if code in matrix.languages]
        at = [matrix.languages.index(codes[i]) for i in known]
        scores[np.ix_(known, known)] = matrix.values[np.ix_(at, at)]
    np.fill_diagonal(scores, np.nan)
    both = np.ma.masked_invalid([scores, scores.T]).mean(0)
    return np.asarray(both.filled(both.mean() if both.count() else 0.0))


def ordered(blocks: Iterable[Codes]) -> Partition:
    return tuple(sorted((block for block in blocks if block), key=sorted))


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


def by_linkage(codes: Sequence[str], near: Array) -> list[Partition]:
    """One partition for each number of models, from all apart to all together, by average linkage."""
    apart = near.max() - near
    np.fill_diagonal(apart, 0.0)
    blocks: list[Codes] = [frozenset([code]) for code in codes]
    left, found = set(range(len(codes))), [ordered(blocks)]
    for i, j in linkage(squareform(apart, checks=False), "average")[:, :2].astype(int).tolist():
        left = (left - {i, j}) | {len(blocks)}
        blocks.append(blocks[i] | blocks[j])
        found.append(ordered(blocks[k] for k in left))
    return found


def neighbours(partition: Partition, codes: Sequence[str], near: Array, models: int | None) -> Iterator[Partition]:
    """Partitions one move away: a language to one of the models nearest to it, or alone; two models merged."""
    index = {code: i for i, code in enumerate(codes)}
    for block in partition:
        for code in sorted(block):
            rest = [other for other in partition if other is not block]
            smaller = block - {code}
            scores = [float(near[index[code], [index[c] for c in other]].mean()) for other in rest]
            for k in sorted(range(len(rest)), key=lambda k: -scores[k])[:_NEAREST]:
                moved = ordered([smaller, rest[k] | {code}, *rest[:k], *rest[k + 1 :]])
                if models is None or len(moved) == models:
                    yield moved
            if smaller and models is None:
                yield ordered([smaller, frozenset([code]), *rest])
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

    if len(codes) <= EXHAUSTIVE:
        fitting = [p for p in every(codes) if len(p) > 1 and models in (None, len(p))]
        return min(fitting, key=judged), len(tried), True
    near = affinity(codes, matrix)
    best = min((p for p in by_linkage(codes, near) if models in (None, len(p))), key=judged)
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
