"""The cost of a study before it runs, and its progress while it runs."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from babelscale import languages as known_languages
from babelscale.corpora.store import STORE, TokenStore
from babelscale.errors import InputError
from babelscale.formatting import count, duration, file_size, plural
from babelscale.study import timing
from babelscale.study.design import MADLAD, Design
from babelscale.study.devices import Device, by_name
from babelscale.study.failures import failures
from babelscale.study.spec import RunSpec, chosen, exceeded_caps, expand, trunks
from babelscale.study.study import Study
from babelscale.workers import available_cpus

# Parameters and both moments of the optimiser, in float32.
STATE_BYTES = 12
# With gradients summed over the parts of a batch, and a copy of the matrices in half the width (training.memory).
DEVICE_BYTES = 22
# Bytes of a log's line of a step; of an evaluation of a language there and in the record, as a quickstart leaves them.
_STEP_LINE, _EVALUATION_LINES = 40, 530
# For sizes of corpora only: bytes a token under vocabularies up to so many pieces. The first is the median over the 37
# languages of the prepared study atlas-miniature (vocabulary 2048, its corpus/store.json: from 1.58 for ko to 3.67 for
# my; 4.45 MB of training text are 1.94 million tokens). The others are rough.
_BYTES_PER_TOKEN = ((4096, 2.15), (31_999, 3.0), (math.inf, 4.0))
_PHRASEBOOK_BYTES = 1_000_000
_UNKNOWN_TOKENS = 1e6


@dataclass(frozen=True)
class GroupCost:
    """One group of a design."""

    name: str
    runs: int
    tokens: float
    flops: float
    why: str


@dataclass(frozen=True)
class Storage:
    """Bytes a study leaves on disk: saved states, logs and records, token stores."""

    states: float
    logs: float
    token_stores: float

    @property
    def total(self) -> float:
        return self.states + self.logs + self.token_stores

    def __str__(self) -> str:
        parts = (("states kept", self.states), ("logs", self.logs), ("tokenised text", self.token_stores))
        return f"{file_size(self.total)} on disk: {', '.join(f'{name} {file_size(size)}' for name, size in parts)}"


@dataclass(frozen=True)
class Largest:
    """The run that asks most of a device: bytes of parameters, optimiser, gradients and half-width copies.

    Activations come on top; batches are worked off in as many parts as fit beside these.
    """

    run: str
    params: int
    bytes: float
    devices: int | None

    def __str__(self) -> str:
        text = f"largest model {count(self.params)} parameters: {file_size(self.bytes)} of memory and its activations"
        return text if self.devices in (None, 1) else f"{text}, spread over {self.devices} devices at least"


@dataclass(frozen=True)
class Done:
    """What of this is there already. `throughput` is the FLOPs a second of one finished run, as measured."""

    folder: str
    runs: int
    flops: float
    throughput: float | None
    hours_left: float

    def __str__(self) -> str:
        text = f"{self.folder}: {self.runs} runs finished"
        if self.throughput is not None:
            text += f", at {self.throughput / 1e9:.3g} GFLOP/s a run as measured"
        return f"{text}; about {duration(3600 * self.hours_left)} left"


@dataclass(frozen=True)
class Estimate:
    """Runs, tokens and FLOPs of a design, or of some groups of it; shared runs count once in the totals.

    `branched` is how many of the FLOPs are not spent twice, because runs branch off others that begin alike.
    """

    name: str
    groups: tuple[GroupCost, ...]
    runs: int
    tokens: float
    flops: float
    branched: float
    hours: float
    devices: int
    device: Device
    storage: Storage
    largest: Largest
    done: Done | None
    assumptions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"storage": asdict(self.storage) | {"total": self.storage.total}}

    def __str__(self) -> str:
        width = max(16, *(len(group.name) + 2 for group in self.groups))
        lines = [f"{'group':<{width}}{'runs':>6}{'tokens':>12}{'FLOPs':>12}  why"]
        lines += [f"{g.name:<{width}}{g.runs:>6}{g.tokens:>12.3g}{g.flops:>12.3g}  {g.why}" for g in self.groups]
        lines.append(f"{'total':<{width}}{self.runs:>6}{self.tokens:>12.3g}{self.flops:>12.3g}  shared runs count once")
        if self.branched:
            lines.append(f"{self.branched:.3g} of these FLOPs are saved, because runs with the same beginning share it")
        used = f" ({self.devices * self.hours:,.0f} device-hours)" if self.hours >= 2 else ""
        trained = f"about {duration(3600 * self.hours)} of training on {plural(self.devices, 'device')}{used}"
        lines += [trained, f"  {self.device}"]
        lines += [str(self.storage), str(self.largest), *([str(self.done)] if self.done else []), *self.assumptions]
        return "\n".join(lines)


def estimate(
    design: Design,
    *,
    device: str | None = None,
    throughput: float | None = None,
    devices: int | None = None,
    only: Collection[str] | None = None,
    folder: str | Path | None = None,
) -> Estimate:
    """Cost of a design from its shapes, and from its text where that is prepared (see `unique_tokens`).

    Args:
        device: by name (`devices.DEVICES`); by default a CPU thread.
        throughput: FLOPs a second of one device, as measured, in place of the device's.
        devices: how many train at once; by default 1, or for CPU threads as many as this machine has.
        only: groups; by default all. What they continue from counts too.
        folder: of the study, where it may have begun. What is measured there takes the place of the default device.

    Raises:
        InputError: no such device or group, or a number that is not positive.
    """
    for name, value in (("throughput", throughput), ("devices", devices)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}", hint="it must be positive")
    sizes, assumptions = unique_tokens(design, folder)
    groups = expand(design, sizes, "", "")
    specs = chosen(groups, only)
    finished, measured = _begun(folder, only)
    at = by_name(device or "cpu-thread")
    if throughput is not None:
        at = replace(at, rate=throughput, source="as given")
    elif device is None and measured is not None:
        at = Device("this study's runs so far", measured, None, "as measured", measured)
    count = devices or (len(available_cpus()) if device in (None, "cpu-thread") else 1)
    taken = spent(specs)
    hours = _hours_of(taken, specs, at) / count
    done = None
    if folder is not None and finished:
        left = max(hours - _hours_of(spent(finished), finished, at) / count, 0.0)
        done = Done(str(folder), len(finished), float(sum(run.flops for run in finished.values())), measured, left)
    flops = float(sum(spec.flops for spec in specs.values()))
    return Estimate(
        name=design.name,
        groups=tuple(
            GroupCost(group.name, len(runs), _tokens(runs), float(sum(spec.flops for spec in runs)), group.why)
            for group, runs in zip(design.groups, groups.values(), strict=True)
            if only is None or group.name in only
        ),
        runs=len(specs),
        tokens=_tokens(specs.values()),
        flops=flops,
        branched=flops - sum(taken.values()),
        hours=hours,
        devices=count,
        device=at,
        storage=_storage(design, groups, specs, sizes),
        largest=_largest(specs, at),
        done=done,
        assumptions=(
            *exceeded_caps(design, sizes),
            *assumptions,
            *(() if at.rate else ("Evaluation and compiling are not included.",)),
        ),
    )


def unique_tokens(design: Design, folder: str | Path | None = None) -> tuple[dict[str, float], list[str]]:
    """U by language, and a sentence on where it comes from.

    Args:
        folder: of the study. Where its text is prepared, its token counts are taken, otherwise the design's estimate.

    Raises:
        InputError: the folder's text lacks a language of the design.
    """
    if folder is not None and (Path(folder) / "corpus" / STORE).exists():
        return _stored_tokens(design, Path(folder))
    per_token = next(size for vocabulary, size in _BYTES_PER_TOKEN if design.tokenizer.vocabulary <= vocabulary)
    limit, part = design.corpus.bytes_per_language or math.inf, design.corpus.passages
    rate = f"estimated at {per_token:g} bytes a token"
    if part is not None:
        weights = {code: part.weights.get(code, 1.0) for code in design.languages}
        size = part.text_bytes * (1 - part.held_out_share) / math.fsum(weights.values())
        sizes = {code: min(size * weight, limit) / per_token for code, weight in weights.items()}
        low, high = min(sizes.values()), max(sizes.values())
        return sizes, [f"Text: {low:.3g} to {high:.3g} tokens a language, by the weights of its passages, {rate}."]
    if design.corpus.source.partition("@")[0] not in MADLAD:
        size = (_PHRASEBOOK_BYTES if math.isinf(limit) else limit) / per_token
        known = "the phrasebook's; other text has its own" if math.isinf(limit) else "as the design limits it"
        return dict.fromkeys(design.languages, size), [f"Text: {size:.3g} tokens a language ({known}), {rate}."]
    found = {code: known_languages.lookup(code).unique_tokens for code in design.languages}
    sizes = {code: min(size or _UNKNOWN_TOKENS, limit / per_token) for code, size in found.items()}
    unknown = sum(1 for size in found.values() if not size)
    told = f"Text: the table's unique tokens, mostly estimates; {_UNKNOWN_TOKENS:.0e} for {unknown} languages without."
    return sizes, [told if unknown else "Text: the table's unique tokens, mostly estimates."]


def _stored_tokens(design: Design, folder: Path) -> tuple[dict[str, float], list[str]]:
    """U by language as the prepared text of a study has it."""
    known = TokenStore.open(folder / "corpus").unique_tokens
    if missing := [code for code in design.languages if code not in known]:
        raise InputError(
            f"{folder / 'corpus' / STORE}: no language {missing[0]!r}, which design {design.name!r} names",
            hint="name the design's own folder with --out",
        )
    sizes = {code: float(known[code]) for code in design.languages}
    low, high = min(sizes.values()), max(sizes.values())
    return sizes, [f"Text: {low:.3g} to {high:.3g} tokens a language, counted in the prepared text of {folder}."]


def _begun(folder: str | Path | None, only: Collection[str] | None) -> tuple[dict[str, RunSpec], float | None]:
    """The finished runs of a study by name, and the FLOPs a second that they took; none where nothing was prepared."""
    if folder is None or not (Path(folder) / "corpus" / STORE).exists():
        return {}, None
    study = Study.open(folder)
    wanted = None if only is None else [name for name in only if name in study.groups]
    finished = {spec.name: spec for spec in study.select(wanted) if study.is_finished(spec.name)}
    # A run that branched off another took less time than its FLOPs say.
    files = {name: study.finished(name) / timing.TIMING for name in finished if name not in study.trunks}
    timed = {name: seconds for name, file in files.items() if file.exists() and (seconds := timing.read(file).seconds)}
    rate = sum(finished[name].flops for name in timed) / sum(timed.values()) if timed else None
    return finished, rate


def spent(specs: Mapping[str, RunSpec]) -> dict[str, float]:
    """FLOPs by run; one that branches off another run trains what follows its fork alone."""
    short = trunks(specs.values())
    return {name: spec.flops * (1 - spec.fork / spec.steps if name in short else 1.0) for name, spec in specs.items()}


def _hours_of(spent: Mapping[str, float], specs: Mapping[str, RunSpec], device: Device) -> float:
    """Hours of one device for so many FLOPs by run."""
    rates = {spec.size: device.flops_per_second(spec.shape.params) for spec in specs.values()}
    return sum(flops / rates[specs[name].size] for name, flops in spent.items()) / 3600


def _storage(
    design: Design, groups: Mapping[str, list[RunSpec]], specs: Mapping[str, RunSpec], sizes: Mapping[str, float]
) -> Storage:
    asked = [spec for group in design.groups if group.keep_state for spec in groups[group.name]]
    kept = {spec.base.name for spec in specs.values() if isinstance(spec.base, RunSpec)} | {spec.name for spec in asked}
    # A trunk keeps one state at each step where runs branch off it.
    forks = {(trunk.name, specs[name].fork): trunk for name, trunk in trunks(specs.values()).items()}
    held = [*(spec for name, spec in specs.items() if name in kept), *forks.values()]
    lines = 0.0
    for spec in specs.values():
        evaluated = len(spec.recipe.evaluation_steps(spec.steps)) * len(spec.languages)
        lines += _STEP_LINE * spec.steps + _EVALUATION_LINES * evaluated
    own = {spec.own for spec in specs.values() if spec.own is not None}
    width = 2 if design.tokenizer.vocabulary <= 2**16 else 4
    tokens = math.fsum(sizes.values()) + math.fsum(sizes[code] for code in own)
    return Storage(float(sum(STATE_BYTES * spec.shape.params for spec in held)), lines, width * tokens)


def _largest(specs: Mapping[str, RunSpec], device: Device) -> Largest:
    name, spec = max(specs.items(), key=lambda item: item[1].shape.params)
    needed = float(DEVICE_BYTES * spec.shape.params)
    return Largest(name, spec.shape.params, needed, math.ceil(needed / device.memory) if device.memory else None)


def _tokens(specs: Iterable[RunSpec]) -> float:
    return float(sum(spec.tokens for spec in specs))


@dataclass(frozen=True)
class Status:
    """How far a study is."""

    folder: str
    finished: tuple[str, ...]
    under_way: tuple[str, ...]
    missing: tuple[str, ...]
    # By run that is not finished: why it failed last.
    failed: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        counted = f"{len(self.finished)} finished, {len(self.under_way)} begun, {len(self.missing)} missing"
        lines = [f"{self.folder}: {counted}"]
        lines += [f"  begun    {name}" for name in self.under_way]
        lines += [f"  missing  {name}" for name in self.missing]
        lines += [f"  failed   {name}: {reason}" for name, reason in self.failed.items()]
        return "\n".join(lines)


def status(study: Study) -> Status:
    """Which runs are finished, begun and missing; a run that was begun goes on from its last saved state."""
    names: dict[str, RunSpec] = study.specs
    finished = {name for name in names if study.is_finished(name)}
    begun = {name for name in names if name not in finished and (study.folder / "working" / name).exists()}
    states = (finished, begun, names.keys() - finished - begun)
    done, under_way, missing = (tuple(name for name in names if name in state) for state in states)
    failed = {name: reason for name, reason in failures(study.folder).items() if name in names and name not in finished}
    return Status(str(study.folder), done, under_way, missing, failed)
