"""Covariates: further numbers of an allocation that a law may read, from the table of runs to a saved fit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from babelscale.allocation import Allocation
from babelscale.cli import main
from babelscale.errors import InputError
from babelscale.fitting import Fit, fit, simulate
from babelscale.laws import Parameter, ScalingLaw, Term, naming
from babelscale.laws.base import Array
from babelscale.planning import Plan, plan
from babelscale.runs import Runs
from babelscale.testing import check_law

NUMBERS = {"E": 0.8, "A": 50.0, "B": 300.0, "alpha": 0.3, "beta": 0.3, "nu": 0.1}


@dataclass(frozen=True)
class Vocabulary(ScalingLaw):
    """L = (E + A / N^alpha + B / D^beta) (V / 32000)^-nu."""

    target: str | None = None
    name: ClassVar[str] = "vocabulary"
    covariates: ClassVar[tuple[str, ...]] = ("vocabulary",)

    @property
    def shape(self) -> tuple[Parameter, ...]:
        exponents = (Parameter(name, "exponent", 0.005, 2.0, (0.1, 0.3, 0.6)) for name in ("alpha", "beta"))
        return (*exponents, Parameter("nu", "gain of a larger vocabulary", -0.5, 0.5, (0.0,)))

    def terms(self, shape: Mapping[str, Array], x: Any) -> Mapping[str, Term]:
        gain = -shape["nu"] * np.log(x.covariate("vocabulary") / 32000)
        size, data = -shape["alpha"] * np.log(x.params), -shape["beta"] * np.log(self.D(x))
        return {"E": Term(gain + 0 * size), "A": Term(gain + size), "B": Term(gain + data)}


def design() -> Allocation:
    rng = np.random.default_rng(0)
    N, D = np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(1e9, 1e11, 6))
    return Allocation(N.ravel(), {"sw": D.ravel()}, covariates={"vocabulary": rng.choice([8e3, 32e3, 128e3], 36)})


def test_they_broadcast_are_selected_and_must_be_finite() -> None:
    some = Allocation([1e7, 1e8], {"sw": 1e9}, covariates={"vocabulary": 32000})
    assert some.covariate("vocabulary").tolist() == [32000.0, 32000.0]
    assert some.at(0).covariate("vocabulary") == 32000
    with pytest.raises(InputError, match="no covariate 'width', which the law reads"):
        some.covariate("width")
    with pytest.raises(InputError, match="covariate 'vocabulary' must be finite"):
        Allocation(1e7, {"sw": 1e9}, covariates={"vocabulary": np.nan})
    with pytest.raises(InputError, match="covariates do not fit"):
        Allocation([1e7, 1e8], {"sw": 1e9}, covariates={"vocabulary": [1.0, 2.0, 3.0]})


def test_a_law_that_reads_one_is_a_law() -> None:
    check_law(Vocabulary("sw"))


def test_they_go_from_a_design_through_runs_into_a_saved_fit(tmp_path: Path) -> None:
    law = Vocabulary("sw")
    runs = simulate(law, NUMBERS, design(), noise=0.0, seed=0)
    for ending in ("parquet", "csv"):
        runs.write(tmp_path / ending, ending)
        again = Runs.read(tmp_path / ending)
        seen = again.observations("sw").allocation.covariate("vocabulary")
        np.testing.assert_array_equal(np.sort(seen), np.sort(design().covariate("vocabulary")))
    found = fit(law, Runs.read(tmp_path / "csv"), resamples=4)
    assert dict(found.parameters) == pytest.approx(NUMBERS, rel=1e-4)
    assert found.range["covariates.vocabulary"] == (8e3, 128e3)
    saved = Fit.load(found.save(tmp_path / "fit.json"), law=law)
    assert saved == found
    beyond = saved.predict(Allocation(1e8, {"sw": 1e10}, covariates={"vocabulary": 256e3}))
    assert float(beyond) == pytest.approx(
        float(law.loss(NUMBERS, Allocation(1e8, {"sw": 1e10}, None, {"vocabulary": 256e3})))
    )
    assert beyond.extrapolation == "extrapolated: 2x above the most vocabulary of the runs (1.28e+05)"
    with pytest.raises(InputError, match="no covariate 'vocabulary'"):
        saved.predict(Allocation(1e8, {"sw": 1e10}))


def test_a_flat_table_holds_them_and_is_checked(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "run": ["a", "b"],
            "params": [1e7, 1e8],
            "tokens": [1e9, 1e9],
            "loss": [2.0, 1.5],
            "language": ["no", "no"],
            "covariates.vocabulary": ["8000", "32000"],
        }
    )
    path = tmp_path / "runs.csv"
    frame.write_csv(path)
    assert Runs.read(path).observations("no").allocation.covariate("vocabulary").tolist() == [8000.0, 32000.0]
    frame.with_columns(pl.Series("covariates.vocabulary", ["8000", "many"])).write_csv(path)
    with pytest.raises(InputError, match=r"runs.csv: row 3, covariates.vocabulary: 'many' is not a number"):
        Runs.read(path)
    frame.with_columns(pl.Series("covariates.vocabulary", ["8000", None])).write_csv(path)
    assert not Runs.read(path).observations("no").allocation.covariates


def test_a_plan_holds_them() -> None:
    law = Vocabulary("sw")
    found = fit(law, simulate(law, NUMBERS, design(), noise=0.0, seed=0), resamples=4)
    small, large = (plan(found, compute=1e20, covariates={"vocabulary": V}) for V in (8e3, 128e3))
    assert large.objective == pytest.approx(small.objective * 16**-0.1, rel=1e-4)
    assert large.losses["sw"].loss == pytest.approx(float(law.loss(NUMBERS, large.allocation)), rel=1e-4)
    assert "planned for vocabulary 128000" in str(large)
    again = Plan.from_dict(large.to_dict())
    assert again.covariates == large.covariates == {"vocabulary": 128e3}
    with pytest.raises(InputError, match="reads the covariate 'vocabulary', which a plan does not choose"):
        plan(found, compute=1e20)
    with pytest.raises(InputError, match="no law reads the covariate 'width'"):
        plan(found, compute=1e20, covariates={"width": 3})
    with pytest.raises(InputError, match="no printed law reads"):
        plan(compute=1e20, languages=["sw"], published=True, covariates={"width": 3})


def test_the_command_takes_covariates(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(naming._laws, Vocabulary.name, Vocabulary)
    law = Vocabulary("sw")
    found = fit(law, simulate(law, NUMBERS, design(), noise=0.0, seed=0), resamples=4)
    command = ["plan", str(found.save(tmp_path / "sw.json")), "--compute", "1e20", "--json"]
    for more, code in ((["vocabulary=8000"], 0), (["vocabulary=8000", "--covariate", "width=3"], 2)):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--covariate", *more])
        assert stopped.value.code == code
        out, error = capsys.readouterr()
        if code:
            assert "no law reads the covariate 'width'" in error
        else:
            made = plan(found, compute=1e20, covariates={"vocabulary": 8e3})
            assert json.loads(out) == json.loads(json.dumps(made.to_dict()))


def test_one_value_of_all_runs_is_held_unasked() -> None:
    law = Vocabulary("sw")
    same = design()
    same = Allocation(same.params, same.tokens, covariates={"vocabulary": 32e3})
    found = fit(law, simulate(law, NUMBERS, same, noise=0.0, seed=0), resamples=4, fixed={"nu": 0.1})
    assert plan(found, compute=1e20).covariates == {"vocabulary": 32e3}
