"""Every chart is a valid spec that draws, says what it is, and shows the numbers it was given."""

import json
import math
from dataclasses import replace

import altair as alt
import numpy as np
import polars as pl
import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st

from babelscale import charts, laws
from babelscale.charts import style
from babelscale.charts.plans import token_rows
from babelscale.charts.training import KINDS, loss_rows
from babelscale.charts.transfer import cells
from babelscale.fitting import compare, fit
from babelscale.formatting import count
from babelscale.runs import Runs
from babelscale.transfer import TransferMatrix


def drawn(chart: alt.TopLevelMixin) -> str:
    """The chart as SVG; the spec is checked against Vega-Lite's schema, compiled and evaluated on the way."""
    spec = chart.to_dict()
    assert len(spec["description"]) > 20
    json.dumps(spec, allow_nan=False)
    svg = vl_convert.vegalite_to_svg(spec)
    assert "NaN" not in svg
    return svg


@pytest.fixture(scope="module")
def fits(runs: Runs) -> list:
    return [fit(laws.Chinchilla(target), runs, resamples=20) for target in ("sv", "sw")]


@pytest.fixture
def matrix() -> TransferMatrix:
    n = 4
    values = np.array([[np.nan, 0.62, -0.3, 0.05], [0.55, np.nan, np.nan, -0.8], [0.1] * 4, [0.0] * 4], float)
    low, high = values - 0.1, values + 0.1
    low[1, 2], high[1, 2] = -np.inf, 0.25
    status = np.full((n, n), "measured", "U9")
    status[1, 2], status[0, 3] = "censored", "predicted"
    for i in range(n):
        values[i, i] = low[i, i] = high[i, i] = np.nan
        status[i, i] = "missing"
    return TransferMatrix(("sv", "da", "id", "sw"), values, low, high, status)


def test_loss_rows_leave_out_languages_that_a_run_never_sees(runs: Runs) -> None:
    frame = loss_rows(runs)
    assert (frame["tokens"] > 0).all()
    assert set(frame["kind"]) == set(KINDS) - {"two stages"}
    staged = pl.col("run") == "tiny-sv-3e+05"
    table = runs.table.with_columns(start=pl.when(staged).then(pl.lit("two-stage")).otherwise("start"))
    kinds = loss_rows(Runs(table, runs.exposure, runs.losses)).filter(staged)["kind"]
    assert set(kinds) == {"two stages"}
    own = frame.filter(run="tiny-sv-3e+05", lr_state="decayed").row(0, named=True)
    expected = runs.observations("sv").loss[list(runs.observations("sv").run).index("tiny-sv-3e+05")]
    assert own["loss"] == pytest.approx(expected)
    assert own["total_tokens"] == 3e5


def test_training_charts_draw(runs: Runs) -> None:
    curves = drawn(charts.learning_curves(runs))
    assert "Swahili (sw)" in curves
    assert "decayed" in curves
    assert "bits per byte" in drawn(charts.final_losses(runs))


def test_a_table_of_one_source_draws() -> None:
    params, tokens = np.repeat([1e6, 4e6], 4), np.tile([1e7, 2e7, 4e7, 8e7], 2)
    runs = Runs.from_columns(params, tokens, 1.7 + 480 / params**0.35 + 2000 / tokens**0.37)
    assert "nats per token" in drawn(charts.final_losses(runs))


def test_negative_losses_get_a_linear_axis(runs: Runs) -> None:
    spec = charts.final_losses(runs, metric="unigram_normalised").to_dict()
    assert spec["encoding"]["x"]["scale"]["type"] == "linear"
    drawn(charts.final_losses(runs, metric="unigram_normalised"))


def test_transfer_map_shows_bounds_of_censored_cells(matrix: TransferMatrix) -> None:
    data = {(cell["target"], cell["source"]): cell for cell in cells(matrix)}
    assert data["da", "id"]["text"] == "<0.25"
    assert data["da", "id"]["score"] == 0.25
    assert data["sv", "sw"]["text"] == "(0.05)"
    assert data["sv", "id"]["text"] == "−0.30"
    assert len(data) == 12
    svg = drawn(charts.transfer_map(matrix))
    assert "&lt;0.25" in svg
    assert "Dashed: censored" in svg


def test_transfer_colours_are_centred_on_zero(matrix: TransferMatrix) -> None:
    low, middle, high = charts.transfer_map(matrix).to_dict()["layer"][0]["encoding"]["color"]["scale"]["domain"]
    assert middle == 0
    assert low == -high


