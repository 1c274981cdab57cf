"""Every way to ask: compute, a loss, a size, tokens, a ladder, memory, inference, bounds; and what is refused."""

import math

import numpy as np
import pytest
from planning_cases import transfer_fit

from babelscale import published
from babelscale.errors import InputError
from babelscale.formatting import count
from babelscale.planning import plan

UNIQUE = {"sw": 5e8, "en": 1e12}
FITS = [transfer_fit("sw", {"en": 0.2}), transfer_fit("en", {"sw": 0.1}, B=2000.0)]
QUICK = {"draws": 0, "baselines": False, "unique_tokens": UNIQUE}


def test_every_way_to_ask_for_one_plan_gives_it():
    best = plan(FITS, compute=1e21, **QUICK)
    asked = [
        {"loss": best.objective},
        {"params": best.params},
        {"tokens": best.total_tokens},
        {"compute": 1e21, "params": best.params},
        {"compute": 1e21, "tokens": best.total_tokens},
        {"params": best.params, "tokens": best.total_tokens},
        {"loss": best.objective, "params": best.params},
        {"loss": best.objective, "tokens": best.total_tokens},
    ]
    for question in asked:
        found = plan(FITS, **question, **QUICK)
        assert found.compute == pytest.approx(1e21, rel=1e-6), question
        assert found.params == pytest.approx(best.params, rel=1e-5), question
        assert found.objective == pytest.approx(best.objective, rel=1e-8), question
        assert found.given == " and ".join(name for name in ("compute", "params", "tokens", "loss") if name in question)


def test_a_loss_out_of_reach_names_the_nearest():
    with pytest.raises(InputError, match=r"no compute reaches loss .*: the lowest loss of the laws is") as refused:
        plan(FITS, loss=0.5, **QUICK)
    nearest = float(str(refused.value).split("laws is ")[1].split()[0])
    found = plan(FITS, loss=nearest * 1.01, **QUICK)
    assert found.objective == pytest.approx(nearest * 1.01, rel=1e-6)


def test_compute_for_a_loss_has_an_interval_and_it_is_unlimited_where_draws_never_reach_it():
    at = plan(FITS, compute=1e21, **QUICK).objective
    near = plan(FITS, loss=at, unique_tokens=UNIQUE, draws=20, baselines=False)
    assert near.compute_interval is not None
    low, high = near.compute_interval
    assert low < near.compute < high
    far = plan(FITS, loss=0.619, unique_tokens=UNIQUE, draws=20, baselines=False)
    assert far.compute_interval is not None
    assert math.isinf(far.compute_interval[1])
    assert any("no compute reaches the loss" in note for note in far.notes)
    assert far.to_dict()["compute_interval"][1] is None


def test_a_ladder_is_searched_whole():
    sizes = [scale.params for scale in published.model_scales()]
    best = plan(FITS, compute=1e20, ladder=True, **QUICK)
    each = [plan(FITS, compute=1e20, params=float(size), **QUICK).objective for size in sizes]
    assert best.params == pytest.approx(sizes[int(np.argmin(each))])
    assert best.objective == pytest.approx(min(each), rel=1e-9)
    again = plan(FITS, loss=best.objective, ladder=True, **QUICK)
    assert again.compute == pytest.approx(1e20, rel=1e-6)
    drawn = plan(FITS, compute=1e20, ladder=[1e8, 1e9], unique_tokens=UNIQUE, draws=10, baselines=False)
    assert drawn.params_interval is not None
    assert {round(x) for x in drawn.params_interval} <= {10**8, 10**9}


def test_serving_makes_models_smaller_and_is_paid_for():
    free, served = (plan(FITS, compute=1e21, inference_tokens=D, **QUICK) for D in (0.0, 1e12))
    assert served.params < 0.7 * free.params
    spent = 6 * served.params * served.total_tokens + 2 * served.params * 1e12
    assert spent == pytest.approx(1e21, rel=1e-9)
    assert served.certificate is not None
    assert served.certificate.gap < 1e-6
    with pytest.raises(InputError, match="is not enough for serving"):
        plan(FITS, compute=1e16, inference_tokens=1e14, **QUICK)


def test_memory_bounds_the_size():
    free = plan(FITS, compute=1e21, **QUICK)
    half = plan(FITS, compute=1e21, memory=11 * free.params, **QUICK)
    assert half.params == pytest.approx(free.params / 2, rel=1e-3)
    assert any("fills the memory" in note for note in half.notes)
    whole = plan(FITS, compute=1e21, memory=2 * free.params * 1.5, bytes_per_param=2, **QUICK)
    assert whole.params == pytest.approx(free.params, rel=1e-3)
    with pytest.raises(InputError, match="no size of the ladder fits"):
        plan(FITS, compute=1e21, memory=1e6, ladder=[1e8], **QUICK)


