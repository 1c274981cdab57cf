"""power: wider designs know more, what a design leaves open is named, and nothing is guessed in silence."""

import json
from functools import partial

import numpy as np
import pytest

from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import simulate
from babelscale.laws import AdaptiveTransfer, Chinchilla
from babelscale.reporting.design.power import Power, power

N = np.repeat(np.geomspace(1e7, 1e9, 6), 6)
D = N * np.tile(np.geomspace(5, 320, 6), 6)
quick = partial(power, tables=4, resamples=40)


@pytest.fixture(scope="module")
def quickstart() -> Power:
    return quick("quickstart", target="sv")


def test_a_design_file_is_told_what_it_would_know(quickstart: Power) -> None:
    assert (quickstart.law, quickstart.target) == ("adaptive-transfer", "sv")
    # Monolingual, bilingual, three sizes and two mixtures hold sv; the continued run does not start from scratch.
    assert (quickstart.runs, quickstart.fitted) == (21, 4)
    names = [p.name for p in quickstart.parameters]
    assert names[:6] == ["E", "A", "B", "alpha", "beta", "lambda"]
    assert "tau_other" in names
    assert quickstart.curve is not None
    assert quickstart.new_run is not None
    assert 0 < quickstart.curve <= quickstart.new_run * 1.2
    assert any("bytes a token" in text for text in quickstart.assumptions)
    assert any("rough law" in text for text in quickstart.assumptions)


def test_text_and_json_say_the_same(quickstart: Power) -> None:
    data = quickstart.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False))["not_identified"] == list(quickstart.not_identified)
    text = str(quickstart)
    assert "21 runs on sv" in text
    assert "4x the largest run's" in text
    for p in quickstart.parameters:
        assert p.name in text


def test_same_seed_same_answer() -> None:
    design = Allocation(N, {"sw": D})
    assert quick(design) == quick(design)
    assert quick(design) != quick(design, seed=9)


def test_more_runs_and_less_noise_give_narrower_intervals() -> None:
    design = Allocation(N, {"sw": D})
    more = Allocation(np.tile(N, 4), {"sw": np.tile(D, 4)})
    usual, larger, quieter = quick(design), quick(more), quick(design, noise=0.001)
    assert usual.curve is not None
    assert larger.curve is not None
    assert quieter.curve is not None
    assert larger.curve < 0.8 * usual.curve
    assert quieter.curve < 0.5 * usual.curve


def test_without_repeats_lambda_is_not_identified() -> None:
    found = quick(Allocation(N, {"sw": D}), AdaptiveTransfer("sw", other=False))
    assert "lambda" in found.not_identified
    held = next(p for p in found.parameters if p.name == "lambda")
    assert (held.low, held.high, held.open_share) == (None, None, 1.0)
    assert "no run repeats" in str(found)


def test_fixed_tokens_per_parameter_is_told() -> None:
    found = quick(Allocation(N, {"sw": 20 * N}), "chinchilla")
    assert any("tokens per parameter" in note for note in found.notes)


def test_a_design_that_cannot_fit_the_law_is_an_answer_and_not_an_error() -> None:
    found = quick(Allocation(np.full(36, 1e8), {"sw": D}), "chinchilla")
    assert (found.fitted, found.curve) == (0, None)
    assert found.not_identified == Chinchilla().parameter_names
    assert "same size" in str(found)


def test_numbers_of_the_law_may_be_given_and_published_ones_are_used_where_they_fit() -> None:
    given = quick(Allocation(N, {"sw": D}), "chinchilla", parameters={"E": 0.2, "alpha": 0.4})
    assumed = {p.name: p.assumed for p in given.parameters}
    assert (assumed["E"], assumed["alpha"]) == (0.2, 0.4)
    printed = quick(Allocation(5 * N, {"fr": 5 * D}), "chinchilla")
    assert {p.name: p.assumed for p in printed.parameters}["alpha"] == 0.45
    assert any("Table C.1 for fr" in text for text in printed.assumptions)


def test_a_table_of_runs_is_a_design_too() -> None:
    truth = {"E": 0.5, "A": 200.0, "B": 900.0, "alpha": 0.35, "beta": 0.35}
    runs = simulate(Chinchilla("sw"), truth, Allocation(N, {"sw": D}), seed=0)
    assert quick(runs, "chinchilla", parameters=truth) == quick(
        Allocation(N, {"sw": D}), "chinchilla", parameters=truth
    )


def test_unknown_names_are_errors() -> None:
    design = Allocation(N, {"sw": D, "en": D})
    with pytest.raises(InputError, match="no target language is given"):
        power(design)
    with pytest.raises(InputError, match="does not train on 'no'"):
        power(design, target="no")
    with pytest.raises(InputError, match="no law is called"):
        power(design, "chinchila", "sw")
    with pytest.raises(InputError, match="cannot have 'gamma'"):
        power(design, "chinchilla", "sw", parameters={"gamma": 0.1})
    with pytest.raises(InputError, match="law 'chinchilla' of 'sw'"):
        power(design, Chinchilla("sw"), "en")
    with pytest.raises(InputError, match="no design named"):
        power("quickstar", target="sv")
    with pytest.raises(InputError, match="unique tokens of 'nan'"):
        power("quickstart", target="sv", unique_tokens={"nan": 1e9})
    with pytest.raises(InputError, match="0 tables"):
        power(design, target="sw", tables=0)
