"""Adaptation scores of continued runs: the mean over tokens, its features, and what is refused."""

import numpy as np
import polars as pl
import pytest

from babelscale.errors import InputError
from babelscale.runs import Runs
from babelscale.transfer import Relations
from babelscale.transfer.adaptation import adaptation

CODES = ("da", "id", "sv")
# What 100 tokens of a source take off each target's loss of 3, at once, and what the rest of the run takes off more.
FIRST = np.array([[0.3, -0.2, 0.1], [0.0, 0.4, -0.1], [0.2, -0.3, 0.5]])
LATER = 0.2 * FIRST


def runs(seeds=(0, 1)) -> Runs:
    table, exposure, losses = [], [], []

    def loss(run, step, code, value, state):
        losses.append(
            {
                "run": run,
                "step": step,
                "language": code,
                "split": "validation",
                "lr_state": state,
                "nats": value,
                "tokens": 1.0,
            }
        )

    for seed in seeds:
        base = f"base-{seed}"
        table.append({"run": base, "params": 1e6, "tokens": 900.0, "seed": seed, "start": "scratch", "base": None})
        for code in CODES:
            exposure.append({"run": base, "step": 9, "language": code, "tokens": 300.0})
            loss(base, 9, code, 3.0, "decayed")
        for j, source in enumerate(CODES):
            run = f"{source}-{seed}"
            table.append(
                {"run": run, "params": 1e6, "tokens": 300.0, "seed": seed, "start": "checkpoint", "base": base}
            )
            for step in (1, 3):
                exposure.append({"run": run, "step": step, "language": source, "tokens": 100.0 * step})
                for i, code in enumerate(CODES):
                    gain = FIRST[i, j] + LATER[i, j] * (step - 1) / 2 + 0.01 * (-1) ** seed
                    loss(run, step, code, 3.0 - gain, "stable")
    return Runs.of(pl.DataFrame(table), pl.DataFrame(exposure), pl.DataFrame(losses))


def test_scores_are_means_over_tokens():
    found = adaptation(runs())
    assert found.languages == CODES
    assert found.tokens == 300
    # Flat up to the first checkpoint at 100 tokens, then a straight line to 300.
    np.testing.assert_allclose(found.values, FIRST + LATER * (200 / 2) / 300, atol=1e-12)
    np.testing.assert_allclose(found.sd, 0.02 / np.sqrt(2), atol=1e-12)
    assert np.isnan(adaptation(runs(seeds=(0,))).sd).all()


def test_features_of_a_pair():
    found = adaptation(runs())
    pairs, traits = found.features()
    np.testing.assert_array_equal(traits["own gain"], np.diag(found.values))
    assert pairs["own gain, source less target"][0, 2] == pytest.approx(found.values[2, 2] - found.values[0, 0])
    known = Relations.of(CODES, pairs=pairs, traits=traits)
    assert known.pairs["adaptation"][1, 2] == found.values[1, 2]


def test_runs_from_scratch_have_none():
    frame = runs()
    table = frame.table.with_columns(base=pl.lit(None, pl.String))
    with pytest.raises(InputError, match="no run continues"):
        adaptation(Runs.of(table, frame.exposure, frame.losses))
