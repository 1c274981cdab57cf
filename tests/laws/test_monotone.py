"""Every law is monotone where its equation is, and its derivatives are true, all over the parameters' ranges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelscale.allocation import Allocation
from babelscale.laws import (
    AdaptiveTransfer,
    Chinchilla,
    Crossover,
    DataConstrained,
    Multilingual,
    Multilinguality,
    ScalingLaw,
    effective_tokens,
)

LAWS = [
    Chinchilla("sw"),
    Chinchilla(),
    DataConstrained("sw"),
    DataConstrained(sizes=(1e-3, 1.1)),
    Multilingual("sw"),
    Multilinguality("sw"),
    AdaptiveTransfer("sw", other=False),
    AdaptiveTransfer("sw"),
    AdaptiveTransfer("sw", ("en", "fr"), tied=False),
]
each_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.name}-{law.target}-{len(law.shape)}")
UNIQUE = {"sw": 1e9, "en": 5e8, "fr": 2e9}
# Rounding alone may move a loss by this share of it.
SLACK = 1e-13


@st.composite
def parameters(draw: st.DrawFn, law: ScalingLaw) -> dict[str, float]:
    """Values in the range of each parameter; A and B such that every term is of the order of a loss."""
    found = {}
    for p in law.shape:
        low, high = (np.log(p.low), np.log(p.high)) if p.log else (p.low, p.high)
        value = draw(st.floats(low, high), label=p.name)
        found[p.name] = float(np.exp(value)) if p.log else value
    found |= {name: found[other] for name, other in law.ties.items()}
    E, a, b = (draw(st.floats(low, 4), label=name) for name, low in (("E", 0.0), ("A", 0.1), ("B", 0.1)))
    return found | {"E": E, "A": a * 1e8 ** found["alpha"], "B": b * 1e9 ** found["beta"]}


def falls(values: np.ndarray, scale: np.ndarray | float = 1.0) -> bool:
    return bool((np.diff(values) <= SLACK * np.abs(values[1:]) * scale).all())


def positive_gamma(p: dict[str, float]) -> dict[str, float]:
    return p | {name: abs(value) for name, value in p.items() if name == "gamma"}


@each_law
@settings(max_examples=30)
@given(st.data())
def test_loss_falls_with_size_and_with_the_targets_own_tokens(law: ScalingLaw, data: st.DataObject) -> None:
    # With gamma < 0 a larger share of the target would harm, and more of its tokens with it.
    p = positive_gamma(data.draw(parameters(law)))
    sizes = Allocation(np.geomspace(1e6, 1e12, 40), {"sw": 3e9}, UNIQUE)
    assert falls(law.loss(p, sizes))
    alone = Allocation(1e8, {"sw": np.geomspace(1e6, 1e13, 60)}, UNIQUE)
    assert falls(law.loss(p, alone))
    known = {name: max(value, 0.0) if name.startswith("tau") else value for name, value in p.items()}
    beside = Allocation(1e8, {"sw": np.geomspace(1e6, 1e13, 60), "en": 1e9, "de": 1e9}, UNIQUE)
    assert falls(law.loss(known, beside))


@each_law
@settings(max_examples=20)
@given(st.data())
def test_no_loss_is_below_its_floor_and_the_floor_is_reached(law: ScalingLaw, data: st.DataObject) -> None:
    p = positive_gamma(data.draw(parameters(law)))
    # Alone, so that p_t = 1 and K = 1; without repeats and excess parameters everything above E goes away.
    loss = law.loss(p, Allocation(np.geomspace(1e6, 1e12, 20), {"sw": np.geomspace(1e8, 1e14, 20)}, UNIQUE))
    assert (loss >= p["E"]).all()
    endless = Allocation(1e300, {"sw": 1e300})
    steep = p | dict.fromkeys(("alpha", "beta"), 1.0)
    if getattr(law, "sizes", None) is None:
        assert law.loss(steep, endless) == pytest.approx(p["E"], abs=1e-12)


@settings(max_examples=50)
@given(st.data())
def test_other_languages_help_where_tau_is_positive_and_harm_where_it_is_negative(data: st.DataObject) -> None:
    law = AdaptiveTransfer("sw", ("en",))
    p = data.draw(parameters(law)) | {"tau_other": 0.0}
    allocation = Allocation(1e8, {"sw": 1e12, "en": np.geomspace(1e6, 1e11, 40)}, {"en": 5e8})
    loss = law.loss(p, allocation)
    assert falls(loss if p["tau_en"] >= 0 else loss[::-1])


@settings(max_examples=50)
@given(st.data(), st.sampled_from([DataConstrained("sw"), AdaptiveTransfer("sw", other=False)]))
def test_more_unique_tokens_never_harm(data: st.DataObject, law: ScalingLaw) -> None:
    p = data.draw(parameters(law))
    assert falls(law.loss(p, Allocation(1e8, {"sw": 1e10}, {"sw": np.geomspace(1e7, 1e11, 60)})))


@settings(max_examples=50)
@given(st.floats(-0.5, 1.0), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_smaller_share_costs_by_the_sign_of_gamma(gamma: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    p = {"E": 1.0, "A": 50.0, "B": 300.0, "alpha": 0.3, "beta": 0.3, "gamma": gamma}
    share = np.array([low, high])
    loss = Multilingual("sw").loss(p, Allocation(1e8, {"sw": share * 1e10, "en": (1 - share) * 1e10}))
    assert falls(loss, 10) if gamma >= 0 else falls(loss[::-1], 10)


def test_more_languages_cost_capacity_and_lend_data() -> None:
    p = {"E": 1.0, "A": 50.0, "B": 300.0, "alpha": 0.3, "beta": 0.3, "phi": 0.11, "psi": -0.04}
    few, many = (
        {"sw": 1e9} | {code: np.full(2, 1e9) for code in codes} for codes in (("en",), ("en", "fr", "de", "ru"))
    )
    sizes = np.array([1e6, 1e6])
    law = Multilinguality("sw")
    capacity, data = p | {"B": 0.0}, p | {"A": 0.0}
    assert (law.loss(capacity, Allocation(sizes, many)) > law.loss(capacity, Allocation(sizes, few))).all()
    assert (law.loss(data, Allocation(sizes, many)) < law.loss(data, Allocation(sizes, few))).all()


def test_crossover_rises_with_size() -> None:
    law, p = Crossover(), {"coefficient": 1_113_708.0, "exponent": 1.65}
    sizes = np.geomspace(1e6, 1e12, 30)
    assert (np.diff(law.compute(p, sizes)) > 0).all()
    assert (np.diff(law.tokens(p, sizes)) > 0).all()


@settings(max_examples=100)
@given(st.floats(1e3, 1e14), st.floats(1e-6, 1e3))
def test_effective_tokens_are_continuous_rise_and_flatten(U: float, lam: float) -> None:
    step = 1e-9
    below, at, above = effective_tokens(U * np.array([1 - step, 1, 1 + step]), U, lam)
    assert at == U
    assert above - at == pytest.approx(at - below, rel=1e-5)  # slope 1 on both sides
    D = U * np.linspace(0.5, 50, 200)
    worth = effective_tokens(D, U, lam)
    assert (np.diff(worth) >= -1e-12 * U).all()
    assert (np.diff(worth, 2) <= 1e-9 * U).all()
    assert (worth <= U * (1 + 1 / lam) * (1 + 1e-12)).all()


@each_law
@settings(max_examples=30)
@given(st.data())
def test_derivatives_match_complex_steps_all_over_the_ranges(law: ScalingLaw, data: st.DataObject) -> None:
    p = data.draw(parameters(law))
    allocation = Allocation(
        [1e7, 5e8, 2e9, 3e8],
        {"sw": [2e10, 4e10, 3e12, 1e10], "en": [2e9, 0, 1e9, 0], "fr": [0, 1e9, 3e9, 0], "de": [1e9, 0, 0, 5e8]},
        UNIQUE,
    )
    x, at, step = law.prepare(allocation), {name: np.array(value) for name, value in p.items()}, 1e-30
    terms = law.terms(at, x)
    for a in law.shape:
        stepped = law.terms(at | {a.name: at[a.name] + 1j * step}, x)
        for name, term in terms.items():
            inside = np.isfinite(term.value)  # D_eff > 0
            assert term.gradient is not None
            first = np.imag(stepped[name].value) / step
            _close(term.gradient.get(a.name, 0 * first), first, inside)
            for b in law.shape:
                slope = (stepped[name].gradient or {}).get(b.name, np.zeros(1))
                second = np.imag(slope + 0 * stepped[name].value) / step
                given_ = term.hessian.get((a.name, b.name), term.hessian.get((b.name, a.name), np.zeros(1)))
                _close(given_ + 0 * second, second, inside)


def _close(ours: np.ndarray, theirs: np.ndarray, inside: np.ndarray) -> None:
    ours, theirs = (np.broadcast_to(value, inside.shape)[inside] for value in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12 * (1 + np.abs(theirs).max(initial=0)))
