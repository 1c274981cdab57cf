"""Frames of any library go into Runs as the same table in a file does."""

from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

import babelscale as bs

CODES = ["no", "nan", "NA", "None", "on", "null"]
COLUMNS = {
    "params": [1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000, 32_000_000],
    "tokens": [1e7, 2e7, 3e7, 4e7, 5e7, 6e7],
    "loss": [3.1, 3.0, 2.9, 2.8, 2.7, 2.6],
    "language": CODES,
    "run": ["NA", "b", "nan", "d", "None", "f"],
    "seed": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
    "note": [object()] * 6,
}


def with_polars(columns):
    return pl.DataFrame({name: values for name, values in columns.items() if name != "note"})


def with_polars_lazy(columns):
    return with_polars(columns).lazy()


def with_pyarrow(columns):
    arrow = pytest.importorskip("pyarrow", reason="PyArrow is not installed")
    return arrow.table({name: values for name, values in columns.items() if name != "note"})


def with_pandas(columns):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(columns)
    texts = {name: object for name in ("language", "run") if name in frame.columns}
    return frame.astype(texts)


LIBRARIES = [with_polars, with_polars_lazy, with_pyarrow, with_pandas]


@pytest.fixture
def expected(tmp_path: Path) -> bs.Runs:
    with_polars(COLUMNS).with_columns(pl.col("seed").cast(pl.Int64)).write_csv(tmp_path / "runs.csv")
    return bs.Runs.read(tmp_path / "runs.csv")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_frame_gives_the_runs_of_the_same_file(library, expected):
    runs = bs.Runs.from_frame(library(COLUMNS))
    assert runs.hash == expected.hash
    assert set(runs.targets) == set(CODES)
    assert runs.table["seed"].to_list() == [COLUMNS["run"].index(name) for name in runs.table["run"]]


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_empty_cell_is_an_empty_cell(library):
    columns = COLUMNS | {
        "run": ["a", "a", "b", "b", "c", "c"],
        "params": [1e6] * 6,
        "loss": [3.1, None, 2.9, None, 2.7, None],
        "seed": [1.0, 1.0, None, None, 2.0, 2.0],
    }
    runs = bs.Runs.from_frame(library(columns))
    assert set(runs.targets) == {"no", "NA", "on"}
    assert set(runs.languages) == set(CODES)
    assert runs.table["seed"].to_list() == [1, None, 2]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": [0.0, 1.0, 2.5, 3.0, 4.0, 5.0]}, "frame: row 3, seed: 2.5 is not a whole number"),
        ({"params": [1e6, 0.0, 1e6, 1e6, 1e6, 1e6]}, "frame: row 2, params is not positive"),
        ({"loss": ["1", "2", "3", "x", "5", "6"]}, "frame: row 4, loss: 'x' is not a number"),
        ({"language": ["no", "sv", "d a", "sw", "yo", "ha"]}, "frame: row 3, language 'd a' is not a language code"),
        ({"run": ["a"] * 6, "language": ["no"] * 6}, r"frame: row 2: run 'a' has params 1e\+06 and 2e\+06"),
    ],
)
def test_what_is_wrong_is_named_by_row_and_field(library, changes, message):
    with pytest.raises(bs.InputError, match=message):
        bs.Runs.from_frame(library(COLUMNS | changes))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_missing_column_is_named(library):
    with pytest.raises(bs.InputError, match="frame: missing column tokens"):
        bs.Runs.from_frame(library({name: values for name, values in COLUMNS.items() if name != "tokens"}))


@pytest.mark.parametrize("library", [with_polars, with_pyarrow])
def test_nan_is_no_empty_cell_where_there_are_nulls(library):
    with pytest.raises(bs.InputError, match="frame: row 1, loss is NaN"):
        bs.Runs.from_frame(library(COLUMNS | {"loss": [float("nan"), 3.0, 2.9, 2.8, 2.7, 2.6]}))


def test_pandas_categories_nullable_types_and_an_index_of_its_own():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    plain = bs.Runs.from_frame(with_pandas(COLUMNS))
    frame = with_pandas(COLUMNS).astype({"language": "category", "params": "Int64", "seed": "Int64", "run": "string"})
    frame.index = pandas.Index([5, 5, 4, 3, 2, 1])
    assert bs.Runs.from_frame(frame).hash == plain.hash
    frame.loc[3, "seed"] = pandas.NA
    assert bs.Runs.from_frame(frame).table["seed"].null_count() == 1
    doubled = pandas.concat([frame, frame[["loss"]]], axis=1)
    with pytest.raises(bs.InputError, match="loss"):
        bs.Runs.from_frame(doubled)


def test_pandas_columns_of_objects():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    columns = COLUMNS | {"loss": [Decimal("3.1"), Decimal("3.0"), None, Decimal("2.8"), Decimal("2.7"), Decimal("2.6")]}
    runs = bs.Runs.from_frame(pandas.DataFrame(columns, dtype=object))
    assert "NA" not in runs.targets
    assert runs.losses.filter(language="no")["nats"].item() == pytest.approx(3.1)
    with pytest.raises(bs.InputError, match="frame: column loss holds "):
        bs.Runs.from_frame(pandas.DataFrame(COLUMNS | {"loss": [{"a": 1}, 1.0, 2.0, 3.0, 4.0, 5.0]}))
    with pytest.raises(bs.InputError, match=r"frame: .*seed"):
        bs.Runs.from_frame(pandas.DataFrame(COLUMNS | {"seed": [2**200, 1, 2, 3, 4, 5]}, dtype=object))


@pytest.mark.parametrize("wrong", [[1, 2], {"params": [1]}, None, "runs.csv", pl.Series([1.0])])
def test_what_is_no_frame_is_refused(wrong):
    with pytest.raises(bs.InputError, match=f"{type(wrong).__name__} is not a data frame"):
        bs.Runs.from_frame(wrong)
