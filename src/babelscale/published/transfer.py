"""The study's printed transfer matrix: 38 languages, scores with one decimal."""

import functools
from dataclasses import replace
from importlib import resources

from babelscale.published.source import STUDY
from babelscale.transfer.matrix import TransferMatrix

# Half a unit of the last printed digit; the study prints no interval.
ROUNDING = 0.05


@functools.cache
def transfer_matrix() -> TransferMatrix:
    """The printed 38 x 38 matrix (2B parameters, 42B tokens; released by the authors under Apache-2.0).

    About 90 pairs were measured and the rest predicted by the authors; the print does not tell them apart, so every
    status is "printed". No interval is printed either: `low` and `high` are NaN.
    """
    with resources.as_file(resources.files("babelscale.published").joinpath("data/transfer_38x38.csv")) as path:
        found = TransferMatrix.read(path, status="printed")
    about = {"source": STUDY, "params": 2e9, "anchor_tokens": 42e9, "decimals": 1}
    return replace(found, values=found.values + 0.0, provenance=about)
