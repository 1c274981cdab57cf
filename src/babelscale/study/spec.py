"""The runs a design expands to: what makes each of them that run, and which of them share their beginnings."""

import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from babelscale import mixture as mixtures
from babelscale import tables
from babelscale.errors import InputError
from babelscale.mixture import Mixture
from babelscale.model.shape import Shape
from babelscale.study.design import Design, Group
from babelscale.training.batches import Stage, mixture_name, trained_languages
from babelscale.training.recipe import Recipe


@dataclass(frozen=True)
class PretrainedModel:
    """A model from outside: a folder in the Hugging Face format, and the hash of its weights."""

    folder: str
    hash: str

    @property
    def name(self) -> str:
        return Path(self.folder).name


@dataclass(frozen=True)
class RunSpec:
    """One run: everything that makes it that run.

    `own` names the language whose own tokenizer and store it reads; their hashes are what counts. `unique_tokens` cuts
    the training text of each language to its first so many tokens.
    """

    size: str
    shape: Shape
    mixture: Mixture
    recipe: Recipe
    steps: int
    seed: int
    corpus: str
    tokenizer: str
    base: "RunSpec | PretrainedModel | None" = None
    own: str | None = None
    unique_tokens: int | None = None
    then: Stage | None = None

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that the run trains on, in alphabetical order."""
        return trained_languages(self.mixture, self.then)

    @property
    def mixture_name(self) -> str:
        """What the run trains on, for people."""
        return mixture_name(self.mixture, self.then)

    @property
    def shares(self) -> dict[str, float]:
        """Expected share of all tokens by language, over both stages."""
        if self.then is None:
            return dict(self.mixture.shares)
        second = 1 - self.then.start / self.steps
        stages = ((1 - second, self.mixture.shares), (second, self.then.mixture.shares))
        return {code: sum(part * shares.get(code, 0.0) for part, shares in stages) for code in self.languages}

    def in_one_stage(self) -> "RunSpec":
        """The run that sees the same tokens of each language in one stage."""
        return self if self.then is None else replace(self, mixture=Mixture.of(self.shares), then=None)

    @property
    def tokens(self) -> int:
        return self.steps * self.recipe.tokens_per_step

    @property
    def flops(self) -> int:
        return self.tokens * self.shape.flops_per_token(self.recipe.sequence_length)

    def available(self, unique_tokens: Mapping[str, float]) -> dict[str, float]:
        """U by language of this run, from that of the whole text: less where it reads the first tokens only."""
        cut = math.inf if self.unique_tokens is None else self.unique_tokens
        return {code: min(unique_tokens[code], cut) for code in self.languages}

    @property
    def start(self) -> str:
        """How training begins, in the words of the runs table: from scratch, in two stages, or from a checkpoint."""
        return tables.CHECKPOINT if self.base else tables.TWO_STAGE if self.then else tables.SCRATCH

    @property
    def measured_languages(self) -> tuple[str, ...]:
        """Languages whose held-out losses are measured: those of the run and those of the run it continues from."""
        learned = self.base.languages if isinstance(self.base, RunSpec) else ()
        return tuple(sorted({*self.languages, *learned}))

    @property
    def fork(self) -> int:
        """Steps done when the run stops being what a longer run of its first mixture is: the start of its decay, or of
        its second stage where that comes earlier."""
        decay = self.recipe.phases(self.steps)[1]
        return decay if self.then is None else min(decay, self.then.start)

    @property
    def shared_evaluations(self) -> tuple[int, ...]:
        """Steps up to the fork after which held-out losses are measured."""
        return tuple(step for step in self.recipe.evaluation_steps(self.steps) if step <= self.fork)

    def identity(self) -> dict[str, Any]:
        """What the result depends on. Recipe fields at their defaults are left out, so that a new field moves no run;
        how often a state is saved changes nothing. Text that is not cut and a second stage that is not there are not
        mentioned."""
        identity = {
            "shape": self.shape.identity(),
            "mixture": dict(self.mixture.shares),
            "recipe": dict(_changed(self.recipe)),
            "steps": self.steps,
            "seed": self.seed,
            "corpus": self.corpus,
            "tokenizer": self.tokenizer,
            "base": self.base.hash if self.base else None,
        }
        if self.then is not None:
            identity["then"] = {"step": self.then.start, "mixture": dict(self.then.mixture.shares)}
        if self.unique_tokens is not None:
            identity["unique_tokens"] = self.unique_tokens
        return identity

    @functools.cached_property
    def hash(self) -> str:
        return identity_hash(self.identity())

    @functools.cached_property
    def name(self) -> str:
        """Readable, and unique by the first ten digits of the hash; made of the identity alone."""
        kind = self._kind
        if self.base is not None:
            kind = f"{self.base._kind if isinstance(self.base, RunSpec) else self.base.name}-to-{kind}"
        if self.unique_tokens is not None:
            kind += f"-of-{_short(self.unique_tokens)}"
        return f"{self.size}-{kind}-{_short(self.tokens)}-s{self.seed}-{self.hash[:10]}"

    @property
    def _kind(self) -> str:
        return _label(self.mixture) + (f"-then-{_label(self.then.mixture)}" if self.then is not None else "")


def identity_hash(identity: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of what makes a run that run; its first ten digits end the run's name."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


_ROUNDING = 1e-6  # of a budget against the largest that fits
Own = Callable[[str], tuple[str, str] | None]


@functools.cache
def _changed(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe that are not at their defaults and change the result. Thousands of runs share a recipe."""
    standard = asdict(Recipe())
    return {k: v for k, v in asdict(recipe).items() if v != standard[k] and k != "checkpoint_every"}


