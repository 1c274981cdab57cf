"""The files of a forecast: STUDY/forecasts/NAME.json (sealed) and NAME.opened.json (its scores).

Each is one line of canonical JSON (sorted keys, no spaces, ASCII), whose field `sha256` is the SHA-256 of the rest.
"""

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from babelscale import files
from babelscale.errors import InputError, StudyError
from babelscale.runs import Metric
from babelscale.study.timing import FORECASTS

FORMAT = 1
NEAREST, MEAN = "baseline-nearest", "baseline-mean"
"""Predictions without a law: the loss of the finished run closest in (log N, log D of the target); the mean loss."""
_NAME = re.compile(r"[\w-][\w.-]*")
_OPENED = ".opened"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _ForecastRecord(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UsedRun(_ForecastRecord):
    """A finished run behind the forecast, and the SHA-256 of its record.json."""

    run: str
    sha256: Hash


class Parent(_ForecastRecord):
    """A run that a forecast run continues from or branches off, and its state when the forecast was sealed."""

    run: str
    state: Literal["finished", "under way", "missing", "not of this study"]


class ForecastRun(_ForecastRecord):
    """A run that had not begun when the forecast was sealed.

    `hash` is its identity. `params` is N; `tokens` and `unique_tokens` are D and U by language at its end. `axes` names
    the respects in which it lies outside the runs used. `trunk` is the longer run it branches off: its evaluations
    before the fork come from there, and only its own final loss is forecast. `base` is the run it continues from.
    """

    run: str
    hash: Hash
    start: str
    params: Positive
    tokens: dict[str, Positive]
    unique_tokens: dict[str, Positive]
    axes: tuple[str, ...]
    trunk: Parent | None
    base: Parent | None


class Predicted(_ForecastRecord):
    """A run's predicted final loss and the 90 % interval of a new run.

    Without `low` there is no interval; with `low` and without `high` the interval has no upper end.
    """

    run: str
    loss: Positive
    low: Positive | None
    high: Positive | None


class Unanswered(_ForecastRecord):
    """Runs without a prediction, and the reason."""

    reason: str
    runs: tuple[str, ...]


class LawForecast(_ForecastRecord):
    """The predictions of a law, or of a baseline, for one target language in every forecast run trained on it.

    `parameters` is None for a baseline and where the law could not be fitted; in the latter case every run is
    unanswered, with the reason. The notes are those of the fit.
    """

    law: str
    baseline: bool
    target: str
    parameters: dict[str, Finite] | None
    notes: tuple[str, ...]
    predictions: tuple[Predicted, ...]
    unanswered: tuple[Unanswered, ...]


class ForecastSettings(_ForecastRecord):
    """How the laws were fitted; `resamples` are bootstrap refits behind each interval."""

    metric: Metric
    seed: int
    resamples: Count
    targets: tuple[str, ...]


class Forecast(_ForecastRecord):
    """A sealed forecast.

    Three kinds of runs are not forecast: `under_way` have begun and are not finished, `untargeted` train on no target,
    `own_tokenizer` have tokens that differ from the other runs' tokens.
    """

    format: Literal[1]
    babelscale: str
    name: str
    study: str
    sealed: datetime
    settings: ForecastSettings
    used: tuple[UsedRun, ...]
    under_way: tuple[str, ...]
    untargeted: tuple[str, ...]
    own_tokenizer: tuple[str, ...]
    runs: tuple[ForecastRun, ...]
    answers: tuple[LawForecast, ...]


class ForecastScore(_ForecastRecord):
    """How one law's predictions compare with the measured losses, over pairs of a run and a target language.

    Relative errors are (predicted - measured) / measured. `coverage` is the share of the `intervals` that hold the
    measured loss, with its 95 % Wilson interval, which takes pairs as independent. `width` is the mean of
    (high - low) / predicted over intervals with two ends; `unbounded` have no upper end. `nearest_error` is the median
    absolute error of `baseline-nearest` on the same pairs.
    """

    law: str
    axis: str
    runs: Count
    answered: Count
    unanswered: Count
    intervals: Count
    covered: Count
    coverage: Finite | None
    coverage_low: Finite | None
    coverage_high: Finite | None
    median_error: Finite | None
    mean_error: Finite | None
    bias: Finite | None
    width: Finite | None
    unbounded: Count
    nearest_error: Finite | None


class ScoredRun(_ForecastRecord):
    """A run that was scored: the SHA-256 of its record.json and its measured final loss by target language."""

    run: str
    sha256: Hash
    losses: dict[str, Positive]


class RefusedRun(_ForecastRecord):
    """A trained run that is not scored, and why."""

    run: str
    reason: str


class Opening(_ForecastRecord):
    """One opening: the runs judged in it and those still missing.

    `scores` are of the runs of this opening alone, `scores_in_all` of those of this and all openings before it.
    """

    opened: datetime
    runs: tuple[ScoredRun, ...]
    refused: tuple[RefusedRun, ...]
    missing: tuple[str, ...]
    scores: tuple[ForecastScore, ...]
    scores_in_all: tuple[ForecastScore, ...]


class Openings(_ForecastRecord):
    """The openings of a forecast. `sealed_file` is the SHA-256 of the sealed file's bytes."""

    format: Literal[1]
    babelscale: str
    name: str
    sealed_file: Hash
    openings: Annotated[tuple[Opening, ...], Field(min_length=1)]


Document = TypeVar("Document", Forecast, Openings)


def place(study: Path, name: str) -> Path:
    """The sealed file of a name.

    Raises:
        InputError: the name is not usable.
    """
    if not _NAME.fullmatch(name) or name.endswith(_OPENED):
        raise InputError(f"--name {name!r}", hint="use letters, digits, '-', '_' and '.'; it must not end with .opened")
    return study / FORECASTS / f"{name}.json"


def opened_place(sealed: Path) -> Path:
    """The file of a forecast's scores."""
    return sealed.with_name(f"{sealed.stem}{_OPENED}.json")


def sealed_files(study: Path) -> list[Path]:
    """The sealed files of a study, in the order of their names."""
    found = (study / FORECASTS).glob("*.json")
    return sorted(path for path in found if not path.stem.endswith(_OPENED))


def now() -> datetime:
    """The time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def write(path: Path, document: Forecast | Openings) -> str:
    """Write a document and return the SHA-256 of the file's bytes."""
    content = document.model_dump(mode="json")
    data = _canonical(content | {"sha256": sha256(_canonical(content))}) + b"\n"
    files.write_bytes(path, data)
    return sha256(data)


def read(path: Path, model: type[Document]) -> tuple[Document, str]:
    """A document and the SHA-256 of its file's bytes.

    Raises:
        InputError: there is no such file, or it is of another version or kind.
        StudyError: a byte of it was changed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror})", hint=f"sealed forecasts: {_known(path)}"
        ) from None
    content = _unsealed(path, data)
    if content.get("format") != FORMAT:
        raise InputError(f"{path}: format: {content.get('format')!r}", hint=f"this version reads format {FORMAT}")
    try:
        return model.model_validate(content), sha256(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {field}: {first['msg']}", hint="use the file as babelscale wrote it") from None


def _known(path: Path) -> str:
    return ", ".join(one.stem for one in sealed_files(path.parent.parent)) or "none; seal one with --seal"


def _unsealed(path: Path, data: bytes) -> dict[str, Any]:
    """The content of a file whose hash is right, without that hash."""
    try:
        content = json.loads(data)
        stated = content.pop("sha256")
        whole = _canonical(content | {"sha256": stated}) + b"\n"
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _changed(path, f"it is no longer a sealed file: {error}") from None
    if stated != sha256(_canonical(content)):
        raise _changed(path, "its content does not have the SHA-256 that it states")
    if whole != data:
        raise _changed(path, "its bytes are not those that babelscale writes for its content")
    return content


def _changed(path: Path, what: str) -> StudyError:
    return StudyError(f"{path} was changed after it was written; {what}", hint="restore a copy of the original file")


def sha256(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
