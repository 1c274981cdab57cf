"""Transfer between languages as sections of a report: the matrix, its statistics, and how scores change."""

import contextlib
import math
from dataclasses import replace

import numpy as np

from babelscale import charts
from babelscale.charts import style
from babelscale.charts.transfer import (
    ORDERS,
    Order,
    Shown,
    asymmetry_rows,
    cells,
    helper_rows,
    source_rows,
    target_rows,
)
from babelscale.errors import InputError
from babelscale.formatting import count, interval, minus, number, percent
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.reporting.report.study_analysis import StudyAnalysis
from babelscale.transfer import TransferMatrix, analyse
from babelscale.transfer.along import Along, along
from babelscale.transfer.analysis import Analysis, Gap
from babelscale.transfer.prediction import MatrixPrediction

# With fewer known scores than this there is no ranking of sources and no test.
_FEW = 12
_SCORE = (
    "A bilingual transfer score compares a model trained half on the target and half on the source with one trained "
    "on the target alone. 1 means that tokens of the source are as useful as the target's own, above 0 that they help, "
    "0 that they have no effect, and below 0 that they harm. Each row shows the sources of one target."
)
_COLOURS = (
    "Green is help, purple is interference, white is neither.",
    "The darker a cell, the less certain its score; grey cells have no interval.",
)
_STATUSES = {
    "censored": "are censored (dashed): the runs ended too early, so only a bound is known. A bound is not a zero, and "
    "censored scores are left out of rankings by value.",
    "predicted": "are predicted, not measured (dotted, in brackets).",
    "printed": "are published figures of the ATLAS study, with one decimal and no interval. About 90 of its pairs were "
    "measured; the publication does not say which.",
}


def transfer(analysis: StudyAnalysis) -> Section | None:
    """The transfer matrix, how to read it, and the best sources."""
    matrix = analysis.matrix
    if matrix is None:
        return None
    first = scores(matrix)
    figures = [*first.figures, *rankings(matrix)]
    with contextlib.suppress(InputError):  # raised where the runs give scores at one anchor only
        figures.append(moving(along(analysis.runs)))
    table = _tests_of(matrix)
    return replace(first, figures=figures, tables=[] if table is None else [table])


def scores(matrix: TransferMatrix, order: Order = "branch", shows: Shown = "score") -> Section:
    """The heat map of a matrix, how to read it, and the best sources of each target."""
    data = cells(matrix, style.by_kinship(matrix.languages))
    lines = []
    for target in matrix.languages:
        best = [h for h in matrix.helpers(target, 3) if (h.value if math.isfinite(h.value) else h.low) > 0]
        listed = ", ".join(
            f"{style.name(h.source)} "
            f"({number(h.value, '+.2f') if math.isfinite(h.value) else minus(f'above {h.low:+.2f}')})"
            for h in best
        )
        lines += [f"{style.name(target)} gains most from {listed}."] if best else []
    rows = [
        [row["target_name"], row["source_name"], row["text"], row["interval"], row["status"]]
        for row in sorted(data, key=lambda row: -row["score"])
    ]
    table = Table("Transfer scores, best first", ("target", "source", "score", "90 % interval", "status"), rows, (2,))
    reading = f"{_COLOURS[shows == 'half']} Languages are sorted {ORDERS[order]}."
    figure = Figure("transfer-map", charts.transfer_map.spec(matrix, order=order, shows=shows), reading, table)
    counts = {status: sum(row["status"] == status for row in data) for status in _STATUSES}
    notes = [f"{counts[status]} of {len(data)} scores {text}" for status, text in _STATUSES.items() if counts[status]]
    paragraphs = [_SCORE, *_where(matrix)]
    return Section("Transfer between languages", "transfer", paragraphs, lines, figures=[figure], notes=notes)


def _where(matrix: TransferMatrix) -> list[str]:
    """The size and length that the scores hold for, if the matrix says."""
    about = matrix.provenance
    if not about.get("params"):
        return []
    anchored = "for the runs as they were trained"
    if "anchor" in about:
        anchored = f"anchored at {100 * about['anchor']:.0f} % of the stable phase of the shortest monolingual run"
    elif "anchor_tokens" in about:
        anchored = f"anchored at {count(about['anchor_tokens'])} tokens"
    return [
        f"Scores depend on size and length of training. These hold at {count(about['params'])} parameters, {anchored}."
    ]


