"""Nothing of an optimum depends on how the table is written: order, units, or how often the objective counts."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from babelscale.allocation import Allocation
from babelscale.fitting import Fit, fit, newton, simulate, starts
from babelscale.fitting.estimate import Objective
from babelscale.fitting.objective import FitProblem
from babelscale.laws import Chinchilla, DataConstrained, Multilingual, Multilinguality, ScalingLaw
from babelscale.runs import Runs

from .conftest import ATLAS, ATLAS_TRUTH, atlas_allocations

LIMIT = 1e-6
FIVE = {"E": 0.6, "A": 60.0, "B": 900.0, "alpha": 0.35, "beta": 0.35}
CASES: list[tuple[ScalingLaw, dict[str, float]]] = [
    (Chinchilla("sw"), FIVE),
    (DataConstrained("sw"), FIVE | {"R_D": 9.0}),
    (Multilingual("sw"), FIVE | {"gamma": 0.15}),
    (Multilinguality("sw"), FIVE | {"phi": 0.11, "psi": -0.04}),
    (ATLAS, ATLAS_TRUTH),
]
each_law = pytest.mark.parametrize(("law", "truth"), CASES, ids=[law.name for law, _ in CASES])
each_objective = pytest.mark.parametrize("objective", ["huber", "lad", "squares"])


def table(law: ScalingLaw, truth: Mapping[str, float]) -> Runs:
    return simulate(law, truth, atlas_allocations(60, 7), noise=0.005, seed=7)


def rewritten(
    runs: Runs, change: Callable[[pl.DataFrame], pl.DataFrame], names: Mapping[str, str] | None = None
) -> Runs:
    frames = [change(frame) for frame in (runs.table, runs.exposure, runs.losses)]
    if names:
        frames = [frame.with_columns(pl.col("run").replace_strict(names)) for frame in frames]
    return Runs.of(*frames)


def renamed(runs: Runs) -> dict[str, str]:
    """New names whose alphabetical order, which is the order of rows inside, is another."""
    order = np.random.default_rng(0).permutation(len(runs))
    return {name: f"x{place:04d}" for name, place in zip(runs.names, order, strict=True)}


def same(one: Fit, other: Fit, **factors: float) -> None:
    """`other` has the parameters of `one`, those named times a factor, and the same objective."""
    for name, value in one.parameters.items():
        assert other.parameters[name] == pytest.approx(value * factors.get(name, 1), rel=LIMIT, abs=1e-9), name
    assert other.objective == pytest.approx(one.objective, rel=LIMIT)


@each_law
@each_objective
def test_row_order(law: ScalingLaw, truth: dict[str, float], objective: Objective) -> None:
    runs = table(law, truth)
    moved = rewritten(runs, lambda frame: frame.sample(fraction=1, shuffle=True, seed=1), renamed(runs))
    assert moved.observations("sw").loss.tolist() != runs.observations("sw").loss.tolist()
    same(*(fit(law, each, objective=objective, resamples=0) for each in (runs, moved)))


def test_rows_of_the_same_runs_in_another_order_give_the_same_bytes() -> None:
    runs = table(*CASES[-1])
    moved = rewritten(runs, lambda frame: frame.sample(fraction=1, shuffle=True, seed=1))
    one, other = (fit(ATLAS, each, resamples=5) for each in (runs, moved))
    assert one == other
    assert (one.draws == other.draws).all()


def test_the_order_of_languages_and_sources_only_moves_names() -> None:
    runs = table(*CASES[-1])
    turned = replace(ATLAS, sources=ATLAS.sources[::-1])
    same(fit(ATLAS, runs, resamples=0), fit(turned, runs, resamples=0))


@each_law
@each_objective
@pytest.mark.parametrize(("unit_N", "unit_D"), [(1e-9, 1e-12), (1e3, 1.0), (1.0, 7.0)])
def test_units_of_size_and_tokens(
    law: ScalingLaw, truth: dict[str, float], objective: Objective, unit_N: float, unit_D: float
) -> None:
    def other_units(frame: pl.DataFrame) -> pl.DataFrame:
        units = {"params": unit_N, "tokens": unit_D, "unique_tokens": unit_D}
        # `tokens` of the losses table are those of the measurement, not of training.
        return frame.with_columns(pl.col(c) * f for c, f in units.items() if c in frame.columns and "nats" not in frame)

    runs = table(law, truth)
    one, other = (fit(law, each, objective=objective, resamples=0) for each in (runs, rewritten(runs, other_units)))
    same(one, other, A=unit_N ** one.parameters["alpha"], B=unit_D ** one.parameters["beta"])
    asked = atlas_allocations(9, 11)
    told = Allocation(
        asked.params * unit_N,
        {code: D * unit_D for code, D in asked.tokens.items()},
        {code: U * unit_D for code, U in asked.unique_tokens.items()},
    )
    np.testing.assert_allclose(np.asarray(other.predict(told)), np.asarray(one.predict(asked)), rtol=LIMIT)


@each_law
@each_objective
def test_unit_of_the_loss(law: ScalingLaw, truth: dict[str, float], objective: Objective) -> None:
    runs = table(law, truth)
    scaled = rewritten(runs, lambda frame: frame.with_columns(pl.col("nats") / np.log(2)) if "nats" in frame else frame)
    one, other = (fit(law, each, objective=objective, resamples=0) for each in (runs, scaled))
    same(one, other, **dict.fromkeys(("E", "A", "B"), 1 / np.log(2)))


@each_law
@each_objective
def test_every_run_three_times_is_three_times_the_objective(
    law: ScalingLaw, truth: dict[str, float], objective: Objective
) -> None:
    runs = table(law, truth)
    copies = [rewritten(runs, lambda frame: frame, {name: f"{name}-{k}" for name in runs.names}) for k in range(3)]
    whole = Runs.of(*(pl.concat([getattr(c, name) for c in copies]) for name in ("table", "exposure", "losses")))
    one, other = (fit(law, each, objective=objective, resamples=0) for each in (runs, whole))
    assert other.objective is not None
    same(one, replace(other, objective=other.objective / 3))


@each_law
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scale_of_the_objective(law: ScalingLaw, truth: dict[str, float], factor: float) -> None:
    o = table(law, truth).observations("sw")
    problem = FitProblem(law, o.allocation, np.log(o.loss), {}, dict(law.ties))
    unit = np.ones(len(o))
    points = starts.grid(problem)
    chosen = starts.choose(points, problem.evaluate(points, unit, 1e-3).value, 8)
    found = []
    for weights in (unit, factor * unit):
        each = newton.minimise(problem, chosen, weights, 1e-3)
        found.append(problem.natural_parameters(each.z[[np.argmin(each.value)]]))
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=LIMIT, abs=1e-9), name


@each_objective
def test_the_chinchilla_table_in_any_units(chinchilla_runs: Runs, objective: Objective) -> None:
    o = chinchilla_runs.observations()
    order = np.random.default_rng(0).permutation(len(o))
    N, D, loss = (values[order] for values in (o.allocation.params, o.allocation.total_tokens, o.loss))
    one = fit(Chinchilla(), chinchilla_runs, objective=objective, resamples=0)
    other = fit(Chinchilla(), Runs.from_columns(N / 1e9, D / 1e12, loss * 7), objective=objective, resamples=0)
    p = one.parameters
    same(one, other, E=7, A=7 / 1e9 ** p["alpha"], B=7 / 1e12 ** p["beta"])
