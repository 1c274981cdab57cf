"""Long tables are worked off in row_blocks of rows and a few resamples at a time: the same numbers in little memory."""

import tracemalloc

import numpy as np
import pytest

from babelscale.allocation import Allocation
from babelscale.fitting import bootstrap, fit, objective, simulate
from babelscale.fitting.bootstrap import Weighing, run_weights
from babelscale.fitting.objective import FitProblem
from babelscale.laws import AdaptiveTransfer, Chinchilla, DataConstrained, ScalingLaw

ROWS = 700
TRUTH = {"E": 1.7, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
LAWS = {
    "chinchilla": (Chinchilla("en"), {}),
    "data-constrained": (DataConstrained("en"), {"R_D": 15.0}),
    "adaptive-transfer": (AdaptiveTransfer("en", ("fr",), other=False), {"lambda": 0.07, "tau_fr": 0.3}),
}


def long_table(rows: int) -> Allocation:
    """Only the last rows repeat their data, so that a block before them has no derivative by repetition."""
    rng = np.random.default_rng(0)
    tokens = {"en": np.sort(10 ** rng.uniform(8, 11, rows)), "fr": 10 ** rng.uniform(8, 11, rows)}
    return Allocation(10 ** rng.uniform(7, 10, rows), tokens, {"en": 5e10})


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("how", ["huber", "lad", "squares"])
def test_stretches_of_rows_change_no_number(law: str, how, monkeypatch: pytest.MonkeyPatch) -> None:
    form, more = LAWS[law]
    runs = simulate(form, TRUTH | more, long_table(ROWS), noise=0.005, seed=0)
    whole = fit(form, runs, resamples=6, objective=how)
    monkeypatch.setattr(objective, "_ROWS", 100)
    monkeypatch.setattr(objective, "_AT_ONCE", 200)
    monkeypatch.setattr(bootstrap, "_MOST", 2 * ROWS)
    parts = fit(form, runs, resamples=6, objective=how)
    assert whole.objective == pytest.approx(parts.objective, rel=1e-9)
    assert dict(whole.parameters) == pytest.approx(dict(parts.parameters), rel=1e-4)
    np.testing.assert_allclose(whole.draws, parts.draws, rtol=1e-3)


def test_a_stretch_outside_the_domain_leaves_no_loss_and_no_force(monkeypatch: pytest.MonkeyPatch) -> None:
    form: ScalingLaw = LAWS["adaptive-transfer"][0]
    monkeypatch.setattr(objective, "_ROWS", 50)
    problem = FitProblem(form, long_table(200), np.zeros(200))
    z = np.array([[1.0, 1.0, 1.0, 0.3, 0.3, np.log(0.07), tau] for tau in (0.1, -1.9)])
    found = problem.evaluate(z, np.ones(200), 1e-3)
    assert np.isfinite(found.value).tolist() == [True, False]
    assert np.abs(found.gradient[0]).max() > 0
    assert not np.abs(found.gradient[1]).any()
    assert not np.abs(found.hessian[1]).any()


def test_weights_do_not_depend_on_how_many_come_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    run = np.array([f"r{k // 2}" for k in range(30)])
    whole = run_weights(run, 50, 3, free=4)
    monkeypatch.setattr(bootstrap, "_MOST", 7 * 30)
    parts = list(Weighing(run, 50, 3, free=4).parts())
    assert max(map(len, parts)) == 7
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_memory_does_not_grow_with_rows_times_resamples() -> None:
    rows, resamples = 10_000, 100
    runs = simulate(Chinchilla("en"), TRUTH, long_table(rows), noise=0.005, seed=0)
    tracemalloc.start()
    fit(Chinchilla("en"), runs, resamples=resamples)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Ten arrays of a number for every row and resample; all rows of all resamples at once take 28.
    assert most < 10 * 8 * rows * resamples
