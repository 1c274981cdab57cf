"""Design: which runs a study is made of, as a short TOML file or in Python, under one validation."""

import itertools
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError

from babelscale import languages as known_languages
from babelscale.errors import InputError
from babelscale.model.ladder import ATLAS
from babelscale.model.shape import Block, Shape
from babelscale.tomlfile import toml_text
from babelscale.training.recipe import Recipe

MADLAD = ("madlad-400", "madlad-400:clean", "madlad-400:noisy")
# Python's paths are welcome where a file has text.
Place = Annotated[str, BeforeValidator(lambda place: os.fspath(place) if isinstance(place, os.PathLike) else place)]
# Largest numbers of a design. Beyond them lies no run that anybody trains, and arithmetic overflows or never ends.
_MOST_TOKENS, _MOST_STEPS, _MOST_LAYERS, _WIDEST, _MOST_RECIPE = 1e18, 10**12, 10_000, 10_000_000, 1e15
Length = Annotated[float, Field(le=_MOST_TOKENS, allow_inf_nan=False)]
Steps = Annotated[int, Field(le=_MOST_STEPS)]
Width = Annotated[int, Field(gt=0, le=_WIDEST)]
MixtureKind = Literal["monolingual", "bilingual", "uniform", "proportional", "temperature", "unimax", "shares"]


class DesignPart(BaseModel):
    """A part of a design: its fields are checked, unknown ones refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PassagesPart(DesignPart):
    """How one text in many languages is dealt out to them, passage by passage (see `corpora.passages`).

    `weights` are the languages' shares of the verses, 1 where none is given. `text_bytes` is about the size of the
    whole text in one language, for estimates before the text is there.
    """

    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    held_out_share: float = Field(default=0.025, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)
    text_bytes: float = Field(default=4e6, gt=0, allow_inf_nan=False)


class CorpusPart(DesignPart):
    """Where the text comes from: `phrasebook`, `madlad-400`, or a folder of text by language (see `open_corpus`).

    `parallel` is the folder of a line-aligned test set, FLORES or NTREX, measured beside the held-out text. With
    `passages`, the source may also be a text in many languages, verse by verse, which is then dealt out to them.
    """

    source: Place = "phrasebook"
    bytes_per_language: int | None = Field(default=None, gt=0, le=int(_MOST_TOKENS))
    held_out_share: float | None = Field(default=None, gt=0, lt=1)
    held_out_tokens: int | None = Field(default=None, gt=0, le=int(_MOST_TOKENS))
    parallel: Place | None = None
    passages: PassagesPart | None = None
    seed: int = 0


class TokenizerPart(DesignPart):
    """A tokenizer to train, or with `source` the folder of one that exists (its `tokenizer.model`)."""

    vocabulary: int = Field(default=2048, ge=300, le=1_000_000)
    temperature: float = Field(default=100.0, gt=0)
    character_coverage: float | None = Field(default=None, gt=0, le=1)
    source: Place | None = None


class SizePart(DesignPart):
    """A size of model: a rung of the study's ladder by its number (`scale`), or five sizes of its own.

    Its `recipe` fields take the place of the design's.
    """

    scale: int | None = None
    layers: int | None = Field(default=None, gt=0, le=_MOST_LAYERS)
    heads: Width | None = None
    d_model: Width | None = None
    d_ff: Width | None = None
    d_head: Width | None = None
    block: Block = "parallel"
    recipe: dict[str, float | int] = Field(default_factory=dict)

    def shape(self, vocabulary: int) -> Shape:
        own = self.model_dump(exclude={"scale", "block", "recipe"})
        if self.scale is None:
            if missing := [name for name, value in own.items() if value is None]:
                raise InputError(f"no {missing[0]}", hint=f"give {', '.join(own)}, or scale, a number of the ladder")
            return Shape(**own, vocabulary=vocabulary, block=self.block)
        if given := [name for name, value in own.items() if value is not None]:
            raise InputError(f"scale and {given[0]} are both given", hint="keep one")
        rungs = {rung.scale: rung.shape for rung in ATLAS}
        if self.scale not in rungs:
            raise InputError(f"scale {self.scale} is not on the ladder", hint=f"it has {', '.join(map(str, rungs))}")
        return replace(rungs[self.scale], vocabulary=vocabulary, block=self.block)


class Group(DesignPart):
    """Runs that share a purpose: every mixture x size x length x seed; lengths are given in tokens or in steps.

    They start from scratch, from the runs of an earlier group (`continue_from`), or from a Hugging Face model in a
    folder (`checkpoint`). `keep_state` keeps their final states, to be exported. Monolingual runs may have a tokenizer
    trained on their language alone (`tokenizer = "own"`). `shares` lists mixtures of no rule, by weights. With
    `unique_tokens`, only the first so many tokens of each language's text are trained on, again and again. `recipe`
    fields take the place of the design's and the size's.

    Two-stage runs train on `mixture` first and, without a restart, on a mixture of `then` (by weights) from a share of
    `boundaries` of their steps on; every pair of the two is a run. With `one_stage`, they see the same tokens of each
    language in one stage, for comparison.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    why: str = ""
    mixture: MixtureKind
    languages: tuple[str, ...] | None = None
    pairs: tuple[tuple[str, str], ...] | None = None
    shares: tuple[dict[str, float], ...] | None = None
    sizes: tuple[str, ...] = Field(min_length=1)
    tokens: tuple[Length, ...] = ()
    steps: tuple[Steps, ...] = ()
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    temperature: float = Field(default=1.0, gt=0)
    max_epochs: float = Field(default=10.0, gt=0)
    pinned: dict[str, float] = Field(default_factory=dict)
    continue_from: str | None = None
    checkpoint: Place | None = None
    keep_state: bool = False
    tokenizer: Literal["shared", "own"] = "shared"
    unique_tokens: int | None = Field(default=None, gt=0, le=int(_MOST_TOKENS))
    recipe: dict[str, float | int] = Field(default_factory=dict)
    then: tuple[dict[str, float], ...] = ()
    boundaries: tuple[float, ...] = ()
    one_stage: bool = False


