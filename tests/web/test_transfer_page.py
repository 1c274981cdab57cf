"""The page Transfer: its answers over ASGI, and the page in Chromium."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from tests.web.test_app import ask, patiently

from babelscale import published
from babelscale.reporting.report import transfer_report
from babelscale.runs import Runs
from babelscale.transfer import TransferMatrix
from babelscale.web import create_app

MAP = "figure[data-name=transfer-map] svg"
HOSTILE = "x-onload"


def plain(value: object) -> object:
    return json.loads(json.dumps(value))


@pytest.fixture(scope="module")
def app():
    return create_app()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> Path:
    place = tmp_path_factory.mktemp("served") / "synthetic"
    runs.write(place / "runs")
    return place


def test_the_answer_is_the_python_one(app) -> None:
    assert ask(app, "/api/transfer").json() == plain(published.transfer_matrix().to_dict())
    told = patiently(app, "/api/transfer", "predict=ig,no").json()
    wanted = transfer_report.transfer_report(published=True, predicted=("ig", "no")).matrix
    got = TransferMatrix.from_dict(told["matrix"])
    assert got.languages == wanted.languages
    assert (got.status == wanted.status).all()
    # Linear algebra on another thread may round otherwise.
    for grid in ("values", "low", "high"):
        np.testing.assert_allclose(getattr(got, grid), getattr(wanted, grid), rtol=1e-6, atol=1e-9)
    helpers = ask(app, "/api/helpers", "target=sw").json()
    assert helpers["helpers"] == plain([h.to_dict() for h in published.transfer_matrix().helpers("sw", most=38)])


def test_hiding_a_language_takes_no_time(app) -> None:
    ask(app, "/view/transfer")
    took = []
    for code in ("en", "ru", "yo"):
        start = time.perf_counter()
        shown = ask(app, "/view/transfer", f"hide={code}").json()
        took.append(time.perf_counter() - start)
        data = shown["sections"][0]["figures"][0]["spec"]["data"]["values"]
        assert len(data) == 37 * 36
        assert not any(code in (row["target"], row["source"]) for row in data)
    # 0.2 s on two cores of its own; more where they are shared.
    assert min(took) < 0.5


def test_the_view_follows_every_control(app) -> None:
    shown = ask(app, "/view/transfer", "only=sw,en,fr,id,ms&target=sw&order=gains&cells=half").json()["sections"]
    assert [section["name"] for section in shown] == ["transfer", "helpers", "rankings"]
    assert "have a 90 % interval" in shown[0]["warning"][0]
    assert {row[0] for row in shown[1]["figures"][0]["table"]["rows"]} == {
        "English (en)",
        "French (fr)",
        "Indonesian (id)",
        "Malay (ms)",
    }
    assert "by their gain" in shown[0]["figures"][0]["reading"]
    tested = patiently(app, "/view/transfer", "tests=true&fill=true").json()["sections"]
    assert [section["name"] for section in tested][-2:] == ["predicted", "tests"]
    assert tested[-1]["tables"][0]["rows"]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("only=qq", "only"),
        ("only=sw", "only"),
        ("target=%3Cscript%3E", "script"),
        ("order=best", "order"),
        ("cells=width", "cells"),
        ("source=elsewhere", "elsewhere"),
        ("predict=%22%3E%3Cimg", "img"),
        ("anchor=7", "anchor"),
        ("along=true", "need runs"),
        ("fill=maybe", "fill"),
    ],
)
def test_bad_questions_are_refused_with_a_reason(app, query: str, word: str) -> None:
    answer = patiently(app, "/view/transfer", query)
    assert answer.status == 400
    assert word in answer.json()["error"]


def test_languages_that_are_not_in_the_matrix_are_named(app) -> None:
    shown = ask(app, "/view/transfer", "hide=qq,sw").json()["sections"][0]
    assert "The matrix does not have qq." in shown["notes"]


def test_runs_and_a_matrix_are_served(folder: Path, tmp_path: Path, runs: Runs) -> None:
    app = create_app(folder)
    answer = patiently(app, "/api/transfer", "along=true")
    assert answer.json() == plain(transfer_report.transfer_report(folder, moves=True).to_dict())
    shown = patiently(app, "/view/transfer", "along=true").json()["sections"]
    assert "transfer-along" in [figure["name"] for section in shown for figure in section["figures"]]
    matrix = TransferMatrix.from_runs(runs)
    for name in ("m.csv", "m.json"):
        path = matrix.save(tmp_path / name)
        served = create_app(path)
        assert patiently(served, "/api/transfer").json()["values"] == plain(matrix.to_dict())["values"]
        # A matrix has no laws: plans are made from published figures then.
        assert ask(served, "/api/plan", "languages=sw&compute=1e20&draws=0").status == 200
        assert ask(served, "/report").status == 404
        assert m_source(served)[0][1] == name


def m_source(app) -> list[tuple[str, str]]:
    import re

    return re.findall(r'<option value="(served|published)">([^<]*)</option>', ask(app, "/transfer").body)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measured matrix of 38 odd codes, with a censored score."""
    codes = ("no", "nan", "ar", "he", *(f"x-l{k:02d}" for k in range(33)), HOSTILE)
    values = np.random.default_rng(0).normal(0, 0.4, (38, 38))
    np.fill_diagonal(values, np.nan)
    status = np.where(np.isnan(values), "missing", "measured").astype("U9")
    low, high = values - 0.1, values + 0.1
    values[0, 1], low[0, 1], high[0, 1], status[0, 1] = np.nan, 0.6, np.inf, "censored"
    matrix = TransferMatrix(codes, values, low, high, status)
    return matrix.save(tmp_path_factory.mktemp("matrix") / "<img src=x onerror=alert(1)>.csv")


