"""Each law against numbers that follow from its equation by hand or are printed in its paper."""

import numpy as np
import pytest

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.errors import DomainError, InputError
from babelscale.laws import AdaptiveTransfer, Chinchilla, Crossover, DataConstrained, Multilingual, Multilinguality
from babelscale.laws.data_constrained import optimum
from babelscale.runs import Runs

HOFFMANN = {"E": 1.6934, "A": 406.4, "B": 410.7, "alpha": 0.3392, "beta": 0.2849}
ATLAS = {"E": 0.5, "A": 50.0, "B": 800.0, "alpha": 0.3, "beta": 0.3, "lambda": 0.065}


def test_chinchilla_on_its_own_model() -> None:
    # 70e9 parameters, 1.4e12 tokens: 1.6934 + 406.4 / 70e9^.3392 + 410.7 / 1.4e12^.2849
    expected = 1.6934 + 406.4 / 70e9**0.3392 + 410.7 / 1.4e12**0.2849
    assert Chinchilla().loss(HOFFMANN, Allocation(70e9, {"und": 1.4e12})) == pytest.approx(expected, rel=1e-14)


def test_chinchilla_reads_its_target_or_all_tokens() -> None:
    allocation = Allocation(1e9, {"sw": 1e9, "en": 3e9})
    own = Chinchilla("sw").loss(HOFFMANN, allocation)
    assert own == Chinchilla().loss(HOFFMANN, Allocation(1e9, {"sw": 1e9}))
    assert Chinchilla().loss(HOFFMANN, allocation) == Chinchilla().loss(HOFFMANN, Allocation(1e9, {"x-all": 4e9}))


def test_data_constrained_follows_its_equation_in_R() -> None:
    p = HOFFMANN | {"R_D": 15.387756}
    U, epochs = 1e9, 4.0
    D = U + U * 15.387756 * (1 - np.exp(-(epochs - 1) / 15.387756))
    expected = Chinchilla().loss(HOFFMANN, Allocation(1e8, {"und": D}))
    assert DataConstrained().loss(p, Allocation(1e8, {"und": U * epochs}, {"und": U})) == pytest.approx(expected)


def test_excess_parameters_lose_their_worth() -> None:
    A, B, alpha, beta = 406.4, 410.7, 0.3392, 0.2849
    sizes = optimum(A, B, alpha, beta)
    law = DataConstrained(sizes=sizes)
    p = HOFFMANN | {"R_D": 15.387756, "R_N": 5.309743}
    best = sizes[0] * 1e9 ** sizes[1]
    # At N_opt(U), neither more parameters nor more tokens is the better use of a FLOP.
    assert alpha * A / best**alpha == pytest.approx(beta * B / 1e9**beta, rel=1e-12)
    small = Allocation(best / 2, {"und": 1e9}, {"und": 1e9})
    large = Allocation(best * 20, {"und": 1e9}, {"und": 1e9})
    assert law.loss(p, small) == pytest.approx(float(Chinchilla().loss(HOFFMANN, small)), rel=1e-13)
    assert law.loss(p, large) > Chinchilla().loss(HOFFMANN, large)


def test_half_the_share_costs_two_to_the_gamma() -> None:
    p = HOFFMANN | {"gamma": 0.2}
    all_own = Multilingual("sw").loss(p, Allocation(1e9, {"sw": 4e9}))
    half = Multilingual("sw").loss(p, Allocation(1e9, {"sw": 2e9, "en": 2e9}))
    assert half / all_own == pytest.approx(2**0.2, rel=1e-13)


def test_effective_tokens_of_adaptive_transfer() -> None:
    law = AdaptiveTransfer("sw", ("en",))
    allocation = Allocation(1e9, {"sw": 1e9, "en": 2e9, "fr": 3e9, "de": 1e9})
    p = ATLAS | {"tau_en": 0.25, "tau_other": -0.05}
    assert law.D_eff(p, allocation) == pytest.approx(1e9 + 0.5e9 - 0.2e9, rel=1e-14)
    repeated = Allocation(1e9, {"sw": 4e9, "en": 2e9}, {"sw": 1e9})
    saturated = laws.effective_tokens(4e9, 1e9, 0.065)
    assert law.D_eff(p, repeated) == pytest.approx(float(saturated) + 0.5e9, rel=1e-14)


def test_unique_tokens_of_the_rest_count_only_languages_present() -> None:
    law = AdaptiveTransfer("sw")
    p = ATLAS | {"tau_other": 1.0}
    present = Allocation(1e9, {"sw": 1e9, "en": 4e9}, {"en": 1e9})
    beside = Allocation(1e9, {"sw": 1e9, "en": 4e9, "fr": 0.0}, {"en": 1e9, "fr": 1e12})
    assert law.D_eff(p, beside) == law.D_eff(p, present)


def test_interference_can_leave_the_domain() -> None:
    law = AdaptiveTransfer("sw")
    with pytest.raises(DomainError, match="D_eff > 0"):
        law.loss(ATLAS | {"tau_other": -0.5}, Allocation(1e9, {"sw": 1e9, "en": 3e9}))


def test_adaptive_transfer_without_others_or_repeats_is_chinchilla() -> None:
    allocation = Allocation(1e9, {"sw": 1e9})
    p = HOFFMANN | {"lambda": 0.065}
    law = AdaptiveTransfer("sw", other=False, tied=False)
    assert law.loss(p, allocation) == Chinchilla("sw").loss(HOFFMANN, allocation)


def test_target_cannot_be_its_own_source() -> None:
    with pytest.raises(InputError, match="sources"):
        AdaptiveTransfer("sw", ("en", "sw"))


def test_multilinguality_counts_languages_with_tokens() -> None:
    law = Multilinguality("sw")
    p = HOFFMANN | {"phi": 0.11, "psi": -0.04}
    loss = law.loss(p, Allocation(1e9, {"sw": 1e9, "en": 1e9, "fr": 0.0, "de": 1e9}))
    expected = 1.6934 + 406.4 * 3**0.11 / 1e9**0.3392 + 410.7 * 3**-0.04 / 1e9**0.2849
    assert loss == pytest.approx(expected, rel=1e-13)


def test_crossover_of_the_published_law_at_2b() -> None:
    # ATLAS prints 144e9 (en) to 283e9 (zh) tokens at 2B parameters for C = 1 113 708 N^1.65.
    tokens = Crossover().tokens({"coefficient": 1_113_708, "exponent": 1.65}, 2e9)
    assert 144e9 < tokens < 283e9
    with pytest.raises(InputError, match="positive"):
        Crossover().compute({"coefficient": 1.0, "exponent": 1.0}, 0.0)


def test_by_name_takes_the_most_cosampled_sources() -> None:
    import polars as pl

    rows = [
        {"run": run, "params": 1e6, "tokens": 1e6, "language": code, "loss": 2.0}
        for run, codes in {"a": ["sw"], "b": ["sw", "en"], "c": ["sw", "en", "fr"]}.items()
        for code in codes
    ]
    runs = Runs.from_flat(pl.DataFrame(rows), "rows")
    law = laws.by_name("adaptive-transfer", "sw", runs)
    assert law == AdaptiveTransfer("sw", ("en", "fr"), other=False)
    for name in laws.LAWS:
        assert laws.by_name(name, "sw", runs).name == name
    with pytest.raises(InputError, match="crossover"):
        laws.by_name("crossover", "sw", runs)
