"""TransferMatrix: transfer scores between languages, each with its interval and where it came from."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import PlainValidator

from babelscale import files
from babelscale.errors import InputError
from babelscale.formatting import text_table
from babelscale.languages import is_well_formed
from babelscale.result import JsonResult, Numbers, to_number, to_numbers
from babelscale.runs import Runs
from babelscale.tables import LRState
from babelscale.transfer.bts import Status
from babelscale.transfer.measure import matrix_fields

_COLUMNS = ("target", "source", "score", "low", "high", "status")
_WIDEST = 14
Grids = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
CsvCells = tuple[tuple[str, ...], Grids, NDArray[np.str_]]


def _texts(values: Any) -> NDArray[np.str_]:
    return np.asarray(values, np.str_)


@dataclass(frozen=True)
class Helper:
    """One source for a target; a censored one has no value (NaN) and only bounds."""

    source: str
    value: float
    low: float
    high: float
    status: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for strict JSON, as in `TransferMatrix.to_dict`."""
        numbers = {name: to_number(getattr(self, name)) for name in ("value", "low", "high")}
        return {"source": self.source, **numbers, "status": self.status}

    @property
    def text(self) -> str:
        """The score in a table: +0.12, >0.30 or <0.30 where it is censored, and a point where it is missing."""
        if not math.isnan(self.value):
            return f"{self.value:+.2f}"
        if math.isfinite(self.low) and self.high >= 2:
            return f">{self.low:.2f}"
        return f"<{self.high:.2f}" if math.isfinite(self.high) else "."

    def __str__(self) -> str:
        text = f"{self.source:<8}{self.text:>7}"
        if math.isfinite(self.value) and math.isfinite(self.low) and math.isfinite(self.high):
            text += f"  90 % {self.low:+.2f} to {self.high:+.2f}"
        return f"{text}  {self.status}"


class Synergy(NamedTuple):
    """Two languages and what each does for the other: `first` helped by `second`, and `second` by `first`."""

    first: str
    second: str
    first_gains: float
    second_gains: float