def expand(
    design: Design,
    unique_tokens: Mapping[str, float],
    corpus: str,
    tokenizer: str,
    checkpoint_hash: Callable[[str], str] = str,
    own: Own | None = None,
) -> dict[str, list[RunSpec]]:
    """The runs of every group. Groups may name the same run; it is trained once.

    Args:
        unique_tokens: U by language, which proportional, temperature and UniMax mixtures are made from.
        corpus, tokenizer: hashes that become part of each run's identity.
        checkpoint_hash: from the folder of a model from outside to the hash of its weights.
        own: from a language to the hashes of its text under its own tokenizer and of that tokenizer; None where that is
            not prepared, and its runs are left out.
    """
    own = own or (lambda code: (f"{corpus}/{code}", f"{tokenizer}/{code}"))
    groups: dict[str, list[RunSpec]] = {}
    for group in design.groups:
        specs: list[RunSpec] = []
        each = [(size, tokens) for size in group.sizes for tokens in design.lengths(group, size)]
        for (size, tokens), seed in itertools.product(each, group.seeds):
            shape, recipe = design.shape(size), design.training_recipe(size, group)
            base: RunSpec | PretrainedModel | None = None
            if group.continue_from is not None:
                base = _base(groups[group.continue_from], group, size, seed)
            elif group.checkpoint is not None:
                base = PretrainedModel(group.checkpoint, checkpoint_hash(group.checkpoint))
            for mixture in _mixtures(group, design, unique_tokens, tokens):
                alone = mixture.languages[0] if group.tokenizer == "own" else None
                text = (corpus, tokenizer) if alone is None else own(alone)
                if text is not None:
                    steps = recipe.steps(tokens)
                    made = [
                        RunSpec(
                            size, shape, mixture, recipe, steps, seed, *text, base, alone, group.unique_tokens, then
                        )
                        for then in _second_stages(group, steps)
                    ]
                    specs += [spec.in_one_stage() for spec in made] if group.one_stage else made
        groups[group.name] = specs
    return groups


def chosen(groups: Mapping[str, list[RunSpec]], only: Collection[str] | None = None) -> dict[str, RunSpec]:
    """The runs of some groups (by default all) by name, those they continue from before them.

    Raises:
        InputError: there is no such group.
    """
    if unknown := [name for name in only or () if name not in groups]:
        raise InputError(f"no group {unknown[0]!r}", hint=f"the design has {', '.join(groups)}")
    wanted = [spec for name, specs in groups.items() if only is None or name in only for spec in specs]
    return {spec.name: spec for spec in (*(base for spec in wanted for base in bases(spec)), *wanted)}


def bases(spec: RunSpec) -> Iterator[RunSpec]:
    """The runs that a run continues from, the first of the chain first."""
    if isinstance(spec.base, RunSpec):
        yield from bases(spec.base)
        yield spec.base


