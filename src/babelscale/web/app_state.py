"""The state of the server: published figures, a study's folder or table of runs or saved fits, and uploaded tables.

A query names its source: `published`, `served` (the path given to `babelscale serve`) or the name of an upload.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.reporting.report.study_analysis import StudyAnalysis, analyse
from babelscale.reporting.report.transfer_report import holds_matrix
from babelscale.runs import Runs
from babelscale.web.job_queue import JobQueue
from babelscale.web.uploads import Uploads

PUBLISHED, SERVED = "published", "served"


class SavedFits:
    """Saved fits; each file is parsed once as long as it stays the same, and the files of the last call are cached."""

    def __init__(self) -> None:
        self._cache: dict[tuple[Path, int, int], Fit] = {}
        self._lock = threading.Lock()

    def load(self, paths: Sequence[Path]) -> list[Fit]:
        """The fits in some files, as the files are now.

        Raises:
            InputError: a file contains no fit, or no longer exists.
        """
        with self._lock:
            fits = {}
            for path in paths:
                # If the file is replaced after its key was made, the next call reads it again.
                key = _fit_key(path)
                fits[key] = self._cache.get(key) or Fit.load(path)
            self._cache = fits
            return list(fits.values())


def _fit_key(path: Path) -> tuple[Path, int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return path, 0, 0  # `Fit.load` reports the error
    return path, stat.st_mtime_ns, stat.st_size


class AppState:
    """Sources by name, and the long work on them.

    Args:
        path: the folder of a study, a folder or table of runs, a saved fit or a folder of fits, or a transfer matrix.
            Without it, only published figures are served.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.jobs = JobQueue()
        self.uploads = Uploads()
        self._saved = SavedFits()
        # The file of the served transfer matrix.
        self.matrix = path if path is not None and holds_matrix(path) else None

    def close(self) -> None:
        """Stop the work in progress and remove the uploads."""
        self.jobs.close()
        self.uploads.close()

    @property
    def saved_fits(self) -> list[Path]:
        """The served files that `babelscale fit --save` wrote."""
        if self.path is None or self.matrix is not None:
            return []
        if self.path.is_file():
            return [self.path] if self.path.suffix == ".json" else []
        if (self.path / "runs").exists() or any(self.path.glob("runs.*")):
            return []
        return sorted(self.path.glob("*.json"))

    def load_saved(self) -> list[Fit]:
        """The served fits; empty if something else is served.

        Raises:
            InputError: a file contains no fit.
        """
        return self._saved.load(self.saved_fits)

    @property
    def has_runs(self) -> bool:
        """Whether runs are served, so that there is a report."""
        return self.path is not None and self.matrix is None and not self.saved_fits

    @property
    def sources(self) -> list[tuple[str, str]]:
        """Name and title of each source of laws."""
        served = [(SERVED, self.path.resolve().name)] if self.path is not None and self.matrix is None else []
        uploaded = [(each.source, f"uploaded: {each.name}") for each in self.uploads.newest_first]
        return [*served, (PUBLISHED, "published figures of the ATLAS study"), *uploaded]

    @property
    def default_source(self) -> str:
        """The source of a question that does not name one."""
        return PUBLISHED if self.path is None or self.matrix is not None else SERVED

    @property
    def scores(self) -> list[tuple[str, str]]:
        """Name and title of each source of transfer scores: runs, a matrix, and the published matrix."""
        if self.matrix is not None:
            return [(SERVED, self.matrix.name), *self.sources]
        return [(name, title) for name, title in self.sources if name != SERVED or not self.saved_fits]

    @property
    def default_score_source(self) -> str:
        """The source of a question about transfer that does not name one."""
        return self.scores[0][0]

    def score_path(self, source: str) -> Path:
        """The path of the scores of a source: the file of a matrix, or runs.

        Raises:
            InputError: there is no such source, or it has no runs.
        """
        return self.matrix if self.matrix is not None and source == SERVED else self.place(source)

    def place(self, source: str) -> Path:
        """The path of the runs of a source.

        Raises:
            InputError: there is no such source, or it has no runs.
        """
        if source == SERVED and self.path is not None:
            if self.matrix is not None:
                raise InputError(
                    "source: the server has a transfer matrix, but no runs", hint="serve the folder of runs"
                )
            if self.saved_fits:
                raise InputError("source: the server has fits, but no runs", hint="serve the folder of runs")
            return self.path
        if (upload := self.uploads.find(source)) is not None:
            return upload.place
        if source.startswith("upload-"):
            raise InputError("source: this upload no longer exists", hint="upload the table again")
        known = ", ".join(name for name, _ in self.sources)
        raise InputError(
            f"source: {source!r} has no runs", hint=f"sources: {known}; upload a table, or serve a folder of runs"
        )

    def runs(self, source: str) -> Runs:
        """The runs of a source, as they are now."""
        return Runs.read(self.place(source))

    def analysis(self, source: str) -> StudyAnalysis:
        """The analysis of a source; it is made again when the files change.

        Raises:
            InputError: the runs cannot be read. JobPending: the analysis is in progress.
        """
        place = self.place(source)
        return self.jobs.result(
            f"analysis {source} {file_stamp(place)}", lambda progress: analyse(place, progress=progress)
        )

    def fits(self, source: str, languages: Sequence[str] = ()) -> list[Fit]:
        """The fits to plan from, one for each target: saved fits, or the best fits of the analysis, of these languages.

        Raises:
            InputError: none of the languages has a fit. JobPending: the laws are being fitted.
        """
        saved = self.load_saved() if source == SERVED else []
        fits = saved or list(self.analysis(source).best_fits)
        chosen = [fit for fit in fits if fit.target is None or not languages or fit.target in languages]
        if not chosen:
            known = ", ".join(fit.target or "all text" for fit in fits) or "none"
            requested = ", ".join(languages) or "any language"
            raise InputError(f"no law was fitted for {requested}", hint=f"fitted targets: {known}")
        return chosen


def file_stamp(place: Path) -> str:
    """Names, times and sizes of the files of runs; the text changes when they change."""
    folder = place / "runs" if (place / "runs").is_dir() else place
    files = [*folder.glob("*.parquet"), *folder.glob("*.csv"), place / "design.json", place]
    found = sorted((str(file), file.stat()) for file in files if file.is_file())
    return "; ".join(f"{name} {stat.st_mtime_ns} {stat.st_size}" for name, stat in found)