@dataclass(frozen=True, eq=False, repr=False)
class TransferMatrix(JsonResult):
    """Transfer scores (BTS), row = target, column = source.

    Args:
        languages: n codes, in the order of rows and columns.
        values: shape (n, n); NaN where there is no number (missing, censored, the diagonal).
        low, high: shape (n, n), 90 % intervals or the bounds of a censored score (infinite where open), NaN where
            unknown.
        status: shape (n, n) of "measured", "censored", "predicted", "printed" or "missing".
        provenance: what the scores were made from (size, anchor, seeds, source).

    Raises:
        InputError: shapes differ, a code repeats or is malformed, or a status is none of the five.
    """

    languages: tuple[str, ...]
    values: Numbers
    low: Numbers
    high: Numbers
    status: Annotated[NDArray[np.str_], PlainValidator(_texts)]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.languages)
        object.__setattr__(self, "languages", tuple(self.languages))
        if len(set(self.languages)) != n:
            raise InputError("a language occurs twice in the transfer matrix")
        if bad := [code for code in self.languages if not is_well_formed(code)]:
            raise InputError(f"{bad[0]!r} is not a language code", hint="codes are BCP-47, such as sw or fil")
        for name in ("values", "low", "high"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        object.__setattr__(self, "status", np.asarray(self.status, np.str_))
        for name in ("values", "low", "high", "status"):
            if getattr(self, name).shape != (n, n):
                raise InputError(f"transfer matrix: {name} has shape {getattr(self, name).shape}, not ({n}, {n})")
        if unknown := set(np.unique(self.status)) - set(get_args(Status)):
            raise InputError(
                f"transfer matrix: status {sorted(unknown)[0]!r}", hint=f"it is one of {', '.join(get_args(Status))}"
            )
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    @classmethod
    def from_runs(
        cls,
        runs: Runs,
        *,
        params: float | None = None,
        anchor: float = 0.4,
        tokens: float | None = None,
        lr_state: LRState = "stable",
        split: str = "validation",
    ) -> "TransferMatrix":
        """Every directed pair for which a monolingual and a 50/50 bilingual run share size, seed, tokenizer and corpus.

        Args:
            params: N of the runs to use; by default the size with the most bilingual runs (the larger of equals).
            anchor: d_mono as a share of the shortest monolingual curve, one number of tokens for the whole matrix, as
                in the study. A target with a longer monolingual run would otherwise need a loss that no bilingual run
                reached.
            tokens: d_mono itself, in place of `anchor`.
            lr_state: state of all losses. "stable" follows the longest run of each kind through its checkpoints;
                "decayed" needs runs of several lengths.

        Raises:
            InputError: no size has a monolingual and a bilingual run that belong together.
        """
        return cls(*matrix_fields(runs, params=params, anchor=anchor, tokens=tokens, lr_state=lr_state, split=split))

    def cell(self, target: str, source: str) -> Helper:
        """One score.

        Raises:
            InputError: a language is not in the matrix.
        """
        i, j = self._index(target), self._index(source)
        return Helper(
            source, float(self.values[i, j]), float(self.low[i, j]), float(self.high[i, j]), str(self.status[i, j])
        )

    def helpers(self, target: str, most: int = 5) -> tuple[Helper, ...]:
        """The best sources for a target, best first, at most `most`.

        A score censored from below (better than could be measured) is ranked by its lower bound; scores bounded only
        from above and missing ones are left out.
        """
        cells = [self.cell(target, source) for source in self.languages if source != target]
        ranked = [(cell.low if math.isnan(cell.value) else cell.value, cell) for cell in cells]
        known = [(rank, cell) for rank, cell in ranked if math.isfinite(rank)]
        return tuple(cell for _, cell in sorted(known, key=lambda pair: (-pair[0], pair[1].source))[:most])

    def synergies(self, most: int = 10) -> tuple[Synergy, ...]:
        """Pairs of languages that help each other, ranked by the smaller of the two scores; censored ones left out."""
        pairs = [
            Synergy(a, b, float(self.values[i, j]), float(self.values[j, i]))
            for i, a in enumerate(self.languages)
            for j, b in enumerate(self.languages)
            if i < j and min(self.values[i, j], self.values[j, i]) > 0
        ]
        return tuple(sorted(pairs, key=lambda pair: -min(pair.first_gains, pair.second_gains))[:most])

    def asymmetries(self, most: int = 10) -> tuple[Synergy, ...]:
        """Pairs in which one language gains more than it gives, the widest difference first; `first` gains more."""
        pairs = [
            Synergy(a, b, float(self.values[i, j]), float(self.values[j, i]))
            for i, a in enumerate(self.languages)
            for j, b in enumerate(self.languages)
            if self.values[i, j] > self.values[j, i]
        ]
        return tuple(sorted(pairs, key=lambda pair: pair.second_gains - pair.first_gains)[:most])

    def within(self, languages: Iterable[str]) -> "TransferMatrix":
        """The scores between these languages alone, in this order.

        Raises:
            InputError: a language is not in the matrix.
        """
        codes = tuple(dict.fromkeys(languages))
        chosen = np.ix_(*2 * [np.array([self._index(code) for code in codes], np.int64)])
        values, low, high = (grid[chosen] for grid in (self.values, self.low, self.high))
        return TransferMatrix(codes, values, low, high, self.status[chosen], self.provenance)

    def _index(self, language: str) -> int:
        if language not in self.languages:
            raise InputError(f"{language!r} is not in the transfer matrix", hint=f"it has {', '.join(self.languages)}")
        return self.languages.index(language)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for strict JSON: null for no number, "inf" and "-inf" for open bounds."""
        return {
            "kind": "transfer-matrix",
            "languages": list(self.languages),
            "values": to_numbers(self.values),
            "low": to_numbers(self.low),
            "high": to_numbers(self.high),
            "status": self.status.tolist(),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        # A matrix without languages is saved as empty lists, which have lost their second axis.
        grids = {} if data["languages"] else dict.fromkeys(("values", "low", "high", "status"), np.empty((0, 0)))
        return {**data, **grids}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TransferMatrix) and self.to_dict() == other.to_dict()

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    @property
    def headline(self) -> str:
        counts = {state: int((self.status == state).sum()) for state in get_args(Status)}
        counts["missing"] -= len(self.languages)
        parts = ", ".join(f"{count} {state}" for state, count in counts.items() if count > 0)
        return f"transfer scores (BTS: 0 none, above 0 help, 1 as good as the target): {parts or 'none'}"

    def to_frame(self) -> pl.DataFrame:
        """One row a pair of languages: target, source, score, low, high, status."""
        rows, columns = np.nonzero(~np.eye(len(self.languages), dtype=bool))
        codes = np.array(self.languages, np.str_)
        grids = {"score": self.values, "low": self.low, "high": self.high}
        numbers = {name: grid[rows, columns] for name, grid in grids.items()}
        frame = pl.DataFrame({"target": codes[rows], "source": codes[columns], **numbers})
        return frame.with_columns(pl.col(*grids).fill_nan(None), pl.Series("status", self.status[rows, columns]))

    def save(self, path: str | Path) -> Path:
        """Write JSON, or CSV (one row a cell; no provenance) where the name ends in .csv. Written atomically."""
        path = Path(path)
        if path.suffix.lower() != ".csv":
            return files.write_text(path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        lines = [",".join(_COLUMNS)]
        for target in self.languages:
            for source in self.languages:
                cell = self.cell(target, source)
                numbers = ["" if math.isnan(x) else repr(x) for x in (cell.value, cell.low, cell.high)]
                lines.append(",".join([target, source, *numbers, cell.status]))
        return files.write_text(path, "\n".join(lines) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "TransferMatrix":
        """Read what `save` wrote."""
        return cls.read(path) if Path(path).suffix.lower() == ".csv" else super().load(path)

    @classmethod
    def read(cls, path: str | Path, status: Status = "measured") -> "TransferMatrix":
        """A matrix from CSV, in one of two layouts.

        Either a row a cell (target, source, score, and if known low, high, status), or the scores as a square with
        target codes down the first column and source codes along the first row.

        `status` is the status of scores where the file states none. Empty cells are missing.

        Raises:
            InputError: naming the file, the row and the field.
        """
        languages, grids, states, kind = read_csv(_text(Path(path)), str(path), status)
        return cls(languages, *grids, states, {"source": str(path), "layout": kind})

    def _view(self) -> pl.DataFrame:
        """All scores as a square where there is room, otherwise the best sources of each target."""
        cells = {t: {s: self.cell(t, s).text for s in self.languages} for t in self.languages}
        if len(self.languages) <= _WIDEST:
            columns = {source: [cells[target][source] for target in self.languages] for source in self.languages}
            return pl.DataFrame({"target \\ source": self.languages, **columns})
        best = [", ".join(f"{h.source} {h.text}" for h in self.helpers(target)) for target in self.languages]
        return pl.DataFrame({"target": self.languages, "best sources": best})

    def summary(self) -> str:
        view = self._view()
        lines = [self.headline, *text_table(view.columns, view.rows(), [False, *[view.width > 2] * (view.width - 1)])]
        if view.width > 2:
            lines.append("'<' and '>' mark censored scores: only a bound is known; '.' is not measured")
        cut = self.provenance.get("on_part_of_the_text", [])
        few = f"{len(cut)} runs repeat a part of the text that other runs read completely. They are left out: "
        notes = [few + ", ".join(cut[:3]) + (", ..." if len(cut) > 3 else "")] if cut else []
        return "\n".join([*lines, *notes])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error})", hint="give a JSON or CSV file with a transfer matrix"
        ) from None


def read_csv(text: str, where: str, status: Status) -> tuple[tuple[str, ...], Grids, NDArray[np.str_], str]:
    """Languages, (values, low, high), statuses and the layout ("cells" or "square") of one CSV file.

    Python's csv leaves `no`, `nan` and `NA` alone, which are language codes.
    """
    rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise InputError(
            f"{where}: no rows", hint="a matrix has a header and one row for each target, or one row for each score"
        )
    header = [cell.strip().lower() for cell in rows[0]]
    if {"target", "source", "score"} <= set(header):
        return *_csv_cells(header, rows[1:], where, status), "cells"
    return *_csv_square(rows, where, status), "square"


def _csv_cells(header: list[str], rows: list[list[str]], where: str, status: Status) -> CsvCells:
    place = {name: header.index(name) for name in header}
    codes = tuple(dict.fromkeys(row[place[key]].strip() for key in ("target", "source") for row in rows))
    index = {code: i for i, code in enumerate(codes)}
    grids, states = _empty(len(codes))
    seen: set[tuple[int, int]] = set()
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{where}: row {line} has {len(row)} cells, the header {len(header)}")
        i, j = (index[row[place[key]].strip()] for key in ("target", "source"))
        if (i, j) in seen:
            raise InputError(f"{where}: row {line} repeats target {codes[i]}, source {codes[j]}")
        seen.add((i, j))
        for grid, name in zip(grids, ("score", "low", "high"), strict=True):
            if name in place:
                grid[i, j] = _csv_number(row[place[name]], f"{where}: row {line}, {name}", infinite=name != "score")
        stated = row[place["status"]].strip() if "status" in place else ""
        if stated and stated not in get_args(Status):
            raise InputError(
                f"{where}: row {line}, status {stated!r}", hint=f"it is one of {', '.join(get_args(Status))}"
            )
        states[i, j] = stated or ("missing" if math.isnan(grids[0][i, j]) else status)
    return codes, grids, states


def _csv_square(rows: list[list[str]], where: str, status: Status) -> CsvCells:
    sources = [cell.strip() for cell in rows[0][1:]]
    targets = [row[0].strip() for row in rows[1:]]
    if sorted(sources) != sorted(targets):
        raise InputError(
            f"{where}: the first row and the first column name different languages",
            hint="write the targets in the first column, and the same codes as sources in the first row",
        )
    codes = tuple(targets)
    grids, states = _empty(len(codes))
    for i, row in enumerate(rows[1:]):
        if len(row) != len(rows[0]):
            raise InputError(f"{where}: row {i + 2} has {len(row)} cells, the header {len(rows[0])}")
        for source, cell in zip(sources, row[1:], strict=True):
            j = codes.index(source)
            if i == j:
                continue
            grids[0][i, j] = _csv_number(cell, f"{where}: row {i + 2}, {source}", infinite=False)
            states[i, j] = "missing" if math.isnan(grids[0][i, j]) else status
    return codes, grids, states


def _empty(n: int) -> tuple[Grids, NDArray[np.str_]]:
    grids = (np.full((n, n), np.nan), np.full((n, n), np.nan), np.full((n, n), np.nan))
    return grids, np.full((n, n), "missing", dtype="U9")


def _csv_number(cell: str, where: str, *, infinite: bool) -> float:
    """A cell's number; empty is NaN. The words nan and NA are refused, for they are also language codes."""
    cell = cell.strip()
    if not cell:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if math.isnan(value) or (math.isinf(value) and not infinite):
        raise InputError(f"{where}: {cell!r} is not a number", hint="leave a cell empty if its score is unknown")
    return value
