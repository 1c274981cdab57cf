"""Transfer between languages as a section of a page: the matrix, what it says, and how scores move."""

import math

import numpy as np

from babelscale import charts
from babelscale.charts import style
from babelscale.charts.transfer import cells
from babelscale.errors import InputError
from babelscale.reporting import words
from babelscale.reporting.page import Figure, Section, Table
from babelscale.reporting.result import Walk
from babelscale.transfer import TransferMatrix, analyse
from babelscale.transfer.along import along
from babelscale.transfer.analysis import Gap

# Fewer known scores than this make no ranking of sources, and no test.
_FEW = 12


def transfer(walk: Walk) -> Section | None:
    """The transfer matrix, how to read it, and the best helpers."""
    matrix = walk.matrix
    if matrix is None:
        return None
    data = cells(matrix, style.by_kinship(matrix.languages))
    said = [
        "A bilingual transfer score compares a model trained half on the target and half on the source with one "
        "trained on the target alone: 1 means that the source's tokens are as good as the target's own, above 0 that "
        "they help, 0 that they do nothing, below 0 that they take something away. Read along a row for the sources "
        "of one target.",
    ]
    if walk_size := matrix.provenance.get("params"):
        said.append(
            f"Scores depend on size and length of training; these hold at {words.count(walk_size)} parameters, "
            f"anchored at {100 * matrix.provenance.get('anchor', math.nan):.0f} % of the stable phase of the shortest "
            "monolingual run."
        )
    lines = []
    for target in matrix.languages:
        best = [h for h in matrix.helpers(target, 3) if (h.value if math.isfinite(h.value) else h.low) > 0]
        if best:
            told = ", ".join(f"{style.name(h.source)} ({words.score(h)})" for h in best)
            lines.append(f"{style.name(target)} is helped most by {told}.")
    rows = [
        [row["target_name"], row["source_name"], row["text"], row["interval"], row["status"]]
        for row in sorted(data, key=lambda row: -row["score"])
    ]
    table = Table("Transfer scores, best first", ("target", "source", "score", "90 % interval", "status"), rows, (2,))
    counts = {status: sum(row["status"] == status for row in data) for status in ("censored", "predicted", "printed")}
    notes = []
    if counts["censored"]:
        notes.append(
            f"{counts['censored']} of {len(data)} scores are censored (dashed): the runs ended too early to tell more "
            "than a bound. They are not zeros, and they take no part in rankings by value."
        )
    if counts["predicted"]:
        notes.append(f"{counts['predicted']} of {len(data)} scores are predicted, not measured (dotted, in brackets).")
    reading = "Green helps, purple takes away, white does neither. Languages stand by family and branch."
    figures = [Figure("transfer-map", charts.transfer_map(matrix), reading, table), *_pictures(walk, matrix)]
    tests = _tests(matrix)
    return Section(
        "Transfer between languages", "transfer", said, lines, tables=[tests] if tests else [], figures=figures,
        notes=notes,
    )  # fmt: skip


def _pictures(walk: Walk, matrix: TransferMatrix) -> list[Figure]:
    """Sources, what pairs give and take, and scores along size and tokens, where there is enough to draw."""
    figures = []
    if int(np.isfinite(matrix.values).sum()) >= _FEW:
        rows = [
            [row["source_name"], row["target_name"], f"{row['score']:+.2f}", f"{row['above']:+.2f}"]
            for row in charts.source_rows(matrix)
        ]
        columns = ("source", "target", "score", "less the target's mean")
        table = Table("Scores by source, the best source first", columns, rows, (2, 3))
        reading = "A dot is one target. Each score is less its target's mean, so that easy targets flatter no source."
        figures.append(Figure("transfer-sources", charts.source_ranking(matrix), reading, table, half=True))
    if len(pairs := charts.asymmetry_rows(matrix)) >= _FEW / 2:
        rows = [[row["more"], row["less"], f"{row['gain']:+.2f}", f"{row['other']:+.2f}"] for row in pairs]
        table = Table("Pairs, the most one-sided first", ("language", "other", "gains", "gives"), rows, (2, 3))
        reading = "On the line both gain alike; above it one takes more than it gives."
        figures.append(Figure("transfer-asymmetry", charts.asymmetry(matrix), reading, table, half=True))
    try:
        moves = along(walk.runs)
    except InputError:
        # The same runs gave a matrix at one anchor; where they give it at no other there is nothing to draw.
        return figures
    rows = [
        [style.name(row["target"]), style.name(row["source"]), words.count(row["params"]), words.count(row["d_mono"]),
         words.number(row["score"], "+.2f"), words.interval(row["low"], row["high"], "+.2f"), row["status"]]
        for row in moves.table.to_dicts()
    ]  # fmt: skip
    columns = ("target", "source", "parameters", "d_mono (tokens)", "score", "90 % interval", "status")
    table = Table("Scores along size and tokens", columns, rows, (2, 3, 4))
    reading = " ".join(str(moves).split("\n")[1:]).strip() or "One size and one number of tokens."
    figures.append(Figure("transfer-along", charts.transfer_along(moves), reading, table))
    return figures


def _tests(matrix: TransferMatrix) -> Table | None:
    """Contrasts and reciprocity with permutation tests; None with too few scores or a code that no table knows."""
    if int(np.isfinite(matrix.values).sum()) < _FEW:
        return None
    try:
        found = analyse(matrix)
    except InputError:
        return None
    rows = [
        [f"same {c.trait} against different ({c.same_pairs} and {c.different_pairs} pairs)",
         *(_told(gap) for gap in (c.raw, c.centred, c.double))]
        for c in found.contrasts
    ]  # fmt: skip
    told = (found.reciprocity, found.reciprocity_centred, found.reciprocity_double)
    row = ["a score and its reverse (r)"]
    rows.append(row + ["unknown" if math.isnan(r.r) else f"{r.r:+.2f}; {_p(r.p)}" for r in told])
    return Table(
        f"What the scores say: differences with 90 % intervals, p from {found.permutations} permutations of languages",
        ("", "as measured", "less target means", "less target and source means"),
        rows,
    )


def _told(gap: Gap) -> str:
    if math.isnan(gap.gap):
        return "unknown"
    between = "" if math.isnan(gap.low) else f" ({words.interval(gap.low, gap.high, '+.2f')})"
    return f"{gap.gap:+.2f}{between}; {_p(gap.p)}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"