class HoldoutPart(DesignPart):
    """Runs that are trained last, and only when that is asked for: all of some sizes, and those of some groups.

    Forecasts of them can be sealed while none of them is trained.
    """

    sizes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Design(DesignPart):
    """A whole study.

    `recipe` is `Recipe`'s defaults but for the fields it names; with `recipe_of = "atlas"` it is the ATLAS study's, its
    batch by size, but for those. `analysis` is for those who read the runs; the laboratory only carries it along.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    title: str = ""
    languages: tuple[str, ...] = Field(min_length=1)
    corpus: CorpusPart = CorpusPart()
    tokenizer: TokenizerPart = TokenizerPart()
    recipe_of: Literal["atlas"] | None = None
    recipe: dict[str, float | int] = Field(default_factory=dict)
    sizes: dict[str, SizePart] = Field(min_length=1)
    groups: tuple[Group, ...] = Field(min_length=1)
    holdout: HoldoutPart = HoldoutPart()
    analysis: dict[str, Any] = Field(default_factory=dict)

    def training_recipe(self, size: str, group: Group | None = None) -> Recipe:
        """The recipe of one of the sizes, or of a group's runs of that size."""
        standard = asdict(Recipe.of_study(self.shape(size).params) if self.recipe_of == "atlas" else Recipe())
        fields = self.recipe | self.sizes[size].recipe | (group.recipe if group is not None else {})
        for name, value in fields.items():
            if name not in standard:
                raise InputError(f"recipe: unknown field {name!r}", hint=f"it has {', '.join(standard)}")
            if not -_MOST_RECIPE <= value <= _MOST_RECIPE:
                raise InputError(f"recipe: {name} is {str(value)[:20]}", hint=f"it is a number up to {_MOST_RECIPE:g}")
            # 1 and 1.0 are one learning rate, and so one identity.
            standard[name] = type(standard[name])(value)
            if standard[name] != value:
                raise InputError(f"recipe: {name} is {value}", hint="it is a whole number")
        return Recipe(**standard)

    def lengths(self, group: Group, size: str) -> tuple[float, ...]:
        """Tokens of a group's runs of one size."""
        per_step = self.training_recipe(size, group).tokens_per_step
        return group.tokens or tuple(float(steps * per_step) for steps in group.steps)

    def shape(self, size: str) -> Shape:
        try:
            return self.sizes[size].shape(self.tokenizer.vocabulary)
        except InputError as error:
            raise InputError(f"sizes.{size}: {error}") from None


