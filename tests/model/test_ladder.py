import csv
from pathlib import Path

import pytest

from babelscale.errors import InputError
from babelscale.model import ATLAS, Shape


def test_the_parameter_counter_reproduces_all_twenty_published_sizes(shared: Path):
    with (shared / "reference" / "model_scales.csv").open(newline="") as file:
        printed = {int(row["scale"]): row for row in csv.DictReader(file)}
    assert len(printed) == len(ATLAS) == 20
    for rung in ATLAS:
        row = printed[rung.scale]
        shape = rung.shape
        assert rung.params == int(row["parameters"])
        sizes = (shape.heads, shape.layers, shape.d_model, shape.d_ff, shape.d_head)
        assert sizes == tuple(int(row[name]) for name in ("heads", "layers", "d_model", "d_ff", "d_head"))


def test_flops_are_six_for_each_parameter_in_a_product_and_the_attention_scores():
    shape = Shape(layers=2, heads=2, d_model=32, d_ff=128, d_head=16, vocabulary=100)
    norms = 2 * 32
    scores = 12 * 2 * 2 * 16 * 64
    assert shape.flops_per_token(64) == 6 * (shape.params - norms) + scores


@pytest.mark.parametrize("change", [{"layers": 0}, {"d_head": 15}, {"vocabulary": -1}])
def test_an_impossible_shape_is_refused(change: dict[str, int]):
    with pytest.raises(InputError):
        Shape(**({"layers": 1, "heads": 1, "d_model": 8, "d_ff": 8, "d_head": 8, "vocabulary": 10} | change))
