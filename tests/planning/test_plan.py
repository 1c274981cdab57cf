"""plan() on laws with known numbers: closed forms, SciPy, and properties that any planner must have."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import babelscale as bs
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.laws import AdaptiveTransfer, Chinchilla, DataConstrained, Multilingual, Multilinguality
from babelscale.planning import plan

CHINCHILLA = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}


def chinchilla_fit(spread: float = 0.0, draws: int = 30, **kept) -> Fit:
    rng = np.random.default_rng(1)
    values = np.array(list(CHINCHILLA.values()))
    return Fit(
        law=Chinchilla(),
        parameters=CHINCHILLA,
        draws=values * np.exp(spread * rng.standard_normal((draws, 5))) if draws else np.empty((0, 5)),
        metric="nats_per_token",
        residual_sd=0.001,
        range=kept.get("range", {"params": (1e7, 1e10), "tokens": (1e9, 1e12)}),
    )


def transfer_fit(target: str, taus: dict[str, float], *, lam=0.1, spread=0.01, other=0.0, **numbers: float) -> Fit:
    law = AdaptiveTransfer(target, tuple(taus))
    p = {"E": 0.6, "A": 900.0, "B": 4000.0, "alpha": 0.42, "beta": 0.42, "lambda": lam} | numbers
    p |= {f"tau_{code}": tau for code, tau in taus.items()} | {"tau_other": other}
    rng = np.random.default_rng(0)
    values = np.array([p[name] for name in law.parameter_names])
    draws = values * np.exp(spread * rng.standard_normal((20, len(values))))
    draws[:, law.parameter_names.index("beta")] = draws[:, law.parameter_names.index("alpha")]
    return Fit(law=law, parameters=p, draws=draws, target=target, metric="bits_per_byte", residual_sd=0.002)


@pytest.mark.parametrize("compute", [1e15, 1e21, 5.76e23])
def test_chinchilla_closed_form(compute: float):
    # alpha A N^-alpha = beta B D^-beta with D = C / 6N.
    a, b = CHINCHILLA["alpha"], CHINCHILLA["beta"]
    G = (a * CHINCHILLA["A"] / (b * CHINCHILLA["B"])) ** (1 / (a + b))
    best = plan(chinchilla_fit(), compute=compute)
    assert best.params == pytest.approx(G * (compute / 6) ** (b / (a + b)), rel=1e-8)
    assert best.total_tokens == pytest.approx(compute / 6 / best.params, rel=1e-9)
    assert best.compute == compute


def scipy_best(fits: list[Fit], codes: list[str], unique: dict[str, float], compute: float, weights: dict[str, float]):
    """The least objective SciPy finds from several starts, through the laws' own code."""
    from scipy.optimize import minimize

    def objective(z: np.ndarray) -> float:
        N = math.exp(z[0])
        shares = np.exp(z[1:] - z[1:].max())
        D = shares / shares.sum() * compute / 6 / N
        a = Allocation(N, dict(zip(codes, D, strict=True)), unique)
        losses = [float(f.law.evaluate(f.parameters, a)) for f in fits]
        value = sum(weights[f.target or ""] * loss for f, loss in zip(fits, losses, strict=True))
        return value if math.isfinite(value) else 1e3

    rng = np.random.default_rng(0)
    best = math.inf
    for _ in range(6):
        start = np.concatenate([[math.log(compute / 6) / 2 + rng.normal()], rng.normal(size=len(codes))])
        best = min(
            best,
            float(
                minimize(
                    objective, start, method="Nelder-Mead", options={"maxiter": 4000, "fatol": 1e-12, "xatol": 1e-8}
                ).fun
            ),
        )
    return best


CASES = [
    ([transfer_fit("sw", {"en": 0.3, "fr": 0.05})], {"sw": 5e8, "en": 1e12, "fr": 1e11}),
    (
        [transfer_fit("sw", {"en": 0.3, "yo": 0.1}), transfer_fit("yo", {"en": 0.2, "sw": 0.4}, B=9000.0)],
        {"sw": 5e8, "yo": 3e7, "en": 1e12},
    ),
    ([transfer_fit("zh", {"en": -0.2}), transfer_fit("en", {"zh": -0.1})], {"zh": 1e9, "en": 1e10}),
    (
        [
            Fit(Multilingual("sw"), CHINCHILLA | {"gamma": 0.1}, target="sw"),
            Fit(Multilingual("en"), CHINCHILLA | {"gamma": 0.3}, target="en"),
        ],
        {},
    ),
    (
        [
            Fit(DataConstrained("sw", sizes=(0.02, 1.0)), CHINCHILLA | {"R_D": 15.4, "R_N": 5.3}, target="sw"),
            Fit(DataConstrained("en"), CHINCHILLA | {"R_D": 15.4}, target="en"),
        ],
        {"sw": 1e9, "en": 1e11},
    ),
    (
        [
            Fit(Multilinguality("sw"), CHINCHILLA | {"phi": 0.1, "psi": -0.04}, target="sw"),
            Fit(Multilinguality("en"), CHINCHILLA | {"A": 900.0, "phi": 0.1, "psi": -0.04}, target="en"),
        ],
        {},
    ),
]