def built_in() -> tuple[str, ...]:
    """Names of the designs that come with the package."""
    folder = resources.files("babelscale.study").joinpath("designs")
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load(name: str | Path | Mapping[str, Any] | Design) -> Design:
    """A design by the name of a built-in one, from a TOML file, or from Python.

    Folders in a file are relative to that file, those in Python to the current folder.

    Args:
        name: of a design or a file; or the fields that a file would have, as a mapping whose parts are mappings too or
            `Group`, `SizePart`, `CorpusPart` and `TokenizerPart`; or all of it as a `Design`.

    Raises:
        InputError: naming the file and the field.
    """
    if isinstance(name, Mapping | Design):
        return _located(_of_python(name), Path())
    path = Path(name)
    if str(name) in built_in():
        where = f"{name}.toml"
        text = resources.files("babelscale.study").joinpath("designs", where).read_text(encoding="utf-8")
    elif path.suffix == ".toml":
        where = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error})", hint="a design is a TOML file in UTF-8") from None
    else:
        raise InputError(
            f"no design named {str(name)!r}", hint=f"built in: {', '.join(built_in())}; or give a .toml file"
        )
    design = parse(text, where)
    return _located(design, path.parent if path.suffix == ".toml" else Path())


def located(source: str, folder: Path) -> str:
    """A source of text with its path made absolute, from `folder` on; names and URLs stay."""
    name, at, place = source.partition("@")
    if name.startswith("madlad-400") and at:
        return f"{name}@{located(place, folder)}"
    if source == "phrasebook" or name in MADLAD or "://" in source:
        return source
    return str(folder.absolute() / Path(source).expanduser())


def _located(design: Design, folder: Path) -> Design:
    def whole(part: Any, *fields: str) -> Any:
        named = {field: getattr(part, field) for field in fields if getattr(part, field) is not None}
        return part.model_copy(update={field: located(place, folder) for field, place in named.items()})

    return design.model_copy(
        update={
            "corpus": whole(design.corpus, "source", "parallel"),
            "tokenizer": whole(design.tokenizer, "source"),
            "groups": tuple(whole(group, "checkpoint") for group in design.groups),
        }
    )


def parse(text: str, where: str) -> Design:
    """A design from TOML text, its references checked."""
    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not TOML ({error})") from None
    return _checked(fields, where)


def to_toml(design: Design, comment: str = "") -> str:
    """A design as a file that `load` reads; fields at their defaults are left out.

    Args:
        comment: lines to put on top.
    """
    fields = design.model_dump(mode="json", exclude_defaults=True)
    return toml_text(fields | {"sizes": fields.pop("sizes")}, comment)


def _of_python(given: Mapping[str, Any] | Design) -> Design:
    """What it would be as a file: a `Design`, too, may have been put together unchecked."""
    fields = given.model_dump() if isinstance(given, Design) else dict(given)
    where = f"design {fields.get('name', 'without a name')}"
    design = _checked(fields, where)
    try:
        design.model_dump_json()
    except PydanticSerializationError as error:
        raise InputError(f"{where}: analysis: {error}", hint="it holds what JSON can: numbers, text, lists") from None
    return design


def _checked(fields: Mapping[str, Any], where: str) -> Design:
    try:
        design = Design.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: {field}: {first['msg']} (got {first['input']!r})") from None
    _check_references(design, where)
    return design


def _check_references(design: Design, where: str) -> None:
    known_languages.check(design.languages, f"{where}: languages")
    weights = design.corpus.passages.weights if design.corpus.passages else {}
    if unknown := [code for code in weights if code not in design.languages]:
        raise InputError(
            f"{where}: corpus.passages.weights: language {unknown[0]!r} is not among the study's languages",
            hint="add it to `languages`, or remove its weight",
        )
    _check_holdout(design, where)
    try:
        for size in design.sizes:
            design.shape(size)
            design.training_recipe(size)
    except (InputError, TypeError) as error:
        raise InputError(f"{where}: {error}") from None
    for position, group in enumerate(design.groups):
        earlier = [other.name for other in design.groups[:position]]
        try:
            _check_names(design, group, earlier)
            _check_lengths(group)
            _check_start(group)
            _check_mixture(group)
            _check_stages(group)
        except InputError as error:
            place = f"{where}: groups[{position}] ({group.name})"
            raise InputError(f"{place}: {error.message}", hint=error.hint) from None


