"""Plans, expansions and decisions from the printed figures."""

import json
import math

import numpy as np
import pytest

from babelscale import published
from babelscale.errors import InputError
from babelscale.planning import decide, expand, plan
from babelscale.planning.expansion import EqualLoss


def strict(data) -> str:
    return json.dumps(data, allow_nan=False)


def test_one_language_is_its_printed_law():
    # K = 1 and U beyond reach: L = E + A / N^alpha + B / D^alpha, whose optimum is closed.
    best = plan(published=True, languages=["en"], compute=1e20)
    (row,) = published.table_c1("multilingual", "monolingual", "en")
    assert best.params == pytest.approx((row.A / row.B) ** (1 / (2 * row.alpha)) * math.sqrt(1e20 / 6), rel=1e-8)
    loss = row.E + row.A / best.params**row.alpha + row.B / best.total_tokens**row.alpha
    assert best.losses["en"].loss == pytest.approx(loss, rel=1e-9)


def test_it_marks_what_is_pooled_estimated_and_extrapolated():
    best = plan(published=True, languages=["sw", "yo", "ha"], compute=1e21)
    assert best.pooled == ("yo", "ha")
    assert set(best.estimated) == {"yo", "ha"}
    assert "pooled" in str(best)
    assert "35M est." in str(best)
    assert best.metric == published.LOSS_UNIT
    assert any("prints no law for" in note for note in best.notes)
    for low, loss, high in ((e.low, e.loss, e.high) for e in best.losses.values()):
        assert low < loss < high
    said = json.loads(strict(best.to_dict()))
    assert said["losses"]["yo"]["pooled"] is True
    assert said["languages"]["yo"]["unique_tokens_estimated"] is True
    assert best.extrapolation is None
    far = plan(published=True, languages=["en", "fr"], compute=1e26)
    assert far.extrapolation is not None
    assert "x above the study's most parameters" in far.extrapolation


def test_more_languages_price_every_one():
    alone = plan(published=True, languages=["fr"], compute=1e21)
    both = plan(published=True, languages=["fr", "ru"], compute=2e21)
    assert both.losses["fr"].loss > 0
    assert sum(both.shares.values()) == pytest.approx(1)
    assert 6 * both.params * both.total_tokens == pytest.approx(2e21)
    assert alone.weights == {"fr": 1.0}


def test_more_compute_is_never_worse_and_seeds_repeat():
    values = [plan(published=True, languages=["sw", "hi"], compute=c).objective for c in (1e18, 1e19, 1e21, 1e23)]
    assert (np.diff(values) < 0).all()
    one, two = (strict(plan(published=True, languages=["sw", "no"], compute=1e20).to_dict()) for _ in range(2))
    assert one == two


def test_given_unique_tokens_replace_the_table():
    best = plan(published=True, languages=["sw"], compute=1e21, unique_tokens={"sw": 1e13})
    assert best.unique_tokens["sw"] == 1e13
    assert best.estimated == ()
    assert best.epochs["sw"] < 1


def test_unknown_unique_tokens_are_said():
    from babelscale.languages import table

    code = next(code for code, language in table().items() if language.unique_tokens is None)
    best = plan(published=True, languages=[code], compute=1e19)
    assert any(f"unique tokens of {code} are unknown" in note for note in best.notes)
    assert strict(best.to_dict())


@pytest.mark.parametrize(
    ("languages", "said"),
    [
        (None, "no languages"),
        ([], "no languages"),
        (["xx"], "unknown language code 'xx'"),
        (["und"], "nothing is published"),
    ],
)
def test_bad_languages(languages, said):
    with pytest.raises(InputError, match=said):
        plan(published=True, languages=languages, compute=1e20)


@pytest.mark.parametrize("ratio", [2, 4, 8, 16])
def test_expansion_is_the_printed_one(ratio: int):
    found = expand(2, 2 * ratio)
    N, D = published.PRINTED_MULTIPLIERS[ratio]
    assert found.params.value == pytest.approx(N, abs=0.006)
    assert found.tokens.low - 0.005 <= D <= found.tokens.high + 0.005
    assert found.params.low < found.params.value < found.params.high
    strict(found.to_dict())


def test_the_frontier_keeps_the_loss_and_is_cheapest_in_the_middle():
    law, r = published.multilinguality(), 4.0
    w = law.beta / (law.alpha + law.beta)
    for point in expand(6, 24).frontier:
        s, t = point.params, point.tokens.value / r
        if math.isfinite(t):
            assert r**law.phi * w * s**-law.alpha + r**law.psi * (1 - w) * t**-law.beta == pytest.approx(1)
    best = law.multipliers(r)
    assert EqualLoss.of(law).tokens_multiplier(r, best.params) == pytest.approx(best.tokens)
    for s in (0.9, 0.99, 1.01, 1.1):
        assert best.params * s * EqualLoss.of(law).tokens_multiplier(r, best.params * s) > best.compute
    assert math.isinf(EqualLoss.of(law).tokens_multiplier(r, 0.05))


def test_expansion_of_a_given_model():
    found = expand(6, 24, params=2e9, tokens=3e11)
    assert found.then == pytest.approx(
        (2e9 * found.params.value, 3e11 * found.tokens.value, 3.6e21 * found.compute.value)
    )
    assert "2.8B parameters" in str(found)
    assert expand(50, 100).extrapolation is not None
    for languages, to in ((0, 4), (4, -1)):
        with pytest.raises(InputError, match="whole number"):
            expand(languages, to)
    with pytest.raises(InputError, match="go together"):
        expand(2, 4, params=1e9)
    with pytest.raises(InputError, match="tokens -1: should be a positive number"):
        expand(2, 4, params=1e9, tokens=-1)


@pytest.mark.parametrize(("tokens", "answer"), [(1e10, "finetune"), (2e11, "either"), (1e12, "pretrain")])
def test_decision_by_budget(tokens: float, answer: str):
    found = decide(2e9, tokens=tokens)
    assert found.answer == answer
    assert 144e9 < found.crossover_tokens < 283e9
    low, high = found.crossover_tokens_interval
    assert low < 144e9
    assert high > 283e9
    assert decide(2e9, compute=6 * 2e9 * tokens) == found
    strict(found.to_dict())


def test_a_language_with_its_own_crossover():
    assert decide(2e9, tokens=2e11, language="en").answer == "pretrain"
    assert decide(2e9, tokens=2e11, language="zh").answer == "finetune"
    assert decide(2e9, tokens=2e11, language="zh").crossover_tokens == pytest.approx(283e9)
    assert "extrapolated" in str(decide(1e11, tokens=1e12))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"params": 2e9}, "budget"),
        ({"params": 2e9, "tokens": 1e9, "compute": 1e20}, "budget"),
        ({"params": -1.0, "tokens": 1e9}, "params -1"),
        ({"params": 2e9, "tokens": math.inf}, "tokens inf"),
        ({"params": 2e9, "tokens": 1e9, "language": "qq"}, "unknown language code"),
    ],
)
def test_bad_decisions(arguments, said):
    with pytest.raises(InputError, match=said):
        decide(**arguments)
