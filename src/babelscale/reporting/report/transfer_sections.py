"""Transfer between languages as a section of a page: the matrix, what it says, and how scores move."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from babelscale import charts, formatting
from babelscale.charts import style
from babelscale.charts.pairs import asymmetry_rows, asymmetry_spec
from babelscale.charts.rankings import helper_rows, helpers_spec, source_rows, sources_spec, target_rows, targets_spec
from babelscale.charts.transfer import ORDERS, Order, Shown, cells, map_spec
from babelscale.errors import InputError
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.reporting.report.study_analysis import StudyAnalysis
from babelscale.transfer import TransferMatrix, analyse
from babelscale.transfer.along import Along, along
from babelscale.transfer.analysis import Analysis, Gap
from babelscale.transfer.prediction import MatrixPrediction

# Fewer known scores than this make no ranking of sources, and no test.
_FEW = 12


def transfer(analysis: StudyAnalysis) -> Section | None:
    """The transfer matrix, how to read it, and the best helpers."""
    matrix = analysis.matrix
    if matrix is None:
        return None
    try:
        moves = along(analysis.runs)
    except InputError:
        # The same runs gave a matrix at one anchor; where they give it at no other there is nothing to draw.
        moves = None
    first = scores(matrix)
    beside = [*rankings(matrix), *([] if moves is None else [moving(moves)])]
    tests = tested(matrix)
    return replace(first, figures=[*first.figures, *beside], tables=[tests] if tests else [])


def scores(matrix: TransferMatrix, order: Order = "branch", shows: Shown = "score") -> Section:
    """The heat map of a matrix, how to read it, and the best helpers."""
    data = cells(matrix, style.by_kinship(matrix.languages))
    lines = []
    for target in matrix.languages:
        best = [h for h in matrix.helpers(target, 3) if (h.value if math.isfinite(h.value) else h.low) > 0]
        if best:
            told = ", ".join(f"{style.name(h.source)} ({_score(h)})" for h in best)
            lines.append(f"{style.name(target)} is helped most by {told}.")
    rows = [
        [row["target_name"], row["source_name"], row["text"], row["interval"], row["status"]]
        for row in sorted(data, key=lambda row: -row["score"])
    ]
    table = Table("Transfer scores, best first", ("target", "source", "score", "90 % interval", "status"), rows, (2,))
    reading = f"{_COLOURS[shows == 'half']} Languages are ordered {ORDERS[order]}."
    figure = Figure("transfer-map", map_spec(matrix, order=order, shows=shows), reading, table)
    return Section(
        "Transfer between languages",
        "transfer",
        [_SCORE, *_where(matrix)],
        lines,
        figures=[figure],
        notes=_statuses(data),
    )


_SCORE = (
    "A bilingual transfer score compares a model trained half on the target and half on the source with a "
    "model trained on the target alone. 1 means that the source's tokens are as good as the target's own, "
    "above 0 means that they help, 0 that they have no effect, and below 0 that they interfere. Read along "
    "a row to compare the sources of one target."
)
_COLOURS = (
    "Green sources help, purple sources interfere, and white sources have no effect.",
    "The darker a cell, the wider the interval of its score; grey cells have no interval.",
)


def _where(matrix: TransferMatrix) -> list[str]:
    """At what size and length the scores hold, as far as the matrix says."""
    about = matrix.provenance
    if not about.get("params"):
        return []
    if "anchor" in about:
        anchored = f"anchored at {100 * about['anchor']:.0f} % of the stable phase of the shortest monolingual run"
    elif "anchor_tokens" in about:
        anchored = f"anchored at {formatting.count(about['anchor_tokens'])} tokens"
    else:
        anchored = "as their runs were trained"
    return [
        f"Scores depend on size and length of training; these hold at {formatting.count(about['params'])} parameters, "
        f"{anchored}."
    ]


def _statuses(data: list[style.Row]) -> list[str]:
    """What kinds of scores there are besides measured ones."""
    counts = {status: sum(row["status"] == status for row in data) for status in ("censored", "predicted", "printed")}
    notes = []
    if counts["censored"]:
        notes.append(
            f"{counts['censored']} of {len(data)} scores are censored (dashed borders): the runs ended too "
            "early to give more than a bound. These scores are not zero, and rankings by value leave them "
            "out."
        )
    if counts["predicted"]:
        notes.append(
            f"{counts['predicted']} of {len(data)} scores are predicted, not measured (dotted borders, in brackets)."
        )
    if counts["printed"]:
        notes.append(
            f"{counts['printed']} of {len(data)} scores are printed figures of the ATLAS study, with one "
            "decimal and no interval. The study measured about 90 pairs and does not print which ones."
        )
    return notes


def _shares(dots: list[style.Row]) -> str:
    """How much of the variance of the scores lies between targets, and between sources; nothing where all are equal."""
    scores = np.array([dot["score"] for dot in dots])
    total = float(np.var(scores))
    if total <= 0:
        return ""
    told = []
    for side in ("target_name", "source_name"):
        _, of = np.unique([dot[side] for dot in dots], return_inverse=True)
        means = np.bincount(of, scores) / np.bincount(of)
        told.append(f"{100 * float(np.var(means[of])) / total:.0f} %")
    return (
        f" The means of the targets explain {told[0]} of the variance of these scores, and the means of the "
        f"sources explain {told[1]}."
    )


def rankings(matrix: TransferMatrix) -> list[Figure]:
    """Targets, sources, and what pairs give and take, where there is enough to draw."""
    figures = []
    if int(np.isfinite(matrix.values).sum()) >= _FEW:
        dots = target_rows(matrix)
        rows = [[row["target_name"], row["source_name"], f"{row['score']:+.2f}"] for row in dots]
        table = Table("Scores by target, the one that gains most first", ("target", "source", "score"), rows, (2,))
        reading = f"Each dot is a source.{_shares(dots)}"
        figures.append(Figure("transfer-targets", targets_spec(matrix), reading, table, half=True))
        rows = [
            [row["source_name"], row["target_name"], f"{row['score']:+.2f}", f"{row['above']:+.2f}"]
            for row in source_rows(matrix)
        ]
        columns = ("source", "target", "score", "minus the target's mean")
        table = Table("Scores by source, the best source first", columns, rows, (2, 3))
        reading = (
            "Each dot is a target. The target's mean is subtracted from each score, so that targets that are "
            "easy to help do not favour a source."
        )
        figures.append(Figure("transfer-sources", sources_spec(matrix), reading, table, half=True))
    if len(pairs := asymmetry_rows(matrix)) >= _FEW / 2:
        rows = [[row["more"], row["less"], f"{row['gain']:+.2f}", f"{row['other']:+.2f}"] for row in pairs]
        table = Table("Pairs, the most one-sided first", ("language", "other", "gains", "gives"), rows, (2, 3))
        reading = (
            "On the line both languages gain equally. Above the line the target gains more than it gives. "
            "Names mark the most one-sided pairs."
        )
        figures.append(Figure("transfer-asymmetry", asymmetry_spec(matrix), reading, table, half=True))
    return figures


def helped(matrix: TransferMatrix, target: str) -> Section:
    """Who helps one target, best first, with intervals where they are known.

    Raises:
        InputError: the target is not in the matrix.
    """
    data = helper_rows(matrix, target)
    rows = [
        [
            row["name"],
            row["text"],
            "unknown" if row["low"] is None else formatting.interval(row["low"], row["high"], "+.2f"),
            row["status"],
        ]
        for row in data
    ]
    caption = f"Sources of {style.name(target)}, best first"
    table = Table(caption, ("source", "score", "90 % interval", "status"), rows, (1,))
    sure = [row["name"] for row in data if row["low"] is not None and row["low"] > 0]
    sure += [row["name"] for row in data if row["bound"] and row["score"] > 0]
    said = [_best(style.name(target), data)]
    if sure:
        said.append(f"The 90 % interval is above 0 for: {', '.join(dict.fromkeys(sure))}.")
    reading = (
        "Dots are scores, bars are their 90 % intervals if they are known, and arrows are lower bounds. "
        "Predicted scores are pink."
    )
    figure = Figure("transfer-helpers", helpers_spec(matrix, target), reading, table)
    return Section(f"Sources for {style.name(target)}", "helpers", said, figures=[figure] if data else [])


def _best(name: str, data: list[style.Row]) -> str:
    if not data:
        return f"No source of {name} has a known score."
    helpers = [f"{row['name']} ({row['text']})" for row in data[:3] if row["score"] > 0]
    if helpers:
        return f"{name} is helped most by {', '.join(helpers)}."
    return f"No source is known to help {name}; the best of them is {data[0]['name']} ({data[0]['text']})."


def moving(moves: Along) -> Figure:
    """Scores along size and tokens."""
    rows = [
        [
            style.name(row["target"]),
            style.name(row["source"]),
            formatting.count(row["params"]),
            formatting.count(row["d_mono"]),
            formatting.number(row["score"], "+.2f"),
            formatting.interval(row["low"], row["high"], "+.2f"),
            row["status"],
        ]
        for row in moves.table.to_dicts()
    ]
    columns = ("target", "source", "parameters", "d_mono (tokens)", "score", "90 % interval", "status")
    table = Table("Scores along size and tokens", columns, rows, (2, 3, 4))
    reading = " ".join(str(moves).split("\n")[1:]).strip() or "One size and one number of tokens."
    return Figure("transfer-along", charts.transfer_along(moves), reading, table)


def foretold(prediction: MatrixPrediction) -> Section:
    """How well predicted scores can be trusted: what leaving known ones out showed."""
    rows = [
        [
            f"one {check.left_out}",
            str(check.scores),
            formatting.number(check.R2, ".2f"),
            formatting.number(check.spearman, ".2f"),
            formatting.number(check.within_target, ".2f"),
            formatting.percent(check.coverage),
            formatting.number(check.means_R2, ".2f"),
        ]
        for check in prediction.checks
    ]
    columns = ("left out", "scores", "R²", "rank r", "rank r in a row", "inside 90 % (%)", "R² of means only")
    table = Table("Known scores, left out and predicted", columns, rows, (1, 2, 3, 4, 5, 6))
    said = [
        "Missing scores are predicted from the means of targets and sources, scripts, families, distances "
        "and amounts of text. To test the predictions, known scores are left out and predicted: a pair, "
        "the whole row of a target, or a language in both roles. The last case applies to a language "
        "without any score."
    ]
    notes = []
    if max(prediction.widened) > 1:
        pairs, alone = prediction.widened
        notes.append(
            f"Intervals are widened {pairs:.2f}-fold, and {alone:.2f}-fold for languages without any score, "
            "because the checks on left-out scores require it."
        )
    return Section("How good the predictions are", "predicted", said, tables=[table], notes=notes)


def tested(matrix: TransferMatrix) -> Table | None:
    """Contrasts and reciprocity with permutation tests; None with too few scores or a code that no table knows."""
    if int(np.isfinite(matrix.values).sum()) < _FEW:
        return None
    try:
        return _tests(analyse(matrix))
    except InputError:
        return None


def told_tests(found: Analysis) -> Section:
    """What an analysis tells of a whole matrix: contrasts, reciprocity, where the variance lies, clusters."""
    said = ["Predicted and censored scores are left out; languages that are hidden are included."]
    if math.isfinite(found.target_variance) and math.isfinite(found.source_variance):
        said.insert(
            0,
            f"The means of the targets explain {100 * found.target_variance:.0f} % of the variance of the "
            f"scores, and the means of the sources explain {100 * found.source_variance:.0f} % of the rest.",
        )
    lines = [] if found.clusters is None else [f"{str(found.clusters)[:1].upper()}{str(found.clusters)[1:]}."]
    return Section("What the scores say", "tests", said, lines, tables=[_tests(found)])


def _tests(found: Analysis) -> Table:
    rows = [
        [
            f"same {c.trait} against different ({c.same_pairs} and {c.different_pairs} pairs)",
            *(_told(gap) for gap in (c.raw, c.centred, c.double)),
        ]
        for c in found.contrasts
    ]
    told = (found.reciprocity, found.reciprocity_centred, found.reciprocity_double)
    row = ["a score and its reverse (r)"]
    rows.append(row + ["unknown" if math.isnan(r.r) else f"{r.r:+.2f}; {_p(r.p)}" for r in told])
    return Table(
        f"What the scores say: differences with 90 % intervals, p from {found.permutations} permutations of "
        "the languages",
        ("", "as measured", "minus target means", "minus target and source means"),
        rows,
    )


def _told(gap: Gap) -> str:
    if math.isnan(gap.gap):
        return "unknown"
    between = "" if math.isnan(gap.low) else f" ({formatting.interval(gap.low, gap.high, '+.2f')})"
    return f"{gap.gap:+.2f}{between}; {_p(gap.p)}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def _score(helper: Any) -> str:
    """A helper's transfer score, or the bound that is known of it."""
    text = f"{helper.value:+.2f}" if math.isfinite(helper.value) else f"above {helper.low:+.2f}"
    return formatting.minus(text)
