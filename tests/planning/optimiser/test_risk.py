"""Risk measures: the worst scenario, the worst tail, and the weights of their dual."""

import numpy as np
import pytest

from babelscale.planning.optimiser.risk import RiskMeasure


def test_the_tail_is_what_it_says():
    values = np.random.default_rng(0).normal(size=(3, 20))
    weights = np.ones((3, 20))
    outer = RiskMeasure(np.arange(20), 1 / (0.2 * 20))
    np.testing.assert_allclose(outer.value(weights, values), np.sort(values)[:, -4:].mean(1))
    np.testing.assert_allclose(RiskMeasure(np.arange(20), 2.0).value(weights, values), values.max(1))
    # The smooth one tends to it, and its multipliers are the dual's: they sum to one and lie under kappa.
    smooth = outer.value(weights, values, np.full(3, 1e-9))
    np.testing.assert_allclose(smooth, outer.value(weights, values), atol=1e-6)
    q = outer.multipliers(weights, values, np.full(3, 1e-9))
    np.testing.assert_allclose(q.sum(1), 1)
    assert (q <= outer.kappa + 1e-9).all()
    np.testing.assert_allclose((q * values).sum(1), outer.value(weights, values), atol=1e-6)


@pytest.mark.parametrize("kappa", [2.0, 0.5, 0.05])
@pytest.mark.parametrize("mu", [1e-2, 1e-6, 1e-10])
def test_weights_of_the_tail_sum_to_one(kappa: float, mu: float):
    outer, f = RiskMeasure(np.arange(40), kappa), np.random.default_rng(0).uniform(0.5, 3, (30, 40))
    z = outer._z(f, np.full(30, mu))
    q, _ = outer._q(f - z[:, None], np.full((30, 1), mu))
    np.testing.assert_allclose(q.sum(1), 1, rtol=1e-5)