def trunks(specs: Iterable[RunSpec]) -> dict[str, RunSpec]:
    """Run -> the run with the latest fork of those that begin like it; a run that is its own trunk is left out.

    Runs begin alike where they differ in their length, their second stage and when they are evaluated alone. Up to its
    fork a run is the same to the bit as its trunk, so it can branch off there (Hu et al. 2024, arXiv 2404.06395,
    section 4). Runs too short for the whole warm-up warm up faster, and begin otherwise.
    """
    longest: dict[str, RunSpec] = {}
    keys: dict[str, str] = {}
    for spec in sorted(specs, key=lambda spec: (-spec.fork, -spec.steps, spec.then is not None, spec.name)):
        alike = spec.identity() | {"steps": None, "then": None, "warm": spec.recipe.phases(spec.steps)[0]}
        alike["recipe"].pop("evaluations", None)
        keys[spec.name] = json.dumps(alike, sort_keys=True)
        longest.setdefault(keys[spec.name], spec)
    return {name: longest[key] for name, key in keys.items() if longest[key].name != name}


def _mixtures(group: Group, design: Design, unique_tokens: Mapping[str, float], tokens: float) -> list[Mixture]:
    codes = group.languages or design.languages
    match group.mixture:
        case "monolingual":
            return [mixtures.monolingual(code) for code in codes]
        case "bilingual":
            return [mixtures.bilingual(*pair) for pair in group.pairs or itertools.combinations(codes, 2)]
        case "uniform":
            return [mixtures.uniform(codes)]
        case "shares":
            return [Mixture.of(weights, f"shares{len(weights)}") for weights in group.shares or ()]
    sizes = {code: unique_tokens[code] for code in codes}
    match group.mixture:
        case "proportional":
            return [mixtures.proportional(sizes)]
        case "temperature":
            return [mixtures.temperature(sizes, group.temperature)]
        case "unimax":
            return [mixtures.unimax(sizes, tokens, group.max_epochs, group.pinned)]


def exceeded_caps(design: Design, unique_tokens: Mapping[str, float]) -> list[str]:
    """Sentences on the groups whose UniMax mixtures cannot keep to `max_epochs`, with the largest budget that fits.

    UniMax shares what the caps allow. A longer run repeats every language more often than the design says.
    """
    sentences = []
    for group in design.groups:
        if group.mixture != "unimax":
            continue
        cut = math.inf if group.unique_tokens is None else group.unique_tokens
        sizes = {code: min(unique_tokens[code], cut) for code in group.languages or design.languages}
        most = mixtures.unimax_budget(sizes, group.max_epochs, group.pinned)
        longest = max(tokens for size in group.sizes for tokens in design.lengths(group, size))
        if longest > most * (1 + _ROUNDING):
            sentences.append(
                f"group {group.name!r}: runs of {longest:.4g} tokens repeat their text more often than max_epochs = "
                f"{group.max_epochs:g}; the largest budget that fits is {most:.4g} tokens. Lower tokens, raise "
                "max_epochs, or name languages with more text."
            )
    return sentences


def _second_stages(group: Group, steps: int) -> list[Stage | None]:
    """The second stages of a group's runs of so many steps; None alone for runs of one stage."""
    if not group.then:
        return [None]
    if steps < 2:
        raise InputError(
            f"group {group.name!r} has runs of {steps} step, which leave no room for a second stage",
            hint="give them more tokens",
        )
    starts = [min(max(round(boundary * steps), 1), steps - 1) for boundary in group.boundaries]
    return [Stage(start, _weighted(weights)) for weights in group.then for start in starts]


def _weighted(weights: Mapping[str, float]) -> Mixture:
    """A mixture by weights, whose name tells the shares of up to four languages."""
    mixture = Mixture.of(weights, f"shares{len(weights)}")
    if len(weights) > 4:
        return mixture
    return Mixture(mixture.shares, " + ".join(f"{code} {100 * share:.3g}%" for code, share in mixture.shares.items()))


def _base(candidates: list[RunSpec], group: Group, size: str, seed: int) -> RunSpec:
    fitting = [spec for spec in candidates if spec.size == size and spec.seed == seed]
    if not fitting:
        raise InputError(
            f"group {group.name!r} continues from {group.continue_from!r}, which has no run of size {size!r} and seed "
            f"{seed}",
            hint="add that size and seed there",
        )
    return max(fitting, key=lambda spec: spec.tokens)


def _label(mixture: Mixture) -> str:
    """From the shares alone: groups that name one mixture differently mean the same run."""
    codes = mixture.languages
    return "+".join(codes) if len(codes) <= 2 else f"{len(codes)}langs"


def _short(tokens: float) -> str:
    for unit, value in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if tokens >= value:
            return f"{tokens / value:.3g}{unit}"
    return f"{tokens:g}"
