"""The general search against the certified path, closed forms and brute force."""

import math

import numpy as np
import pytest

from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.laws import AdaptiveTransfer, Coupled, CoupledTransfer, Farseer, ScalingLaw
from babelscale.planning import partition_models, plan

COMMON = {"lambda": 0.1, "tau_other": 0.05}
NUMBERS = {
    "sw": {"E": 0.6, "A": 900.0, "B": 4000.0, "alpha": 0.42, "beta": 0.42, "tau_en": 0.3, **COMMON},
    "en": {"E": 0.9, "A": 700.0, "B": 6000.0, "alpha": 0.4, "beta": 0.4, "tau_sw": 0.2, **COMMON},
}
COUPLED = {"E": 0.5, "A": 8.0, "alpha": 0.32, "beta": 0.39, "R": 6.0, "k": 0.4}
GIVEN = {"languages": ["sw", "en", "fr"], "unique_tokens": {"sw": 1e9, "en": 1e11, "fr": 1e11}}


class Hidden(AdaptiveTransfer):
    """Adaptive transfer without its separable form, so that the general search must plan it."""

    def separable(self, *asked: object) -> None:
        return None


class Real(Hidden):
    """The same in code that drops imaginary parts, so that complex steps cannot pass."""

    def prepare(self, allocation: Allocation):
        tokens = {code: np.real(D) for code, D in allocation.tokens.items()}
        unique = dict(allocation.unique_tokens)
        return super().prepare(Allocation(np.real(allocation.params), tokens, unique))


def fit(law: ScalingLaw, numbers: dict[str, float], draws: int = 6) -> Fit:
    values = np.array([numbers[name] for name in law.parameter_names])
    drawn = values * np.exp(0.01 * np.random.default_rng(0).standard_normal((draws, len(values))))
    return Fit(law=law, parameters=numbers, target=law.target, draws=drawn, metric="bits_per_byte", residual_sd=0.002)


def pair(kind: type[AdaptiveTransfer]) -> list[Fit]:
    return [fit(kind("sw", ("en",)), NUMBERS["sw"]), fit(kind("en", ("sw",)), NUMBERS["en"])]


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ({"compute": 1e20}, 1e-9),
        ({"compute": 1e20, "max_epochs": 3}, 1e-9),
        ({"compute": 1e20, "params": 3e8, "min_share": {"fr": 0.1}}, 1e-9),
        ({"compute": 1e20, "inference_tokens": 1e11}, 1e-9),
        ({"compute": 1e20, "objective": "worst"}, 1e-6),
        ({"compute": 1e20, "objective": "regret", "draws": 0}, 1e-5),
        ({"compute": 1e20, "robust": "mean", "draws": 6}, 1e-9),
        ({"compute": 1e20, "robust": "cvar", "draws": 6}, 1e-4),
        ({"compute": 1e20, "ladder": True, "draws": 2}, 1e-9),
        ({"loss": 1.3, "draws": 0}, 1e-9),
        ({"params": 1e9, "draws": 0}, 1e-6),
        ({"tokens": 2e10, "draws": 0}, 1e-6),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_the_search_finds_what_the_certified_path_finds(asked: dict, near: float) -> None:
    certified, searched = (plan(pair(kind), **asked, **GIVEN, baselines=False) for kind in (AdaptiveTransfer, Hidden))
    assert searched.objective == pytest.approx(certified.objective, rel=near)
    assert searched.params == pytest.approx(certified.params, rel=1e-3)
    assert searched.compute == pytest.approx(certified.compute, rel=1e-5)
    for code, share in certified.shares.items():
        assert searched.shares[code] == pytest.approx(share, abs=1e-3)
    assert searched.certificate is not None
    assert searched.certificate.kind == "search"
    assert searched.certificate.bound == -math.inf
    assert certified.certificate is not None
    assert certified.certificate.kind != "search"