@pytest.mark.parametrize(
    ("bound", "kept"),
    [
        ({"max_epochs": 2}, lambda p: max(p.epochs.values()) <= 2 * (1 + 1e-6)),
        ({"max_epochs": {"sw": 3}}, lambda p: p.epochs["sw"] <= 3 * (1 + 1e-6)),
        ({"min_tokens": {"sw": 2e10}}, lambda p: p.tokens["sw"] >= 2e10 * (1 - 1e-6)),
        ({"max_tokens": 1e9}, lambda p: max(p.tokens.values()) <= 1e9 * (1 + 1e-6)),
        ({"min_share": {"sw": 0.6}}, lambda p: p.shares["sw"] >= 0.6 * (1 - 1e-6)),
        ({"max_share": {"en": 0.2}}, lambda p: p.shares["en"] <= 0.2 * (1 + 1e-6)),
        ({"min_share": {"sw": 0.3}, "max_share": {"sw": 0.3}}, lambda p: abs(p.shares["sw"] - 0.3) < 1e-6),
        (
            {"max_epochs": {"sw": 2}, "min_share": {"sw": 0.1}, "objective": "worst"},
            lambda p: p.epochs["sw"] <= 2.00001,
        ),
    ],
)
def test_bounds_are_kept_and_certified(bound, kept):
    best = plan(FITS, compute=1e21, **bound, **QUICK)
    assert kept(best)
    assert best.certificate is not None
    assert best.certificate.gap < 1e-6
    free = plan(FITS, compute=1e21, objective=bound.get("objective", "mean"), **QUICK)
    assert best.objective >= free.objective * (1 - 1e-9)


def test_bounds_that_leave_compute_unspent_say_so():
    best = plan(FITS, compute=1e24, params=1e9, max_tokens=1e9, **QUICK)
    assert best.total_tokens == pytest.approx(2e9, rel=1e-5)
    assert best.compute == pytest.approx(6 * 1e9 * 2e9, rel=1e-4)
    assert any("unspent" in note for note in best.notes)


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        ({}, "no budget", "compute, loss, params or tokens"),
        ({"compute": 1e21, "loss": 0.9}, "leave nothing to plan", "one of"),
        ({"compute": 1e21, "params": 1e9, "tokens": 1e9}, "leave nothing to plan", "one of"),
        ({"params": -1.0}, "params -1.0: should be a positive number", "2e9"),
        ({"loss": math.inf}, "loss inf: should be a finite number", "0.95"),
        ({"compute": 1e21, "params": 1e9, "ladder": True}, "a ladder is for", "omit params"),
        ({"compute": 1e21, "min_tokens": {"sw": 1e19}}, "is not enough for min_tokens", "nearest feasible compute"),
        ({"compute": 1e21, "min_tokens": {"sw": 1e10}, "max_epochs": 2}, "min_tokens of 'sw'", "it can be is 1e+09"),
        ({"compute": 1e21, "min_share": {"sw": 0.7, "en": 0.7}}, "sum to 1.4", "divided by 1.4"),
        ({"compute": 1e21, "max_share": 0.4}, "sum to 0.8", "divided by 0.8"),
        ({"compute": 1e21, "min_share": {"sw": 0.5}, "max_share": {"sw": 0.4}}, "above its max_share", "0.4"),
        ({"compute": 1e21, "max_share": {"sw": 1.4}}, "max_share of 'sw'", "between 0 and 1"),
        ({"compute": 1e21, "max_epochs": {"fr": 2}}, "'fr', which is not planned", "sw"),
        ({"compute": 1e21, "max_tokens": {"sw": 0.0}}, "max_tokens of 'sw'", "remove the language"),
        ({"compute": 1e21, "memory": 10.0}, "is too small for a model", "bytes"),
        ({"compute": 1e21, "params": 1e9, "memory": 1e9}, "params 1e+09", "fit"),
        ({"tokens": 1e9, "compute": 1e21, "min_tokens": {"sw": 2e9}}, "more than tokens", "2e+09"),
        ({"compute": 1e21, "helpers": ["fr"]}, "helpers are for published", "among the languages"),
        ({"compute": 1e21, "draws": -1}, "draws -1", "200"),
        ({"compute": 1e21, "objective": "best"}, "objective 'best'", "regret"),
    ],
)
def test_what_cannot_be_planned_names_the_constraint(arguments, said, hint):
    with pytest.raises(InputError) as refused:
        plan(FITS, unique_tokens=UNIQUE, **arguments)
    assert said in refused.value.message
    assert hint in (refused.value.hint or "")


def test_nearest_feasible_values_are_feasible():
    with pytest.raises(InputError) as refused:
        plan(FITS, compute=1e15, params=1e8, min_tokens={"sw": 1e9}, **QUICK)
    compute = float((refused.value.hint or "").split("compute is ")[1].split()[0])
    assert plan(FITS, compute=compute, params=1e8, min_tokens={"sw": 1e9}, **QUICK).tokens["sw"] >= 1e9 * (1 - 1e-6)


def test_fits_of_another_vocabulary_are_refused():
    from dataclasses import replace

    one, two = (replace(fit, provenance={"tokenizer": name}) for fit, name in zip(FITS, "ab", strict=True))
    with pytest.raises(InputError, match="different vocabularies: 'sw' was fitted under tokenizer a, 'en' under b"):
        plan([one, two], compute=1e21)
    assert plan([one, replace(two, provenance={"tokenizer": "a"})], compute=1e21, **QUICK).params > 0


def test_counts_are_readable():
    assert count(1.5e9) == "1.5B"
