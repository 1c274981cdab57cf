from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelscale.errors import InputError
from babelscale.training.recipe import Recipe


@given(st.integers(1, 5000))
def test_the_rate_warms_up_stays_and_decays(steps: int):
    recipe = Recipe(warmup_steps=20)
    warm, decay = recipe.phases(steps)
    rates = [recipe.rate(step, steps) for step in range(steps)]
    assert all(0 < rate <= recipe.learning_rate for rate in rates)
    assert rates[:warm] == sorted(rates[:warm])
    assert set(rates[warm:decay]) <= {recipe.learning_rate}
    assert rates[decay:] == sorted(rates[decay:], reverse=True)
    assert rates[-1] < recipe.learning_rate
    assert steps - decay == max(1, -(-steps // 10))


@given(st.integers(1, 5000), st.integers(1, 20))
def test_every_evaluation_but_the_last_is_stable(steps: int, evaluations: int):
    recipe = Recipe(evaluations=evaluations)
    at = recipe.evaluation_steps(steps)
    _, decay = recipe.phases(steps)
    assert at[-1] == steps
    assert all(0 < step <= decay for step in at[:-1])


def test_checkpoints_are_even_in_log_tokens_up_to_the_end_of_the_stable_phase():
    at = Recipe(evaluations=8).evaluation_steps(10_000)
    ratios = [after / before for before, after in pairwise(at[:-1])]
    assert at[-2:] == [9_000, 10_000]
    assert at[0] == 750
    assert ratios == pytest.approx([12 ** (1 / 7)] * 7, rel=1e-2)


def test_two_runs_of_different_length_share_their_stable_phase():
    recipe = Recipe()
    assert [recipe.rate(step, 1000) for step in range(900)] == [recipe.rate(step, 2000) for step in range(900)]


@pytest.mark.parametrize(
    "change", [{"batch_size": 0}, {"learning_rate": -1.0}, {"decay_share": 0.0}, {"decay_share": 1.0}, {"clip": 0.0}]
)
def test_an_impossible_recipe_is_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        Recipe(**change)
