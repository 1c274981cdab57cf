import numpy as np
import pytest

from babelscale.allocation import Allocation
from babelscale.errors import InputError


def test_one_and_many_broadcast():
    one = Allocation(1e8, {"sw": 1e9, "en": 3e9}, {"sw": 5e8})
    assert one.shape == ()
    assert float(one.total_tokens) == 4e9
    assert float(one.epochs("sw")) == 2
    assert float(one.epochs("en")) == 0  # U unknown: it never repeats
    assert float(one.D("yo")) == 0
    many = Allocation([1e8, 2e8], {"sw": [1e9, 2e9], "en": 3e9}, {"sw": 5e8})
    assert many.shape == (2,)
    np.testing.assert_array_equal(many.D("en"), [3e9, 3e9])
    assert float(many.at(1).epochs("sw")) == 4


@pytest.mark.parametrize(
    ("params", "tokens", "unique"),
    [
        (0, {"sw": 1.0}, {}),
        (np.nan, {"sw": 1.0}, {}),
        (1e6, {"sw": -1.0}, {}),
        (1e6, {"sw": np.inf}, {}),
        (1e6, {}, {}),
        (1e6, {"sw": 1.0}, {"sw": 0.0}),
        ([1e6, 2e6], {"sw": [1.0, 2.0, 3.0]}, {}),
    ],
)
def test_what_is_no_allocation_is_refused(params, tokens, unique):
    with pytest.raises(InputError):
        Allocation(params, tokens, unique)
