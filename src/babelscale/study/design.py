"""Design: which runs a study is made of, as a short TOML file; and the runs it expands to."""

import hashlib
import itertools
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from babelscale import languages as known_languages
from babelscale import mixture as mixtures
from babelscale.errors import InputError
from babelscale.mixture import Mixture
from babelscale.model.shape import Block, Shape
from babelscale.training.recipe import Recipe

MixtureKind = Literal["monolingual", "bilingual", "uniform", "proportional", "temperature", "unimax"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CorpusPart(_Part):
    """Where the text comes from: `phrasebook`, or a folder of text by language."""

    source: str = "phrasebook"
    bytes_per_language: int | None = Field(default=None, gt=0)
    seed: int = 0


class TokenizerPart(_Part):
    """A tokenizer to train, or with `source` the folder of one that exists (its `tokenizer.model`)."""

    vocabulary: int = Field(default=2048, ge=300, le=1_000_000)
    temperature: float = Field(default=100.0, gt=0)
    source: str | None = None


class SizePart(_Part):
    """A size of model; its own `recipe` fields take the place of the design's."""

    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    d_model: int = Field(gt=0)
    d_ff: int = Field(gt=0)
    d_head: int = Field(gt=0)
    block: Block = "parallel"
    recipe: dict[str, float | int] = Field(default_factory=dict)


class Group(_Part):
    """Runs that share a purpose: every mixture x size x number of tokens x seed.

    They start from scratch, from the runs of an earlier group (`continue_from`), or from a Hugging Face model in a
    folder (`checkpoint`). `keep_state` keeps their final states, to be exported.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    why: str = ""
    mixture: MixtureKind
    languages: tuple[str, ...] | None = None
    pairs: tuple[tuple[str, str], ...] | None = None
    sizes: tuple[str, ...] = Field(min_length=1)
    tokens: tuple[float, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    temperature: float = Field(default=1.0, gt=0)
    max_epochs: float = Field(default=10.0, gt=0)
    pinned: dict[str, float] = Field(default_factory=dict)
    continue_from: str | None = None
    checkpoint: str | None = None
    keep_state: bool = False


class Design(_Part):
    """A whole study. `analysis` is for those who read the runs; the laboratory only carries it along."""

    name: str = Field(pattern=r"^[\w.-]+$")
    title: str = ""
    languages: tuple[str, ...] = Field(min_length=1)
    corpus: CorpusPart = CorpusPart()
    tokenizer: TokenizerPart = TokenizerPart()
    recipe: dict[str, float | int] = Field(default_factory=dict)
    sizes: dict[str, SizePart] = Field(min_length=1)
    groups: tuple[Group, ...] = Field(min_length=1)
    analysis: dict[str, Any] = Field(default_factory=dict)

    def training_recipe(self, size: str | None = None) -> Recipe:
        """The recipe of the design, or of one of its sizes."""
        standard = asdict(Recipe())
        given: dict[str, Any] = {}
        for name, value in (self.recipe | (self.sizes[size].recipe if size else {})).items():
            if name not in standard:
                raise InputError(f"recipe: unknown field {name!r}", hint=f"it has {', '.join(standard)}")
            # 1 and 1.0 are one learning rate, and so one identity.
            given[name] = type(standard[name])(value)
            if given[name] != value:
                raise InputError(f"recipe: {name} is {value}", hint="it is a whole number")
        return Recipe(**given)

    def shape(self, size: str) -> Shape:
        return Shape(**self.sizes[size].model_dump(exclude={"recipe"}), vocabulary=self.tokenizer.vocabulary)


def built_in() -> tuple[str, ...]:
    """Names of the designs that come with the package."""
    folder = resources.files("babelscale.study").joinpath("designs")
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load(name: str | Path) -> Design:
    """A design by the name of a built-in one, or from a TOML file.

    A corpus folder in a file is relative to that file.

    Raises:
        InputError: naming the file and the field.
    """
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
    return _located(design, path.parent.absolute()) if path.suffix == ".toml" else design


def _located(design: Design, folder: Path) -> Design:
    """The design with its folders made absolute; those in a file are relative to that file."""

    def whole(part: Any, field: str) -> Any:
        named = getattr(part, field)
        if named is None or named == "phrasebook":
            return part
        return part.model_copy(update={field: str(folder / Path(named).expanduser())})

    return design.model_copy(
        update={
            "corpus": whole(design.corpus, "source"),
            "tokenizer": whole(design.tokenizer, "source"),
            "groups": tuple(whole(group, "checkpoint") for group in design.groups),
        }
    )


def parse(text: str, where: str) -> Design:
    """A design from TOML text, its references checked."""
    try:
        design = Design.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not TOML ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: {field}: {first['msg']} (got {first['input']!r})") from None
    _check_references(design, where)
    return design


def _check_references(design: Design, where: str) -> None:
    known_languages.check(design.languages, f"{where}: languages")
    try:
        design.training_recipe()
        for size in design.sizes:
            design.shape(size)
            design.training_recipe(size)
    except (InputError, TypeError) as error:
        raise InputError(f"{where}: {error}") from None
    seen: set[str] = set()
    for position, group in enumerate(design.groups):
        place = f"{where}: groups[{position}] ({group.name})"
        if group.name in seen:
            raise InputError(f"{place}: a second group of this name")
        pairs = itertools.chain.from_iterable(group.pairs or ())
        for code in (*(group.languages or ()), *pairs, *group.pinned):
            if code not in design.languages:
                raise InputError(
                    f"{place}: language {code!r} is not among the study's languages",
                    hint=f"add it to `languages`, which holds {', '.join(design.languages)}",
                )
        for size in group.sizes:
            if size not in design.sizes:
                raise InputError(
                    f"{place}: size {size!r} is not in [sizes]", hint=f"it holds {', '.join(design.sizes)}"
                )
        if any(not tokens > 0 for tokens in group.tokens):
            raise InputError(f"{place}: tokens must be positive")
        if group.continue_from is not None and group.continue_from not in seen:
            raise InputError(f"{place}: continue_from {group.continue_from!r} is not an earlier group")
        if group.continue_from is not None and group.checkpoint is not None:
            raise InputError(f"{place}: continue_from and checkpoint are both given", hint="keep one")
        if group.pairs is not None and group.mixture != "bilingual":
            raise InputError(f"{place}: pairs are for bilingual mixtures")
        seen.add(group.name)


@dataclass(frozen=True)
class Checkpoint:
    """A model from outside: a folder in the Hugging Face format, and the hash of its weights."""

    folder: str
    hash: str

    @property
    def name(self) -> str:
        return Path(self.folder).name


@dataclass(frozen=True)
class RunSpec:
    """One run: everything that makes it that run, and nothing else."""

    size: str
    shape: Shape
    mixture: Mixture
    recipe: Recipe
    steps: int
    seed: int
    corpus: str
    tokenizer: str
    base: "RunSpec | Checkpoint | None" = None

    @property
    def tokens(self) -> int:
        return self.steps * self.recipe.tokens_per_step

    @property
    def flops(self) -> int:
        return self.tokens * self.shape.flops_per_token(self.recipe.sequence_length)

    def identity(self) -> dict[str, Any]:
        """What the result depends on. Recipe fields at their defaults are left out, so that a new field moves no run;
        how often a state is saved changes nothing."""
        standard = asdict(Recipe())
        recipe = {k: v for k, v in asdict(self.recipe).items() if v != standard[k] and k != "checkpoint_every"}
        return {
            "shape": self.shape.identity(),
            "mixture": dict(self.mixture.shares),
            "recipe": recipe,
            "steps": self.steps,
            "seed": self.seed,
            "corpus": self.corpus,
            "tokenizer": self.tokenizer,
            "base": self.base.hash if self.base else None,
        }

    @property
    def hash(self) -> str:
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """Readable, and unique by the first ten digits of the hash; made of the identity alone."""
        kind = _label(self.mixture)
        if self.base is not None:
            kind = f"{_label(self.base.mixture) if isinstance(self.base, RunSpec) else self.base.name}-to-{kind}"
        return f"{self.size}-{kind}-{_short(self.tokens)}-s{self.seed}-{self.hash[:10]}"


def expand(
    design: Design, unique_tokens: Mapping[str, float], corpus: str, tokenizer: str,
    checkpoint_hash: Callable[[str], str] = str,
) -> dict[str, list[RunSpec]]:  # fmt: skip
    """The runs of every group. Groups may name the same run; it is trained once.

    Args:
        unique_tokens: U by language, which proportional, temperature and UniMax mixtures are made from.
        corpus, tokenizer: hashes that become part of each run's identity.
        checkpoint_hash: from the folder of a model from outside to the hash of its weights.
    """
    groups: dict[str, list[RunSpec]] = {}
    for group in design.groups:
        specs: list[RunSpec] = []
        for size, tokens, seed in itertools.product(group.sizes, group.tokens, group.seeds):
            recipe = design.training_recipe(size)
            base: RunSpec | Checkpoint | None = None
            if group.continue_from is not None:
                base = _base(groups[group.continue_from], group, size, seed)
            elif group.checkpoint is not None:
                base = Checkpoint(group.checkpoint, checkpoint_hash(group.checkpoint))
            specs += [
                RunSpec(size, design.shape(size), mixture, recipe, recipe.steps(tokens), seed, corpus, tokenizer, base)
                for mixture in _mixtures(group, design, unique_tokens, tokens)
            ]
        groups[group.name] = specs
    return groups


def trunks(specs: Iterable[RunSpec]) -> dict[str, RunSpec]:
    """Run -> the longest run that differs from it in its length alone.

    Up to the shorter one's decay the two are the same to the bit, so it can branch off there (Hu et al. 2024, arXiv
    2404.06395, section 4). Runs too short for the whole warm-up warm up faster, and are not.
    """
    longest: dict[str, RunSpec] = {}
    keys: dict[str, str] = {}
    for spec in sorted(specs, key=lambda spec: (-spec.steps, spec.name)):
        alike = spec.identity() | {"steps": None, "warm": spec.recipe.phases(spec.steps)[0]}
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
    sizes = {code: unique_tokens[code] for code in codes}
    match group.mixture:
        case "proportional":
            return [mixtures.proportional(sizes)]
        case "temperature":
            return [mixtures.temperature(sizes, group.temperature)]
        case "unimax":
            return [mixtures.unimax(sizes, tokens, group.max_epochs, group.pinned)]


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
