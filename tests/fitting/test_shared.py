"""Many targets in one call: the same fits as apart, or exponents in common at the exact joint optimum."""

import numpy as np
import pytest

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import Fit, fit, fit_many, simulate
from babelscale.laws import AdaptiveTransfer, Chinchilla
from babelscale.runs import Runs

CODES = ("de", "en", "sw")
TRUTHS = [
    {"E": 0.5 + 0.1 * k, "A": 60.0 - 10 * k, "B": 900.0 + 200 * k, "alpha": 0.35, "beta": 0.3}
    for k in range(len(CODES))
]


def table(noise: float, n: int = 60, sizes: tuple[float, ...] = (1e7, 3e7, 1e8, 1e9), **options: float) -> Runs:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1.0] * 3, n)
    tokens = 10 ** rng.uniform(9, 11, n)
    D = {code: shares[:, k] * tokens for k, code in enumerate(CODES)}
    return simulate([Chinchilla(c) for c in CODES], TRUTHS, Allocation(rng.choice(sizes, n), D), noise=noise, seed=1)


@pytest.fixture(scope="module")
def runs() -> Runs:
    return table(0.005)


@pytest.fixture(scope="module")
def joint(runs: Runs) -> dict[str, Fit]:
    return fit_many("chinchilla", runs, shared=("alpha", "beta"), resamples=60)


def test_planted_shared_exponents_come_back_from_clean_runs() -> None:
    found = fit_many("chinchilla", table(0.0), shared=("alpha", "beta"), resamples=0)
    for code, truth in zip(CODES, TRUTHS, strict=True):
        assert dict(found[code].parameters) == pytest.approx(truth, rel=1e-5)


def test_shared_parameters_are_equal_in_values_and_draws(joint: dict[str, Fit]) -> None:
    assert list(joint) == list(CODES)
    for name in ("alpha", "beta"):
        assert len({found.parameters[name] for found in joint.values()}) == 1
        assert len({found.intervals[name] for found in joint.values()}) == 1
    assert len({found.parameters["E"] for found in joint.values()}) == 3
    np.testing.assert_array_equal(joint["de"].draws[:, 3:], joint["sw"].draws[:, 3:])
    assert any("alpha, beta shared with en, sw" in note for note in joint["de"].notes)
    assert "8 of 8 starts agree on the joint optimum." in joint["de"].notes


def test_joint_optimum_is_exact(runs: Runs, joint: dict[str, Fit]) -> None:
    """Every target is at its own optimum given the shared values, and no other shared values do better."""
    best = {name: joint["de"].parameters[name] for name in ("alpha", "beta")}
    total = sum(found.objective or 0.0 for found in joint.values())

    def apart(values: dict[str, float]) -> float:
        held = fit_many("chinchilla", runs, fixed=values, resamples=0)
        return sum(found.objective or 0.0 for found in held.values())

    assert apart(best) == pytest.approx(total, rel=1e-10)
    # A relative step of 1e-5 in either direction already costs.
    assert all(apart({**best, name: best[name] * (1 + s * 1e-5)}) > total for name in best for s in (-1, 1))


def test_sharing_narrows_intervals(runs: Runs, joint: dict[str, Fit]) -> None:
    apart = fit_many("chinchilla", runs, resamples=60)
    width = [np.subtract(*found["sw"].intervals["beta"]) for found in (joint, apart)]
    assert abs(width[0]) < 0.9 * abs(width[1])
    assert sum(f.objective or 0 for f in apart.values()) < sum(f.objective or 0 for f in joint.values())


def test_nothing_shared_is_the_same_as_one_by_one(runs: Runs) -> None:
    many = fit_many("chinchilla", runs, ["sw", "de"], resamples=5, objective="squares")
    assert list(many) == ["sw", "de"]
    assert many["de"] == fit(Chinchilla("de"), runs, resamples=5, objective="squares")


def test_a_target_of_one_size_borrows_the_exponent(runs: Runs) -> None:
    small = set(runs.table.filter(params=1e7)["run"])
    rows = runs.losses.filter((runs.losses["language"] != "sw") | runs.losses["run"].is_in(list(small)))
    partial = Runs.of(runs.table, runs.exposure, rows)
    with pytest.raises(InputError, match="same size"):
        fit_many("chinchilla", partial, resamples=0)
    found = fit_many("chinchilla", partial, shared=("alpha",), resamples=10)
    assert found["sw"].parameters["alpha"] == found["en"].parameters["alpha"]
    assert found["en"].parameters["alpha"] == pytest.approx(0.35, abs=0.1)


def test_lambda_from_one_language_serves_all() -> None:
    rng = np.random.default_rng(0)
    D = {"sw": 10 ** rng.uniform(9, 11, 60), "en": 10 ** rng.uniform(9, 11, 60)}
    allocation = Allocation(rng.choice([1e7, 1e8, 1e9], 60), D, {"sw": 1e9})
    forms = [AdaptiveTransfer(code, other=False) for code in ("sw", "en")]
    truth = {"E": 0.6, "A": 60.0, "B": 900.0, "alpha": 0.35, "beta": 0.35, "lambda": 0.2}
    runs = simulate(forms, [truth, truth], allocation, noise=0.002, seed=0)
    found = fit_many(forms, runs, shared=("lambda",), resamples=10)
    assert found["en"].parameters["lambda"] == found["sw"].parameters["lambda"] == pytest.approx(0.2, rel=0.1)


def test_what_no_target_identifies_is_held_for_all(runs: Runs) -> None:
    found = fit_many("data-constrained", runs, shared=("R_D",), resamples=0)
    assert {f.parameters["R_D"] for f in found.values()} == {1 / laws.saturation.LAMBDA}
    assert all(any("no run repeats its data" in note for note in f.notes) for f in found.values())


def test_tied_exponents_are_shared_as_one(runs: Runs) -> None:
    forms = [Chinchilla(code, tied=True) for code in CODES]
    found = fit_many(forms, runs, shared=("alpha", "beta"), resamples=5)
    assert len({f.parameters[name] for f in found.values() for name in ("alpha", "beta")}) == 1


def test_same_seed_same_joint_fits(runs: Runs, joint: dict[str, Fit]) -> None:
    assert fit_many("chinchilla", runs, shared=("alpha", "beta"), resamples=60) == joint


def test_wrong_requests_are_errors(runs: Runs) -> None:
    with pytest.raises(InputError, match="'A' cannot be shared"):
        fit_many("chinchilla", runs, shared=("A",))
    with pytest.raises(InputError, match="1 of 1 laws"):
        fit_many("chinchilla", runs, ["sw"], shared=("alpha",))
    with pytest.raises(InputError, match="alpha is fixed"):
        fit_many("chinchilla", runs, shared=("alpha",), fixed={"alpha": 0.3})
    with pytest.raises(InputError, match="two laws of one target"):
        fit_many([Chinchilla("sw"), Chinchilla("sw", tied=True)], runs)
    with pytest.raises(InputError, match="Huber"):
        fit_many("chinchilla", runs, shared=("alpha",), objective="lad")
