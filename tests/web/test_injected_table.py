"""Hostile strings in a table of runs and in the name of its file, in Chromium: shown as text, run by nobody."""

import itertools
import json
from pathlib import Path

import pytest
from tests.web.injections import STRINGS
from tests.web.test_injected_page import _WATCH

CURVES = "figure[data-name=curves-chinchilla-sw] svg"
NAMES = tuple(dict.fromkeys(STRINGS))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that each have one of the strings as name and as mixture, and losses under a law."""
    grid = itertools.cycle(itertools.product((1e7, 3e7, 1e8, 3e8), (1e9, 3e9, 1e10)))
    rows = []
    for k, (name, (params, tokens)) in enumerate(zip(NAMES, grid, strict=False)):
        loss = (1.5 + 90 / params**0.3 + 900 / tokens**0.33) * (1 + 0.004 * ((k * 7919) % 13 - 6) / 6)
        rows.append({"run": name, "mixture": name, "params": params, "tokens": tokens, "loss": loss, "language": "sw"})
    path = tmp_path_factory.mktemp("hostile") / "hostile.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def watched(browser):
    """A page whose dialogs, broken policies and requests elsewhere are counted."""
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    context.add_init_script(_WATCH)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.told = []
    page.on("dialog", lambda dialog: (page.told.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.on("request", lambda asked: page.told.append(asked.url) if "//evil.example" in asked.url else None)
    yield page
    context.close()


def quiet(page) -> None:
    page.wait_for_timeout(300)
    assert page.evaluate("() => [window.hits, window.hit ?? null]") == [[], None]
    assert page.told == []


def shown(page, place: str) -> set[str]:
    """The cells of a place's tables, as text."""
    cells = "place => [...document.querySelector(place).querySelectorAll('td')].map(cell => cell.textContent)"
    return set(page.evaluate(cells, place))


def test_two_hundred_strings_in_an_uploaded_table_are_text(serving, watched, table: Path) -> None:
    assert len(NAMES) >= 190
    watched.goto(f"{serving()}/laws")
    watched.wait_for_selector("section[data-name=printed]")
    watched.set_input_files(
        "#file", {"name": "<img src=x onerror=alert(1)>.jsonl", "mimeType": "", "buffer": table.read_bytes()}
    )
    watched.wait_for_selector(CURVES)
    watched.evaluate("() => document.querySelectorAll('details').forEach(each => { each.open = true; })")
    watched.wait_for_function(f"() => document.querySelectorAll('#answer td').length > {3 * len(NAMES)}")
    # The reader of tables removes white space around texts, and U+2028 is white space.
    assert {name.strip() for name in NAMES} <= shown(watched, "section[data-name=residuals]")
    assert "<img src=x onerror=alert(1)>" in watched.locator("#upload").inner_text()
    marks = watched.locator("figure[data-name=residuals-predicted] svg .mark-symbol path")
    for k in range(0, marks.count(), max(marks.count() // 8, 1)):
        marks.nth(k).hover(force=True)
        watched.wait_for_selector("#vg-tooltip-element.visible")
        assert watched.locator("#vg-tooltip-element").locator("img, script, svg, a, iframe").count() == 0
    assert watched.locator("main").locator("script, iframe, img, object, embed").count() == 0
    quiet(watched)


def test_two_hundred_strings_in_a_report_are_text(serving, watched, table: Path) -> None:
    watched.goto(f"{serving(table)}/report")
    watched.wait_for_selector("#final-losses svg, [id='final-losses'] svg")
    # A parser of HTML leaves the character NUL out.
    assert {name.strip().replace("\0", "") for name in NAMES} <= shown(watched, "body")
    assert watched.locator("body").locator("img, iframe, object, embed").count() == 0
    quiet(watched)
