"""Held-out comparison: the law behind the runs wins, and what cannot be computed is a row with a reason."""

import json

import numpy as np
import polars as pl
import pytest

from babelscale.errors import InputError
from babelscale.fitting import Comparison, compare
from babelscale.laws import AdaptiveTransfer, Chinchilla
from babelscale.runs import Runs, concat

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
    computed = found.table.filter(pl.col("R2").is_not_null())
    assert (computed["n_train"] + computed["n_test"] + computed["n_outside"] == 100).all()


def test_two_stage_runs_change_no_comparison() -> None:
    runs = _grid(4, 4)
    last = runs.table.filter(pl.col("params") == runs.table["params"].max())["run"]
    other = pl.col("run") + "-staged"
    renamed = [
        frame.filter(pl.col("run").is_in(last.to_list())).with_columns(run=other)
        for frame in (runs.table, runs.exposure, runs.losses)
    ]
    table = renamed[0].with_columns(start=pl.lit("two-stage"), params=2 * pl.col("params"))
    both = concat([runs, Runs.of(table, *renamed[1:])])
    assert len(both) > len(runs)
    assert compare(["chinchilla"], both).table.equals(compare(["chinchilla"], runs).table)


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


def test_windows_grow_rung_by_rung_and_hold_out_what_lies_beyond() -> None:
    # Four sizes with four token counts: seven rungs of compute (the products coincide), fitted up to all but the last.
    runs = _grid(4, 4)
    found = compare(["chinchilla"], runs, axes=["random"], expanding=["compute", "params"], rungs=6)
    windows = found.expanding.filter(along="compute")
    cost = 6 * 1e6 * 1e7 * 4.0 ** np.arange(7)
    assert windows["upto"].to_list() == pytest.approx(cost[:-1])
    assert windows["reach"].to_list() == pytest.approx(cost[-1] / cost[:-1])
    assert (windows["n_train"] + windows["n_test"] == 16).all()
    assert windows["n_train"].to_list() == [1, 3, 6, 10, 13, 15]
    assert windows["note"][0] != ""  # one run carries no law
    last = windows.row(5, named=True)
    assert last["mean_relative_error"] < 1e-3
    assert last["R2"] is None  # of one held-out loss
    assert found.expanding.filter(along="params")["upto"].to_list() == [1e6, 4e6, 16e6]
    assert "C <= 6e+13" in str(found)
    assert {"law", "along", "upto", "reach", "mean_relative_error", "targets"} <= set(found.expanding_averages.columns)


def test_many_rungs_are_cut_down_to_a_few_that_share_the_runs_out() -> None:
    rng = np.random.default_rng(0)
    N, D = 10 ** rng.uniform(6, 9, 60), 10 ** rng.uniform(8, 11, 60)
    runs = Runs.from_columns(N, D, 1.2 + 50 / N**0.3 + 300 / D**0.3, language="sw")
    found = compare(["chinchilla"], runs, axes=["random"], expanding=["tokens"], rungs=4)
    fitted = found.expanding["n_train"].to_numpy()
    assert len(fitted) == 4
    np.testing.assert_allclose(fitted, [12, 24, 36, 48], atol=2)
    assert (found.expanding["mean_relative_error"] < 1e-6).all()
    assert compare(["chinchilla"], runs, axes=["random"], expanding=()).expanding.is_empty()


def test_losses_outside_the_domain_are_left_out_counted_and_said() -> None:
    # English hurts; the fit sees at most four English tokens a Swahili one, the held-out largest size has twenty.
    law = AdaptiveTransfer("sw", ("en",), other=False)
    rng = np.random.default_rng(0)
    n = 40
    D = 10 ** rng.uniform(9, 11, n)
    ratio = rng.choice([0.0, 1.0, 4.0], n)
    N = rng.choice([1e7, 1e8, 1e9], n)
    N[-6:], ratio[-6:] = 1e10, [0.0, 0.0, 1.0, 1.0, 20.0, 20.0]
    truth = {"E": 0.6, "A": 60.0, "B": 900.0, "alpha": 0.35, "beta": 0.35, "lambda": 0.065, "tau_en": -0.1}
    D_eff = D * (1 - 0.1 * ratio)
    loss = 0.6 + 60 / N**0.35 + 900 / np.where(D_eff > 0, D_eff, 1e8) ** 0.35
    rows = [
        {"run": f"r{i:02d}", "params": N[i], "language": code, "tokens": tokens, "loss": loss[i] if own else None}
        for i in range(n)
        for code, tokens, own in (("sw", D[i], True), ("en", ratio[i] * D[i], False))
        if tokens > 0
    ]
    runs = Runs.from_flat(pl.DataFrame(rows), "rows")
    found = compare([law], runs, axes=["params"], expanding=["params"])
    for row in (found.table.row(0, named=True), found.expanding.row(-1, named=True)):
        assert (row["n_test"], row["n_outside"]) == (4, 2)
        assert row["R2"] > 0.999  # of the four inside, which the truth predicts
        assert row["note"].startswith("2 of 6 held-out losses left out")
        assert "D_eff > 0" in row["note"]
    assert found.averages["outside"].to_list() == [2]
    assert "*" in str(found)
    assert "which makes its score too good" in str(found)
    assert truth["tau_en"] * 20 < -1  # what the case rests on


def test_fits_minimise_what_is_asked_for(atlas_runs: Runs) -> None:
    found = {
        objective: compare(["chinchilla"], atlas_runs, axes=["random"], expanding=(), objective=objective)
        for objective in ("huber", "squares")
    }
    errors = {name: each.table["mean_relative_error"][0] for name, each in found.items()}
    assert errors["huber"] != errors["squares"]
    with pytest.raises(InputError, match="objective"):
        compare(["chinchilla"], atlas_runs, objective="nonsense")  # pyright: ignore[reportArgumentType]


def test_a_comparison_is_the_same_after_json(atlas_runs: Runs) -> None:
    one = compare(["chinchilla", "multilingual"], atlas_runs, axes=["random", "mixture"], rungs=2)
    again = Comparison.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False)))
    assert again.table.equals(one.table)
    assert again.expanding.equals(one.expanding)
    assert again.to_dict() == one.to_dict()


def _grid(sizes: int, budgets: int) -> Runs:
    """Sizes and token counts four-fold apart, on the Chinchilla law with a little noise."""
    N, D = (a.ravel() for a in np.meshgrid(1e6 * 4.0 ** np.arange(sizes), 1e7 * 4.0 ** np.arange(budgets)))
    noise = np.exp(np.random.default_rng(0).normal(0, 1e-4, len(N)))
    return Runs.from_columns(N, D, (1.2 + 50 / N**0.3 + 300 / D**0.3) * noise, language="sw")


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
    with pytest.raises(InputError, match="expanding window"):
        compare(["chinchilla"], atlas_runs, expanding=["sideways"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="rungs is 0"):
        compare(["chinchilla"], atlas_runs, rungs=0)
    with pytest.raises(InputError, match="'xx'"):
        compare(["chinchilla"], atlas_runs, targets=["xx"])
    with pytest.raises(InputError, match="no law"):
        compare([], atlas_runs)
