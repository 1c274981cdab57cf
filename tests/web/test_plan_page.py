"""The page Plan in Chromium."""

import json
import tomllib
from pathlib import Path

SVG = "figure[data-name=plan-tokens] svg"


def settled(page, act) -> dict:
    """What is drawn after an act, once every answer is in (the comparison with simpler mixtures comes last)."""
    page.evaluate(
        """() => { window.last = null;
        document.addEventListener("drawn", (event) => { window.last = event.detail; }); }"""
    )
    act()
    page.wait_for_function("() => window.last && !window.last.question.includes('baselines=false')")
    return page.evaluate("() => window.last.found")


def test_a_plan_is_drawn_and_said(serving, look, keep) -> None:
    page = look(f"{serving()}/plan")
    page.wait_for_selector(SVG)
    page.wait_for_function("() => document.querySelectorAll('figure svg').length === 3")
    assert "Swahili" in page.locator("#status").inner_text()
    keep(page, "plan")


def test_the_slider_moves_the_plan_and_the_address(serving, look) -> None:
    page = look(f"{serving()}/plan?languages=sw,yo&compute=1e20")
    page.wait_for_selector(SVG)
    before = page.locator("#answer .words > p").first.inner_text()
    chart = page.query_selector(SVG)
    settled(page, lambda: page.locator("#compute-slider").press("ArrowRight"))
    assert page.locator("#answer .words > p").first.inner_text() != before
    compute = float(page.input_value("#compute"))
    assert compute > 1e20
    assert f"compute={page.input_value('#compute')}" in page.url
    # The chart was filled with new rows and not drawn anew.
    assert chart.evaluate("node => node.isConnected")
    bars = page.evaluate("() => document.querySelector('figure[data-name=plan-tokens] .chart').ariaLabel")
    again = look(page.url)
    again.wait_for_selector(SVG)
    assert again.evaluate("() => document.querySelector('figure[data-name=plan-tokens] .chart').ariaLabel") == bars


def test_a_language_is_found_weighed_and_taken_away_by_keyboard(serving, look, keep) -> None:
    page = look(f"{serving()}/plan?languages=sw,yo&compute=1e20")
    page.wait_for_selector(SVG)
    search = page.get_by_role("combobox", name="Languages that matter")
    search.fill("xhos")
    page.wait_for_selector("[role=option]")
    keep(page, "plan-search")
    settled(page, lambda: search.press("Enter"))
    assert "languages=sw,yo,xh" in page.url
    weight = page.get_by_label("weight of Xhosa")
    weight.fill("3")
    found = settled(page, lambda: weight.press("Tab"))
    assert "weights=xh=3,sw=1,yo=1" in page.url
    assert any("Xhosa" in row[0] for row in found["sections"][0]["figures"][0]["table"]["rows"])
    settled(page, lambda: page.get_by_role("button", name="Remove Xhosa").press("Enter"))
    assert "xh" not in page.url
    assert "weights" not in page.url


def test_a_checkpoint_and_bounds_are_state_too(serving, look) -> None:
    page = look(f"{serving()}/plan?languages=sw,hi&compute=1e20&start=checkpoint&max_epochs=4")
    page.wait_for_selector("section[data-name=continued] table")
    assert page.input_value("#max_epochs") == "4"
    assert page.locator("#checkpoint").is_visible()


def test_what_cannot_be_planned_is_said_and_the_last_plan_stays(serving, look) -> None:
    page = look(f"{serving()}/plan?languages=sw,yo&compute=1e20", errors=True)
    page.wait_for_selector(SVG)
    page.fill("#compute", "lots")
    page.wait_for_selector("#message [role=alert]")
    assert "lots" in page.locator("#message").inner_text()
    assert page.locator(SVG).count() == 1
    page.fill("#compute", "1e21")
    page.wait_for_function("() => !document.querySelector('#message [role=alert]')")


def test_a_served_table_is_planned_from_at_once(serving, look, keep, runs, tmp_path_factory) -> None:
    place = tmp_path_factory.mktemp("table") / "runs"
    runs.select([name for name in runs.names if "-sv-" in name]).write(place)
    page = look(f"{serving(place)}/plan")
    page.wait_for_selector(SVG)
    assert page.input_value("#languages") == "sv"
    assert float(page.input_value("#compute")) > 0
    assert "languages=sv&compute=" in page.url
    assert "languages=sv" in page.get_by_role("link", name="JSON").get_attribute("href")
    keep(page, "plan-served")


def test_charts_and_plans_are_taken_away_as_files(serving, look, tmp_path: Path) -> None:
    page = look(f"{serving()}/plan?languages=sw,yo&compute=1e20")
    page.wait_for_selector(SVG)
    figure = page.locator("figure[data-name=plan-tokens]")

    def taken(act) -> Path:
        with page.expect_download() as download:
            act()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        return path

    png = taken(figure.get_by_role("button", name="PNG").click)
    assert png.read_bytes().startswith(b"\x89PNG")
    svg = taken(figure.get_by_role("button", name="SVG").click).read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert "currentColor" not in svg
    rows = taken(figure.get_by_role("button", name="CSV").click).read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("language,name,tokens")
    assert len(rows) == 3
    spec = json.loads(taken(figure.get_by_role("button", name="Vega-Lite").click).read_text(encoding="utf-8"))
    assert spec["layer"]
    made = json.loads(taken(page.get_by_role("link", name="JSON").click).read_text(encoding="utf-8"))
    assert made["compute"] == 1e20
    design = tomllib.loads(taken(page.get_by_role("link", name="TOML").click).read_text(encoding="utf-8"))
    assert set(design["analysis"]["sampling"]) == {"sw", "yo"}


def test_hovering_tells_the_numbers_within_the_policy(serving, look, keep) -> None:
    page = look("about:blank")
    page.add_init_script(
        """window.violations = []; document.addEventListener("securitypolicyviolation",
        (event) => window.violations.push(event.violatedDirective));"""
    )
    page.goto(f"{serving()}/plan?languages=sw,yo&compute=1e20")
    page.wait_for_selector(SVG)
    page.hover(f"{SVG} .mark-rect.role-mark path >> nth=0")
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert "unique tokens" in page.locator("#vg-tooltip-element").inner_text()
    keep(page, "plan-hover")
    assert page.evaluate("() => window.violations") == []


def test_dark_and_narrow(serving, look, keep) -> None:
    page = look(f"{serving()}/plan?languages=sw,yo,ar,he&compute=1e20", width=390, height=800, dark=True)
    page.wait_for_selector(SVG)
    keep(page, "plan-narrow-dark")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_text("The numbers behind this chart").first.click()
    page.wait_for_selector("figure[data-name=plan-tokens] table")
