"""The optimum: published numbers to six digits, and nothing that depends on how the table is written."""

import math

import numpy as np
import pytest

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import bootstrap, fit, newton, starts
from babelscale.fitting.estimate import Objective
from babelscale.fitting.objective import FitProblem
from babelscale.laws import AdaptiveTransfer, Chinchilla, DataConstrained, Multilingual, Multilinguality, ScalingLaw
from babelscale.laws.base import ALPHA, BETA
from babelscale.laws.data_constrained import optimum
from babelscale.runs import Runs

from .conftest import ATLAS, ATLAS_TRUTH, atlas_allocations, observed

HUBER = {"E": 1.8172181, "A": 477.82588, "B": 2143.4174, "alpha": 0.34731050, "beta": 0.36717243}
LEAST_SQUARES = {"E": 1.86455, "A": 593.32, "B": 4875.6, "alpha": 0.36025, "beta": 0.40588}


def test_huber_optimum_of_the_chinchilla_table(chinchilla_runs: Runs) -> None:
    found = fit(Chinchilla(), chinchilla_runs, resamples=0)
    assert dict(found.parameters) == pytest.approx(HUBER, rel=1e-6)
    assert found.objective == pytest.approx(0.001018274017801, rel=1e-9)
    assert "8 of 8 starts agree on the optimum." in found.notes


def test_least_squares_optimum_of_the_chinchilla_table(chinchilla_runs: Runs) -> None:
    found = fit(Chinchilla(), chinchilla_runs, delta=math.inf, resamples=0)
    assert dict(found.parameters) == pytest.approx(LEAST_SQUARES, rel=2e-5)  # printed to five digits


def test_every_start_agrees_on_the_whole_chinchilla_table(all_chinchilla_runs: Runs) -> None:
    found = fit(Chinchilla(), all_chinchilla_runs, resamples=0)
    printed = {"E": 1.89134, "A": 495.73, "B": 12845.6, "alpha": 0.34931, "beta": 0.45305}
    assert dict(found.parameters) == pytest.approx(printed, rel=2e-5)
    assert found.objective == pytest.approx(0.001826010523, rel=1e-9)
    assert "8 of 8 starts agree on the optimum." in found.notes


@pytest.mark.parametrize(("name", "delta"), [("squares", 1e-3), ("huber", math.inf)])
def test_least_squares_has_two_names(chinchilla_runs: Runs, name: Objective, delta: float) -> None:
    found = fit(Chinchilla(), chinchilla_runs, objective=name, delta=delta, resamples=0)
    assert dict(found.parameters) == pytest.approx(LEAST_SQUARES, rel=2e-5)
    assert "8 of 8 starts agree on the optimum." in found.notes
    assert (found.provenance["objective"], found.provenance["delta"]) == ("squares", None)


def test_least_absolute_deviation_is_exact(chinchilla_runs: Runs) -> None:
    # Besiroglu et al. print E 1.8172, A 482.01, B 2085.43, alpha .3478, beta .3658.
    found = fit(Chinchilla(), chinchilla_runs, objective="lad", resamples=0)
    printed = {"E": 1.81686, "A": 482.01, "B": 2085.43, "alpha": 0.34781, "beta": 0.36585}
    assert dict(found.parameters) == pytest.approx(printed, rel=2e-5)
    assert "8 of 8 starts agree on the optimum." in found.notes
    o = chinchilla_runs.observations()
    residual = np.log(Chinchilla().loss(found.parameters, o.allocation)) - np.log(o.loss)
    assert found.objective == pytest.approx(np.abs(residual).sum(), rel=1e-12)
    assert (np.abs(residual) < 1e-12).sum() == 5  # as many losses are met exactly as there are parameters