@pytest.mark.parametrize(("fits", "unique"), CASES)
def test_never_worse_than_scipy_on_the_laws_own_code(fits: list[Fit], unique: dict[str, float]):
    best = plan(fits, compute=1e21, unique_tokens=unique)
    codes = list(best.tokens)
    theirs = scipy_best(fits, codes, unique, 1e21, dict(best.weights))
    assert best.objective <= theirs * (1 + 1e-8)
    # What is reported is what the laws say at the reported allocation.
    for fit in fits:
        loss = float(fit.law.loss(fit.parameters, best.allocation))
        assert best.losses[fit.target or ""].loss == pytest.approx(loss, rel=1e-12)


def test_other_languages_are_one_group():
    fit = transfer_fit("sw", {"en": 0.1}, other=0.3)
    best = plan(
        fit,
        compute=1e21,
        languages=["sw", "en", "fr", "de"],
        unique_tokens={"sw": 1e8, "en": 1e11, "fr": 1e9, "de": 1e9},
    )
    assert best.tokens["fr"] > 0
    assert best.tokens["de"] > 0


@settings(max_examples=15)
@given(st.floats(14, 24), st.floats(0.05, 3), st.floats(0, 1), st.floats(0, 1))
def test_more_compute_never_raises_the_objective(log_C: float, step: float, first: float, second: float):
    fits = [transfer_fit("sw", {"en": first}, spread=0), transfer_fit("en", {"sw": second}, B=2000.0, spread=0)]
    unique = {"sw": 1e8, "en": 1e11}
    less, more = (plan(fits, compute=10**c, unique_tokens=unique).objective for c in (log_C, log_C + step))
    assert more <= less * (1 + 1e-9)


@settings(max_examples=10)
@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_doubling_weights_changes_nothing(first: float, second: float):
    fits = [transfer_fit("sw", {"en": 0.2}), transfer_fit("en", {"sw": 0.1}, B=2000.0)]
    once, twice = (
        plan(fits, compute=1e20, unique_tokens={"sw": 1e8}, weights={"sw": k * first, "en": k * second}) for k in (1, 2)
    )
    assert once.params == pytest.approx(twice.params, rel=1e-9)
    assert once.tokens == pytest.approx(twice.tokens, rel=1e-6, abs=1.0)


def test_a_helper_without_worth_gets_nothing():
    best = plan(
        transfer_fit("sw", {"en": 0.0, "fr": 0.4}), compute=1e21, unique_tokens={"sw": 1e8, "en": 1e11, "fr": 1e10}
    )
    assert best.tokens["en"] == 0
    assert best.tokens["fr"] > 0
    assert best.epochs["sw"] > 1


def test_a_target_without_weight_gets_nothing():
    fits = [transfer_fit("sw", {"en": 0.0}), transfer_fit("en", {"sw": 0.0})]
    best = plan(fits, compute=1e20, weights={"sw": 1})
    assert best.shares == {"sw": 1.0, "en": 0.0}
    assert list(best.losses) == ["sw"]
    assert any("en has no weight" in note for note in best.notes)
    with pytest.raises(InputError, match="weight of 'en' is 0"):
        plan(published=True, languages=["sw", "en"], compute=1e20, weights={"sw": 1})


def test_a_target_with_next_to_no_text_keeps_its_tokens():
    fits = [transfer_fit("sw", {"en": 0.0}), transfer_fit("en", {"sw": 0.0})]
    best = plan(fits, compute=1e24, weights={"sw": 1e-3, "en": 1}, unique_tokens={"sw": 1e3, "en": 1e13})
    assert 0 < best.shares["sw"] < 1e-6
    assert best.epochs["sw"] > 1


def test_negative_transfer_is_said_and_searched():
    best = plan(CASES[2][0], compute=1e20)
    assert any("not convex" in note for note in best.notes)
    assert not any("not convex" in note for note in plan(CASES[0][0], compute=1e20).notes)


