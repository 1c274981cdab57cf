"""Records of finished runs in one small file, from which a study takes them back where its folder is lost.

The file is compressed by xz and holds lines of JSON with sorted keys: a header, then a line for each run in the order
of their names, with the name, the content of record.json and that of timing.json. Saved states and logs are not in it.
"""

import hashlib
import json
import lzma
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from babelscale import files
from babelscale.errors import InputError
from babelscale.model.shape import Shape
from babelscale.study import text
from babelscale.study import timing as timings
from babelscale.study.disk import watched
from babelscale.study.record import DAMAGED_HINT, RECORD, as_text
from babelscale.study.spec import RunSpec, identity_hash
from babelscale.study.study import Progress, Study
from babelscale.training.recipe import Recipe

# Higher presets save 15 % and take three times as long.
_PRESET = 6
_OTHER_FILE_HINT = "give another file with --out"
_DAMAGED_FILE_HINT = "take another copy of the file"
_NAMED = 3


class StrictPart(BaseModel):
    """A part of a record: every field has its type, and there are no others."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _fields_of(kind: type) -> AfterValidator:
    def check(values: dict[str, Any]) -> dict[str, Any]:
        if unknown := values.keys() - {field.name for field in fields(kind)}:
            raise ValueError(f"{min(unknown)!r} is no field of a {kind.__name__.lower()}")
        return values

    return AfterValidator(check)


Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


class Header(StrictPart):
    """The first line: of which study the records are, how many they are, and the SHA-256 of all lines after it."""

    format: Literal["babelscale run records 1"] = "babelscale run records 1"
    design: str
    corpus: Hash
    tokenizer: Hash
    count: Count
    sha256: Hash


class RunPart(StrictPart):
    """The row of a run in the table of runs."""

    run: str
    params: Amount
    tokens: Amount
    params_non_embedding: Amount
    flops: Amount
    flops_6nd: Amount
    seed: int
    start: Literal["checkpoint", "scratch", "two-stage"]
    base: str | None
    size: str
    mixture: str
    tokenizer: Hash
    corpus: Hash


class ThenPart(StrictPart):
    """The second stage of a run: the step that it begins with, and its mixture."""

    step: Count
    mixture: dict[str, float]


class IdentityPart(StrictPart):
    """What the result of a run depends on (`RunSpec.identity`)."""

    shape: Annotated[dict[str, int | str], _fields_of(Shape)]
    mixture: dict[str, float]
    recipe: Annotated[dict[str, float], _fields_of(Recipe)]
    steps: Count
    seed: int
    corpus: Hash
    tokenizer: Hash
    base: str | None
    unique_tokens: Annotated[int, Field(gt=0)] | None = None
    then: ThenPart | None = None


class ExposurePart(StrictPart):
    """Tokens of a language that a run has seen after a step."""

    run: str
    step: Count
    language: str
    tokens: Amount
    unique_tokens: Amount


class LossPart(StrictPart):
    """Held-out loss of a language after a step, as totals."""

    run: str
    step: Count
    language: str
    lr_state: Literal["stable", "decayed"]
    split: Literal["validation", "parallel"]
    nats: float
    tokens: Count
    bytes: Count
    unigram_nats: float


class RecordPart(StrictPart):
    """What `study.record.write` leaves in record.json."""

    run: RunPart
    hash: Hash
    identity: IdentityPart
    recipe: Annotated[dict[str, float], _fields_of(Recipe)]
    exposure: list[ExposurePart]
    losses: list[LossPart]


class Entry(StrictPart):
    """One run's line."""

    name: str
    record: RecordPart
    timing: timings.Timing | None


@dataclass(frozen=True)
class Records:
    """What a file of records holds: its header, and by run name the line as it was parsed."""

    header: Header
    entries: Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Written:
    """A file of records after it was written: the runs in it, and how many of them it did not hold before."""

    file: str
    runs: int
    added: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.file}: {self.runs} runs, {self.added} of them added now, {self.bytes:,} bytes"


