"""One model or several: partitions, the split of compute and memory, and translation-style splits."""

import json
import math

import numpy as np
import pytest
from planning_cases import transfer_fit

from babelscale.errors import InputError
from babelscale.planning import partition_models, plan
from babelscale.planning.partition import by_linkage, every, neighbours, ordered, search
from babelscale.transfer import TransferMatrix

CODES = ["sw", "hi", "en", "fr"]
UNIQUE = {"sw": 1e10, "yo": 1e9, "en": 1e12}


def test_every_partition_is_there_once():
    assert [len(set(every([str(i) for i in range(k)]))) for k in range(1, 6)] == [1, 2, 5, 15, 52]
    assert len(list(every([str(i) for i in range(5)]))) == 52


def test_published_parts_are_plans_and_their_compute_adds_up():
    found = partition_models(published=True, languages=CODES, compute=1e21, draws=50)
    assert found.all
    assert found.tried == 14
    assert math.fsum(part.compute for part in found.parts) == pytest.approx(1e21)
    one = plan(published=True, languages=CODES, compute=1e21, draws=0, baselines=False)
    assert found.one.params == pytest.approx(one.params, rel=1e-6)
    assert found.gain[0] == pytest.approx(one.objective - found.objective, abs=1e-9)
    for part in found.parts:
        own = plan(published=True, languages=part.languages, compute=part.compute, draws=0, baselines=False)
        assert own.params == pytest.approx(part.params, rel=1e-6)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["kind"] == "modular"
    assert "models" in str(found)


def test_the_split_of_compute_is_the_best_of_many():
    found = partition_models(published=True, languages=["sw", "en"], compute=1e21, draws=0, models=2)
    each = []
    for share in np.linspace(0.02, 0.98, 49):
        plans = [
            plan(published=True, languages=[code], compute=c, draws=0, baselines=False).objective
            for code, c in (("sw", share * 1e21), ("en", (1 - share) * 1e21))
        ]
        each.append(np.mean(plans))
    assert found.objective <= min(each) * (1 + 1e-7)
    assert found.objective == pytest.approx(min(each), rel=1e-4)


def test_the_same_memory_is_kept_and_costs():
    free = partition_models(published=True, languages=CODES, compute=1e21, draws=20)
    tight = partition_models(published=True, languages=CODES, compute=1e21, memory=True, draws=20)
    assert tight.memory == pytest.approx(tight.one.params)
    assert math.fsum(part.params for part in tight.parts) <= tight.one.params * (1 + 1e-6)
    assert tight.objective >= free.objective - 1e-9
    small = partition_models(published=True, languages=CODES, compute=1e21, memory=1e9, draws=0)
    assert small.one.params == pytest.approx(5e8, rel=1e-6)


def test_helpful_languages_stay_together_and_hindering_ones_part():
    def fits(tau: float):
        return [
            transfer_fit("sw", {"yo": tau, "en": 0.0}),
            transfer_fit("yo", {"sw": tau, "en": 0.0}, B=9000.0),
            transfer_fit("en", {"sw": 0.0, "yo": 0.0}),
        ]

    together = partition_models(fits(0.9), compute=1e20, unique_tokens=UNIQUE, draws=20)
    apart = partition_models(fits(-0.3), compute=1e20, unique_tokens=UNIQUE, draws=20)
    assert any({"sw", "yo"} <= set(part.languages) for part in together.parts)
    assert not any({"sw", "yo"} <= set(part.languages) for part in apart.parts)
    assert apart.gain[0] > together.gain[0]
    assert apart.answer == "several"


def test_a_larger_set_is_searched_guided_by_transfer():
    rng = np.random.default_rng(0)
    codes = [f"x-{k}" for k in range(8)]
    family = np.arange(8) % 2
    values = np.where(family[:, None] == family, 0.5, -0.5) + 0.01 * rng.standard_normal((8, 8))
    np.fill_diagonal(values, np.nan)
    bare = np.full((8, 8), np.nan)
    matrix = TransferMatrix(tuple(codes), values, bare, bare, np.full((8, 8), "measured"))
    best = ordered(frozenset(c for c, f in zip(codes, family, strict=True) if f == side) for side in (0, 1))
    assert best in by_linkage(codes, np.nan_to_num(values))
    assert any(len(p) == 3 for p in neighbours(best, codes, np.nan_to_num(values), None))

    def cost(partition) -> float:
        """Least for the two families, and more for every pair that parts wrongly."""
        where = {code: i for i, block in enumerate(partition) for code in block}
        label = np.array([where[code] for code in codes])
        return 1.0 + float(((label[:, None] == label) != (family[:, None] == family)).sum())

    found, tried, whole = search(codes, cost, matrix, None, 300)
    assert found == best
    assert not whole
    assert tried < 200
    blind, more, _ = search(codes, cost, None, None, 2000)
    assert blind == best
    assert more > tried


def test_translation_style_splits():
    pairs = partition_models(published=True, languages=CODES, compute=1e21, pivot="en", split="pairs", draws=20)
    assert [set(part.languages) for part in pairs.parts] == [{"en", "sw"}, {"en", "hi"}, {"en", "fr"}]
    assert math.fsum(part.compute for part in pairs.parts) == pytest.approx(1e21)
    hub = partition_models(published=True, languages=CODES, compute=1e21, pivot="en", split="hub", draws=20)
    assert [len(part.languages) for part in hub.parts] == [1, 4]
    assert hub.losses["en"][1] == pytest.approx(hub.parts[0].losses["en"])
    assert any("No law predicts the loss of a translated answer" in note for note in hub.notes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"languages": ["sw"]}, "one target needs one model"),
        ({"languages": CODES, "models": 5}, "models is 5"),
        ({"languages": CODES, "pivot": "en"}, "give pivot and split together"),
        ({"languages": CODES, "pivot": "yo", "split": "hub"}, "is not a target"),
        ({"languages": CODES, "memory": 10.0}, "is too small for a model"),
        ({"languages": CODES, "compute": -1.0}, "compute -1.0"),
    ],
)
def test_what_cannot_be_divided(arguments, said):
    with pytest.raises(InputError, match=said):
        partition_models(published=True, **({"compute": 1e21} | arguments))