def test_hopeless_interference_is_refused():
    # Each language takes away twice what the other gives: no mixture has positive D_eff for both.
    fits = [transfer_fit("sw", {"en": -2.0}), transfer_fit("en", {"sw": -2.0})]
    with pytest.raises(InputError, match="effective tokens"):
        plan(fits, compute=1e20)


def test_intervals_come_from_the_draws():
    best = plan(chinchilla_fit(spread=0.02), compute=1e21)
    assert best.params_interval is not None
    low, high = best.params_interval
    assert low < best.params < high
    (loss,) = best.losses.values()
    assert loss.low < loss.loss < loss.high
    narrow = plan(chinchilla_fit(spread=0.002), compute=1e21)
    assert narrow.params_interval is not None
    assert narrow.params_interval[1] - narrow.params_interval[0] < high - low
    silent = plan(chinchilla_fit(draws=0), compute=1e21)
    assert silent.params_interval is None
    assert any("no draws" in note for note in silent.notes)
    assert "unknown" in str(silent)


def test_extrapolation_says_how_far():
    best = plan(chinchilla_fit(range={"params": (1e5, 1e6)}), compute=1e21)
    assert best.extrapolation is not None
    assert f"{best.params / 1e6:.3g}x above" in best.extrapolation
    assert plan(chinchilla_fit(), compute=1e21).extrapolation is None
    # What every target shares is said once.
    ends = {"params": (1e5, 1e6), "tokens": (1e5, 1e20)}
    fits = [
        Fit(Chinchilla(code), CHINCHILLA, target=code, range=ends | more)
        for code, more in (("sw", {}), ("en", {"tokens": (1e5, 1e6)}))
    ]
    said = plan(fits, compute=1e21).extrapolation or ""
    assert said.count("parameters") == 1
    assert said.endswith("for en")


def test_same_seed_same_bytes(tmp_path):
    one, two = (plan(CASES[2][0], compute=1e20, seed=3).save(tmp_path / f"{i}.json").read_bytes() for i in (1, 2))
    assert one == two
    said = json.loads(one, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert said["languages"]["zh"]["unique_tokens"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.json", "2.json"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"compute": -1.0}, "compute -1.0"),
        ({"compute": math.nan}, "compute nan"),
        ({"compute": 10.0}, "is too small to train a model"),
        ({"compute": 1e20, "languages": ["sw", "en", "xx"]}, "unknown language code 'xx'"),
        ({"compute": 1e20, "languages": ["en"]}, "target 'sw' is not among"),
        ({"compute": 1e20, "weights": {"en": 1.0}}, "weight of 'en', which is no target"),
        ({"compute": 1e20, "weights": {"sw": -1.0}}, "weight of 'sw' is -1"),
        ({"compute": 1e20, "weights": {"sw": 0.0}}, "weights sum to 0"),
        ({"compute": 1e20, "unique_tokens": {"sw": 0.0}}, "unique tokens of 'sw' are 0"),
        ({"compute": 1e20, "unique_tokens": {"fr": 1.0}}, "'fr', which is not planned"),
        ({"compute": 1e20, "published": True}, "both fits and published"),
    ],
)
def test_bad_arguments_name_the_constraint(arguments: dict, said: str):
    with pytest.raises(InputError, match=said):
        plan(transfer_fit("sw", {"en": 0.1}), **arguments)


def test_no_fits_and_twice_the_same_target_are_refused():
    with pytest.raises(InputError, match="nothing to plan from"):
        plan(compute=1e20)
    with pytest.raises(InputError, match="no fits"):
        plan([], compute=1e20)
    fit = transfer_fit("sw", {"en": 0.1})
    with pytest.raises(InputError, match="two fits of target 'sw'"):
        plan([fit, fit], compute=1e20)
    with pytest.raises(InputError, match="different losses"):
        plan([fit, Fit(Chinchilla("en"), CHINCHILLA, metric="nats_per_token", target="en")], compute=1e20)


def test_the_unique_tokens_of_the_runs_stand_in_where_none_are_given():
    N, D = (v.ravel() for v in np.meshgrid([1e6, 4e6, 1.6e7], [1e7, 4e7, 1.6e8]))
    loss = 1.5 + 400 / N**0.35 + 900 / D**0.35
    fit = bs.fit(bs.laws.Chinchilla(), bs.Runs.from_columns(N, D, loss, unique_tokens=3e7), resamples=20)
    assert dict(fit.unique_tokens) == {"und": 3e7}
    assert dict(bs.plan(fit, compute=1e17).unique_tokens) == {"und": 3e7}
    assert dict(bs.plan(fit, compute=1e17, unique_tokens={"und": 5e9}).unique_tokens) == {"und": 5e9}