def test_least_absolute_deviation_agrees_with_linear_programming(chinchilla_runs: Runs) -> None:
    """At the optimum no step of the linearised problem gains: an independent certificate of the same sum."""
    from scipy.optimize import linprog

    found = fit(Chinchilla(), chinchilla_runs, objective="lad", resamples=0)
    assert found.objective is not None
    o = chinchilla_runs.observations()
    problem = FitProblem(Chinchilla(), o.allocation, np.log(o.loss))
    z = starts.from_values(problem, found.parameters)
    residual, J, _ = problem.lagrangian(z, np.ones((1, len(o.loss))))
    J, n = J[0].T, len(o.loss)
    rows = np.block([[J, -np.eye(n)], [-J, -np.eye(n)]])
    step = linprog(
        np.r_[np.zeros(5), np.ones(n)],
        rows,
        np.r_[-residual[0], residual[0]],
        bounds=[(-1e-3, 1e-3)] * 5 + [(0, None)] * n,
    )
    assert step.fun == pytest.approx(found.objective, rel=1e-9)


@pytest.mark.parametrize("law", [DataConstrained("sw"), ATLAS], ids=lambda law: law.name)
def test_least_absolute_deviation_of_other_laws_is_below_its_neighbours(law: ScalingLaw) -> None:
    runs = observed(ATLAS, ATLAS_TRUTH, atlas_allocations(60, 4), 0.01, 4)
    found = fit(law, runs, objective="lad", resamples=0)
    assert found.objective is not None
    o = runs.observations("sw")
    problem = FitProblem(law, o.allocation, np.log(o.loss), {}, dict(law.ties))
    z = starts.from_values(problem, found.parameters)
    for size in (1e-2, 1e-4, 1e-6):
        near = z * (1 + size * np.random.default_rng(0).standard_normal((200, problem.size)))
        assert problem.evaluate(near, np.ones(60), 0.0).value.min() >= found.objective * (1 - 1e-9)


def test_least_absolute_deviation_of_clean_runs_is_zero_from_every_start() -> None:
    runs = observed(ATLAS, ATLAS_TRUTH, atlas_allocations(60, 1), 0.0, 0)
    found = fit(ATLAS, runs, objective="lad", resamples=0)
    assert dict(found.parameters) == pytest.approx(ATLAS_TRUTH, rel=1e-5)
    assert found.objective == pytest.approx(0, abs=1e-10)
    assert "8 of 8 starts agree on the optimum." in found.notes


def test_least_absolute_deviation_with_a_floor_at_zero() -> None:
    truth = {"E": 0.0, "A": 60.0, "B": 900.0, "alpha": 0.2, "beta": 0.3}
    runs = observed(Chinchilla("sw"), truth, atlas_allocations(60, 1), 0.02, 0)
    found = fit(Chinchilla("sw"), runs, objective="lad", resamples=100)
    assert found.intervals["E"][0] == pytest.approx(0, abs=1e-9)
    assert np.isfinite(found.draws).all()


@pytest.mark.slow
def test_resamples_of_least_absolute_deviation_have_the_published_spread(chinchilla_runs: Runs) -> None:
    # 4000 times 240 rows drawn with replacement, as published (our own intervals weigh runs otherwise). The printed
    # standard error of B, 1293.3, hangs on a handful of draws (one of 40,000 moves it to 1548): B is held to its 95 %.
    found = fit(Chinchilla(), chinchilla_runs, objective="lad", resamples=0)
    o = chinchilla_runs.observations()
    problem = FitProblem(Chinchilla(), o.allocation, np.log(o.loss))
    z = starts.from_values(problem, found.parameters)[0]
    weights = np.random.default_rng(0).multinomial(240, np.full(240, 1 / 240), size=4000).astype(float)
    draws = bootstrap.draws(newton.JointProblem.of([problem]), [z], weights, 0.0)[0]
    for name, printed in {"E": 0.02566, "A": 124.5, "alpha": 0.01540, "beta": 0.02060}.items():
        assert draws[name].std() == pytest.approx(printed, rel=0.05), name
    assert np.quantile(draws["B"], [0.025, 0.975]) == pytest.approx([1042, 5810], rel=0.05)


def test_published_repetition_point_is_a_local_optimum(datablations_runs: Runs) -> None:
    law, first = _published_first_stage()
    start = {"R_D": 15.387756, "R_N": 5.309743}
    found = fit(law, datablations_runs, fixed=first, start=start, resamples=0)
    assert found.objective == pytest.approx(0.0158259, abs=5e-8)
    assert dict(found.parameters) == pytest.approx({**first, **start}, rel=2e-3)  # printed before its search had ended
    assert any("a local optimum" in note for note in found.notes)
    with pytest.raises(InputError, match="R_N"):
        fit(law, datablations_runs, fixed=first, start={"R_D": 15.0}, resamples=0)


