"""The plan of a study: its cost, and what its runs would tell of each law."""

import json

import pytest

from babelscale.errors import InputError
from babelscale.laws import LAWS
from babelscale.reporting.design.power import power
from babelscale.reporting.design.study_forecast import forecast_study
from babelscale.study import load


def test_the_cost_alone_simulates_nothing():
    found = forecast_study("quickstart", device="h200")
    assert found.power == ()
    assert found.to_dict()["power"] == []
    assert str(found) == str(found.estimate)


def test_power_tells_each_law_of_the_design():
    found = forecast_study("quickstart", power=True, tables=1, only=["scaling", "uniform-6"])
    assert [told.law for told in found.power] == list(LAWS)
    assert {told.target for told in found.power} == {"sv"}
    assert found.estimate.runs == 15
    by_law = {told.law: told for told in found.power}
    assert by_law["multilinguality"].runs == 15
    # Runs that hardly repeat their text say nothing of what repeats are worth.
    assert "R_D" in by_law["data-constrained"].not_identified
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_target_that_is_not_trained_is_refused():
    with pytest.raises(InputError, match="does not train on 'yo'"):
        forecast_study("quickstart", power=True, target="yo", tables=1)


def test_runs_with_a_tokenizer_of_their_own_are_not_mixed_with_the_others():
    design = load("quickstart")
    own = design.groups[0].model_copy(update={"name": "own", "tokenizer": "own"})
    both = design.model_copy(update={"groups": (*design.groups, own)})
    known = dict.fromkeys(design.languages, 3e5)
    found = power(both, "chinchilla", "sv", unique_tokens=known, tables=1, resamples=2)
    assert found.runs == power(design, "chinchilla", "sv", unique_tokens=known, tables=1, resamples=2).runs
    assert f"{len(own.languages or ())} runs with their own tokenizer are left out." in found.assumptions
