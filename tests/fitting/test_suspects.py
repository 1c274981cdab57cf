"""One spoilt run: the fit stays, the run is named, and neither the intervals nor what is identified depend on it."""

import math

import numpy as np
import polars as pl
import pytest

import babelscale as bs
from babelscale.allocation import Allocation
from babelscale.fitting import fit, fit_many
from babelscale.runs import Runs


def _frame(spoilt: dict[int, float] | None = None, language: str = "sw") -> pl.DataFrame:
    params, tokens = (np.ravel(grid) for grid in np.meshgrid([2e7, 6e7, 2e8, 6e8], [4e8, 1.6e9, 6e9, 2e10]))
    noise = np.random.default_rng(3).normal(0, 0.004, params.size)
    loss = (1.7 + 320 / params**0.33 + 900 / tokens**0.34) * np.exp(noise)
    for place, value in (spoilt or {}).items():
        loss[place] = value
    names = [f"{language}-{k}" for k in range(params.size)]
    columns = {"run": names, "params": params, "tokens": tokens, "loss": loss}
    return pl.DataFrame(columns).with_columns(language=pl.lit(language))


def _runs(spoilt: dict[int, float] | None = None) -> Runs:
    return Runs.from_frame(_frame(spoilt))


LARGE = Allocation(3e9, {"sw": 4e10})


def _width(found: bs.Fit) -> float:
    predicted = found.predict(LARGE)
    return float(np.log(predicted.high / predicted.low))


@pytest.mark.parametrize("value", [8.5, 0.4])
def test_a_spoilt_run_is_named_and_widens_no_interval(value: float):
    without = Runs.from_frame(_frame().filter(pl.col("run") != "sw-5"))
    clean, least, found = (fit(bs.laws.Chinchilla("sw"), runs) for runs in (_runs(), without, _runs({5: value})))
    assert found.predict(LARGE).loss == pytest.approx(clean.predict(LARGE).loss, rel=0.01)
    assert found.notes[0].startswith(f"suspect: the loss of run 'sw-5' ({value})")
    assert not any("identified" in note for note in (*clean.notes, *found.notes))
    assert 0.8 < _width(found) / _width(least) < 1.25
    assert found.provenance["observations"] == 16
    assert found.range == clean.range


def test_clean_runs_have_no_suspect():
    assert not any("suspect" in note for note in fit(bs.laws.Chinchilla("sw"), _runs(), resamples=0).notes)


def test_many_far_losses_are_no_suspects():
    # A law that misses a quarter of the losses is wrong, and its interval has to show it.
    found = fit(bs.laws.Chinchilla("sw"), _runs({1: 8.0, 4: 7.5, 9: 9.0, 12: 8.2}))
    assert not any("suspect" in note for note in found.notes)


def test_least_squares_name_no_suspect():
    # The fit itself follows the spoilt run, so that its residuals say nothing about single runs.
    found = fit(bs.laws.Chinchilla("sw"), _runs({5: 8.5}), objective="squares", resamples=0)
    assert not any("suspect" in note for note in found.notes)


def test_a_joint_fit_sets_the_spoilt_run_aside():
    def joined(spoilt: dict[int, float] | None) -> Runs:
        return Runs.from_frame(pl.concat([_frame(spoilt, "sw"), _frame(None, "yo")]))

    clean, found = (
        fit_many("chinchilla", joined(spoilt), shared=("alpha",), resamples=60) for spoilt in (None, {5: 8.5})
    )
    assert found["sw"].notes[0].startswith("suspect: the loss of run 'sw-5'")
    assert not any("suspect" in note for note in found["yo"].notes)
    assert found["sw"].parameters["alpha"] == found["yo"].parameters["alpha"]
    ratio = math.log(_width(found["sw"]) / _width(clean["sw"]))
    assert abs(ratio) < 0.7
