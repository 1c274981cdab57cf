"""Whether intervals hold the truth, and whether what is not identified is said; benchmarks/coverage.py asks longer."""

import numpy as np
import pytest

from babelscale.allocation import Allocation
from babelscale.fitting import fit, simulate
from babelscale.fitting.bootstrap import run_weights
from babelscale.fitting.identifiability import flat
from babelscale.fitting.objective import FitProblem
from babelscale.laws import AdaptiveTransfer, Chinchilla, DataConstrained, ScalingLaw
from babelscale.runs import Runs

from .conftest import ATLAS, ATLAS_TRUTH, atlas_allocations

CHINCHILLA = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
N = np.repeat(np.geomspace(1e7, 1e9, 6), 8)
D = N * np.tile(np.geomspace(5, 320, 8), 6)


def test_intervals_at_four_times_the_compute_hold_the_truth() -> None:
    design = Allocation(N, {"sw": D})
    ahead = Allocation([4e9, 1e9, 2e9], {"sw": np.array([1, 4, 2]) * D.max()})
    truth = Chinchilla("sw").loss(CHINCHILLA, ahead)
    curve, new = [], []
    for seed in range(60):
        found = fit(Chinchilla("sw"), simulate(Chinchilla("sw"), CHINCHILLA, design, seed=seed), seed=seed)
        predicted = found.predict(ahead)
        run = truth * np.exp(np.random.default_rng([seed, 1]).normal(0, 0.005, 3))
        curve.append((predicted.confidence_low <= truth) & (truth <= predicted.confidence_high))
        new.append((predicted.low <= run) & (run <= predicted.high))
    # Three standard errors of 60 tables around the 85-95 % of the benchmark's 200.
    assert 0.78 <= np.mean(curve) <= 0.99
    assert 0.78 <= np.mean(new) <= 0.99


ALIKE = [
    (AdaptiveTransfer("sw", other=False), "lambda", {"lambda": 0.1}),
    (DataConstrained("sw"), "R_D", {"R_D": 15.0}),
]


@pytest.mark.parametrize(("law", "name", "repeats"), ALIKE, ids=["adaptive-transfer", "data-constrained"])
def test_repeats_alike_in_every_run_identify_nothing(law: ScalingLaw, name: str, repeats: dict[str, float]) -> None:
    # Every run sees its data 1.1 times: whatever repeats are worth, B makes up for it exactly.
    design = Allocation(N, {"sw": D}, {"sw": 0.9 * D})
    for seed in range(3):
        found = fit(law, simulate(law, CHINCHILLA | {"beta": 0.3478} | repeats, design, seed=seed), resamples=50)
        assert any(name in note and "not identified" in note for note in found.notes)
        low, high = found.intervals[name]
        assert high > 100 * low


@pytest.mark.parametrize(("law", "name", "repeats"), ALIKE, ids=["adaptive-transfer", "data-constrained"])
def test_repeats_of_three_runs_are_never_believed_in_silence(
    law: ScalingLaw, name: str, repeats: dict[str, float]
) -> None:
    few = Allocation(N, {"sw": D}, {"sw": np.where(np.arange(48) < 3, 0.9, 2.0) * D})
    # Seed 16: the three runs agree by chance on a lambda a hundred times too large.
    for seed in (0, 16):
        found = fit(law, simulate(law, CHINCHILLA | {"beta": 0.3478} | repeats, few, seed=seed), resamples=30)
        assert any(note.startswith(name) and "depends on 3 runs" in note for note in found.notes)


def test_parameters_that_are_identified_are_not_called_flat(atlas_runs: Runs) -> None:
    seen = atlas_runs.observations("sw")
    problem = FitProblem(ATLAS, seen.allocation, np.log(seen.loss), {}, ATLAS.ties)
    values = [ATLAS_TRUTH[p.name] for p in problem.free_shape]
    z = np.array([*np.full(3, 0.5), *values])
    z[problem.column["lambda"]] = np.log(ATLAS_TRUTH["lambda"])
    assert flat(problem, z) == {}


def test_repeats_that_differ_identify_lambda() -> None:
    runs = simulate(ATLAS, ATLAS_TRUTH, atlas_allocations(60, 2), seed=0)
    assert not any("not identified" in note for note in fit(ATLAS, runs, resamples=20).notes)


def test_weights_of_runs_are_the_same_for_the_same_seed_and_average_one() -> None:
    run = np.array([f"r{i}" for i in range(40)])
    one, again, other = (run_weights(run, 400, seed) for seed in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()
    np.testing.assert_allclose(one.sum(axis=1), 40)
    assert one.mean(axis=0) == pytest.approx(np.ones(40), abs=0.25)
    assert one.var() == pytest.approx(1, rel=0.1)
    assert one.min() > 0
