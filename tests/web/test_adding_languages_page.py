"""The page Adding languages: its answers over ASGI, and the page in Chromium."""

import json
import time
import tomllib
from pathlib import Path

import pytest
from tests.web.test_app import ask, patiently

from babelscale.fitting import Fit, fit
from babelscale.laws import AdaptiveTransfer, Multilinguality
from babelscale.planning import ModelPartition, decide, expand, partition_models, rank_candidates, solve_partition
from babelscale.published.transfer import ROUNDING, transfer_matrix
from babelscale.runs import Runs
from babelscale.web import create_app
from babelscale.web.pages import adding_languages

FRONTIER = "figure[data-name=languages-frontier] svg"


def plain(value: object) -> object:
    return json.loads(json.dumps(value))


@pytest.fixture(scope="module")
def app():
    return create_app()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> Path:
    place = tmp_path_factory.mktemp("served") / "synthetic"
    runs.write(place / "runs")
    (place / "design.json").write_text(json.dumps({"name": "s", "analysis": {"targets": ["sw"]}}), encoding="utf-8")
    return place


def test_the_old_address_still_works(app) -> None:
    found = ask(app, "/curse", "languages=4&to=16")
    assert (found.status, found.headers["location"]) == (308, "/adding-languages?languages=4&to=16")
    assert ask(app, "/view/curse").headers["location"] == "/view/adding-languages"


def test_saved_fits_are_asked_about_by_their_content(tmp_path: Path, runs: Runs, monkeypatch) -> None:
    def slowly(*given: object) -> ModelPartition:
        worked.append(1)
        time.sleep(0.5)
        return solve_partition(*given)  # pyright: ignore[reportArgumentType]

    worked: list[int] = []
    monkeypatch.setattr(adding_languages, "solve_partition", slowly)
    for target in ("sv", "da"):
        fit(AdaptiveTransfer(target, ["sw"]), runs, resamples=20).save(tmp_path / f"{target}.json")
    app = create_app(tmp_path)
    for times in (1, 2):
        fits = [Fit.load(path) for path in sorted(tmp_path.glob("*.json"))]
        for _ in range(60):
            answer = ask(app, "/api/modular", "languages=sv,da&compute=1e14&draws=20&source=served")
            if answer.status != 202:
                break
        assert answer.status == 200, answer.body
        assert answer.json() == plain(partition_models(fits, compute=1e14, languages=["sv", "da"], draws=20).to_dict())
        assert len(worked) == times
        # The second of the fits changes, and the first stays.
        fit(AdaptiveTransfer("sv", ["sw"]), runs, resamples=20, fixed={"alpha": 0.5}).save(tmp_path / "sv.json")


def test_every_planning_function_answers_as_in_python(app) -> None:
    assert ask(app, "/api/expand", "languages=4&to=16").json() == plain(expand(4, 16).to_dict())
    first = rank_candidates(transfer_matrix(), ["sw", "no"], ["en", "fr"], rounding=ROUNDING)
    told = ask(app, "/api/expand", "languages=sw,no&to=6&params=2e9&tokens=3e11&candidates=en,fr").json()
    assert told == plain(expand(2, 6, params=2e9, tokens=3e11, first=first).to_dict())
    told = ask(app, "/api/decide", "params=2e9&tokens=1e11&language=sw").json()
    assert told == plain(decide(2e9, tokens=1e11, language="sw").to_dict())
    told = ask(app, "/api/modular", "languages=sw,hi,en&compute=1e21&draws=20").json()
    assert told == plain(
        partition_models(languages=["sw", "hi", "en"], compute=1e21, published=True, draws=20).to_dict()
    )


def test_runs_with_enough_numbers_of_languages_give_a_law_of_their_own(folder: Path, runs: Runs) -> None:
    app = create_app(folder)
    own = fit(Multilinguality("sw"), runs)
    told = patiently(app, "/api/expand", "languages=2&to=4&source=served").json()
    assert told["params"]["value"] == pytest.approx(expand(2, 4, fit=own).params.value, rel=1e-6)
    assert told["interval"] == "90 %"
    shown = patiently(app, "/view/adding-languages", "languages=2&to=16&source=served").json()["sections"][0]
    assert any("at most 4 languages, not 16" in line for line in shown["warning"])
    answer = patiently(app, "/api/expand", "languages=2&to=4&source=served&fitted=da")
    assert answer.status == 400
    assert "da" in answer.json()["error"]
    few = patiently(app, "/api/decide", "params=3e5&tokens=1e6&language=sw&source=served")
    assert few.status == 400
    assert "three or more" in few.json()["hint"]


def test_a_saved_fit_of_the_law_is_taken_and_another_says_what_is_missing(tmp_path: Path, runs: Runs) -> None:
    own = fit(Multilinguality("sw"), runs, resamples=20)
    own.save(tmp_path / "sw.json")
    app = create_app(tmp_path / "sw.json")
    told = ask(app, "/api/expand", "languages=2&to=4&source=served").json()
    assert told == plain(expand(2, 4, fit=own).to_dict())
    answer = ask(app, "/api/expand", "languages=2&to=4&source=served&fitted=no")
    assert "--law multilinguality" in answer.json()["hint"]


