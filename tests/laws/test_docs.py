"""The law that docs/laws.md writes as an example is one: everything that takes a law takes it."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from babelscale import charts, fitting, laws
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import Fit, fit
from babelscale.laws import ScalingLaw
from babelscale.planning import Checkpoint, Plan, decide, expand, partition_models, plan
from babelscale.reporting.design.power import power
from babelscale.reporting.report import law_sections
from babelscale.runs import Runs
from babelscale.testing import check_law

PAGE = Path(__file__).parents[2] / "docs" / "laws.md"
NUMBERS = {"E": 0.9, "A": 60.0, "B": 300.0, "C": 9e3, "alpha": 0.3, "beta": 0.28}


@pytest.fixture(scope="module")
def law() -> Iterator[ScalingLaw]:
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 50
    page: dict = {"__name__": __name__}
    exec(code, page)
    yield page["Interaction"]("sw")
    laws.naming._laws.pop("interaction")


@pytest.fixture(scope="module")
def design() -> Allocation:
    N, D = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(2e8, 1e11, 6)))
    share = np.tile([1.0, 0.6, 0.3], 12)
    return Allocation(N, {"sw": D * share, "en": D * (1 - share)})


@pytest.fixture(scope="module")
def runs(law: ScalingLaw, design: Allocation) -> Runs:
    return fitting.simulate(law, NUMBERS, design, noise=0.002, seed=3)


@pytest.fixture(scope="module")
def found(law: ScalingLaw, runs: Runs) -> Fit:
    return fit(law, runs, resamples=12)


def test_it_is_a_law(law: ScalingLaw) -> None:
    check_law(law)


def test_it_is_fitted_to_runs_of_its_own_equation_and_saved(
    law: ScalingLaw, design: Allocation, tmp_path: Path
) -> None:
    exact = fitting.simulate(law, NUMBERS, design, noise=0.0, seed=0)
    sharp = fit(law, exact, resamples=3)
    assert dict(sharp.parameters) == pytest.approx(NUMBERS, rel=1e-4)
    saved = sharp.save(tmp_path / "own.json")
    assert Fit.load(saved) == sharp
    assert Fit.load(saved, law=law) == sharp
    assert fit(laws.by_name("interaction", "sw", exact), exact, resamples=3) == sharp


def test_it_is_compared_and_profiled(law: ScalingLaw, runs: Runs) -> None:
    told = fitting.compare([law, "chinchilla"], runs, targets=["sw"], axes=["random", "compute"], expanding=[])
    R2 = {(row["law"], row["axis"]): row["R2"] for row in told.table.to_dicts()}
    assert R2["interaction", "random"] > 0.99
    assert R2["interaction", "random"] > R2["chinchilla", "random"]
    profile = fitting.profile(law, runs, "alpha", resamples=10)
    assert profile.law == "interaction"
    assert profile.best == pytest.approx(0.3, rel=0.2)


def test_many_fits_of_it_stay_in_this_process(law: ScalingLaw, runs: Runs) -> None:
    assert fitting.fit_many([law], runs, workers=4, resamples=3)["sw"] == fit(law, runs, resamples=3)


def test_it_is_drawn_and_reported(found: Fit, runs: Runs) -> None:
    for chart in (charts.law_curves(found, runs), charts.measured_predicted([found], runs)):
        assert json.dumps(chart.to_dict())
    assert "interaction" in law_sections.curves(found, runs).table.caption
    rows = law_sections.parameters([found]).rows
    assert {row[2] for row in rows} == set(NUMBERS)
    assert any("small model loses on few tokens" in row[-1] for row in rows)


def test_a_design_is_judged_by_it(law: ScalingLaw, design: Allocation) -> None:
    told = power(design, law=law, tables=2, resamples=5)
    assert told.fitted == 2
    N, D = (math.exp(np.log(values).mean()) for values in (design.params, design.D("sw")))
    assumed = {p.name: p.assumed for p in told.parameters}
    assert law.loss(assumed, Allocation(N, {"sw": D})) == pytest.approx(1.0)
    assert assumed["E"] == 0.5


def test_it_is_planned_and_the_plan_says_that_it_is_not_certified(found: Fit, tmp_path: Path) -> None:
    best = plan(found, compute=1e20, languages=["sw", "en"])
    assert best.shares["sw"] == pytest.approx(1.0)
    N = np.geomspace(best.params / 30, best.params * 30, 4001)
    loss = found.law.loss(found.parameters, Allocation(N, {"sw": 1e20 / 6 / N}))
    assert best.objective == pytest.approx(loss.min(), rel=1e-9)
    assert best.params == pytest.approx(N[loss.argmin()], rel=0.01)
    low, high = best.params_interval or (0, 0)
    assert low < best.params < high
    assert best.certificate is not None
    assert best.certificate.kind == "search"
    assert best.certificate.residual < 1e-4
    assert "not certified" in str(best)
    data = json.loads(best.save(tmp_path / "plan.json").read_text())
    assert data["certificate"]["kind"] == "search"
    assert data["certificate"]["gap"] is None
    assert any(note.startswith("not certified") for note in data["notes"])
    assert str(Plan.from_dict(data)) == str(best)


def test_a_checkpoint_is_continued_or_not_by_it(found: Fit) -> None:
    told = decide(fit=found, params=1e8, tokens=1e10, language="sw", checkpoint=Checkpoint(1e8, {"sw": 5e9}))
    assert "interaction law of sw" in str(told)
    assert told.losses["finetune"][0] < told.losses["pretrain"][0]


def test_where_it_does_not_apply_one_sentence_says_so(found: Fit) -> None:
    with pytest.raises(InputError, match="the fit is of the interaction law"):
        expand(4, 16, fit=found)
    other = Fit(law=type(found.law)("en"), parameters=found.parameters, target="en", metric=found.metric)
    with pytest.raises(InputError, match="law 'interaction' has no separable form"):
        partition_models([found, other], compute=1e20)
