"""Designs whose numbers are too large to be meant, and UniMax mixtures whose caps cannot hold."""

import pytest

from babelscale import mixture
from babelscale.errors import InputError
from babelscale.study import cost, design

DESIGN = """
name = "small"
languages = ["sw", "el"]
[corpus]
source = "phrasebook"
bytes_per_language = 700_000
[recipe]
evaluations = 4
[sizes]
w = { layers = 1, heads = 2, d_model = 16, d_ff = 32, d_head = 8 }
[[groups]]
name = "first"
mixture = "uniform"
sizes = ["w"]
tokens = [4096]
"""
UNIMAX = """
[[groups]]
name = "capped"
mixture = "unimax"
max_epochs = 2
sizes = ["w"]
tokens = [{tokens}]
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("tokens = [4096]", "tokens = [inf]", r"small\.toml: groups\.0\.tokens.*finite"),
        ("tokens = [4096]", "tokens = [nan]", r"groups\.0\.tokens"),
        ("tokens = [4096]", "tokens = [1e300]", r"groups\.0\.tokens.*less than or equal to"),
        ("tokens = [4096]", f"steps = [{10**40}]", r"groups\.0\.steps"),
        ("evaluations = 4", "evaluations = 1e12", r"evaluations is 1000000000000"),
        ("evaluations = 4", "evaluations = inf", r"evaluations is inf"),
        ("evaluations = 4", "learning_rate = nan", r"learning_rate is nan"),
        ("evaluations = 4", f"batch_size = {10**400}", r"batch_size"),
        ("layers = 1", f"layers = {10**30}", r"sizes\.w\.layers"),
        ("d_ff = 32", f"d_ff = {10**300}", r"sizes\.w\.d_ff"),
        ("bytes_per_language = 700_000", f"bytes_per_language = {10**400}", r"corpus\.bytes_per_language"),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused_by_its_field(tmp_path, old: str, new: str, said: str):
    assert old in DESIGN
    path = tmp_path / "small.toml"
    path.write_text(DESIGN.replace(old, new))
    with pytest.raises(InputError, match=said):
        design.load(path)


def test_a_cap_that_cannot_hold_is_said_with_the_largest_budget():
    sizes, _ = cost.unique_tokens(design.parse(DESIGN, "small.toml"))
    most = 2 * sum(sizes.values())

    def said(tokens: float) -> list[str]:
        found = cost.estimate(design.parse(DESIGN + UNIMAX.format(tokens=tokens), "small.toml"))
        return [sentence for sentence in found.assumptions if "max_epochs" in sentence]

    assert said(0.999 * most) == []
    (sentence,) = said(1.5 * most)
    assert sentence.startswith("group 'capped'")
    assert f"the largest budget that fits is {most:.4g} tokens" in sentence


def test_the_largest_budget_is_where_the_first_cap_breaks():
    sizes = {"en": 1e9, "sw": 2e8, "yo": 5e7}
    for pinned in ({}, {"en": 0.05}, {"yo": 0.4}):
        most = mixture.unimax_budget(sizes, 3, pinned)
        for budget, holds in ((0.999 * most, True), (1.01 * most, False)):
            tokens = mixture.unimax(sizes, budget, 3, pinned).tokens(budget)
            assert all(tokens[code] <= 3 * sizes[code] * (1 + 1e-9) for code in sizes) is holds
