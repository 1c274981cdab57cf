"""What every law must keep: true derivatives, vectorised parameters, a round trip through JSON, an honest domain."""

import json

import numpy as np
import pytest

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.errors import DomainError, InputError
from babelscale.laws import AdaptiveTransfer, Chinchilla, DataConstrained, Multilingual, Multilinguality, ScalingLaw
from babelscale.runs import Runs

ALLOCATION = Allocation(
    [1e7, 5e8, 2e9, 3e8],
    {"sw": [2e9, 4e9, 3e9, 1e8], "en": [2e9, 0, 1e9, 0], "fr": [0, 1e9, 3e9, 0], "de": [1e9, 0, 0, 5e8]},
    {"sw": 1e9, "en": 5e8, "fr": 2e9},
)
VALUES = {
    "E": 0.7, "A": 300.0, "B": 2000.0, "alpha": 0.34, "beta": 0.29, "lambda": 0.08, "R_D": 12.0, "R_N": 4.0,
    "gamma": 0.1, "phi": 0.11, "psi": -0.04, "tau_en": 0.3, "tau_fr": -0.1, "tau_other": 0.05,
}  # fmt: skip
LAWS = [
    Chinchilla("sw"),
    Chinchilla(),
    DataConstrained("sw"),
    DataConstrained("sw", sizes=(1e-3, 1.1)),
    Multilingual("sw"),
    Multilinguality("sw"),
    AdaptiveTransfer("sw", other=False),
    AdaptiveTransfer("sw"),
    AdaptiveTransfer("sw", ("en", "fr"), tied=False),
]
each_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.name}-{len(law.shape)}")
STEP = 1e-30


def parameters(law: ScalingLaw) -> dict[str, float]:
    return {name: VALUES[name] for name in law.parameter_names}


@each_law
def test_derivatives_match_complex_steps(law: ScalingLaw) -> None:
    x = law.prepare(ALLOCATION)
    at = {name: np.array(value) for name, value in parameters(law).items()}
    terms = law.terms(at, x)
    for parameter in law.shape:
        stepped = law.terms(at | {parameter.name: at[parameter.name] + 1j * STEP}, x)
        for name, term in terms.items():
            assert term.gradient is not None
            first = np.imag(stepped[name].value) / STEP
            np.testing.assert_allclose(term.gradient.get(parameter.name, 0 * first), first, rtol=1e-10, atol=1e-12)
            for other in law.shape:
                slope = stepped[name].gradient or {}
                second = np.imag(slope.get(other.name, np.zeros(1)) + 0 * stepped[name].value) / STEP
                a, b = parameter.name, other.name
                given = term.hessian.get((a, b), term.hessian.get((b, a), np.zeros(1)))
                np.testing.assert_allclose(given + 0 * second, second, rtol=1e-10, atol=1e-12)


@each_law
def test_parameters_may_be_many_draws(law: ScalingLaw) -> None:
    draws = {name: value * np.linspace(1, 1.1, 3)[:, None] for name, value in parameters(law).items()}
    together = law.loss(draws, ALLOCATION)
    assert together.shape == (3, 4)
    for k in range(3):
        alone = law.loss({name: value[k, 0] for name, value in draws.items()}, ALLOCATION)
        np.testing.assert_allclose(together[k], alone, rtol=1e-14)


@each_law
def test_one_allocation_gives_one_loss(law: ScalingLaw) -> None:
    one = Allocation(1e9, {"sw": 2e9, "en": 1e9}, {"sw": 1e9})
    assert law.loss(parameters(law), one).shape == ()


@each_law
def test_a_larger_model_never_predicts_a_higher_loss(law: ScalingLaw) -> None:
    sizes = np.geomspace(1e6, 1e12, 50)
    allocation = Allocation(sizes, {"sw": 2e9, "en": 1e9})
    assert (np.diff(law.loss(parameters(law), allocation)) <= 1e-12).all()


@each_law
def test_more_target_tokens_never_predict_a_higher_loss(law: ScalingLaw) -> None:
    allocation = Allocation(1e9, {"sw": np.geomspace(1e8, 1e12, 50), "en": 1e9}, {"sw": 1e9})
    assert (np.diff(law.loss(parameters(law), allocation)) <= 1e-12).all()


@each_law
def test_round_trip_through_json(law: ScalingLaw) -> None:
    assert laws.from_dict(json.loads(json.dumps(laws.to_dict(law)))) == law


@each_law
def test_every_parameter_has_bounds_and_a_meaning(law: ScalingLaw) -> None:
    assert list(law.bounds) == list(law.parameter_names)
    assert len(set(law.parameter_names)) == len(law.parameter_names)
    for parameter in law.parameters:
        assert parameter.meaning
        assert parameter.low < parameter.high
    for parameter in law.shape:
        assert parameter.starts
        assert all(parameter.low <= start <= parameter.high for start in parameter.starts)


@each_law
def test_a_missing_parameter_is_named(law: ScalingLaw) -> None:
    with pytest.raises(InputError, match="no value for E"):
        law.loss({name: 1.0 for name in law.parameter_names if name != "E"}, ALLOCATION)


@each_law
def test_no_tokens_is_outside_the_domain(law: ScalingLaw) -> None:
    with pytest.raises(DomainError):
        law.loss(parameters(law), Allocation(1e9, {"sw": 0.0, "en": 0.0}))


def test_unknown_names_are_errors_with_the_known_ones() -> None:
    runs = Runs.from_columns([1e6, 1e7], [1e6, 1e7], [3.0, 2.0], language="sw")
    with pytest.raises(InputError, match="adaptive-transfer"):
        laws.by_name("nonsense", "sw", runs)
    with pytest.raises(InputError, match="nonsense"):
        laws.from_dict({"name": "nonsense"})
    with pytest.raises(InputError, match="chinchilla"):
        laws.from_dict({"name": "chinchilla", "colour": "red"})
