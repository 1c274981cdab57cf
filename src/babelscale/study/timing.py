"""timing.json of a run: how long it trained, and which forecasts existed when its training began.

It is no part of the run's record or identity. The laboratory hashes the forecasts' bytes and does not read them.
"""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from babelscale import files
from babelscale.training import LOG

TIMING = "timing.json"
FORECASTS = "forecasts"


class Timing(BaseModel):
    """What timing.json holds.

    `seconds` of training and `tokens` are absent while the run trains. `forecasts` maps the name of each file in the
    study's `forecasts/` to the SHA-256 (hex) that it had when the run's first attempt began.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    tokens: int | None = Field(default=None, ge=0)
    forecasts: dict[str, str] = Field(default_factory=dict)


def begin(attempt: Path, study: Path) -> None:
    """Note in an attempt's folder the forecasts that exist now, unless an earlier attempt at the run noted them.

    An attempt that holds a log and no note was begun by a version that noted nothing, so no forecast preceded it.
    """
    path = attempt / TIMING
    if path.exists():
        return
    sealed = [] if (attempt / LOG).exists() else sorted((study / FORECASTS).glob("*.json"))
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sealed}
    write(path, Timing(forecasts=hashes))


def finish(attempt: Path, seconds: float, tokens: int) -> None:
    """Add the time that the training took to what `begin` noted."""
    noted = read(attempt / TIMING)
    write(attempt / TIMING, Timing(seconds=round(seconds, 3), tokens=tokens, forecasts=noted.forecasts))


def read(path: Path) -> Timing:
    """A run's timing.json.

    Raises:
        InputError: there is none, or it is damaged.
    """
    return files.read_model(path, Timing)


def write(path: Path, timing: Timing) -> None:
    """Write a run's timing.json."""
    files.write_text(path, timing.model_dump_json(exclude_none=True) + "\n")
