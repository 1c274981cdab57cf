"""A spec that is filled with rows is the chart built from them, and nothing but its data moves with them."""

import copy
import json

import pytest

from babelscale import charts
from babelscale.planning import Plan, plan

_PAIRS = {
    "tokens": (charts.plan_tokens, charts.plan_tokens.spec),
    "losses": (charts.plan_losses, charts.plan_losses.spec),
    "baselines": (charts.plan_baselines, charts.plan_baselines.spec),
}


@pytest.fixture(scope="module")
def made() -> list[Plan]:
    asked = (["sw"], ["sw", "yo", "ha"], ["en", "fr", "ar", "he", "nan"])
    return [
        plan(languages=codes, compute=compute, published=True, draws=20) for codes in asked for compute in (1e18, 1e22)
    ]


def shape(spec: dict) -> str:
    """A spec without its rows and its description."""

    def bare(part):
        if isinstance(part, dict):
            return {k: {"name": v["name"]} if k == "data" and "name" in v else bare(v) for k, v in part.items()}
        return [bare(each) for each in part] if isinstance(part, list) else part

    return json.dumps(bare({key: value for key, value in spec.items() if key != "description"}), sort_keys=True)


@pytest.mark.parametrize("name", _PAIRS)
def test_filled_specs_are_the_charts(made: list[Plan], name: str) -> None:
    chart, filled = _PAIRS[name]
    for each in made:
        if name != "baselines" or each.baselines:
            assert filled(each) == chart(each).to_dict(validate=False)


@pytest.mark.parametrize("name", _PAIRS)
def test_nothing_but_data_depends_on_the_rows(made: list[Plan], name: str) -> None:
    assert len({shape(_PAIRS[name][1](each)) for each in made if each.baselines}) == 1


def test_a_filled_spec_is_nobody_elses(made: list[Plan]) -> None:
    first = charts.plan_tokens.spec(made[0])
    kept = copy.deepcopy(first)
    charts.plan_tokens.spec(made[2])["layer"].clear()
    assert first == kept
    assert charts.plan_tokens.spec(made[0]) == kept
