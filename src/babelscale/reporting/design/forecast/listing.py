"""listing: the forecasts of a study and their state."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from babelscale.errors import BabelscaleError
from babelscale.reporting.design.forecast import document
from babelscale.reporting.design.forecast.document import Forecast, Openings
from babelscale.study import record


@dataclass(frozen=True)
class Listed:
    """One forecast. Where it is damaged, `problem` says how, and what could not be read is None.

    `trained` counts its runs that are finished, whenever they were trained; `scored` and `refused` those judged.
    """

    name: str
    state: Literal["sealed", "opened", "damaged"]
    sealed: str | None = None
    sha256: str | None = None
    runs: int | None = None
    trained: int | None = None
    scored: int = 0
    refused: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Listing:
    """The forecasts of a study."""

    folder: Path
    forecasts: tuple[Listed, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"folder": str(self.folder), "forecasts": [asdict(one) for one in self.forecasts]}

    def to_frame(self) -> pl.DataFrame:
        """One row a forecast."""
        return pl.DataFrame([asdict(one) for one in self.forecasts], infer_schema_length=None)

    def __str__(self) -> str:
        lines = [f"{self.folder}: {len(self.forecasts)} forecasts"]
        for one in self.forecasts:
            told = one.problem or (
                f"sealed {one.sealed}, {one.runs} runs, {one.trained} trained, {one.scored} scored, {one.refused} "
                f"refused; {one.sha256}"
            )
            lines.append(f"  {one.state:<8} {one.name}: {told}")
        return "\n".join(lines)


def listing(study: Path) -> Listing:
    """The forecasts in a study's folder; a damaged one is listed with what is wrong."""
    return Listing(study, tuple(_listed(study, path) for path in document.sealed_files(study)))


def _listed(study: Path, path: Path) -> Listed:
    try:
        forecast, seal = document.read(path, Forecast)
        opened = document.opened_place(path)
        openings = document.read(opened, Openings)[0].openings if opened.exists() else ()
    except BabelscaleError as error:
        return Listed(path.stem, "damaged", problem=error.message)
    return Listed(
        path.stem,
        "opened" if openings else "sealed",
        sealed=f"{forecast.sealed:%Y-%m-%dT%H:%M:%SZ}",
        sha256=seal,
        runs=len(forecast.runs),
        trained=sum((study / "finished" / run.run / record.RECORD).exists() for run in forecast.runs),
        scored=sum(len(opening.runs) for opening in openings),
        refused=sum(len(opening.refused) for opening in openings),
    )