def test_intervals_and_baselines_are_those_of_the_certified_path() -> None:
    certified, searched = (plan(pair(kind), compute=1e20, **GIVEN) for kind in (AdaptiveTransfer, Hidden))
    assert searched.params_interval == pytest.approx(certified.params_interval, rel=1e-3)
    theirs = {baseline.name: baseline.loss[0] for baseline in certified.baselines}
    ours = {baseline.name: baseline.loss[0] for baseline in searched.baselines}
    assert set(theirs) - set(ours) == {"monolingual"}
    assert ours == pytest.approx({name: theirs[name] for name in ours}, abs=1e-6)


def test_a_law_without_complex_numbers_is_planned_by_differences() -> None:
    certified, searched = (plan(pair(kind), compute=1e20, **GIVEN, draws=0) for kind in (AdaptiveTransfer, Real))
    assert searched.objective == pytest.approx(certified.objective, rel=1e-7)


def test_a_search_is_repeatable() -> None:
    assert plan(pair(Hidden), compute=1e20, **GIVEN).to_dict() == plan(pair(Hidden), compute=1e20, **GIVEN).to_dict()


@pytest.mark.parametrize("compute", [1e19, 1e22])
def test_the_coupled_law_keeps_the_closed_form_of_its_bracket(compute: float) -> None:
    # (N^-alpha + R D^-beta)^k is least where the bracket is: alpha N^-alpha = beta R D^-beta with D = C / 6N.
    p = COUPLED
    best = plan(fit(Coupled("sw"), p), compute=compute, draws=0)
    N = (p["alpha"] / (p["beta"] * p["R"]) * (compute / 6) ** p["beta"]) ** (1 / (p["alpha"] + p["beta"]))
    assert best.params == pytest.approx(N, rel=1e-5)
    law = Coupled("sw")
    assert best.objective == pytest.approx(float(law.loss(p, Allocation(N, {"sw": compute / 6 / N}))), rel=1e-10)


def test_coupled_transfer_trains_helpers_and_farseer_is_planned() -> None:
    p = COUPLED | {"lambda": 0.1, "tau_en": 0.3, "tau_other": 0.0}
    law = CoupledTransfer("sw", ("en",))
    best = plan(fit(law, p), compute=1e20, unique_tokens={"sw": 1e8}, languages=["sw", "en"], draws=0)
    assert 0.1 < best.shares["en"] < 0.999
    X, grid = best.total_tokens, np.linspace(0.001, 0.999, 999)
    tokens = {"sw": X * grid, "en": X * (1 - grid)}
    assert best.objective <= law.loss(p, Allocation(best.params, tokens, {"sw": 1e8})).min() * (1 + 1e-9)
    numbers = {
        "E": 0.9,
        "B": 40,
        "a1": -0.25,
        "alpha": -0.15,
        "b1": -0.9,
        "a2": 0.3,
        "beta": -0.2,
        "a3": 0.25,
        "gamma": -0.2,
    }
    best = plan(fit(Farseer("sw"), numbers), compute=1e20, draws=0)
    N = np.geomspace(1e6, 1e13, 20001)
    loss = Farseer("sw").loss(numbers, Allocation(N, {"sw": 1e20 / 6 / N}))
    assert best.objective == pytest.approx(loss.min(), rel=1e-8)


def test_laws_of_both_kinds_are_planned_together() -> None:
    both = [fit(Coupled("sw"), COUPLED), fit(AdaptiveTransfer("en", ("sw",)), NUMBERS["en"])]
    best = plan(both, compute=1e20, draws=4)
    assert best.certificate is not None
    assert best.certificate.kind == "search"
    assert set(best.losses) == {"sw", "en"}


def test_several_models_need_the_separable_form() -> None:
    with pytest.raises(InputError, match="law 'coupled' has no separable form"):
        partition_models([fit(Coupled("sw"), COUPLED), fit(Coupled("en"), COUPLED)], compute=1e20)


def test_what_no_compute_reaches_is_refused() -> None:
    with pytest.raises(InputError, match=r"no compute reaches loss 0\.4"):
        plan(fit(Coupled("sw"), COUPLED), loss=0.4, draws=0)