def test_law_charts_draw(runs: Runs, fits: list) -> None:
    assert "chinchilla" in drawn(charts.measured_predicted(fits, runs))
    curves = charts.curve_rows(fits[0], runs)
    assert {row["size"] for row in curves} == {"100k", "300k", "800k"}
    inside = max(row["tokens"] for row in curves if not row["beyond"])
    assert inside <= 9.01e5 < max(row["tokens"] for row in curves)
    assert all(row["low"] <= row["loss"] <= row["high"] for row in curves)
    drawn(charts.law_curves(fits[0], runs))


def test_predictions_stand_beside_their_own_run(runs: Runs, fits: list) -> None:
    for row in charts.prediction_rows(fits, runs):
        assert abs(row["error"]) < 15
        assert row["error"] == pytest.approx(100 * (row["predicted"] / row["measured"] - 1))


def test_held_out_keeps_hopeless_figures_on_the_page() -> None:
    class Comparison:
        table = pl.DataFrame(
            [
                {
                    "law": law,
                    "target": "sv",
                    "axis": axis,
                    "R2": R2,
                    "mean_relative_error": 0.1,
                    "bias": 0.0,
                    "n_train": 9,
                    "n_test": 3,
                    "note": "",
                }
                for law, axis, R2 in [
                    ("chinchilla", "params", -40.0),
                    ("chinchilla", "random", 0.9),
                    ("multilingual", "params", math.nan),
                    ("multilingual", "random", 0.95),
                ]
            ]
        )

    chart = charts.held_out(Comparison())  # pyright: ignore[reportArgumentType]
    data = next(iter(chart.to_dict()["datasets"].values())) if "datasets" in chart.to_dict() else chart.data.values
    assert {row["R2"]: row["shown"] for row in data}[-40.0] == -0.5
    drawn(chart)


def test_expanding_windows_draw_one_line_a_law_and_mark_what_is_left_out(runs: Runs) -> None:
    found = compare(
        ["chinchilla", "multilingual"], runs, targets=["sv", "sw"], axes=["random"], expanding=["compute", "params"]
    )
    data = charts.expanding_rows(found)
    assert {row["along"] for row in data} == {"compute", "params"}
    computed = found.expanding.filter(pl.col("mean_relative_error").is_not_null())
    assert [row["error"] for row in data] == pytest.approx((100 * computed["mean_relative_error"]).to_list())
    drawn(charts.expanding(found))
    left_out = found.expanding.with_columns(n_outside=pl.lit(2))
    assert all(row["outside"] for row in charts.expanding_rows(replace(found, expanding=left_out)))
    drawn(charts.expanding(replace(found, expanding=left_out.clear())))  # nothing could be computed


def test_unknown_interval_and_unique_tokens_draw() -> None:
    class Plan:
        tokens = {"sw": 3e9, "en": 2e9}  # noqa: RUF012
        unique_tokens = {"sw": 1e9, "en": math.inf}  # noqa: RUF012
        metric = "bits_per_byte"

    labels = [row["label"] for row in token_rows(Plan())]  # pyright: ignore[reportArgumentType]
    assert labels == ["3B, 3 epochs", "2B, epochs unknown"]
    drawn(charts.plan_tokens(Plan()))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("code", ["no", "nan", "NA", "on", "x-<b>\"'", "zz-unknown"])
def test_any_code_has_a_name(code: str) -> None:
    assert code in style.name(code)


def test_kin_stand_together() -> None:
    order = style.by_kinship(["sw", "sv", "ms", "da", "id", "x-code"])
    assert abs(order.index("sv") - order.index("da")) == 1
    assert abs(order.index("id") - order.index("ms")) == 1
    assert order[-1] == "x-code" or order[0] == "x-code"


@given(st.floats(1e-9, 1e18), st.floats(1.0, 1e9))
def test_log_ticks_lie_in_range_and_are_few(low: float, ratio: float) -> None:
    ticks = style.log_ticks([low, low * ratio])
    assert len(ticks) <= 6
    assert all(low / 1.01 <= tick <= low * ratio * 1.01 for tick in ticks)
    assert ticks == sorted(ticks)


@pytest.mark.parametrize(
    ("value", "said"), [(999.9e3, "1M"), (1.234e6, "1.23M"), (86e9, "86B"), (12, "12"), (2e12, "2T"), (0.5, "0.5")]
)
def test_counts_as_people_write_them(value: float, said: str) -> None:
    assert count(value) == said
