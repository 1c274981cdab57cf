"""Scores along size and tokens: planted trends are found, and pairs censored anywhere bend none of them."""

import itertools
import json
import math

import pytest

from babelscale.errors import InputError
from babelscale.runs import concat
from babelscale.transfer.along import along

CODES = ("da", "de", "es", "nl", "sv")


def worth(code, mixture) -> float:
    other = next(iter(mixture.keys() - {code}))
    return -0.1 + 0.02 * CODES.index(code) - 0.03 * CODES.index(other)


@pytest.fixture(scope="module")
def two_sizes(simulate, even):
    pairs = [even(pair) for pair in itertools.combinations(CODES, 2)]
    parts = []
    for k, params in enumerate((1e6, 4e6)):
        made = simulate(lambda code, mixture, k=k: worth(code, mixture) + 0.1 * k, pairs, longer=3.0, params=params)
        parts.append(made if k == 0 else renamed(made))
    return concat(parts)


def renamed(runs):
    import polars as pl

    from babelscale.runs import Runs

    parts = (frame.with_columns(run=pl.format("big-{}", "run")) for frame in (runs.table, runs.exposure, runs.losses))
    return Runs.of(*parts)


def test_a_planted_trend_of_size_is_found(two_sizes):
    found = along(two_sizes, anchors=(0.2, 0.4))
    by = {trend.by: trend for trend in found.trends}
    # Four times the size adds 0.1 to the gain: 0.05 a doubling. Along tokens nothing changes.
    assert by["params"].change == pytest.approx(0.05, abs=0.003)
    assert by["params"].low <= by["params"].change <= by["params"].high
    assert by["d_mono"].change == pytest.approx(0.0, abs=0.005)
    assert by["params"].pairs == 20
    assert found.table.height == 20 * 2 * 2
    assert "per doubling of size N" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_pairs_that_are_censored_somewhere_are_in_no_trend(simulate, even):
    pairs = [even(pair) for pair in itertools.combinations(CODES, 2)]

    def steep(code, mixture):
        return -1.5 if set(mixture) == {"da", "de"} else worth(code, mixture)

    found = along(simulate(steep, pairs, longer=2.5), anchors=(0.3, 0.6))
    by = {trend.by: trend for trend in found.trends}
    assert by["d_mono"].pairs < 20
    assert "params" not in by
    assert any(math.isnan(score) for score in found.table["score"])


def test_without_pairs_there_is_nothing(simulate, even):
    with pytest.raises(InputError, match="no bilingual run"):
        along(simulate(lambda code, mixture: 0.0, [even(CODES)]))
