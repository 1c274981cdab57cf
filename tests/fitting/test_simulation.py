"""simulate: the same bytes for the same seed, the law where there is no noise, the noise that was asked for."""

import math

import numpy as np
import polars as pl
import pytest

from babelscale.allocation import Allocation
from babelscale.errors import DomainError, InputError
from babelscale.fitting import fit, simulate
from babelscale.laws import Chinchilla, Multilingual
from babelscale.runs import Runs

from .conftest import ATLAS, ATLAS_TRUTH, atlas_allocations

TRUTH = {"E": 1.8, "A": 480.0, "B": 2000.0, "alpha": 0.35, "beta": 0.36}


def test_same_seed_same_table_other_seed_another() -> None:
    one, again, other = (simulate(ATLAS, ATLAS_TRUTH, atlas_allocations(20, 0), seed=seed) for seed in (1, 1, 2))
    assert one.hash == again.hash
    assert one.hash != other.hash


def test_without_noise_the_losses_are_the_laws_and_the_allocations_the_designs() -> None:
    design = atlas_allocations(20, 0)
    seen = simulate(ATLAS, ATLAS_TRUTH, design, noise=0.0, seed=0).observations("sw")
    np.testing.assert_allclose(seen.loss, ATLAS.loss(ATLAS_TRUTH, design), rtol=1e-14)
    np.testing.assert_array_equal(seen.allocation.params, design.params)
    for code in design.languages:
        np.testing.assert_array_equal(seen.allocation.D(code), design.D(code))
        np.testing.assert_array_equal(seen.allocation.U(code), design.U(code))


def test_noise_is_log_normal_with_the_deviation_asked_for() -> None:
    design = Allocation(np.full(4000, 1e8), {"sw": 1e10})
    loss = simulate(Chinchilla("sw"), TRUTH, design, noise=0.02, seed=3).observations("sw").loss
    error = np.log(loss / Chinchilla("sw").loss(TRUTH, design))
    assert error.std() == pytest.approx(0.02, rel=0.05)
    assert abs(error.mean()) < 0.001


def test_several_targets_and_a_targets_noise_does_not_depend_on_the_others() -> None:
    design = Allocation([1e8, 1e9, 1e9], {"sw": [1e9, 0.0, 2e9], "no": [1e9, 1e9, 0.0]})
    forms = (Chinchilla("sw"), Multilingual("no"))
    both = simulate(forms, (TRUTH, TRUTH | {"gamma": 0.1}), design, seed=5)
    assert both.targets == ("no", "sw")
    alone = simulate(forms[1], TRUTH | {"gamma": 0.1}, design, seed=5)
    assert both.losses.filter(language="no").equals(alone.losses)
    assert both.observations("no").run.tolist() == ["r000000", "r000001"]


def test_runs_of_a_table_are_drawn_anew_checkpoints_and_unit_included() -> None:
    exposure = pl.DataFrame(
        {"run": ["a", "a", "b"], "step": [1, 2, 2], "language": ["nan"] * 3, "tokens": [1e9, 2e9, 4e9]}
    )
    losses = exposure.drop("tokens").with_columns(
        split=pl.lit("validation"),
        lr_state=pl.Series(["stable", "decayed", "decayed"]),
        nats=pl.lit(1.0),
        tokens=pl.lit(50.0),
        bytes=pl.lit(100.0),
    )
    table = pl.DataFrame({"run": ["a", "b"], "params": [1e8, 1e9], "tokens": [2e9, 4e9]})
    runs = Runs.of(table, exposure, losses)
    drawn = simulate(Chinchilla("nan"), TRUTH, runs, noise=0.0, seed=0)
    assert drawn.metric == "bits_per_byte"
    assert drawn.table.equals(runs.table)
    want = Chinchilla().loss(TRUTH, Allocation([1e8, 1e8, 1e9], {"nan": [1e9, 2e9, 4e9]}))
    np.testing.assert_allclose(drawn.losses["nats"] / math.log(2) / 100, want, rtol=1e-14)


def test_run_noise_is_shared_by_the_checkpoints_of_a_run() -> None:
    steps = list(range(1, 6))
    exposure = pl.DataFrame({"run": ["a"] * 5, "step": steps, "language": "sw", "tokens": [1e9 * s for s in steps]})
    losses = exposure.drop("tokens").with_columns(
        split=pl.lit("validation"), lr_state=pl.lit("decayed"), nats=pl.lit(1.0), tokens=pl.lit(1.0)
    )
    runs = Runs.of(pl.DataFrame({"run": ["a"], "params": [1e8], "tokens": [5e9]}), exposure, losses)
    seen = simulate(Chinchilla("sw"), TRUTH, runs, noise=0.0, run_noise=0.1, seed=1).observations("sw")
    error = np.log(seen.loss / Chinchilla("sw").loss(TRUTH, seen.allocation))
    np.testing.assert_allclose(error, error[0], rtol=1e-9)
    assert abs(error[0]) > 1e-4


def test_a_law_without_a_target_gives_the_loss_of_the_first_language() -> None:
    runs = simulate(Chinchilla(), TRUTH, Allocation(1e8, {"und": 1e9}), seed=0)
    assert runs.targets == ("und",)
    assert len(runs) == 1


def test_a_simulated_table_is_fitted_back() -> None:
    runs = simulate(ATLAS, ATLAS_TRUTH, atlas_allocations(60, 4), noise=0.0, seed=0)
    assert dict(fit(ATLAS, runs, resamples=0).parameters) == pytest.approx(ATLAS_TRUTH, rel=1e-4)


def test_what_cannot_be_simulated_is_named() -> None:
    design = Allocation([1e8, 1e9], {"sw": 1e9})
    with pytest.raises(InputError, match="noise is -1"):
        simulate(Chinchilla("sw"), TRUTH, design, noise=-1, seed=0)
    with pytest.raises(InputError, match="trains no 'no'"):
        simulate(Chinchilla("no"), TRUTH, design, seed=0)
    with pytest.raises(InputError, match="no value for beta"):
        simulate(Chinchilla("sw"), {k: v for k, v in TRUTH.items() if k != "beta"}, design, seed=0)
    with pytest.raises(InputError, match="two laws of one target"):
        simulate([Chinchilla("sw")] * 2, [TRUTH] * 2, design, seed=0)
    with pytest.raises(InputError, match="2 laws and 1 sets"):
        simulate([Chinchilla("sw")] * 2, TRUTH, design, seed=0)
    with pytest.raises(InputError, match="no run of the design trains 'sw'"):
        simulate(Chinchilla("sw"), TRUTH, Allocation(1e8, {"sw": 0.0, "en": 1e9}), seed=0)
    with pytest.raises(DomainError, match="D_eff > 0"):
        simulate(ATLAS, ATLAS_TRUTH, Allocation(1e8, {"sw": 1e6, "fr": 1e12}), seed=0)