def _variance_shares(dots: list[style.Row]) -> str:
    """The shares of the variance of the scores between targets and between sources; empty where all are equal."""
    values = np.array([dot["score"] for dot in dots])
    total = float(np.var(values))
    if total <= 0:
        return ""
    shares = []
    for side in ("target_name", "source_name"):
        _, of = np.unique([dot[side] for dot in dots], return_inverse=True)
        means = np.bincount(of, values) / np.bincount(of)
        shares.append(f"{100 * float(np.var(means[of])) / total:.0f} %")
    return f" The targets' means hold {shares[0]} of the variance of these scores, the sources' means {shares[1]}."


def rankings(matrix: TransferMatrix) -> list[Figure]:
    """Targets, sources, and pairs by what each side gains, where there are enough scores."""
    figures = []
    if int(np.isfinite(matrix.values).sum()) >= _FEW:
        dots = target_rows(matrix)
        rows = [[row["target_name"], row["source_name"], number(row["score"], "+.2f")] for row in dots]
        caption = "Scores by target, the target that gains most first"
        table = Table(caption, ("target", "source", "score"), rows, (2,))
        reading, chart = f"Each dot is one source.{_variance_shares(dots)}", charts.target_ranking.spec(matrix)
        figures.append(Figure("transfer-targets", chart, reading, table, half=True))
        rows = [
            [row["source_name"], row["target_name"], number(row["score"], "+.2f"), number(row["above"], "+.2f")]
            for row in source_rows(matrix)
        ]
        columns = ("source", "target", "score", "less the target's mean")
        table = Table("Scores by source, the best source first", columns, rows, (2, 3))
        reading = (
            "Each dot is one target. The target's mean is subtracted, so that easy targets do not favour a source."
        )
        chart = charts.source_ranking.spec(matrix)
        figures.append(Figure("transfer-sources", chart, reading, table, half=True))
    if len(pairs := asymmetry_rows(matrix)) >= _FEW / 2:
        rows = [[row["more"], row["less"], number(row["gain"], "+.2f"), number(row["other"], "+.2f")] for row in pairs]
        caption, columns = "Pairs, the most asymmetric first", ("language", "other", "gains", "gives")
        reading = (
            "On the line both languages gain equally; above it, one gains more than it gives. The most asymmetric "
            "pairs are named."
        )
        chart, table = charts.asymmetry.spec(matrix), Table(caption, columns, rows, (2, 3))
        figures.append(Figure("transfer-asymmetry", chart, reading, table, half=True))
    return figures


def helped(matrix: TransferMatrix, target: str) -> Section:
    """The sources of one target, best first, with intervals where they are known.

    Raises:
        InputError: the target is not in the matrix.
    """
    data, name = helper_rows(matrix, target), style.name(target)
    rows = [
        [
            row["name"],
            row["text"],
            "unknown" if row["low"] is None else interval(row["low"], row["high"], "+.2f"),
            row["status"],
        ]
        for row in data
    ]
    table = Table(f"Sources of {name}, best first", ("source", "score", "90 % interval", "status"), rows, (1,))
    best = [f"{row['name']} ({row['text']})" for row in data[:3]]
    if not data:
        paragraphs = [f"No source of {name} has a known score."]
    elif data[0]["score"] > 0:
        helpers = [text for text, row in zip(best, data, strict=False) if row["score"] > 0]
        paragraphs = [f"{name} gains most from {', '.join(helpers)}."]
    else:
        paragraphs = [f"No source is known to help {name}; the best is {best[0]}."]
    certain = [row["name"] for row in data if row["low"] is not None and row["low"] > 0]
    certain += [row["name"] for row in data if row["bound"] and row["score"] > 0]
    if certain:
        paragraphs.append(f"Sources whose whole 90 % interval is above 0: {', '.join(dict.fromkeys(certain))}.")
    reading = (
        "Dots are scores, bars their 90 % intervals where they are known, arrows lower bounds; predicted scores are "
        "pink."
    )
    figure = Figure("transfer-helpers", charts.helpers.spec(matrix, target), reading, table)
    return Section(f"Sources that help {name}", "helpers", paragraphs, figures=[figure] if data else [])