def test_the_design_that_checks_an_expansion_is_one_to_train(app) -> None:
    answer = ask(app, "/api/expand.toml", "languages=sv,da&to=6&tokens=4e5&seeds=3&size=s")
    assert answer.status == 200
    made = tomllib.loads(answer.body)
    before, after = made["groups"]
    assert before["languages"] == ["sv", "da"]
    assert after["languages"][:2] == ["sv", "da"]
    assert len(after["languages"]) == 6
    assert len(after["seeds"]) == 3
    assert after["tokens"][0] > before["tokens"][0] == 4e5
    for query, word in (
        ("languages=4&to=50", "12 languages"),
        ("languages=4&to=8&size=huge", "huge"),
        ("languages=4&to=8&design=..%2F..%2Fetc%2Fpasswd", "design"),
        ("languages=8&to=4", "larger mixture"),
        ("languages=yo&to=4", "yo"),
    ):
        refused = ask(app, "/api/expand.toml", query)
        assert refused.status == 400, query
        assert word in refused.json()["error"]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("to=4", "languages"),
        ("languages=4", "to"),
        ("languages=0&to=4", "languages"),
        ("languages=-4&to=4", "lang"),
        ("languages=99999999&to=4", "languages"),
        ("languages=4&to=0", "to"),
        ("languages=4&to=1e3", "to"),
        ("languages=4&to=8&params=1e9", "go together"),
        ("languages=4&to=8&params=nan&tokens=1", "params"),
        ("languages=%3Cscript%3E&to=8", "script"),
        ("languages=,&to=8", "languages"),
        ("languages=4&to=8&source=served", "served"),
        ("languages=qq&to=8", "qq"),
        ("languages=4&to=99999", "to"),
    ],
)
def test_bad_questions_are_refused_with_a_reason(app, query: str, word: str) -> None:
    for path in ("/api/expand", "/view/adding-languages"):
        answer = ask(app, path, query)
        assert answer.status == 400, (path, query)
        assert word in answer.json()["error"]
        assert answer.json()["hint"]


@pytest.mark.parametrize(
    "query", ["languages=1&to=1", "languages=16&to=4", "languages=5000&to=5000", "languages=1&to=5000"]
)
def test_the_ends_of_what_may_be_asked_are_drawn(app, query: str) -> None:
    shown = ask(app, "/view/adding-languages", query)
    assert shown.status == 200
    assert [figure["name"] for figure in shown.json()["sections"][0]["figures"]] == [
        "languages-frontier",
        "languages-multipliers",
    ]


def test_the_frontier_of_a_model_far_from_optimal_reaches_its_cheapest_point(tmp_path: Path, runs: Runs) -> None:
    fit(Multilinguality("sw"), runs, resamples=20).save(tmp_path / "sw.json")
    app = create_app(tmp_path / "sw.json")
    query = "languages=2&to=4&source=served&params=1e9&tokens=1e6"
    shown = ask(app, "/view/adding-languages", query).json()["sections"][0]["figures"][0]["spec"]["data"]["values"]
    rows = [row for row in shown if row["to"] == 4]
    best = next(row for row in rows if row["cheapest"])
    assert min(row["N"] for row in rows) < best["N"] < max(row["N"] for row in rows)
    assert best["C"] <= min(row["C"] for row in rows) * (1 + 1e-9)


def settled(page, act) -> dict:
    page.evaluate(
        """() => { window.last = null;
        document.addEventListener("drawn", (event) => { window.last = event.detail; }, { once: true }); }"""
    )
    act()
    page.wait_for_function("() => window.last")
    return page.evaluate("() => window.last.found")


def test_sliders_move_the_answer_and_the_address(serving, look, keep) -> None:
    page = look(f"{serving()}/adding-languages")
    page.wait_for_selector(FRONTIER)
    before = page.locator("#answer .words p").first.inner_text()
    assert "From 4 to 16 languages" in before
    keep(page, "adding-languages")
    chart = page.query_selector(FRONTIER)
    settled(page, lambda: page.locator("#ratio").press("ArrowRight"))
    page.wait_for_function("() => location.search.includes('to=17')")
    assert "From 4 to 17 languages" in page.locator("#answer .words p").first.inner_text()
    # The charts were filled with new rows and not drawn anew.
    assert chart.evaluate("node => node.isConnected")
    settled(page, lambda: page.locator("#params-slider").press("ArrowRight"))
    assert float(page.input_value("#params")) > 2e9
    page.fill("#languages", "sw,no")
    settled(page, lambda: page.locator("#languages").press("Tab"))
    page.wait_for_selector("figure[data-name=languages-additions] svg")
    again = look(page.url)
    again.wait_for_selector("figure[data-name=languages-additions] svg")
    assert again.input_value("#to") == "17"
    assert again.input_value("#languages") == "sw,no"


def test_the_design_is_taken_away_or_says_why_not(serving, look, tmp_path: Path) -> None:
    page = look(f"{serving()}/adding-languages?languages=sv,da&to=6", errors=True)
    page.wait_for_selector(FRONTIER)
    with page.expect_download() as download:
        page.get_by_role("link", name="TOML").click()
    download.value.save_as(tmp_path / "v.toml")
    assert len(tomllib.loads((tmp_path / "v.toml").read_text(encoding="utf-8"))["groups"]) == 2
    page.select_option("#design", "single-gpu")
    page.fill("#to", "30")
    settled(page, lambda: page.locator("#to").press("Tab"))
    page.get_by_role("link", name="TOML").click()
    page.wait_for_function("() => document.querySelector('#toml-refused').textContent.includes('8 languages')")


def test_dark_and_narrow(serving, look, keep) -> None:
    page = look(f"{serving()}/adding-languages?languages=he,ar&to=12", width=390, height=800, dark=True)
    page.wait_for_selector("figure[data-name=languages-additions] svg")
    keep(page, "adding-languages-narrow-dark")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    page.locator("figure[data-name=languages-frontier] summary").click()
    page.locator("figure[data-name=languages-frontier] table").wait_for()
