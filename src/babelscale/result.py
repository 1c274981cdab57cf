"""Result: what every result offers its user, made from a headline, a frame, and a chart.

A result class derives from `Result` (or `JsonResult`, which is saved as JSON), is a dataclass with `repr=False`, and
supplies `headline` and `to_frame`. From these come `summary`, the notebook view and the one-line `repr`. Its chart is
the function that `babelscale.charts` registered under its class name, because modules of the analysis may not import
charts.
"""

import importlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ConfigDict, PlainValidator, TypeAdapter, ValidationError

from babelscale import files
from babelscale.errors import BabelscaleError, InputError
from babelscale.formatting import count, indented_table

if TYPE_CHECKING:
    import altair as alt

_MOST_ROWS = 20  # of a table in a notebook or a summary
_LARGE = 1e4  # from here on numbers are written as 12.3k, 4.56M
_CHARTS: dict[str, Callable[..., Any]] = {}


def register_charts(charts: Mapping[str, Callable[..., Any]]) -> None:
    """Let `plot` find the charts of result classes, by class name; `babelscale.charts` calls this when imported."""
    _CHARTS.update(charts)


class Result(ABC):
    """Base of all results: `summary()`, `to_frame()`, `plot()`, a notebook view, and a `repr` of one line."""

    @property
    @abstractmethod
    def headline(self) -> str:
        """One line: what this is and its most important number."""

    @abstractmethod
    def to_frame(self) -> pl.DataFrame:
        """The result's main table."""

    def _view(self) -> pl.DataFrame:
        """The table that a person reads; by default that of `to_frame`."""
        return self.to_frame()

    def summary(self) -> str:
        """The result as text for a terminal; `print(result)` writes the same."""
        return "\n".join([self.headline, *_text_table(self._view()), *(f"  {note}" for note in _notes(self))])

    def plot(self, *arguments: Any, **options: Any) -> "alt.TopLevelMixin":
        """The result's chart (Altair); arguments go to its function in `babelscale.charts`.

        Raises:
            BabelscaleError: the packages for charts are not installed, or this result has no chart.
        """
        try:
            importlib.import_module("babelscale.charts")
        except ModuleNotFoundError as error:
            raise BabelscaleError(
                f"charts need the package {error.name}", hint="pip install 'babelscale[page]'"
            ) from error
        for each in type(self).__mro__:
            if each.__name__ in _CHARTS:
                return _CHARTS[each.__name__](self, *arguments, **options)
        raise BabelscaleError(f"{type(self).__name__} has no chart", hint="draw from its to_frame()")

    def _repr_html_(self) -> str:
        """The notebook view: headline, table and notes."""
        parts = [f"<p><b>{escape(type(self).__name__)}</b>: {escape(self.headline)}</p>", _html_table(self._view())]
        if notes := _notes(self):
            parts.append(f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>")
        return "\n".join(parts)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline}>"

    def __str__(self) -> str:
        return self.summary()


class JsonResult(Result):
    """A result that `save` writes as one JSON file and `load` reads back, equal to what was saved."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)
    indent: ClassVar[int | None] = None  # of the saved file

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data for strict JSON."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.to_dict() == other.to_dict()

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments of the class, not yet checked, from what `to_dict` gives."""
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str | None = None) -> Self:
        """The inverse of `to_dict`; every field is checked, further ones are ignored.

        Raises:
            InputError: a field is missing or has another type; `where` and the field are named.
        """
        what = f"{where or cls.__name__}: not a saved {cls.__name__}"
        hint = f"name a file written by {cls.__name__}.save"
        try:
            return _adapter(cls).validate_python(cls._fields(data))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            cause = first.get("ctx", {}).get("error")
            if isinstance(cause, InputError):
                raise InputError(f"{what}: {cause.message}", hint=cause.hint or hint) from None
            field = ".".join(map(str, first["loc"])) or "the whole file"
            raise InputError(f"{what}: field {field}: {first['msg']}", hint=hint) from None
        except InputError as error:
            raise InputError(f"{what}: {error.message}", hint=error.hint or hint) from None
        except KeyError as error:
            raise InputError(f"{what}: field {error} is missing", hint=hint) from None
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{what}: {error}", hint=hint) from None

    def save(self, path: str | Path) -> Path:
        """Write one JSON file, atomically."""
        return files.write_text(path, json.dumps(self.to_dict(), indent=self.indent, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: the file cannot be read or is no such result; file and field are named.
        """
        return cls.from_dict(read_json(path, f"a file written by {cls.__name__}.save"), str(path))


@cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def read_json(path: str | Path, wanted: str) -> dict[str, Any]:
    """One JSON object from a file; `wanted` says in the hint what the file should be.

    Raises:
        InputError: the file cannot be read, is not JSON, or holds no object.
    """
    hint = f"name {wanted}"
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", hint=hint) from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno} is not JSON ({error.msg})", hint=hint) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file ({error.reason})", hint=hint) from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds no JSON object", hint=hint)
    return data


def to_number(x: float) -> float | str | None:
    """A number for strict JSON: null for NaN, "inf" and "-inf" for infinite ones."""
    return None if math.isnan(x) else x if math.isfinite(x) else ("inf" if x > 0 else "-inf")


def to_numbers(values: NDArray[np.float64]) -> Any:
    """An array for strict JSON, nested lists of `to_number`."""
    values = np.asarray(values)
    return to_number(float(values)) if values.ndim == 0 else [to_numbers(row) for row in values]


def _from_numbers(data: Any) -> NDArray[np.float64]:
    return np.asarray(np.array(data, dtype=object), dtype=np.float64)  # null becomes NaN, "inf" infinite


# The type of a field that holds numbers of any shape; `from_dict` reads what `to_numbers` wrote.
Numbers = Annotated[NDArray[np.float64], PlainValidator(_from_numbers)]


def _notes(result: Result) -> Sequence[str]:
    return getattr(result, "notes", ())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return count(value) if _LARGE <= abs(value) < math.inf else f"{value:.4g}"
    return ", ".join(map(_cell, value)) if isinstance(value, list) else str(value)


def _cells(frame: pl.DataFrame) -> tuple[list[str], list[bool], list[list[str]], str]:
    """Header, which columns are numbers, cells, and a line on rows left out."""
    rows = [[_cell(value) for value in row] for row in frame.head(_MOST_ROWS).iter_rows()]
    cut = f"{frame.height - _MOST_ROWS:,} more rows" if frame.height > _MOST_ROWS else ""
    return frame.columns, [kind.is_numeric() for kind in frame.dtypes], rows, cut


def _text_table(frame: pl.DataFrame) -> list[str]:
    header, numeric, rows, cut = _cells(frame)
    lines = indented_table(header, rows, numeric)
    return [*lines, f"  {cut}"] if cut else lines


def _html_table(frame: pl.DataFrame) -> str:
    header, numeric, rows, cut = _cells(frame)
    align = ["right" if number else "left" for number in numeric]

    def line(tag: str, row: Sequence[str]) -> str:
        cells = zip(align, row, strict=True)
        return "".join(
            f'<{tag} style="text-align:{side};padding:2px 8px">{escape(cell)}</{tag}>' for side, cell in cells
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{line('th', header)}</tr></thead><tbody>{body}</tbody></table>"
    return f"{table}\n<p>{cut}</p>" if cut else table