def moving(moves: Along) -> Figure:
    """Scores along size and tokens."""
    rows = [
        [
            style.name(row["target"]),
            style.name(row["source"]),
            count(row["params"]),
            count(row["d_mono"]),
            number(row["score"], "+.2f"),
            interval(row["low"], row["high"], "+.2f"),
            row["status"],
        ]
        for row in moves.table.to_dicts()
    ]
    columns = ("target", "source", "parameters", "d_mono (tokens)", "score", "90 % interval", "status")
    table = Table("Scores along size and tokens", columns, rows, (2, 3, 4))
    reading = " ".join(str(moves).split("\n")[1:]).strip() or "One size and one number of tokens."
    return Figure("transfer-along", charts.transfer_along(moves), reading, table)


def predicted(prediction: MatrixPrediction) -> Section:
    """How accurate predicted scores are: known scores are left out and predicted."""
    rows = [
        [
            f"one {check.left_out}",
            str(check.scores),
            *(number(value, ".2f") for value in (check.R2, check.spearman, check.within_target)),
            percent(check.coverage),
            number(check.means_R2, ".2f"),
        ]
        for check in prediction.checks
    ]
    columns = ("left out", "scores", "R²", "rank r", "rank r in a row", "inside 90 % (%)", "R² of means alone")
    table = Table("Known scores, left out and predicted", columns, rows, (1, 2, 3, 4, 5, 6))
    paragraph = (
        "Scores that were not measured are predicted from the means of targets and sources, scripts, families, places "
        "and amounts of text. To measure the accuracy, known scores are left out and predicted: a pair, a target's "
        "whole row, or a language in both roles. The last case is that of a language without any score."
    )
    notes = []
    if max(prediction.widened) > 1:
        pairs, alone = prediction.widened
        notes.append(
            f"Intervals are widened by a factor of {pairs:.2f}, and of {alone:.2f} for languages without any score, so "
            "that they cover the scores left out."
        )
    return Section("Accuracy of predicted scores", "predicted", [paragraph], tables=[table], notes=notes)


def _tests_of(matrix: TransferMatrix) -> Table | None:
    """Contrasts and reciprocity; None with too few scores or a language that the language table does not have."""
    if int(np.isfinite(matrix.values).sum()) < _FEW:
        return None
    try:
        return _tests(analyse(matrix))
    except InputError:
        return None


def tests(found: Analysis) -> Section:
    """The analysis of a whole matrix: contrasts, reciprocity, the shares of the variance, clusters."""
    paragraphs = ["Predicted and censored scores are left out; languages hidden in the chart are included."]
    if math.isfinite(found.target_variance) and math.isfinite(found.source_variance):
        shares = f"{100 * found.target_variance:.0f} % of the variance of the scores is between the targets' means, "
        shares += f"and {100 * found.source_variance:.0f} % of the rest between the sources' means."
        paragraphs.insert(0, shares)
    lines = [] if found.clusters is None else [f"{str(found.clusters)[:1].upper()}{str(found.clusters)[1:]}."]
    return Section("Statistics of the scores", "tests", paragraphs, lines, tables=[_tests(found)])


def _tests(found: Analysis) -> Table:
    rows = [
        [
            f"same {c.trait} against different ({c.same_pairs} and {c.different_pairs} pairs)",
            *map(_gap, (c.raw, c.centred, c.double)),
        ]
        for c in found.contrasts
    ]
    correlations = (found.reciprocity, found.reciprocity_centred, found.reciprocity_double)
    cells = ["unknown" if math.isnan(r.r) else f"{number(r.r, '+.2f')}; {_p(r.p)}" for r in correlations]
    return Table(
        f"Differences with 90 % intervals, and p from {found.permutations} permutations of languages",
        ("", "as measured", "less target means", "less target and source means"),
        [*rows, ["a score and its reverse (r)", *cells]],
    )


def _gap(gap: Gap) -> str:
    if math.isnan(gap.gap):
        return "unknown"
    between = "" if math.isnan(gap.low) else f" ({interval(gap.low, gap.high, '+.2f')})"
    return f"{number(gap.gap, '+.2f')}{between}; {_p(gap.p)}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"
