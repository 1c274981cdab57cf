"""What is served: published figures, a study's folder or table of runs or saved fits, and uploaded tables.

A query names its source: `published`, `served` (the path given to `babelscale serve`) or the name of an upload.
"""

from collections.abc import Sequence
from pathlib import Path

from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.reporting.report.study_analysis import StudyAnalysis, analyse
from babelscale.reporting.report.transfer_report import holds_matrix
from babelscale.runs import Runs
from babelscale.web.job_queue import JobQueue
from babelscale.web.saved import SavedFits
from babelscale.web.uploads import Uploads

PUBLISHED, SERVED = "published", "served"


class AppState:
    """Sources by name, and the long work on them.

    Args:
        path: a study's folder, a folder or table of runs, a saved fit or a folder of them, or a transfer matrix; None:
            published figures.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.jobs = JobQueue()
        self.uploads = Uploads()
        self._saved = SavedFits()
        # The file of a transfer matrix, where one is served.
        self.matrix = path if path is not None and holds_matrix(path) else None

    def close(self) -> None:
        """Leave what is being worked on, and remove what was uploaded."""
        self.jobs.close()
        self.uploads.close()

    @property
    def saved_fits(self) -> list[Path]:
        """Fits as `babelscale fit --save` wrote them, where such are served."""
        if self.path is None or self.matrix is not None:
            return []
        if self.path.is_file():
            return [self.path] if self.path.suffix == ".json" else []
        if (self.path / "runs").exists() or any(self.path.glob("runs.*")):
            return []
        return sorted(self.path.glob("*.json"))

    def load_saved(self) -> list[Fit]:
        """The saved fits that are served, each file parsed once; none where other things are served.

        Raises:
            InputError: a file is no fit.
        """
        return self._saved.load(self.saved_fits)

    @property
    def has_runs(self) -> bool:
        """Whether runs are served, of which a report can be made."""
        return self.path is not None and self.matrix is None and not self.saved_fits

    @property
    def sources(self) -> list[tuple[str, str]]:
        """Name and title of every source of laws that a page offers."""
        own = [(SERVED, self.path.resolve().name)] if self.path is not None and self.matrix is None else []
        uploaded = [(each.source, f"uploaded: {each.name}") for each in self.uploads.kept]
        return [*own, (PUBLISHED, "printed figures of the ATLAS study"), *uploaded]

    @property
    def default_source(self) -> str:
        """The source of a question that names none."""
        return PUBLISHED if self.path is None or self.matrix is not None else SERVED

    @property
    def scores(self) -> list[tuple[str, str]]:
        """Name and title of every source of transfer scores: runs, a matrix, the printed one."""
        if self.matrix is not None:
            return [(SERVED, self.matrix.name), *self.sources]
        return [(name, title) for name, title in self.sources if name != SERVED or not self.saved_fits]

    @property
    def default_score_source(self) -> str:
        """The source of a question about transfer that names none."""
        return self.scores[0][0]

    def score_path(self, source: str) -> Path:
        """Where the scores of a source lie: a matrix's file, or its runs.

        Raises:
            InputError: no such source, or one of fits alone.
        """
        return self.matrix if self.matrix is not None and source == SERVED else self.place(source)

    def place(self, source: str) -> Path:
        """Where the runs of a source lie.

        Raises:
            InputError: no such source, or one without runs.
        """
        if source == SERVED and self.path is not None:
            if self.matrix is not None:
                raise InputError("source: a transfer matrix is served here, and no runs", hint="serve the runs")
            if self.saved_fits:
                raise InputError("source: fits are served here, and no runs", hint="serve the folder of runs")
            return self.path
        if (upload := self.uploads.find(source)) is not None:
            return upload.place
        if source.startswith("upload-"):
            raise InputError("source: this upload no longer exists", hint="upload the table again")
        known = ", ".join(name for name, _ in self.sources)
        raise InputError(f"source: {source!r} holds no runs", hint=f"known: {known}; upload a table, or serve one")

    def runs(self, source: str) -> Runs:
        """The runs of a source, as they lie there now."""
        return Runs.read(self.place(source))

    def analysis(self, source: str) -> StudyAnalysis:
        """The analysis of a source, made anew when its files change.

        Raises:
            InputError: the runs cannot be read. JobPending: the analysis is under way.
        """
        place = self.place(source)
        return self.jobs.result(
            f"analysis {source} {file_stamp(place)}", lambda progress: analyse(place, progress=progress)
        )

    def fits(self, source: str, languages: Sequence[str] = ()) -> list[Fit]:
        """The fits to plan from, one a target: saved ones, or the best laws of the analysis, of these languages.

        Raises:
            InputError: none of the languages has a fit. JobPending: the laws are being fitted.
        """
        saved = self.load_saved() if source == SERVED else []
        found = saved or list(self.analysis(source).best_fits)
        chosen = [fit for fit in found if fit.target is None or not languages or fit.target in languages]
        if not chosen:
            known = ", ".join(fit.target or "all text" for fit in found) or "none"
            requested = ", ".join(languages) or "any language"
            raise InputError(f"no law was fitted for {requested}", hint=f"fitted targets: {known}")
        return chosen


def file_stamp(place: Path) -> str:
    """Names, times and sizes of the files behind runs: the same while they stay the same."""
    folder = place / "runs" if (place / "runs").is_dir() else place
    files = [*folder.glob("*.parquet"), *folder.glob("*.csv"), place / "design.json", place]
    found = sorted((str(file), file.stat()) for file in files if file.is_file())
    return "; ".join(f"{name} {stat.st_mtime_ns} {stat.st_size}" for name, stat in found)