@dataclass(frozen=True)
class Restored:
    """What came of restoring: runs put back, runs that were there already, and by name why others do not belong."""

    file: str
    restored: tuple[str, ...]
    already: int
    foreign: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.file}: {len(self.restored)} runs restored, {self.already} were there already"]
        for reason in sorted(set(self.foreign.values())):
            names = [name for name, why in self.foreign.items() if why == reason]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            lines.append(f"  {len(names)} left out, {reason}: {', '.join(names[:_NAMED])}{more}")
        return "\n".join(lines)


def write(study: Study, path: str | Path, progress: Progress | None = None) -> Written:
    """Write the records of all finished runs of a study, and keep those that the file holds already.

    The same records give the same bytes (with the same version of liblzma).

    Raises:
        InputError: the file or the record of a finished run is damaged, or the file belongs to another study or holds
            another record of a run.
        DiskFull: there is no room; an old file is left as it was.
    """
    path = Path(path)
    corpus, tokenizer = text.hashes(study.folder)[1:]
    facts = Header(design=study.design.name, corpus=corpus, tokenizer=tokenizer, count=0, sha256=_sha256([]))
    held: Mapping[str, dict[str, Any]] = {}
    if path.exists():
        old = read(path)
        for name in ("design", "corpus", "tokenizer"):
            if (other := getattr(old.header, name)) != (value := getattr(facts, name)):
                raise InputError(f"{path}: line 1: {name} is {other}, the study's is {value}", hint=_OTHER_FILE_HINT)
        held = old.entries
    found = {path.parent.name: _entry(path.parent) for path in study.folder.glob(f"finished/[!.]*/{RECORD}")}
    for name in sorted(found.keys() & held.keys()):
        if _line(found[name]["record"]) != _line(held[name]["record"]):
            raise InputError(f"{path}: run {name} has another record in {study.finished(name)}", hint=_OTHER_FILE_HINT)
    entries = found | dict(held)
    lines = [_line(entries[name]) for name in sorted(entries)]
    header = facts.model_copy(update={"count": len(lines), "sha256": _sha256(lines)})
    data = _compressed([_line(header.model_dump()), *lines], progress)
    with watched(path.parent):
        files.write_bytes(path, data)
    return Written(str(path), len(lines), len(entries) - len(held), len(data))


