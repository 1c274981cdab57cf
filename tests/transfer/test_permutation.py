"""Permutation tests: right level without an effect, power with one, confounders told apart, jackknife of pairs."""

import numpy as np
import pytest

from babelscale.errors import InputError
from babelscale.transfer.permutation import contrast_p, node_jackknife, reciprocity_p, regress

N = 16


def nothing(seed: int) -> np.ndarray:
    """Scores with effects of targets and sources, and none of any trait."""
    rng = np.random.default_rng(seed)
    grid = rng.normal(0, 0.3, (N, 1)) + rng.normal(0, 0.1, (1, N)) + rng.normal(0, 0.1, (N, N))
    np.fill_diagonal(grid, np.nan)
    return grid


def labels(seed: int) -> np.ndarray:
    """One common kind and two rare ones, as with scripts."""
    kind = np.random.default_rng(seed).choice(3, size=N, p=[0.7, 0.15, 0.15])
    return kind[:, None] == kind


def test_without_an_effect_small_p_are_as_rare_as_they_say():
    ps = [contrast_p([nothing(s)], labels(s + 100), np.random.default_rng(s), 199)[0] for s in range(120)]
    assert 0.02 <= np.mean(np.array(ps) <= 0.1) <= 0.19
    # A t-test over pairs calls chance an effect: pairs of one target are alike, and those of a common kind share it.
    from scipy.stats import ttest_ind

    naive = []
    for s in range(120):
        grid, same = nothing(s), labels(s + 100)
        known = np.isfinite(grid)
        if (~same & known).sum() < 3:
            continue
        naive.append(ttest_ind(grid[same & known], grid[~same & known]).pvalue)
    assert np.mean(np.array(naive) <= 0.1) > 0.3


def test_an_effect_is_found():
    same = labels(5)
    found = contrast_p([nothing(1) + 0.3 * same, nothing(1)], same, np.random.default_rng(0), 499)
    assert found[0] < 0.02 < found[1]


def test_reciprocity_is_found_and_not_made_up():
    rng = np.random.default_rng(3)
    mutual = rng.normal(0, 0.2, (N, N))
    mutual = mutual + mutual.T + rng.normal(0, 0.1, (N, N))
    np.fill_diagonal(mutual, np.nan)
    ps = reciprocity_p([mutual, nothing(4)], np.random.default_rng(0), 199)
    assert ps[0] <= 0.005 < ps[1]


def test_regression_tells_a_confounder_from_the_cause():
    rng = np.random.default_rng(6)
    script = labels(7).astype(float)
    # Vocabulary follows script, and script alone does nothing.
    vocabulary = script + rng.normal(0, 0.4, (N, N))
    grid = nothing(8) + 0.2 * vocabulary
    np.fill_diagonal(grid, np.nan)
    alone = regress(grid, {"script": script}, permutations=199)
    assert alone.terms[0].p < 0.05
    both = {
        term.name: term for term in regress(grid, {"script": script, "vocabulary": vocabulary}, permutations=199).terms
    }
    assert both["vocabulary"].p <= 0.01
    assert both["script"].p > 0.05
    assert both["vocabulary"].weight > 3 * abs(both["script"].weight)


def test_regression_needs_scores():
    grid = np.full((4, 4), np.nan)
    grid[0, 1] = grid[1, 0] = 0.1
    with pytest.raises(InputError, match="too few for"):
        regress(grid, {"a": np.arange(16.0).reshape(4, 4)})


def test_jackknife_of_pairs_widens_with_what_languages_share():
    def width(spread: float) -> float:
        rng = np.random.default_rng(2)
        grid = rng.normal(0, spread, (N, 1)) + rng.normal(0, 0.1, (N, N))
        np.fill_diagonal(grid, np.nan)
        value, half = node_jackknife(lambda kept: float(np.nanmean(grid[np.ix_(kept, kept)])), N)
        assert value == pytest.approx(np.nanmean(grid))
        return half

    assert width(0.5) > 3 * width(0.0)
