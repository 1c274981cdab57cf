"""A transfer matrix and what it says, from whatever holds one: runs, a study, a file, or the printed figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from babelscale.errors import InputError
from babelscale.reporting.report.language_features import language_features
from babelscale.runs import Runs
from babelscale.transfer import Relations, TransferMatrix, analyse
from babelscale.transfer.along import Along, along
from babelscale.transfer.analysis import Analysis
from babelscale.transfer.mixture_observations import observe_mixtures
from babelscale.transfer.mixtures import FORMS, MixtureEstimate, estimate
from babelscale.transfer.prediction import MatrixPrediction, predict

Progress = Callable[[str, int, int], None]
Features = Callable[[Sequence[str]], Relations]


@dataclass(frozen=True)
class TransferReport:
    """A matrix, and what was asked of it beside."""

    matrix: TransferMatrix
    analysis: Analysis | None = None
    prediction: MatrixPrediction | None = None
    along: Along | None = None
    estimate: MixtureEstimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """The matrix alone as it is saved; with anything beside it, an object of all parts."""
        parts = {"analysis": self.analysis, "prediction": self.prediction, "along": self.along}
        beside = {name: part.to_dict() for name, part in parts.items() if part is not None}
        if self.estimate is not None:
            beside["mixtures"] = self.estimate.to_dict()
        return {"kind": "transfer", "matrix": self.matrix.to_dict(), **beside} if beside else self.matrix.to_dict()

    def __str__(self) -> str:
        first = self.prediction or self.estimate or self.matrix
        return "\n\n".join(str(part) for part in (first, self.analysis, self.along) if part is not None)


def transfer_report(
    source: str | Path | None = None,
    *,
    published: bool = False,
    mixtures: bool = False,
    tests: bool = False,
    predicted: Sequence[str] | None = None,
    moves: bool = False,
    anchor: float | None = None,
    params: float | None = None,
    known: Relations | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> TransferReport:
    """A matrix and what is asked of it.

    Args:
        source: a study's folder, a folder or table of runs, a matrix as CSV or JSON; None with `published`.
        mixtures: read scores from runs of several languages, not from pairs alone.
        tests: analyse the measured scores; `seed` is of the permutations.
        predicted: predict missing scores, for the matrix's languages and these; None for no.
        moves: scores along size and tokens too.
        anchor, params: where scores are read (see `TransferMatrix.from_runs` and `readings.read`).
        known: more features of languages and pairs, beside those of the table and of the study's text.
        progress: called with (what, done, total).

    Raises:
        InputError: neither or both of source and published, or something that needs runs without them.
    """
    steps = 1 + tests + (predicted is not None) + moves
    told = 0

    def tell(what: str) -> None:
        nonlocal told
        if progress is not None:
            progress(what, told, steps)
        told += 1

    if published == (source is not None):
        raise InputError("transfer needs either runs or --published", hint="babelscale transfer --published")
    tell("transfer scores")
    matrix = _matrix_of(source)
    runs = Runs.read(source) if matrix is None and source is not None else None
    if runs is None and (mixtures or moves):
        raise InputError(f"{'mixtures' if mixtures else 'scores along size and tokens'} need runs; a matrix holds none")

    def features(codes: Sequence[str]) -> Relations:
        found = Relations.of(codes) if runs is None or source is None else language_features(source, codes, runs)
        return found if known is None else found.joined(known)

    start = _read(runs, features, mixtures, anchor, params) if matrix is None else TransferReport(matrix)
    return _beside(start, runs, features, tests, predicted, moves, seed, tell)


def _read(
    runs: Runs | None, features: Features, mixtures: bool, anchor: float | None, params: float | None
) -> TransferReport:
    assert runs is not None
    if not mixtures:
        return TransferReport(TransferMatrix.from_runs(runs, params=params, anchor=0.4 if anchor is None else anchor))
    readings = observe_mixtures(runs, params=params, anchor=anchor)
    found = estimate(readings, features(readings.languages), forms=tuple(FORMS))
    return TransferReport(found.matrix, estimate=found)


def _beside(
    start: TransferReport,
    runs: Runs | None,
    features: Features,
    tests: bool,
    predicted: Sequence[str] | None,
    moves: bool,
    seed: int,
    tell: Callable[[str], None],
) -> TransferReport:
    codes = tuple(dict.fromkeys((*(predicted or ()), *start.matrix.languages)))
    known = features(codes) if tests or predicted is not None else None
    found = start
    if tests:
        tell("permutation tests")
        found = replace(found, analysis=analyse(start.matrix, known, seed=seed))
    if predicted is not None:
        tell("prediction")
        prediction = predict(start.matrix, codes, known)
        found = replace(found, matrix=prediction.matrix, prediction=prediction)
    if moves:
        assert runs is not None
        tell("scores along size and tokens")
        found = replace(found, along=along(runs))
    return found


def _matrix_of(source: str | Path | None) -> TransferMatrix | None:
    """The printed matrix, or a file that holds one; None for runs."""
    if source is None:
        from babelscale.published import transfer_matrix

        return transfer_matrix()
    path = Path(source)
    return TransferMatrix.load(path) if holds_matrix(path) else None


def holds_matrix(path: Path) -> bool:
    """Whether a file is for a matrix: JSON that says nothing else of itself, or CSV other than a table of runs."""
    ending = path.suffix.lower()
    if not path.is_file() or ending not in (".json", ".csv"):
        return False
    if ending == ".json":
        return '"parameters"' not in path.read_text(encoding="utf-8", errors="replace")
    with path.open(encoding="utf-8", errors="replace") as lines:
        header = {cell.strip().strip('"').lower() for cell in lines.readline().split(",")}
    # A table of runs has params and a loss; a matrix has neither.
    return not {"params", "loss"} & header


def draw(found: TransferReport, picture: str, order: str, path: Path) -> Path:
    """Draw one picture of a look to a file; its ending says the format.

    Raises:
        InputError: an unknown ending.
    """
    from babelscale import charts

    match picture:
        case "sources":
            drawn = charts.source_ranking(found.matrix)
        case "asymmetry":
            drawn = charts.asymmetry(found.matrix)
        case "along":
            assert found.along is not None
            drawn = charts.transfer_along(found.along)
        case _:
            drawn = charts.transfer_map(found.matrix, order=order)  # pyright: ignore[reportArgumentType]
    return charts.save(drawn, path)
