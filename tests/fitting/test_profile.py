"""Profiles: the objective along one parameter, against the public repetition table and against planted truth."""

import json
import math

import numpy as np
import pytest

from babelscale.errors import InputError
from babelscale.fitting import Profile, fit, profile
from babelscale.laws import Chinchilla, DataConstrained
from babelscale.laws.data_constrained import optimum
from babelscale.runs import Runs

from .conftest import ATLAS, ATLAS_TRUTH, atlas_allocations, observed


@pytest.fixture(scope="module")
def repetition(datablations_runs: Runs) -> Profile:
    """R_D* of Muennighoff et al.'s second stage, their first stage held."""
    first = {"A": math.exp(6.255414), "B": math.exp(7.3049974), "E": math.exp(0.6254804), "alpha": 0.3526596}
    first["beta"] = first["alpha"]
    law = DataConstrained(sizes=optimum(first["A"], first["B"], first["alpha"], first["beta"]))
    return profile(law, datablations_runs, "R_D", [15.387756, 46.99, 95.37, 160.7], fixed=first)


def test_repetition_is_unbounded_above(repetition: Profile) -> None:
    assert repetition.best == pytest.approx(95.37, rel=1e-3)
    assert repetition.minimum == pytest.approx(0.0158046625, abs=1e-10)
    assert repetition.high is None
    assert repetition.low is not None
    assert 2 < repetition.low < 8  # a plain bootstrap of the published fit gives 5.3
    assert any("do not bound R_D above" in note for note in repetition.notes)
    assert "unbounded above (up to 1000" in str(repetition)


def test_repetition_profile_passes_through_the_known_optima(repetition: Profile) -> None:
    known = [0.0158259, 0.0158073786, 0.0158046625, 0.0158112893]
    assert repetition.objective == pytest.approx(known, abs=5e-8)
    assert repetition.others["R_N"] == pytest.approx([5.309743, 2.330, 1.706, 1.449], rel=3e-3)
    assert repetition.inside.all()


@pytest.mark.parametrize("parameter", ["lambda", "tau_fr"])
def test_profile_and_resamples_agree_where_a_parameter_is_identified(atlas_runs: Runs, parameter: str) -> None:
    found = fit(ATLAS, atlas_runs, resamples=100)
    along = profile(found, atlas_runs, parameter, resamples=100)
    assert along.low is not None
    assert along.high is not None
    low, high = found.intervals[parameter]
    assert along.best == pytest.approx(found.parameters[parameter], rel=1e-6)
    assert along.minimum == pytest.approx(found.objective, rel=1e-9)
    assert abs(along.low - low) < 0.4 * (high - low)
    assert abs(along.high - high) < 0.4 * (high - low)
    assert along.low < ATLAS_TRUTH[parameter] < along.high


def test_a_profile_is_never_below_the_optimum_and_rises_on_both_sides(chinchilla_runs: Runs) -> None:
    along = profile(Chinchilla(), chinchilla_runs, "beta", resamples=50)
    assert (along.objective >= along.minimum).all()
    left, right = along.values <= along.best, along.values >= along.best
    assert (np.diff(along.objective[left]) <= 1e-12).all()
    assert (np.diff(along.objective[right]) >= -1e-12).all()
    assert along.inside.tolist() == [along.low <= v <= along.high for v in along.values]  # pyright: ignore[reportOptionalOperand]


def test_each_value_is_refitted_as_a_fit_with_it_held(chinchilla_runs: Runs) -> None:
    values = {"E": 1.7, "A": 600.0, "alpha": 0.36}
    for name, value in values.items():
        along = profile(Chinchilla(), chinchilla_runs, name, [value], resamples=0)
        held = fit(Chinchilla(), chinchilla_runs, fixed={name: value}, resamples=0)
        assert along.objective[0] == pytest.approx(held.objective, rel=1e-9)
        assert along.others["B"][0] == pytest.approx(held.parameters["B"], rel=1e-5)


