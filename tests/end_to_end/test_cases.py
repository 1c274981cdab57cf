"""Faults that people met, through every room that they concern: what a table, a fit and a plan say of them."""

import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import babelscale as bs
from babelscale import languages
from babelscale.cli import main
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.planning import solve_plan
from babelscale.planning.request import PlanRequest
from babelscale.planning.result import Plan
from babelscale.runs import Runs


def _published(**request: Any) -> Plan:
    return solve_plan(None, PlanRequest(published=True, **request))


# ------------------------------------------------------------------------------------------- two scripts of a language


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kurdish in two scripts: monolingual and even bilingual runs of three lengths and two sizes."""
    rows = []
    for N in (4e7, 1.6e8, 5e8):
        for D in (8e8, 3e9, 9e9):
            for codes in (("ku-Latn",), ("ku-Arab",), ("ku-Latn", "ku-Arab")):
                for code in codes:
                    own = D / len(codes)
                    worth = own + 0.4 * (D - own)
                    loss = 1.6 + 260 / N**0.32 + 700 / worth**0.33 + 0.02 * (code == "ku-Arab")
                    rows.append(("+".join(codes) + f"-{N:g}-{D:g}", N, own, code, loss))
    frame = pl.DataFrame(rows, schema=["run", "params", "tokens", "language", "loss"], orient="row")
    path = tmp_path_factory.mktemp("scripts") / "runs.csv"
    frame.write_csv(path)
    return path


def _answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    printed = capsys.readouterr()
    assert not ended.value.code, printed.err
    return json.loads(printed.out)


def test_two_scripts_are_two_languages_in_fit_matrix_and_plan(scripts: Path, tmp_path: Path, capsys):
    scores = _answer(capsys, "transfer", str(scripts), "--tests", "--chart", str(tmp_path / "matrix.json"))["matrix"]
    assert scores["languages"] == ["ku-Arab", "ku-Latn"]
    assert scores["status"][0][1] == scores["status"][1][0] == "measured"
    fits = _answer(capsys, "fit", str(scripts), "--target", "all", "--save", str(tmp_path / "fits"))["fits"]
    assert set(fits) == {"ku-Arab", "ku-Latn"}
    config = str(tmp_path / "plan.toml")
    both = ["--languages", "ku-Latn,ku-Arab", "--compute", "1e20"]
    assert set(_answer(capsys, "plan", str(scripts), *both, "--config", config)["tokens"]) == {"ku-Arab", "ku-Latn"}
    assert _answer(capsys, "study", "plan", config)["runs"] == 1


def test_a_script_of_a_known_language_is_looked_up():
    found = languages.lookup("sr-Latn")
    assert (found.script, found.family, found.unique_tokens) == ("Latn", languages.lookup("sr").family, None)
    assert languages.lookup("sr-Cyrl") != found
    for code in ("sr-Xxxx", "qq-Latn", "sr-latn"):
        with pytest.raises(InputError, match="unknown language code"):
            languages.lookup(code)


def test_published_figures_say_that_they_have_one_entry_for_all_scripts():
    with pytest.raises(InputError, match="one entry for sr in all its scripts, and none for sr-Latn") as caught:
        _published(languages=["sr-Latn", "en"], compute=1e20)
    assert "--unique sr-Latn=" in (caught.value.hint or "")
    plan = _published(languages=["sr-Latn", "en"], compute=1e20, unique_tokens={"sr-Latn": 4e9})
    assert plan.unique_tokens["sr-Latn"] == 4e9


# -------------------------------------------------------------------------------------------------------------- plans


def test_a_language_beside_its_macro_language_is_said():
    plan = _published(languages=["ms", "zsm"], compute=1e20) if "zsm" in languages.table() else None
    norwegian = _published(languages=["no", "nn"], compute=1e20)
    assert norwegian.notes[0].startswith("nn is part of no: the ")
    assert "the same text" in norwegian.notes[0]
    assert plan is None or any("is part of" in note for note in plan.notes)
    assert not any("is part of" in note for note in _published(languages=["sv", "da"], compute=1e20).notes)


def test_a_plan_below_its_budget_has_intervals_that_hold_it_and_baselines_that_say_so():
    plan = _published(languages=["sw", "ha"], params=5e8, tokens=5e10, max_epochs=2)
    assert plan.compute < 0.5 * 6 * 5e8 * 5e10
    low, high = plan.compute_interval or (math.nan, math.nan)
    assert low <= plan.compute <= high < 1.01 * plan.compute
    for code, D in plan.tokens.items():
        assert 2 * plan.unique_tokens[code] * (1 + 1e-6) >= D
    broken = [each for each in plan.baselines if not each.within_bounds]
    assert {each.name for each in broken} >= {"uniform", "proportional"}
    assert plan.summary().count("(outside the plan's bounds)") == len(broken)
    assert type(plan).from_dict(plan.to_dict()) == plan


def test_baselines_of_a_plan_without_bounds_are_within_them():
    assert all(each.within_bounds for each in _published(languages=["sw", "ha"], compute=1e20).baselines)


def test_a_minimum_far_above_the_text_raises_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = _published(languages=["sw", "ha"], compute=1e21, min_tokens={"sw": 8e13, "ha": 8e13})
    assert plan.total_tokens == pytest.approx(1.6e14, rel=1e-3)
    assert plan.certificate is not None
    assert plan.certificate.gap < 1e-6


@pytest.fixture(scope="module")
def near_the_floor() -> Fit:
    """A fit of which half of the draws have an irreducible loss above 2."""
    law = bs.laws.Chinchilla("sw")
    base = {"E": 1.98, "A": 400.0, "B": 1500.0, "alpha": 0.34, "beta": 0.36}
    draws = np.tile([base[name] for name in law.parameter_names], (40, 1))
    draws[:, law.parameter_names.index("E")] = np.linspace(1.93, 2.03, 40)
    ends = {"params": (1e7, 1e9), "tokens": (1e8, 2e10), "total_tokens": (1e8, 2e10), "compute": (1e16, 1e20)}
    return Fit(law, base, 0.0, draws, residual_sd=0.003, range=ends, metric="nats_per_token", target="sw")


@pytest.mark.parametrize("given", [{}, {"params": 1e15}])
def test_where_draws_reach_the_loss_with_no_compute_all_that_is_sought_is_open_ended(near_the_floor: Fit, given: dict):
    plan = bs.plan(near_the_floor, loss=2.0, languages=["sw"], **given)
    assert plan.compute_interval is not None
    assert plan.params_interval is not None
    assert plan.compute_interval[1] == math.inf
    assert plan.tokens_interval["sw"][1] == math.inf
    assert (plan.params_interval[1] == math.inf) is (not given)
    assert any("no compute reaches the loss" in note for note in plan.notes)
    assert type(plan).from_dict(plan.to_dict()).tokens_interval == plan.tokens_interval


# --------------------------------------------------------------------------------------------- damaged fits and tables


@pytest.mark.parametrize("command", [["plan", "FIT", "--compute", "1e19"], ["modular", "FIT", "--compute", "1e19"]])
@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("law", "target"), -1, "target '-1' is not a language code"),
        (("law", "target"), 0.5, "target '0.5' is not a language code"),
        (("target",), 7, "field target"),
        (("provenance",), [], "field provenance"),
        (("parameters", "A"), "x", r"field parameters\.A"),
        (("intervals", "E"), [1], r"field intervals\.E"),
    ],
)
def test_a_damaged_fit_is_refused_by_its_field(near_the_floor: Fit, tmp_path, capsys, command, place, value, said):
    data = near_the_floor.to_dict()
    data["intervals"] = {"E": [1.9, 2.0]}
    inner = data
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(data))
    with pytest.raises(SystemExit) as caught:
        main([str(path) if word == "FIT" else word for word in command])
    assert caught.value.code == 2
    assert re.search(rf"damaged\.json: .*{said}", capsys.readouterr().err)


def _two_tokenizers() -> Runs:
    rows = [
        {"run": f"{name}-{N:g}-{D:g}", "params": N, "tokens": D, "tokenizer": name, "language": "sw"}
        | {"loss": scale * (1.6 + 300 / N**0.33 + 800 / D**0.34)}
        for name, scale in (("first", 1.0), ("second", 1.4))
        for N in (2e7, 8e7, 3e8)
        for D in (5e8, 2e9, 8e9)
    ]
    return Runs.from_frame(pl.DataFrame(rows))


def test_runs_of_two_tokenizers_are_not_called_untuned():
    kinds = [finding.kind for finding in bs.check(_two_tokenizers()).findings]
    assert "tokenizers" in kinds
    assert "untuned" not in kinds


def test_a_language_that_was_evaluated_only_is_no_warning(tmp_path: Path):
    lines = ["run,params,tokens,unique_tokens,language,loss"]
    for number, (N, D) in enumerate((N, D) for N in (2e7, 8e7, 3e8) for D in (5e8, 2e9, 8e9)):
        loss = 1.6 + 300 / N**0.33 + 800 / D**0.34
        lines += [f"r{number},{N},{D},1e10,sw,{loss}", f"r{number},{N},0,0,en,{1.5 * loss}"]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines))
    found = bs.check(path)
    assert found.worst in ("", "notice")
    assert any("en: evaluated only" in str(finding) for finding in found.findings)


def test_brackets_in_a_name_are_no_pattern(tmp_path: Path):
    row = "params,tokens,loss\n"
    (tmp_path / "table1.csv").write_text(row + "2e7,4e8,4.1\n")
    (tmp_path / "table[1].csv").write_text(row + "2e7,4e8,4.1\n8e7,4e8,3.9\n")
    assert len(Runs.read(tmp_path / "table[1].csv")) == 2