def drawn(page, act) -> dict:
    """What is drawn after an act."""
    page.evaluate(
        """() => { window.last = null;
        document.addEventListener("drawn", (event) => { window.last = event.detail; }, { once: true }); }"""
    )
    act()
    page.wait_for_function("() => window.last")
    return page.evaluate("() => window.last.found")


def test_the_matrix_is_ordered_hidden_and_asked_by_keyboard(serving, look, keep) -> None:
    page = look(f"{serving()}/transfer")
    page.wait_for_selector(MAP)
    page.wait_for_selector("figure[data-name=transfer-asymmetry] svg")
    keep(page, "transfer")
    drawn(page, lambda: page.select_option("#order", "gains"))
    assert "order=gains" in page.url
    search = page.get_by_role("combobox", name="Hide")
    search.fill("Xhosa")
    page.wait_for_selector("#pick-hide-list li.none")
    search.fill("Yoru")
    page.wait_for_selector("#pick-hide-list [role=option]")
    found = drawn(page, lambda: search.press("Enter"))
    assert "hide=yo" in page.url
    assert len(found["sections"][0]["figures"][0]["table"]["rows"]) == 37 * 36
    assert page.locator(f"{MAP} text", has_text="yo").count() == 0
    page.fill("#target", "sw")
    drawn(page, lambda: page.locator("#target").press("Tab"))
    page.wait_for_selector("figure[data-name=transfer-helpers] svg")
    keep(page, "transfer-target")
    # The legend's colours are found whatever the address has become.
    assert page.get_attribute(f"{MAP} .role-legend-gradient path", "fill").startswith("url(#")
    again = look(page.url)
    again.wait_for_selector("figure[data-name=transfer-helpers] svg")
    assert again.input_value("#target") == "sw"
    assert again.get_by_role("button", name="Remove Yoruba").count() == 1


def test_predictions_are_worked_on_and_shown(serving, look, keep) -> None:
    page = look(f"{serving()}/transfer?only=sw,en,ig,rw,fr,id&predict=ig,rw&cells=half&target=ig")
    page.wait_for_selector("section[data-name=predicted] table")
    keep(page, "transfer-predicted")
    assert page.locator(MAP).count() == 1


def test_odd_codes_and_names_draw_in_the_dark_on_a_narrow_screen(serving, look, keep, odd: Path) -> None:
    page = look(f"{serving(odd)}/transfer?target=no&cells=low", width=390, height=800, dark=True)
    page.wait_for_selector("figure[data-name=transfer-helpers] svg")
    keep(page, "transfer-narrow-dark")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("() => document.querySelector('figure[data-name=transfer-map] .scroll').scrollWidth") > 390
    assert "above +0.60" in page.inner_text("section[data-name=helpers]")
    page.locator("section[data-name=helpers] summary").click()
    rows = page.locator("section[data-name=helpers] tbody tr")
    assert rows.first.inner_text().startswith("Min Nan Chinese (nan)")
    assert page.locator("option", has_text="<img src=x").count() == 1
