"""Held-out comparison: the law behind the runs wins, and what cannot be computed is a row with a reason."""

import json

import polars as pl
import pytest

from babelscale.errors import InputError
from babelscale.fitting import compare
from babelscale.laws import Chinchilla
from babelscale.runs import Runs

NAMES = ["chinchilla", "data-constrained", "multilingual", "adaptive-transfer"]


def test_the_law_behind_the_runs_predicts_best(atlas_runs: Runs) -> None:
    found = compare(NAMES, atlas_runs, axes=["random", "params", "mixture"])
    for axis in ("random", "params", "mixture"):
        rows = found.table.filter(axis=axis)
        assert rows.sort("mean_relative_error")["law"][0] == "adaptive-transfer"
        best = rows.filter(law="adaptive-transfer").row(0, named=True)
        assert best["R2"] > 0.98
        assert abs(best["bias"]) < 0.01


def test_every_law_target_and_axis_has_one_row(atlas_runs: Runs) -> None:
    found = compare(NAMES, atlas_runs)
    assert found.table.height == 4 * 1 * 5
    assert found.table.select("law", "target", "axis").is_unique().all()
    computed = found.table.filter(pl.col("note") == "")
    assert (computed["n_train"] + computed["n_test"] == 100).all()


def test_what_cannot_be_computed_is_null_with_a_reason() -> None:
    # Two sizes: holding out the larger leaves one; one total of tokens: nothing to hold out by tokens.
    rows = [
        {
            "run": f"{n}-{t}-{c}",
            "params": n,
            "language": c,
            "tokens": t,
            "loss": 1 + 50 / n**0.3 + 300 / t**0.3 + i / 1e3,
        }
        for i, (n, t) in enumerate((n, t) for n in (1e6, 4e6) for t in (1e7, 3e7, 9e7, 27e7))
        for c in ("sw", "en")
    ]
    runs = Runs.from_flat(pl.DataFrame(rows), "rows")
    found = compare(["chinchilla"], runs, axes=["params", "mixture", "random"])
    params = found.table.filter(axis="params")
    assert params["R2"].null_count() == 2
    assert all("same size" in note for note in params["note"])
    assert all("would hold out 0" in note for note in found.table.filter(axis="mixture")["note"])
    text = str(found)
    assert "same size" in text
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["metric"] == "nats_per_token"


def test_repeated_comparisons_are_equal(atlas_runs: Runs) -> None:
    one, two = (compare(["chinchilla"], atlas_runs, axes=["random"], seed=3) for _ in range(2))
    assert one.table.equals(two.table)


def test_a_law_object_is_compared_on_its_own_target(atlas_runs: Runs) -> None:
    found = compare([Chinchilla("sw", tied=True), Chinchilla("en")], atlas_runs, axes=["random"])
    assert found.table["target"].to_list() == ["sw"]


def test_wrong_names_are_errors(atlas_runs: Runs) -> None:
    with pytest.raises(InputError, match="nonsense"):
        compare(["nonsense"], atlas_runs)
    with pytest.raises(InputError, match="held-out axis"):
        compare(["chinchilla"], atlas_runs, axes=["sideways"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="'xx'"):
        compare(["chinchilla"], atlas_runs, targets=["xx"])
    with pytest.raises(InputError, match="no law"):
        compare([], atlas_runs)
