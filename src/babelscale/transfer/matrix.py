"""TransferMatrix: transfer scores between languages, each with its interval and where it came from."""

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
from babelscale.transfer.matrix_table import read_matrix
from babelscale.transfer.measure import matrix_fields

_COLUMNS = ("target", "source", "score", "low", "high", "status")
_WIDEST = 14


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


class LanguagePair(NamedTuple):
    """Two languages and their scores: of `first` helped by `second`, and of `second` helped by `first`."""

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
        return cls(*matrix_fields(runs, params, anchor, tokens, lr_state, split))

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

    def _pairs(self) -> list[LanguagePair]:
        """Every two languages in both orders, where both scores are known."""
        return [
            LanguagePair(a, b, float(self.values[i, j]), float(self.values[j, i]))
            for i, a in enumerate(self.languages)
            for j, b in enumerate(self.languages)
            if i != j and np.isfinite([self.values[i, j], self.values[j, i]]).all()
        ]

    def synergies(self, most: int = 10) -> tuple[LanguagePair, ...]:
        """Pairs of languages that help each other, the largest of the smaller scores first; censored ones left out."""
        at = self.languages.index
        pairs = [pair for pair in self._pairs() if at(pair.first) < at(pair.second) and min(pair[2:]) > 0]
        return tuple(sorted(pairs, key=lambda pair: -min(pair[2:]))[:most])

    def asymmetries(self, most: int = 10) -> tuple[LanguagePair, ...]:
        """Pairs in which `first` gains more than it gives, the widest difference first; censored ones left out."""
        pairs = [pair for pair in self._pairs() if pair.first_gains > pair.second_gains]
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
        """Read what `save` wrote, or a table of scores (see `read`)."""
        return super().load(path) if Path(path).suffix.lower() == ".json" else cls.read(path)

    @classmethod
    def read(cls, path: str | Path, status: Status = "measured") -> "TransferMatrix":
        """A matrix from a table of any format and dialect (see `babelscale.tabular.read`), in one of two layouts.

        Either a row a score (target, source, score, and if known low, high, status), or the scores as a square with
        target codes down the first column and source codes along the first row. The diagonal is left out. Foreign
        codes of languages are translated; `provenance["notes"]` says so.

        `status` is the status of scores where the table states none. Empty cells are missing.

        Raises:
            InputError: naming the file, the row and the field.
        """
        found = read_matrix(path, status)
        notes = {"notes": list(found.notes)} if found.notes else {}
        about = {"source": str(path), "layout": found.layout, **notes}
        return cls(found.languages, *found.grids, found.status, about)

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
        return "\n".join([*lines, *notes, *self.provenance.get("notes", [])])
