"""Pictures of pairs draw, say what they are, leave bounds out, and are saved in every format."""

import json
import math
import re
from dataclasses import replace
from functools import partial

import altair as alt
import numpy as np
import polars as pl
import pytest
import vl_convert

from babelscale import charts, published
from babelscale.charts.transfer import cells, helper_rows, ordered
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
        {
            "target": "sv",
            "source": "da",
            "params": N,
            "d_mono": d,
            "score": s,
            "low": s - 0.1,
            "high": s + 0.1,
            "status": "measured",
        }
        for N, d, s in ((1e6, 1e7, 0.4), (1e6, 2e7, 0.3), (4e6, 1e7, 0.5), (4e6, 2e7, 0.45))
    ]
    rows.append(rows[0] | {"source": "id", "score": math.nan, "low": -math.inf, "status": "censored"})
    svg = drawn(charts.transfer_along(Along(pl.DataFrame(rows), ())))
    assert "(1 pairs)" in svg
    assert "sv from id" not in svg


@pytest.mark.parametrize("order", ["branch", "script", "clusters", "gains", "helps", "given"])
def test_every_order_has_every_language_once(order: str) -> None:
    printed = published.transfer_matrix()
    codes = ordered(printed, order)  # pyright: ignore[reportArgumentType]
    assert sorted(codes) == sorted(printed.languages)
    svg = vl_convert.vegalite_to_svg(charts.transfer_map(printed, order=order).to_dict())  # pyright: ignore[reportArgumentType]
    shown = [code for code in re.findall(r"<text[^>]*>([a-z]{2,3})</text>", svg) if code in codes]
    # The axis of sources is drawn first; both follow the order asked for.
    assert shown[: len(codes)] == shown[len(codes) :] == codes


def test_relatives_cluster() -> None:
    codes = ordered(published.transfer_matrix(), "clusters")
    assert abs(codes.index("id") - codes.index("ms")) == 1
    assert abs(codes.index("ru") - codes.index("uk")) == 1


def test_order_by_what_languages_gain_and_give(matrix: TransferMatrix) -> None:
    # Means of known scores as targets: sv 0.13, da 0.15, id -0.5, no 0.4; as sources: sv 0, da 0.23, id 0, no -0.1.
    assert ordered(matrix, "gains") == ["no", "da", "sv", "id"]
    assert ordered(matrix, "helps") == ["da", "id", "sv", "no"]


@pytest.mark.parametrize(("shows", "text"), [("low", "0.40"), ("high", "0.60"), ("half", "0.10")])
def test_cells_show_ends_and_widths_of_intervals(matrix: TransferMatrix, shows: str, text: str) -> None:
    svg = drawn(charts.transfer_map(matrix, shows=shows))  # pyright: ignore[reportArgumentType]
    assert text in svg
    data = {(row["target"], row["source"]): row for row in cells(matrix, shows=shows)}  # pyright: ignore[reportArgumentType]
    # Danish from Indonesian has an upper bound alone.
    assert (data["da", "id"]["shown"] is None) == (shows != "high")
    # The table behind still has the score.
    assert data["sv", "da"]["score"] == 0.5


def test_a_hundred_languages_stay_readable() -> None:
    codes = tuple(f"x-l{k:02d}" for k in range(100))
    values = np.random.default_rng(0).normal(0, 0.4, (100, 100))
    np.fill_diagonal(values, math.nan)
    status = np.where(np.isnan(values), "missing", "measured")
    wide = TransferMatrix(codes, values, values - 0.1, values + 0.1, status)
    spec = charts.transfer_map(wide).to_dict()
    assert all(layer["mark"]["type"] != "text" for layer in spec["layer"])
    assert 100 * spec["width"]["step"] <= 1000


def test_targets_are_ranked_by_what_they_gain(matrix: TransferMatrix) -> None:
    rows = charts.target_rows(matrix)
    assert list(dict.fromkeys(row["target"] for row in rows)) == ["no", "da", "sv", "id"]
    assert len(rows) == 11
    assert "Norwegian" in drawn(charts.target_ranking(matrix))


def test_helpers_of_one_target_come_best_first_and_bounds_are_arrows(matrix: TransferMatrix) -> None:
    rows = helper_rows(matrix, "sv")
    assert [row["source"] for row in rows] == ["da", "no", "id"]
    assert (rows[0]["low"], rows[0]["high"]) == pytest.approx((0.4, 0.6))
    above = replace(matrix, low=np.where(matrix.status == "censored", 0.7, matrix.low))
    first = helper_rows(above, "da")[0]
    assert (first["source"], first["score"], first["low"], first["text"]) == ("id", 0.7, None, "above +0.70")
    assert "Danish" in drawn(charts.helpers(matrix, "sv"))
    with pytest.raises(InputError, match="not in the transfer matrix"):
        charts.helpers(matrix, "qq")


@pytest.mark.parametrize(
    ("spec", "chart"),
    [
        (charts.transfer_map.spec, charts.transfer_map),
        (charts.source_ranking.spec, charts.source_ranking),
        (charts.target_ranking.spec, charts.target_ranking),
        (charts.asymmetry.spec, charts.asymmetry),
        (partial(charts.helpers.spec, target="sv"), partial(charts.helpers, target="sv")),
    ],
)
def test_specs_from_templates_draw_what_the_charts_do(matrix: TransferMatrix, spec, chart) -> None:
    made, whole = spec(matrix), chart(matrix).to_dict()
    # A layer without a language of its own, such as the line at zero, gives the axis no name.
    assert "undefined" not in vl_convert.vegalite_to_svg(made)
    for each in (made, whole):
        each["title"].pop("subtitle", None)
    assert made == whole


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
