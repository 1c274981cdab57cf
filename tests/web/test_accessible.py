"""Every page and the report, for whoever comes by keyboard, screen reader, small screen or large letters."""

from pathlib import Path

import pytest

from babelscale.charts import style
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.reporting.report.html import html_document
from babelscale.web.pages import PAGES

AUDIT = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")
READY = "#answer section, #message [role=alert]"
REPORT = "report"
PLACES = [*(page.name for page in PAGES), REPORT]

TABBABLE = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")]
  .filter((node) => !node.disabled && node.tabIndex >= 0 && node.checkVisibility({ visibilityProperty: true })
    && node.getClientRects().length && !(node.type === "radio" && !node.checked
      && document.querySelector(`input[name="${CSS.escape(node.name)}"]:checked`)))"""

MOVING = """() => [...document.querySelectorAll("body *")].filter((node) => { const style = getComputedStyle(node);
  const lasts = (text) => text.split(",").some((each) => parseFloat(each) > 0);
  return lasts(style.transitionDuration) || (style.animationName !== "none" && lasts(style.animationDuration)); })
  .map((node) => node.outerHTML.slice(0, 100))"""


def report() -> str:
    """A report that holds every part a report can have, with words that would like to be more."""
    rows = [{"name": style.name(code), "loss": 1.0 + k / 10} for k, code in enumerate(("ar", "no", "nan", "x-<b>"))]
    chart = style.alt.Chart(style.rows(rows)).mark_bar().encode(x="loss:Q", y="name:N").properties(width=520)
    drawn = style.finish(chart, "Losses", "Losses of four languages, one of them no language.")
    table = Table("Losses", ("language", "loss"), [[row["name"], f"{row['loss']:.1f}"] for row in rows], (1,))
    figure = Figure("losses", drawn, "Longer is worse.", table)
    parts = [
        Section(
            f"Part {k}", f"part-{k}", ["Said."], ["one", "two"], ["Beware."], [table], [figure][: 1 - k], ["Noted."]
        )
        for k in range(3)
    ]
    return html_document("<script>alert(1)</script>", "Four languages", parts, footer="Made here.")


@pytest.fixture(scope="module")
def opened(serving, browser, tmp_path_factory: pytest.TempPathFactory):
    """opened(place, width=..., height=..., **context) -> the page, drawn."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report(), encoding="utf-8")
    contexts = []

    def show(place: str, *, width: int = 1300, height: int = 900, **given):
        context = browser.new_context(viewport={"width": width, "height": height}, **given)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(path.as_uri() if place == REPORT else f"{serving()}/{place}")
        page.wait_for_selector("figure svg" if place == REPORT else READY)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 150)))")
        return page

    yield show
    for context in contexts:
        context.close()


def overflowing(page) -> list[str]:
    """Elements that stick out of the window, where the window can be scrolled sideways."""
    return page.evaluate(
        """() => { if (document.documentElement.scrollWidth <= window.innerWidth) return [];
        const out = (node) => node.getBoundingClientRect().right > window.innerWidth + 1
          && !node.closest(".scroll, .picked");
        return [...document.querySelectorAll("body *")].filter(out).map((node) => node.outerHTML.slice(0, 90))
          .concat("it scrolls sideways"); }"""
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", PLACES)
def test_names_structure_and_contrast(opened, place: str, scheme: str) -> None:
    page = opened(place, color_scheme=scheme)
    page.evaluate("() => { for (const each of document.querySelectorAll('details')) each.open = true; }")
    page.wait_for_timeout(100)
    assert page.evaluate(AUDIT, {"own": place != REPORT, "minimum": 15}) == []


@pytest.mark.parametrize("place", PLACES)
def test_tab_reaches_everything_and_nothing_moves_that_should_not(opened, place: str) -> None:
    page = opened(place, reduced_motion="reduce")
    assert page.evaluate(MOVING) == []
    count = page.evaluate(f"() => {{ window.wanted = ({TABBABLE})(); return window.wanted.length; }}")
    assert count > 5
    reached: set[int] = set()
    for _ in range(count + 3):
        page.keyboard.press("Tab")
        at, shown, told = page.evaluate(
            """() => { const node = document.activeElement, style = getComputedStyle(node);
            const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
            return [window.wanted.indexOf(node), ring || node === document.body, node.outerHTML.slice(0, 100)]; }"""
        )
        assert shown, f"nothing shows that the focus is on {told}"
        reached.add(at)
    missed = page.evaluate(
        "(reached) => window.wanted.filter((_, k) => !reached.includes(k)).map((node) => node.outerHTML.slice(0, 100))",
        sorted(reached),
    )
    assert missed == []


@pytest.mark.parametrize("width", [320, 640])
@pytest.mark.parametrize("place", PLACES)
def test_nothing_sticks_out_of_a_narrow_window(opened, place: str, width: int) -> None:
    """640 pixels are a window of 1280 at a zoom of 200 % (WCAG 2.2, 1.4.10)."""
    assert overflowing(opened(place, width=width, height=800)) == []


@pytest.mark.parametrize("place", PLACES)
def test_letters_of_twice_the_size_are_usable(opened, place: str) -> None:
    page = opened(place, width=1280)
    size = "() => parseFloat(getComputedStyle(document.querySelector('main p')).fontSize)"
    before = page.evaluate(size)
    page.evaluate("() => { document.documentElement.style.fontSize = '200%'; }")
    page.wait_for_timeout(100)
    assert page.evaluate(size) == pytest.approx(2 * before)
    assert overflowing(page) == []
    cut = page.evaluate(
        """() => [...document.querySelectorAll("button, label, h1, h2, nav a")].filter((node) => node.checkVisibility()
        && (node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).display !== "inline"))
        .map((node) => node.outerHTML.slice(0, 100))"""
    )
    assert cut == []


def test_the_audit_finds_what_it_looks_for(opened) -> None:
    page = opened(PLACES[0])
    page.evaluate(
        """() => { const place = document.querySelector("#answer");
        for (const tag of ["input", "button", "h4", "svg", "img"]) place.append(document.createElement(tag));
        const pale = document.createElement("p"); pale.textContent = "pale"; pale.style.color = "#aaa";
        place.append(pale);
        const head = document.createElement("th"); const table = document.createElement("table"); table.append(head);
        place.append(table); }"""
    )
    found = "\n".join(page.evaluate(AUDIT, {"own": True, "minimum": 5}))
    for said in (
        "a control without a label",
        "without a name: <button",
        "is followed by h4",
        "a drawing without a name",
        "a picture without words",
        "contrast of text 2.3",
        "a head without scope",
    ):
        assert said in found


def test_a_report_s_charts_are_taken_away_as_files(opened, tmp_path: Path) -> None:
    page = opened(REPORT, accept_downloads=True)
    for name, start in (("CSV", b"name,loss\r\n"), ("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.name == f"losses.{name.lower()}"
        assert path.read_bytes().startswith(start)
