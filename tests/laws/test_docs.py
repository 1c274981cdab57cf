"""The law that docs/laws.md writes as an example is one: it fits runs drawn from its own equation."""

import re
from pathlib import Path

import numpy as np
import pytest

from babelscale.fitting import Fit, fit
from babelscale.runs import Runs

PAGE = Path(__file__).parents[2] / "docs" / "laws.md"


def test_the_law_of_the_page_can_be_fitted(tmp_path: Path) -> None:
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    page: dict = {"__name__": __name__}
    exec(code, page)
    rng = np.random.default_rng(0)
    N, D = 10 ** rng.uniform(6, 9, 40), 10 ** rng.uniform(8, 11, 40)
    runs = Runs.from_columns(N, D, 1.2 + 900 / (N**0.2 * D**0.15), language="sw")
    law = page["Product"]("sw")
    found = fit(law, runs, resamples=3)
    assert dict(found.parameters) == pytest.approx({"E": 1.2, "A": 900, "alpha": 0.2, "beta": 0.15}, rel=1e-5)
    assert Fit.load(found.save(tmp_path / "own.json"), law=law) == found