def test_repetition_fit_reaches_below_the_published_point(datablations_runs: Runs) -> None:
    law, first = _published_first_stage()
    found = fit(law, datablations_runs, fixed=first, resamples=100)
    assert found.objective is not None
    assert found.objective <= 0.0158047
    assert found.parameters["R_D"] == pytest.approx(95.37, rel=1e-3)
    assert any("R_D is hardly identified" in note for note in found.notes)


@pytest.mark.parametrize(
    ("law", "truth"),
    [
        (Chinchilla("sw"), {}),
        (DataConstrained("sw"), {"R_D": 9.0}),
        (Multilingual("sw"), {"gamma": 0.15}),
        (Multilinguality("sw"), {"phi": 0.11, "psi": -0.04}),
        (AdaptiveTransfer("sw", other=False), {"lambda": 0.1}),
        (AdaptiveTransfer("sw"), {"lambda": 0.1, "tau_other": 0.2}),
        (ATLAS, ATLAS_TRUTH),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_planted_parameters_come_back_from_clean_runs(law: ScalingLaw, truth: dict[str, float]) -> None:
    values = {"E": 0.6, "A": 60.0, "B": 900.0, "alpha": 0.35, "beta": 0.35} | truth
    runs = observed(law, values, atlas_allocations(60, 1), 0.0, 0)
    found = fit(law, runs, resamples=0)
    assert dict(found.parameters) == pytest.approx(values, rel=1e-5)
    assert found.objective == pytest.approx(0, abs=1e-12)


def test_planted_transfer_is_inside_its_intervals(atlas_runs: Runs) -> None:
    found = fit(ATLAS, atlas_runs, resamples=100)
    for name, truth in ATLAS_TRUTH.items():
        low, high = found.intervals[name]
        margin = high - low  # one draw of runs may miss by a little; by an interval's width it may not
        assert low - margin <= truth <= high + margin, name


def test_row_order_does_not_matter() -> None:
    allocation = atlas_allocations(60, 5)
    order = np.random.default_rng(0).permutation(60)
    one = observed(Chinchilla("sw"), HUBER, allocation, 0.01, 1).observations("sw")
    problem = FitProblem(Chinchilla("sw", tied=True), one.allocation, np.log(one.loss), {}, {"beta": "alpha"})
    shuffled = FitProblem(problem.law, one.allocation.at(order), np.log(one.loss[order]), {}, {"beta": "alpha"})
    first, second = (_natural(p) for p in (problem, shuffled))
    assert first == pytest.approx(second, rel=1e-7)


def test_units_of_tokens_and_parameters_do_not_matter(chinchilla_runs: Runs) -> None:
    o = chinchilla_runs.observations()
    scaled = Runs.from_columns(o.allocation.params / 1e9, o.allocation.total_tokens / 1e12, o.loss * 7)
    whole = fit(Chinchilla(), chinchilla_runs, resamples=0).parameters
    small = fit(Chinchilla(), scaled, resamples=0).parameters
    assert small["alpha"] == pytest.approx(whole["alpha"], rel=1e-7)
    assert small["beta"] == pytest.approx(whole["beta"], rel=1e-7)
    assert small["E"] == pytest.approx(7 * whole["E"], rel=1e-7)
    assert small["A"] * 1e9 ** small["alpha"] == pytest.approx(7 * whole["A"], rel=1e-6)
    assert small["B"] * 1e12 ** small["beta"] == pytest.approx(7 * whole["B"], rel=1e-6)


@pytest.mark.parametrize("law", [Chinchilla("sw"), DataConstrained("sw"), ATLAS], ids=lambda law: law.name)
def test_gradient_and_hessian_are_those_of_the_objective(law: ScalingLaw) -> None:
    o = observed(ATLAS, ATLAS_TRUTH, atlas_allocations(30, 2), 0.02, 2).observations("sw")
    problem = FitProblem(law, o.allocation, np.log(o.loss), {}, dict(law.ties))
    weights = np.random.default_rng(0).integers(0, 3, 30).astype(float)
    z = starts.grid(problem)[[20]] + 0.01
    step = 1e-5
    here = problem.evaluate(z, weights, math.inf)
    for k in range(problem.size):
        move = np.zeros_like(z)
        move[0, k] = step
        up, down = problem.evaluate(z + move, weights, math.inf), problem.evaluate(z - move, weights, math.inf)
        assert here.gradient[0, k] == pytest.approx((up.value[0] - down.value[0]) / (2 * step), rel=1e-6, abs=1e-8)
        numeric = (up.gradient[0] - down.gradient[0]) / (2 * step)
        np.testing.assert_allclose(here.hessian[0, k], numeric, rtol=1e-5, atol=1e-7 * np.abs(numeric).max())


def test_a_law_without_derivatives_fits_the_same(chinchilla_runs: Runs) -> None:
    from dataclasses import dataclass
    from typing import ClassVar

    from babelscale.laws import Term

    @dataclass(frozen=True)
    class Mine(ScalingLaw):
        target: str | None = None
        name: ClassVar[str] = "mine"

        @property
        def shape(self):
            return (ALPHA, BETA)

        def terms(self, shape, x):
            log_N, log_D = np.log(x.params), np.log(x.total_tokens)
            return {"E": Term(0 * log_N), "A": Term(-shape["alpha"] * log_N), "B": Term(-shape["beta"] * log_D)}

    found = fit(Mine(), chinchilla_runs, resamples=0)
    assert dict(found.parameters) == pytest.approx(HUBER, rel=1e-6)


def test_floor_at_zero_is_found_and_said() -> None:
    truth = {"E": 0.0, "A": 60.0, "B": 900.0, "alpha": 0.2, "beta": 0.3}
    runs = observed(Chinchilla("sw"), truth, atlas_allocations(60, 1), 0.0, 0)
    found = fit(Chinchilla("sw"), runs, resamples=0)
    assert found.parameters["E"] == pytest.approx(0, abs=1e-6)
    noisy = observed(Chinchilla("sw"), truth, atlas_allocations(60, 1), 0.02, 0)
    low, _ = fit(Chinchilla("sw"), noisy, resamples=100).intervals["E"]
    assert low == pytest.approx(0, abs=1e-9)


def test_infeasible_transfer_is_stepped_over() -> None:
    # tau near the edge of the domain: rows with ten times more of the source than of the target.
    law = AdaptiveTransfer("sw", ("en",), other=False)
    n = 40
    rng = np.random.default_rng(0)
    D = 10 ** rng.uniform(9, 11, n)
    ratio = rng.choice([0, 1, 5, 9.5], n)
    allocation = Allocation(rng.choice([1e7, 1e8, 1e9], n), {"sw": D, "en": ratio * D})
    truth = {"E": 0.6, "A": 60.0, "B": 900.0, "alpha": 0.35, "beta": 0.35, "lambda": laws.saturation.LAMBDA}
    runs = observed(law, truth | {"tau_en": -0.1}, allocation, 0.002, 1)
    found = fit(law, runs, resamples=50)
    assert found.parameters["tau_en"] == pytest.approx(-0.1, abs=0.003)
    assert np.isfinite(found.draws).all()


def _natural(problem: FitProblem) -> dict[str, float]:
    unit = np.ones(len(problem.log_loss))
    grid = starts.grid(problem)
    chosen = starts.choose(grid, problem.evaluate(grid, unit, 1e-3).value, 8)
    found = newton.minimise(problem, chosen, unit, 1e-3)
    best = found.z[[np.argmin(found.value)]]
    return {name: float(value[0]) for name, value in problem.natural_parameters(best).items()}


def _published_first_stage() -> tuple[ScalingLaw, dict[str, float]]:
    """Muennighoff et al.'s law without repetition, which their second stage holds fixed."""
    first = {"A": math.exp(6.255414), "B": math.exp(7.3049974), "E": math.exp(0.6254804), "alpha": 0.3526596}
    first["beta"] = first["alpha"]
    return DataConstrained(sizes=optimum(first["A"], first["B"], first["alpha"], first["beta"])), first
