"""What the transfer section says of a matrix is computed from it."""

import re

import numpy as np
import pytest

from babelscale.published.transfer import transfer_matrix
from babelscale.reporting.report.transfer_sections import rankings
from babelscale.transfer import TransferMatrix, analyse

CODES = ("sv", "da", "no", "sw", "id")


def matrix_of(scores: np.ndarray) -> TransferMatrix:
    values = np.where(np.eye(len(CODES), dtype=bool), np.nan, scores)
    status = np.where(np.isfinite(values), "measured", "missing")
    return TransferMatrix(CODES, values, values - 0.1, values + 0.1, status, {})


def shares(matrix: TransferMatrix) -> list[float]:
    reading = next(figure.reading for figure in rankings(matrix) if figure.name == "transfer-targets")
    return [float(number) for number in re.findall(r"(\d+) %", reading)]


def test_the_variance_is_told_of_the_side_that_holds_it() -> None:
    by_target = np.repeat([[0.1], [0.2], [-0.3], [0.4], [0.0]], len(CODES), axis=1)
    assert shares(matrix_of(by_target))[0] == 100
    assert shares(matrix_of(by_target))[1] < 50
    assert shares(matrix_of(by_target.T))[1] == 100
    assert shares(matrix_of(by_target.T))[0] < 50


def test_scores_without_variance_have_no_shares() -> None:
    assert shares(matrix_of(np.zeros((5, 5)))) == []


def test_the_share_of_the_printed_matrix_is_that_of_its_analysis() -> None:
    matrix = transfer_matrix()
    assert shares(matrix)[0] == pytest.approx(100 * analyse(matrix, permutations=20).target_variance, abs=0.51)
