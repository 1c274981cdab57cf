"""A transfer matrix and its analysis, from whatever contains one: runs, a study, a file, or the published figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from babelscale import tabular
from babelscale.errors import InputError
from babelscale.published import transfer_matrix
from babelscale.reporting.report.language_features import language_features
from babelscale.runs import Runs
from babelscale.transfer import Relations, TransferMatrix, analyse
from babelscale.transfer.along import Along, along
from babelscale.transfer.analysis import Analysis
from babelscale.transfer.mixture_observations import observe_mixtures
from babelscale.transfer.mixtures import FORMS, MixtureEstimate, estimate
from babelscale.transfer.prediction import MatrixPrediction, predict

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TransferReport:
    """A matrix, and the analyses that were requested."""

    matrix: TransferMatrix
    analysis: Analysis | None = None
    prediction: MatrixPrediction | None = None
    along: Along | None = None
    estimate: MixtureEstimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """The matrix as it is saved; with any analysis, an object of all parts."""
        parts = {
            "analysis": self.analysis,
            "prediction": self.prediction,
            "along": self.along,
            "mixtures": self.estimate,
        }
        requested = {name: part.to_dict() for name, part in parts.items() if part is not None}
        matrix = self.matrix.to_dict()
        return {"kind": "transfer", "matrix": matrix, **requested} if requested else matrix

    def __str__(self) -> str:
        first = self.prediction or self.estimate or self.matrix
        return "\n\n".join(str(part) for part in (first, self.analysis, self.along) if part is not None)


def transfer_report(  # noqa: PLR0913 - each is an option of `babelscale transfer`
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
    """A matrix and the requested analyses.

    Args:
        source: a study's folder, a folder or table of runs, a matrix as CSV or JSON; None with `published`.
        mixtures: estimate scores from runs of several languages, not from pairs alone.
        tests: analyse the measured scores; `seed` is that of the permutations.
        predicted: predict missing scores for the matrix's languages and these; None for no prediction.
        moves: also the scores along size and tokens.
        anchor, params: the size and tokens of the scores (see `TransferMatrix.from_runs` and `observe_mixtures`).
        known: features of languages and pairs in addition to those of the language table and of the study's text.
        progress: called with (label, done, total).

    Raises:
        InputError: neither or both of source and published, or an analysis that needs runs without them.
    """
    total = 1 + tests + (predicted is not None) + moves
    labels: list[str] = []

    def report(label: str) -> None:
        if progress is not None:
            progress(label, len(labels), total)
        labels.append(label)

    if published == (source is not None):
        raise InputError("transfer needs either runs or --published", hint="babelscale transfer --published")
    report("transfer scores")
    matrix, runs, mixed = _matrix(source), None, None
    if matrix is not None and (mixtures or moves):
        raise InputError(
            f"{'mixtures' if mixtures else 'scores along size and tokens'} need runs; a matrix contains none",
            hint="name a study or a table of runs",
        )

    def features(codes: Sequence[str]) -> Relations:
        found = Relations.of(codes) if runs is None or source is None else language_features(source, codes, runs)
        return found if known is None else found.joined(known)

    if matrix is None:
        assert source is not None
        runs = Runs.read(source)
        if mixtures:
            observed = observe_mixtures(runs, params=params, anchor=anchor)
            mixed = estimate(observed, features(observed.languages), forms=tuple(FORMS))
            matrix = mixed.matrix
        else:
            # Where every loss is decayed, a learning curve consists of runs of several lengths.
            state = "stable" if "stable" in runs.losses["lr_state"] else "decayed"
            share = 0.4 if anchor is None else anchor
            matrix = TransferMatrix.from_runs(runs, params=params, anchor=share, lr_state=state)
    codes = tuple(dict.fromkeys((*(predicted or ()), *matrix.languages)))
    relations = features(codes) if tests or predicted is not None else None
    analysis = prediction = moving = None
    if tests:
        report("permutation tests")
        analysis = analyse(matrix, relations, seed=seed)
    if predicted is not None:
        report("prediction")
        prediction = predict(matrix, codes, relations)
        matrix = prediction.matrix
    if runs is not None and moves:
        report("scores along size and tokens")
        moving = along(runs)
    return TransferReport(matrix, analysis, prediction, moving, mixed)


def _matrix(source: str | Path | None) -> TransferMatrix | None:
    """The published matrix, or that of a file; None for runs."""
    if source is None:
        return transfer_matrix()
    path = Path(source)
    return TransferMatrix.load(path) if holds_matrix(path) else None


def holds_matrix(path: Path) -> bool:
    """Whether a file is for a matrix: JSON that says nothing else of itself, or a table of scores in either layout."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".json":
        return '"parameters"' not in path.read_text(encoding="utf-8", errors="replace")
    try:
        frame = tabular.read(path).frame
    except InputError:
        # Runs are read next, with the same reader, which then names what is wrong with the file.
        return False
    if {"target", "source"} <= {name.lower() for name in frame.columns}:
        return True
    # A square names the same languages along both sides.
    return frame.width > 1 and bool(set(frame.columns[1:]) & set(frame.to_series(0).cast(pl.String)))


def draw(found: TransferReport, picture: str, order: str, path: Path) -> Path:
    """Draw one chart to a file whose ending gives the format.

    Raises:
        InputError: an unknown ending.
    """
    from babelscale import charts

    match picture:
        case "sources":
            chart = charts.source_ranking(found.matrix)
        case "asymmetry":
            chart = charts.asymmetry(found.matrix)
        case "along":
            assert found.along is not None
            chart = charts.transfer_along(found.along)
        case _:
            chart = charts.transfer_map(found.matrix, order=order)  # pyright: ignore[reportArgumentType]
    return charts.save(chart, path)
