"""Predicted scores: checked three ways, intervals that cover, known cells kept, and clear refusals."""

import json
import math

import numpy as np
import pytest

from babelscale import published
from babelscale.errors import InputError
from babelscale.transfer import Relations, TransferMatrix, from_gain, same
from babelscale.transfer.prediction import FEWEST, predict

CODES = published.transfer_matrix().languages
N = len(CODES)


def world(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grid = -0.15 + rng.normal(0, 0.1, (N, 1)) + rng.normal(0, 0.04, (1, N)) + rng.normal(0, 0.05, (N, N))
    return from_gain(grid + 0.25 * same(CODES, "branch") + 0.05 * same(CODES, "script"))


def masked(bts: np.ndarray, share: float, seed: int, *, noise: float = 0.0) -> TransferMatrix:
    """A part of a world as a measured matrix."""
    rng = np.random.default_rng(seed)
    known = (rng.random((N, N)) < share) & ~np.eye(N, dtype=bool)
    values = np.where(known, bts + noise * rng.normal(size=(N, N)), np.nan)
    low, high = values - 1.645 * noise, values + 1.645 * noise
    return TransferMatrix(CODES, values, low, high, np.where(known, "measured", "missing"))


@pytest.fixture(scope="module")
def printed():
    return predict(published.transfer_matrix())


def test_a_target_or_a_language_left_out_is_harder_than_a_pair(printed):
    pair, target, language = printed.checks
    assert [check.left_out for check in printed.checks] == ["pair", "target", "language"]
    assert pair.scores == target.scores == 1406
    assert language.scores == 2812
    # Means of targets and sources alone tell a left-out pair nearly as well, and a left-out target not at all.
    assert pair.R2 > pair.means_R2 > 0.8
    assert target.means_R2 < 0.05
    assert 0.05 < target.R2 < pair.R2 - 0.3
    assert language.means_R2 < language.R2
    assert all(0.8 < check.coverage < 0.97 for check in printed.checks)


def test_whole_matrices_have_nothing_to_predict(printed):
    matrix = published.transfer_matrix()
    np.testing.assert_array_equal(printed.matrix.values, matrix.values)
    assert (printed.matrix.status == matrix.status).all()
    assert "left out" in str(printed)
    json.dumps(printed.to_dict(), allow_nan=False)


def test_intervals_cover_and_predictions_rank():
    inside, ranks = [], []
    for seed in range(5):
        bts = world(seed)
        found = predict(masked(bts, 0.25, seed, noise=0.03)).matrix
        hidden = found.status == "predicted"
        assert hidden.sum() > 900
        inside.append(((found.low <= bts) & (bts <= found.high))[hidden].mean())
        ranks.append(np.corrcoef(found.values[hidden], bts[hidden])[0, 1])
        assert (found.high[hidden] <= 2).all()
    assert 0.85 <= np.mean(inside) <= 0.95
    assert np.mean(ranks) > 0.85


def test_new_languages_get_wider_intervals_near_their_relatives():
    found = predict(published.transfer_matrix(), ["lb", "sk"])
    assert found.matrix.languages[:2] == ("lb", "sk")
    known, new = (predict(published.transfer_matrix()).matrix, found.matrix)
    assert known.cell("sw", "en").status == "printed"
    cell = new.cell("lb", "de")
    assert cell.status == "predicted"
    assert cell.high - cell.low > 0.4
    # Among sources of Luxembourgish, its relatives come before Vietnamese.
    assert new.cell("lb", "de").value > new.cell("lb", "vi").value
    assert new.cell("sk", "hr").value > new.cell("sk", "vi").value


def test_censored_scores_count_as_bounds_and_stay():
    bts = world(9)
    matrix = masked(bts, 0.5, 9)
    worst = np.argwhere(np.isfinite(matrix.values) & (matrix.values < np.nanquantile(matrix.values, 0.15)))
    values, high, status = matrix.values.copy(), matrix.high.copy(), matrix.status.copy().astype("U9")
    low = matrix.low.copy()
    for i, j in worst:
        high[i, j] = values[i, j] + 0.05
        values[i, j], low[i, j], status[i, j] = math.nan, -math.inf, "censored"
    bounded = TransferMatrix(CODES, values, low, high, status)
    dropped = TransferMatrix(CODES, values, low, high, np.where(status == "censored", "missing", status))
    with_bounds, without = predict(bounded, checks=False).matrix, predict(dropped, checks=False).matrix
    for i, j in worst:
        assert with_bounds.status[i, j] == "censored"
        assert math.isnan(with_bounds.values[i, j])
    # What is only bounded from above pulls its row down; leaving it out would flatter the targets that interfere most.
    hidden = with_bounds.status == "predicted"
    rows = sorted({int(i) for i, _ in worst})
    pulled = [(with_bounds.values - without.values)[i][hidden[i]].mean() for i in rows]
    assert np.mean(pulled) < 0
    errors = [np.abs((m.values - bts)[hidden]).mean() for m in (with_bounds, without)]
    assert errors[0] < errors[1]


def test_measured_features_help():
    rng = np.random.default_rng(4)
    overlap = rng.random((N, N))
    bts = from_gain(-0.2 + 0.3 * (overlap - 0.5) + rng.normal(0, 0.03, (N, N)))
    matrix = masked(bts, 0.2, 4)
    known = Relations.of(CODES, pairs={"overlap": overlap})
    errors = []
    for relations in (known, None):
        found = predict(matrix, relations=relations, checks=False)
        hidden = found.matrix.status == "predicted"
        errors.append(np.abs((found.matrix.values - bts)[hidden]).mean())
    assert errors[0] < 0.5 * errors[1]
    weight, low, _ = predict(matrix, relations=known, checks=False).weights["overlap"]
    assert weight > 0 < low


def test_the_same_scores_give_the_same_bytes():
    matrix = masked(world(2), 0.3, 2)
    assert json.dumps(predict(matrix).to_dict()) == json.dumps(predict(matrix).to_dict())


def test_refusals():
    few = masked(world(0), 0.005, 0)
    assert np.isfinite(few.values).sum() < FEWEST
    with pytest.raises(InputError, match="too few to predict"):
        predict(few)
    with pytest.raises(InputError, match="relations lack 'lb'"):
        predict(published.transfer_matrix(), ["lb"], Relations.of(CODES))
    with pytest.raises(InputError, match="unknown language code"):
        predict(published.transfer_matrix(), ["qqq"])