def read(path: str | Path) -> Records:
    """A file of records, every line checked.

    Raises:
        InputError: naming the line and the field that is wrong.
    """
    path = Path(path)
    try:
        head, *lines = lzma.decompress(path.read_bytes(), lzma.FORMAT_XZ).decode("ascii").splitlines(keepends=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", hint="name a file of records") from None
    except (lzma.LZMAError, ValueError) as error:
        raise InputError(f"{path}: not a complete file of records ({error})", hint=_DAMAGED_FILE_HINT) from None
    header = _checked(Header, head, f"{path}: line 1", _DAMAGED_FILE_HINT)
    entries: dict[str, dict[str, Any]] = {}
    last = ""
    for number, line in enumerate(lines, 2):
        where = f"{path}: line {number}"
        entry = _parsed(line, where, _DAMAGED_FILE_HINT)
        if _line(entry) != line or entry["name"] <= last:
            raise InputError(f"{where}: JSON: not in the order or form it is written in", hint=_DAMAGED_FILE_HINT)
        last = entry["name"]
        entries[last] = entry
    for name, value in (("count", len(lines)), ("sha256", _sha256(lines))):
        if (said := getattr(header, name)) != value:
            raise InputError(
                f"{path}: line 1: {name} is {said}, the lines after it give {value}", hint=_DAMAGED_FILE_HINT
            )
    return Records(header, entries)


def restore(study: Study, path: str | Path) -> Restored:
    """Put the runs of a file that belong to a study, whose text is prepared, among its finished ones.

    A run belongs to the study where its identity, hashes of text and tokenizer included, is that of a run of the
    design. Its record.json gets the bytes that training gave it.

    Raises:
        InputError: the file cannot be used, or a finished run of the study has another record; nothing is restored.
        StudyError: another process is training the study.
        DiskFull: what is restored is kept.
    """
    path = Path(path)
    entries = read(path).entries
    foreign = {name: reason for name, entry in entries.items() if (reason := _foreign(entry, study.specs)) is not None}
    ours = [name for name in entries if name not in foreign]
    new = [name for name in ours if not study.is_finished(name)]
    for name in sorted(set(ours) - set(new)):
        if (study.finished(name) / RECORD).read_bytes() != as_text(entries[name]["record"]).encode():
            raise InputError(
                f"{path}: run {name} has another record in {study.finished(name)}",
                hint="leave out --records to keep the folder's runs, or move that run's folder elsewhere to take the "
                "file's",
            )
    with watched(study.folder), study.alone():
        for name in new:
            with files.new_folder(study.finished(name)) as partial:
                if (timing := entries[name]["timing"]) is not None:
                    timings.write(partial / timings.TIMING, timings.Timing.model_validate(timing))
                files.write_text(partial / RECORD, as_text(entries[name]["record"]))
    return Restored(str(path), tuple(new), len(ours) - len(new), foreign)


def _foreign(entry: Mapping[str, Any], specs: Mapping[str, RunSpec]) -> str | None:
    """Why a run is none of the study's; None where it is one."""
    identity = entry["record"]["identity"]
    if (spec := specs.get(entry["name"])) is not None and spec.hash == entry["record"]["hash"]:
        return None
    if identity["corpus"] not in {spec.corpus for spec in specs.values()}:
        return "trained on a text that differs from the prepared text"
    if identity["tokenizer"] not in {spec.tokenizer for spec in specs.values()}:
        return "trained with another tokenizer than is prepared here"
    return "not in the design"


def _entry(folder: Path) -> dict[str, Any]:
    """A finished run as a line holds it."""
    timing = folder / timings.TIMING
    try:
        record = (folder / RECORD).read_text(encoding="utf-8")
        parts = {"record": json.loads(record), "timing": json.loads(timing.read_bytes()) if timing.exists() else None}
    except ValueError as error:
        raise InputError(f"{folder}: {RECORD} or {timings.TIMING} is damaged ({error})", hint=DAMAGED_HINT) from None
    entry = _parsed(json.dumps({"name": folder.name, **parts}), str(folder), DAMAGED_HINT)
    if as_text(entry["record"]) != record:
        raise InputError(f"{folder / RECORD}: not in the form that training writes it in", hint=DAMAGED_HINT)
    return entry


def _parsed(line: str, where: str, hint: str) -> dict[str, Any]:
    """A run's line, its fields checked, and that its record is of the run whose name it has."""
    entry = _checked(Entry, line, where, hint)
    raw: dict[str, Any] = json.loads(line)
    record, run, identity = entry.record, entry.record.run, entry.record.identity
    # Parsed apart, since whole numbers stay whole in it.
    found = identity_hash(raw["record"]["identity"])
    facts = {
        "record.hash": (record.hash, found),
        "name, its last part": (entry.name.rpartition("-")[2], found[:10]),
        "record.run.run": (run.run, entry.name),
        "record.run.corpus": (run.corpus, identity.corpus),
        "record.run.tokenizer": (run.tokenizer, identity.tokenizer),
        "record.run.seed": (run.seed, identity.seed),
    }
    for part, rows in (("exposure", record.exposure), ("losses", record.losses)):
        facts |= {f"record.{part}.{k}.run": (row.run, entry.name) for k, row in enumerate(rows)}
    for name, (value, wanted) in facts.items():
        if value != wanted:
            raise InputError(f"{where}: {name}: is {value!r}, the record's other fields give {wanted!r}", hint=hint)
    return raw


_Model = TypeVar("_Model", bound=BaseModel)


def _checked(kind: type[_Model], text: str, where: str, hint: str) -> _Model:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "JSON"
        raise InputError(f"{where}: {field}: {first['msg']}", hint=hint) from None


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"


def _sha256(lines: list[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _compressed(lines: list[str], progress: Progress | None) -> bytes:
    compressor = lzma.LZMACompressor(lzma.FORMAT_XZ, preset=_PRESET)
    parts: list[bytes] = []
    for number, line in enumerate(lines, 1):
        parts.append(compressor.compress(line.encode()))
        if progress is not None:
            progress("compressing records", number, len(lines))
    return b"".join((*parts, compressor.flush()))
