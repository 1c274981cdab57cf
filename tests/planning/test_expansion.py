"""Expansion from a fit of one's own, the languages to add first, and plans as training configurations."""

import math
import tomllib

import numpy as np
import pytest

from babelscale import published
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.laws import Chinchilla, Multilinguality
from babelscale.planning import expand, plan, rank_candidates, training_design
from babelscale.planning.design import VOCABULARY, shape_for
from babelscale.planning.result import Plan
from babelscale.transfer import TransferMatrix

NUMBERS = {"E": 0.4, "A": 700.0, "B": 30.0, "alpha": 0.45, "beta": 0.15, "phi": 0.11, "psi": -0.04}


def fit(draws: int = 60) -> Fit:
    rng = np.random.default_rng(0)
    values = np.array([NUMBERS[name] for name in Multilinguality("sw").parameter_names])
    return Fit(
        Multilinguality("sw"), NUMBERS, draws=values * np.exp(0.02 * rng.standard_normal((draws, 7))), target="sw"
    )


def test_a_fit_gives_the_laws_own_multipliers_and_intervals_of_its_draws():
    found = expand(4, 16, fit=fit())
    assert found.params.value == pytest.approx(4 ** (0.11 / 0.45))
    assert found.tokens.value == pytest.approx(4 ** (1 - 0.04 / 0.15))
    assert found.compute.value == pytest.approx(found.params.value * found.tokens.value)
    assert found.params.low < found.params.value < found.params.high
    assert found.interval == "90 %"
    assert found.extrapolation is None


def test_the_frontier_of_a_given_model_keeps_its_loss():
    N, D, law = 1e9, 1e11, Multilinguality("sw")
    found = expand(4, 16, params=N, tokens=D, fit=fit(0))

    def loss(K: int, N: float, D_t: float) -> float:
        p = NUMBERS
        return p["E"] + p["A"] * K ** p["phi"] / N ** p["alpha"] + p["B"] * K ** p["psi"] / D_t ** p["beta"]

    assert law.name == "multilinguality"
    for point in found.frontier:
        if math.isfinite(point.tokens.value):
            assert loss(16, N * point.params, D * point.tokens.value / 16) == pytest.approx(loss(4, N, D / 4), rel=1e-9)
    assert found.seeds == 4
    assert "train both mixtures with 4 seeds" in str(found)
    with pytest.raises(InputError, match="of the chinchilla law"):
        expand(4, 8, fit=Fit(Chinchilla("sw"), {"E": 1, "A": 1, "B": 1, "alpha": 0.3, "beta": 0.3}))


def test_languages_are_added_best_first():
    values = np.array([[np.nan, 0.5, -0.2], [0.4, np.nan, 0.9], [-0.1, 0.8, np.nan]])
    bare = np.full((3, 3), np.nan)
    matrix = TransferMatrix(("sv", "da", "fi"), values, bare, bare, np.full((3, 3), "measured"))
    first, second = rank_candidates(matrix, ["sv"], rounding=0.05)
    assert (first.language, second.language) == ("da", "fi")
    assert (first.gives, first.gets) == (0.5, 0.4)
    assert (first.low, first.high) == pytest.approx((0.4, 0.5))
    # The second is judged beside both that are there then.
    assert second.gives == pytest.approx((-0.2 + 0.9) / 2)
    assert second.known == 4
    assert len(rank_candidates(published.transfer_matrix(), ["sw", "en"], ["fr", "yo"])) == 2
    with pytest.raises(InputError, match="none of xx"):
        rank_candidates(matrix, ["xx"])


def test_a_plan_is_a_design_that_the_laboratory_reads():
    from babelscale.study.design import parse
    from babelscale.study.spec import expand as runs_of

    best = plan(published=True, languages=["sw", "no", "yo"], compute=1e20, draws=0)
    text = training_design(best, name="mine")
    design = parse(text, "mine.toml")
    groups = runs_of(design, {}, "corpus", "tokenizer")
    (spec,) = groups["planned"]
    assert spec.mixture.shares == pytest.approx(best.shares, rel=1e-9)
    assert spec.shape.params == pytest.approx(best.params, rel=0.02)
    assert spec.tokens == pytest.approx(best.total_tokens, rel=1e-3)
    sampling = tomllib.loads(text)["analysis"]["sampling"]
    assert sampling["no"]["tokens"] == pytest.approx(best.tokens["no"], rel=1e-9)
    assert sum(row["rate"] for row in sampling.values()) == pytest.approx(1)
    assert sampling["yo"]["epochs"] == pytest.approx(best.epochs["yo"])
    with pytest.raises(InputError, match="no named language"):
        training_design(plan(Fit(Chinchilla(), {"E": 1, "A": 400, "B": 400, "alpha": 0.3, "beta": 0.3}), compute=1e20))


def test_shapes_come_close_to_any_size():
    for N in np.geomspace(2e7, 2e10, 25):
        s = shape_for(float(N))
        d = s["d_model"]
        built = VOCABULARY * d + s["layers"] * (4 * d * s["heads"] * s["d_head"] + 3 * d * s["d_ff"] + d)
        assert built == pytest.approx(N, rel=0.05)


def test_a_plan_is_read_back_as_it_was():
    best = plan(published=True, languages=["sw", "no"], compute=1e20, draws=20)
    again = Plan.from_dict(best.to_dict())
    assert again.to_dict() == best.to_dict()
    assert str(again) == str(best)
    assert again.certificate == best.certificate


def test_published_helpers_join_only_where_they_help():
    alone = plan(published=True, languages=["sw"], compute=1e23, draws=0)
    helped = plan(published=True, languages=["sw"], helpers=["ca", "en", "yo"], compute=1e23, draws=0)
    assert helped.objective <= alone.objective * (1 + 1e-12)
    assert any("not used" in note for note in helped.notes)
    assert any("tried best first" in note or "no published score" in note for note in helped.notes)
    id_, ms = (plan(published=True, languages=["ms"], helpers=h, compute=1e23, draws=0) for h in (None, ["id"]))
    assert ms.tokens.get("id", 0) > 0
    assert ms.objective < id_.objective


def test_the_cheapest_point_of_the_frontier_is_told():
    N, D = 1e9, 1e11
    found = expand(4, 16, params=N, tokens=D, fit=fit(0), sizes=np.geomspace(0.02, 5, 900))
    assert found.cheapest is not None
    known = [point.compute.value for point in found.frontier if math.isfinite(point.tokens.value)]
    assert found.cheapest.compute.value == pytest.approx(min(known), rel=1e-3)
    # The printed exponents take the model of now as compute-optimal: both points are one.
    printed = expand(4, 16)
    assert printed.cheapest is not None
    assert printed.cheapest.params == pytest.approx(printed.params.value)
    assert printed.to_dict()["cheapest"]["compute"]["value"] == pytest.approx(printed.compute.value)


def test_a_flat_draw_asks_for_more_than_a_float_holds_and_is_told_as_infinite():
    flat = NUMBERS | {"alpha": 0.005, "phi": 1.0}
    names = Multilinguality("sw").parameter_names
    steep = Fit(Multilinguality("sw"), NUMBERS, draws=np.array([[flat[name] for name in names]] * 3), target="sw")
    found = expand(1, 400, fit=steep)
    assert math.isinf(found.params.high)
    assert found.to_dict()["params"]["high"] is None
