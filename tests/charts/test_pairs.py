"""Pictures of pairs draw, say what they are, leave bounds out, and are saved in every format."""

import json
import math

import altair as alt
import numpy as np
import polars as pl
import pytest
import vl_convert

from babelscale import charts, published
from babelscale.errors import InputError
from babelscale.transfer import TransferMatrix
from babelscale.transfer.along import Along

CODES = ("sv", "da", "id", "no")


@pytest.fixture
def matrix() -> TransferMatrix:
    values = np.array(
        [[math.nan, 0.5, -0.4, 0.3], [0.2, math.nan, math.nan, 0.1], [-0.6, -0.2, math.nan, -0.7], [0.4] * 4]
    )
    values[3, 3] = math.nan
    status = np.where(np.isnan(values), "missing", "measured").astype("U9")
    status[1, 2], status[0, 3] = "censored", "predicted"
    low, high = values - 0.1, values + 0.1
    low[1, 2], high[1, 2] = -math.inf, -0.9
    return TransferMatrix(CODES, values, low, high, status)


def drawn(chart: alt.TopLevelMixin) -> str:
    spec = chart.to_dict()
    assert len(spec["description"]) > 20
    json.dumps(spec, allow_nan=False)
    svg = vl_convert.vegalite_to_svg(spec)
    assert "NaN" not in svg
    return svg


def test_sources_are_ranked_by_what_they_add_to_a_targets_mean(matrix: TransferMatrix) -> None:
    rows = charts.source_rows(matrix)
    # The censored score of Danish from Indonesian is no dot and moves no mean.
    assert len(rows) == 11
    assert sum(row["above"] for row in rows if row["target_name"].endswith("(sv)")) == pytest.approx(0)
    order = list(dict.fromkeys(row["source"] for row in rows))
    assert order[0] == "da"
    assert order[-1] == "id"
    assert "Norwegian" in drawn(charts.source_ranking(matrix))
    assert "Predicted scores" in drawn(charts.source_ranking(matrix))


def test_one_sided_pairs_come_first(matrix: TransferMatrix) -> None:
    rows = charts.asymmetry_rows(matrix)
    assert len(rows) == 5
    assert rows[0]["text"] == "no from id"
    assert rows[0]["difference"] == pytest.approx(1.1)
    assert {row["status"] for row in rows} == {"known", "predicted"}
    assert "no from id" in drawn(charts.asymmetry(matrix))


def test_along_draws_sizes_and_leaves_bounds_out() -> None:
    rows = [
        {"target": "sv", "source": "da", "params": N, "d_mono": d, "score": s, "low": s - 0.1, "high": s + 0.1,
         "status": "measured"}
        for N, d, s in ((1e6, 1e7, 0.4), (1e6, 2e7, 0.3), (4e6, 1e7, 0.5), (4e6, 2e7, 0.45))
    ]  # fmt: skip
    rows.append(rows[0] | {"source": "id", "score": math.nan, "low": -math.inf, "status": "censored"})
    svg = drawn(charts.transfer_along(Along(pl.DataFrame(rows), ())))
    assert "(1 pairs)" in svg
    assert "sv from id" not in svg


def test_clusters_order_the_matrix() -> None:
    printed = published.transfer_matrix()
    spec = charts.transfer_map(printed, order="clusters").to_dict()
    sort = spec["layer"][0]["encoding"]["x"]["sort"]
    assert sorted(sort) == sorted(printed.languages)
    assert abs(sort.index("id") - sort.index("ms")) == 1
    assert abs(sort.index("ru") - sort.index("uk")) == 1


@pytest.mark.parametrize(
    ("ending", "begin"),
    [("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("html", b"<!DOCTYPE html>"), ("json", b"{")],
)
def test_pictures_are_saved(matrix: TransferMatrix, tmp_path, ending: str, begin: bytes) -> None:
    path = charts.save(charts.transfer_map(matrix), tmp_path / f"m.{ending}")
    data = path.read_bytes()
    assert data.lstrip()[: len(begin)].lower() == begin.lower()
    assert list(tmp_path.iterdir()) == [path]
    if ending == "html":
        # The page loads nothing: every script stands in it.
        assert b"<script src=" not in data
        assert b"cdn." not in data
    if ending == "svg":
        # On paper ink is ink; only a page has a colour of its own to follow.
        assert b"currentColor" not in data
        assert b"#222222" in data


def test_other_endings_are_refused(matrix: TransferMatrix, tmp_path) -> None:
    with pytest.raises(InputError, match="no picture has this ending"):
        charts.save(charts.transfer_map(matrix), tmp_path / "m.bmp")
    assert not list(tmp_path.iterdir())