def _check_holdout(design: Design, where: str) -> None:
    for field, asked, known in (
        ("sizes", design.holdout.sizes, design.sizes.keys()),
        ("groups", design.holdout.groups, {group.name for group in design.groups}),
    ):
        if unknown := [name for name in asked if name not in known]:
            raise InputError(f"{where}: holdout.{field}: no {unknown[0]!r}", hint=f"there are {', '.join(known)}")
    for group in design.groups:
        if group.continue_from in design.holdout.groups and group.name not in design.holdout.groups:
            raise InputError(
                f"{where}: group {group.name} continues from {group.continue_from}, which is held out",
                hint="hold out both or neither",
            )


def _check_names(design: Design, group: Group, earlier: Sequence[str]) -> None:
    """A group's name is new; its languages, sizes, recipe fields and base exist."""
    if group.name in earlier:
        raise InputError("a second group of this name")
    pairs = itertools.chain.from_iterable(group.pairs or ())
    weighted = itertools.chain.from_iterable((*(group.shares or ()), *group.then))
    for code in (*(group.languages or ()), *pairs, *weighted, *group.pinned):
        if code not in design.languages:
            raise InputError(
                f"language {code!r} is not among the study's languages",
                hint=f"add it to `languages`, which holds {', '.join(design.languages)}",
            )
    for size in group.sizes:
        if size not in design.sizes:
            raise InputError(f"size {size!r} is not in [sizes]", hint=f"it holds {', '.join(design.sizes)}")
        design.training_recipe(size, group)
    if group.continue_from is not None and group.continue_from not in earlier:
        raise InputError(f"continue_from {group.continue_from!r} is not an earlier group")


def _check_lengths(group: Group) -> None:
    if bool(group.tokens) == bool(group.steps):
        raise InputError(
            f"{'tokens and steps are both' if group.tokens else 'neither tokens nor steps are'} given",
            hint="give the lengths of its runs as one of them",
        )
    for name, lengths in (("tokens", group.tokens), ("steps", group.steps)):
        if any(not length > 0 for length in lengths):
            raise InputError(f"{name} must be positive")


def _check_start(group: Group) -> None:
    if group.tokenizer == "own" and (group.mixture != "monolingual" or group.continue_from or group.checkpoint):
        raise InputError(
            "only monolingual runs from scratch can have a tokenizer of their own", hint='leave out tokenizer = "own"'
        )
    if group.continue_from is not None and group.checkpoint is not None:
        raise InputError("continue_from and checkpoint are both given", hint="keep one")


def _check_mixture(group: Group) -> None:
    if group.pairs is not None and group.mixture != "bilingual":
        raise InputError("pairs are for bilingual mixtures")
    if bool(group.shares) != (group.mixture == "shares"):
        raise InputError(
            f"shares are listed beside mixture {group.mixture!r}"
            if group.shares
            else "mixture 'shares' lists no shares",
            hint='list them as shares = [{ sv = 3, da = 1 }, ...] beside mixture = "shares"',
        )
    for field, listed in (("shares", group.shares or ()), ("then", group.then)):
        for weights in listed:
            if not weights or any(not 0 < weight < math.inf for weight in weights.values()):
                raise InputError(f"{field} {weights} must be positive weights by language")


def _check_stages(group: Group) -> None:
    if group.one_stage and not group.then:
        raise InputError("one_stage has no second stage to do without", hint="give then and boundaries")
    if bool(group.then) != bool(group.boundaries):
        given, missing = ("then", "boundaries") if group.then else ("boundaries", "then")
        raise InputError(
            f"{given} is given without {missing}",
            hint="two-stage runs need both: then = [{ en = 9, fr = 1 }] and boundaries = [0.8]",
        )
    if outside := [boundary for boundary in group.boundaries if not 0 < boundary < 1]:
        raise InputError(
            f"boundaries: {outside[0]} must be between 0 and 1",
            hint="give the share of a run's steps after which stage two begins",
        )
    if group.then and (group.continue_from or group.checkpoint or group.tokenizer == "own"):
        raise InputError(
            "two-stage runs start from scratch with the study's tokenizer",
            hint="leave out then and boundaries, or continue_from, checkpoint and tokenizer",
        )