def test_least_squares_ratio_is_that_of_linear_theory() -> None:
    runs = observed(Chinchilla("sw"), ATLAS_TRUTH, atlas_allocations(100, 4, repeats=False), 0.005, 0)
    along = profile(Chinchilla("sw"), runs, "E", objective="squares", resamples=0)
    found = fit(Chinchilla("sw"), runs, objective="squares", resamples=0)
    assert found.residual_sd is not None
    assert along.threshold == pytest.approx(1.3528 * found.residual_sd**2, rel=1e-3)
    assert "likelihood ratio" in along.why


@pytest.mark.parametrize("objective", ["lad", "squares"])
def test_other_objectives_have_profiles(chinchilla_runs: Runs, objective: str) -> None:
    along = profile(Chinchilla(), chinchilla_runs, "alpha", objective=objective, resamples=20)  # pyright: ignore[reportArgumentType]
    held = fit(Chinchilla(), chinchilla_runs, objective=objective, resamples=0)  # pyright: ignore[reportArgumentType]
    assert along.minimum == pytest.approx(held.objective, rel=1e-9)
    assert along.low is not None
    assert along.low < held.parameters["alpha"]


def test_what_the_runs_never_vary_is_unbounded_on_both_sides() -> None:
    runs = observed(ATLAS, ATLAS_TRUTH, atlas_allocations(40, 2, repeats=False), 0.005, 0)
    along = profile(ATLAS, runs, "lambda", resamples=20)
    assert along.interval == (None, None)
    assert any("no run repeats its data" in note for note in along.notes)


def test_a_floor_near_zero_ends_at_zero() -> None:
    truth = {"E": 0.0, "A": 60.0, "B": 900.0, "alpha": 0.2, "beta": 0.3}
    runs = observed(Chinchilla("sw"), truth, atlas_allocations(60, 1), 0.02, 0)
    assert profile(Chinchilla("sw"), runs, "E", resamples=50).low == 0


def test_profile_is_plain_json(repetition: Profile) -> None:
    data = repetition.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["unbounded"] == ["above"]


def test_same_seed_same_profile(chinchilla_runs: Runs) -> None:
    one, two = (profile(Chinchilla(), chinchilla_runs, "E", resamples=30, seed=4).to_dict() for _ in range(2))
    assert one == two


def test_arguments_that_make_no_sense_are_errors(chinchilla_runs: Runs, atlas_runs: Runs) -> None:
    with pytest.raises(InputError, match="no parameter 'gamma'"):
        profile(Chinchilla(), chinchilla_runs, "gamma")
    with pytest.raises(InputError, match="alpha cannot be 7"):
        profile(Chinchilla(), chinchilla_runs, "alpha", [7.0])
    with pytest.raises(InputError, match="is fixed"):
        profile(Chinchilla(), chinchilla_runs, "alpha", fixed={"alpha": 0.3})
    with pytest.raises(InputError, match="other runs"):
        profile(fit(Chinchilla(), chinchilla_runs, resamples=0), atlas_runs, "alpha")
    with pytest.raises(InputError, match="no likelihood ratio"):
        profile(Chinchilla(), chinchilla_runs, "alpha", objective="lad", resamples=0)
    with pytest.raises(InputError, match="not a law"):
        profile("chinchilla", chinchilla_runs, "alpha")  # pyright: ignore[reportArgumentType]


def test_an_optimum_on_the_end_of_the_range_has_an_interval_all_the_same():
    """Resampled optima lie on that end as well; taken at their word the interval would be a point."""
    rng = np.random.default_rng(4)
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e5, 1e6, 5), np.geomspace(1e5, 1e6, 5)))
    loss = (20 / N**0.2 + 30 / D**0.25) * np.exp(rng.normal(0, 0.005, len(N)))
    found = profile(Chinchilla("sw"), Runs.from_columns(N, D, loss, language="sw"), "E", resamples=30)
    assert found.best == 0
    assert found.low == 0
    assert found.high is not None
    assert found.high > 0.01
    assert "end of the parameter's range" in found.why
