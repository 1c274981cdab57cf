"""What the ATLAS study prints of its multilinguality and crossover laws, and two misprints, from the equations."""

import math

import numpy as np
import pytest

from babelscale import published
from babelscale.allocation import Allocation
from babelscale.laws import Crossover, Multilinguality

# The exponents of N and D_tot under K -> r K at equal loss, printed in section 5 to three decimals.
N_EXPONENT, D_EXPONENT, C_EXPONENT, ROUNDING = 0.243, 0.728, 0.970, 0.0005
PRINTED = {2: (1.18, 1.66), 4: (1.40, 2.74), 8: (1.66, 4.54), 16: (1.96, 7.52)}


def planted() -> dict[str, float]:
    """phi and psi as printed; alpha and beta follow from the printed exponents; E, A and B were not printed."""
    phi, psi = 0.11, -0.04
    return {
        "E": 0.4,
        "A": 700.0,
        "B": 30.0,
        "phi": phi,
        "psi": psi,
        "alpha": phi / N_EXPONENT,
        "beta": psi / (D_EXPONENT - 1),
    }


@pytest.mark.parametrize("ratio", PRINTED)
def test_the_printed_multipliers_keep_the_loss(ratio: int) -> None:
    law, p = Multilinguality("sw"), planted()
    N, D = 1e9, 2e10
    before = law.loss(p, Allocation(N, {"sw": D, "l1": D}))
    grown_N, grown_total = ratio**N_EXPONENT, ratio**D_EXPONENT
    own = D * grown_total / ratio
    languages = {"sw": own} | {f"l{k}": own for k in range(1, 2 * ratio)}
    after = law.loss(p, Allocation(N * grown_N, languages))
    assert float(after) == pytest.approx(float(before), rel=1e-12)
    # The printed multipliers are those of unrounded exponents, so they agree to their rounding and the exponents'.
    slack = ratio**ROUNDING
    for value, printed in zip((grown_N, grown_total), PRINTED[ratio], strict=True):
        assert value / slack - 0.005 <= printed <= value * slack + 0.005
    assert (published.PRINTED_MULTIPLIERS[ratio]) == PRINTED[ratio]


def test_the_compute_exponent_is_the_sum_of_the_others() -> None:
    assert pytest.approx(N_EXPONENT + D_EXPONENT, abs=2 * ROUNDING + 1e-12) == C_EXPONENT


def test_crossover_tokens_at_2b_lie_among_the_printed_ones() -> None:
    law = Crossover()
    for coefficient, exponent in ((1_113_708.0, 1.65), (10_283_128.0, 1.54)):
        tokens = law.tokens({"coefficient": coefficient, "exponent": exponent}, 2e9)
        assert 144e9 <= tokens <= 283e9, (coefficient, exponent)
    assert published.crossover().tokens(2e9) == pytest.approx(
        float(law.tokens({"coefficient": 1_113_708.0, "exponent": 1.65}, 2e9))
    )


def test_misprint_one_the_coefficient_of_one_law_with_the_exponent_of_the_other() -> None:
    # 10 283 128 N^1.65 stands in the study; with it, 2B models would cross at seven times the most tokens it prints.
    tokens = float(Crossover().tokens({"coefficient": 10_283_128.0, "exponent": 1.65}, 2e9))
    assert tokens / 283e9 > 6
    assert tokens / 144e9 > 10


def test_misprint_two_log_C_where_C_is_meant() -> None:
    # Read as it stands, "log(C) = 1 113 708 N^1.65" is a C with 10^21 digits and more, and no crossover at all.
    right_side = float(Crossover().compute({"coefficient": 1_113_708.0, "exponent": 1.65}, 2e9))
    assert right_side > 1e21
    with pytest.raises(OverflowError):
        math.exp(right_side)
    assert np.log10(right_side) == pytest.approx(21.4, abs=0.1)  # as C itself: 2.5e21 FLOPs
    assert right_side / (6 * 2e9) == pytest.approx(206e9, rel=0.005)
