"""Charts of residuals and of profiles: their rows say what the fit says, their specs are valid Vega-Lite."""

import dataclasses

import numpy as np
import pytest

from babelscale import charts, fit, laws, profile
from babelscale.fitting import Fit, Profile
from babelscale.runs import Runs


@pytest.fixture(scope="module")
def fits(runs: Runs) -> list[Fit]:
    return [fit(laws.by_name(name, "sv", runs), runs, resamples=20) for name in ("chinchilla", "adaptive-transfer")]


@pytest.fixture(scope="module")
def profiled(fits: list[Fit], runs: Runs) -> Profile:
    return profile(fits[0], runs, "alpha", resamples=40)


def test_residuals_are_those_of_the_fit(fits: list[Fit], runs: Runs) -> None:
    rows = [row for row in charts.residual_rows(fits, runs) if row["law"] == "chinchilla"]
    seen = runs.observations("sv")
    predicted = fits[0].predict(seen.allocation).loss
    assert [row["residual"] for row in rows] == pytest.approx(100 * np.log(seen.loss / predicted))
    own = np.array([row["residual"] for row in rows])
    other = np.array([row["residual"] for row in charts.residual_rows(fits[1:], runs)])
    # The planted law has transfer, which the first law cannot follow.
    assert np.abs(other).mean() < np.abs(own).mean()


@pytest.mark.parametrize("against", charts.AGAINST)
def test_residual_charts_are_valid_and_say_what_they_show(fits: list[Fit], runs: Runs, against) -> None:
    rows = charts.residual_rows(fits, runs)
    spec = charts.residuals(rows, against, "bits_per_byte").to_dict()
    assert charts.AGAINST[against] in spec["description"]
    assert f"{max(abs(row['residual']) for row in rows):.2f}" in spec["description"]
    charts.residuals(charts.residual_rows(fits[:1], runs), against, "bits_per_byte").to_dict()


def test_a_profile_stands_in_thresholds(profiled: Profile) -> None:
    rows = charts.profile_rows(profiled)
    assert min(row["rise"] for row in rows) == pytest.approx(0.0, abs=1e-12)
    assert all(row["inside"] == (row["units"] <= 1 + 1e-6) for row in rows)
    spec = charts.profile(profiled).to_dict()
    assert charts.describe_interval(profiled) in spec["description"]
    assert profiled.low is not None
    assert f"{profiled.low:.5g}" in spec["description"]


def test_unbounded_and_scatterless_profiles_are_drawn(profiled: Profile) -> None:
    for change, said in (
        ({"low": None}, "not bounded below"),
        ({"high": None}, "not bounded above"),
        ({"low": None, "high": None}, "on either side"),
    ):
        spec = charts.profile(dataclasses.replace(profiled, **change)).to_dict()
        assert said in spec["description"]
    exact = dataclasses.replace(profiled, threshold=0.0)
    assert all(np.isfinite(row["units"]) for row in charts.profile_rows(exact))
    outside = dataclasses.replace(profiled, objective=np.where(profiled.values > 1, np.inf, profiled.objective))
    charts.profile(outside).to_dict()
