"""What more languages cost, in the report: losses by width, the law where runs tell it, and why not elsewhere."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from babelscale.errors import InputError
from babelscale.planning import expand
from babelscale.reporting.report import adding_languages, build, final_losses
from babelscale.reporting.report.study_analysis import StudyAnalysis, analyse
from babelscale.runs import Runs

LAW = {"E": 0.8, "A": 30.0, "B": 400.0, "alpha": 0.4, "beta": 0.45, "phi": 0.12, "psi": -0.05}
CODES = ("sv", "da", "id", "no", "nan", "on", "sw", "yo")


def study(counts: tuple[int, ...], noise: float = 0.001) -> Runs:
    """Runs of the first languages, evenly sampled, whose loss on Swedish is the law's."""
    rng = np.random.default_rng(0)
    table, exposure, losses = [], [], []
    for K in counts:
        for N in (1e5, 3e5, 1e6):
            for D in (1e6, 4e6, 2e7):
                run, own = f"k{K}-{N:.0e}-{D:.0e}", D / K
                loss = (
                    LAW["E"]
                    + LAW["A"] * K ** LAW["phi"] / N ** LAW["alpha"]
                    + LAW["B"] * K ** LAW["psi"] / own ** LAW["beta"]
                )
                table.append({"run": run, "params": N, "tokens": D, "start": "scratch"})
                exposure += [{"run": run, "step": 1, "language": c, "tokens": own} for c in CODES[:K]]
                nats = loss * math.exp(rng.normal(0, noise)) * 1e3
                losses.append(
                    {
                        "run": run,
                        "step": 1,
                        "language": "sv",
                        "split": "validation",
                        "lr_state": "decayed",
                        "nats": nats,
                        "tokens": 1e3,
                    }
                )
    return Runs.of(pl.DataFrame(table), pl.DataFrame(exposure), pl.DataFrame(losses))


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> StudyAnalysis:
    folder = tmp_path_factory.mktemp("wide") / "wide"
    study((1, 2, 4, 8)).write(folder / "runs")
    (folder / "design.json").write_text(json.dumps({"name": "wide", "analysis": {"targets": ["sv"]}}), encoding="utf-8")
    return analyse(folder)


def test_the_law_is_fitted_and_told_where_runs_tell_it(walked: StudyAnalysis) -> None:
    (fit,) = walked.pricing
    assert fit.intervals["phi"][0] < LAW["phi"] < fit.intervals["phi"][1]
    found = adding_languages.section(walked)
    assert found is not None
    assert found.paragraphs[0].startswith("There are runs of 1, 2, 4 and 8 languages")
    exponents, doubled = found.tables
    assert exponents.rows[0][0] == "Swedish (sv)"
    whole = expand(4, 8, fit=fit)
    assert doubled.rows[0][1].startswith(f"{whole.params.value:.3g}×")
    assert len(found.figures[0].table.rows) == 36
    assert "languages-losses" in build.report_html(walked)


def test_a_walk_read_again_still_has_it(walked: StudyAnalysis, tmp_path: Path) -> None:
    fit, most = adding_languages.own_fit(walked, "sv")
    assert most == 8
    assert fit.target == "sv"
    with pytest.raises(InputError, match="no multilinguality law of da"):
        adding_languages.own_fit(walked, "da")


def test_two_numbers_of_languages_say_that_they_are_too_few() -> None:
    found = adding_languages.section(StudyAnalysis("narrow", study((1, 4))))
    assert found is not None
    assert not found.tables
    assert any("No multilinguality law was fitted for Swedish (sv)" in note for note in found.notes)


@pytest.mark.parametrize("counts", [(1,), (1, 2), (4,)])
def test_one_language_pairs_and_one_width_have_no_section(counts: tuple[int, ...]) -> None:
    assert adding_languages.section(StudyAnalysis("none", study(counts))) is None


def test_the_crossover_is_told_where_continued_runs_tell_it_and_why_not_elsewhere(runs: Runs) -> None:
    found = final_losses.continued(StudyAnalysis("synthetic", runs))
    assert found is not None
    assert any("No crossover of Swahili (sw)" in note and "three or more" in note for note in found.notes)
    found = final_losses.continued(StudyAnalysis("continued", continued_runs()))
    assert found is not None
    row = next(table for table in found.tables if table.caption.startswith("Crossover")).rows[0]
    assert row[0] == "Swahili (sw)"
    assert " to " in row[3]
    # The head start is worth 4e8 tokens at 3e7 parameters, and a further token 0.7: 4e8 / 0.3 at that size.
    assert 1e9 < _count(row[2]) < 5e9


def _count(text: str) -> float:
    return float(text[:-1]) * {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[text[-1]]


def continued_runs() -> Runs:
    rng = np.random.default_rng(0)
    table, exposure, losses = [], [], []
    for N in (1e7, 3e7, 9e7):
        for D in (1e8, 4e8, 1.6e9, 6.4e9):
            for start in ("scratch", "checkpoint"):
                run = f"{start}-{N:.0e}-{D:.0e}"
                seen = D if start == "scratch" else 4e8 * (N / 3e7) ** 0.6 + 0.7 * D
                loss = 0.8 + 300 / N**0.34 + 900 / seen**0.34
                table.append({"run": run, "params": N, "tokens": D, "start": start, "base": "unimax"})
                exposure.append({"run": run, "step": 10, "language": "sw", "tokens": D, "unique_tokens": 1e12})
                nats = loss * math.exp(rng.normal(0, 0.001)) * 1e4
                losses.append(
                    {
                        "run": run,
                        "step": 10,
                        "language": "sw",
                        "split": "validation",
                        "lr_state": "decayed",
                        "nats": nats,
                        "tokens": 1e4,
                    }
                )
    return Runs.of(pl.DataFrame(table), pl.DataFrame(exposure), pl.DataFrame(losses))
