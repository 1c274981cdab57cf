"""The page Laws in Chromium: a table is uploaded, fitted, profiled and compared."""

from pathlib import Path

import pytest
from tests.tabular.test_excel import sheet, workbook

from babelscale.runs import Runs
from babelscale.web.pages.laws import example

CURVES = "figure[data-name=curves-chinchilla-sv] svg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> Path:
    return runs.write(tmp_path_factory.mktemp("laws") / "runs")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(example(), encoding="utf-8")
    return path


def test_without_runs_the_page_says_what_it_takes(serving, look, keep) -> None:
    page = look(f"{serving()}/laws")
    page.wait_for_selector("section[data-name=printed]")
    assert "unique_tokens" in page.locator("section[data-name=table]").inner_text()
    assert page.locator("section[data-name=printed] table tr").count() == 19
    with page.expect_download() as download:
        page.get_by_role("link", name="Download an example").click()
    assert download.value.path().read_text().startswith("run,params,language,tokens")
    keep(page, "laws-published")


def test_what_looks_wrong_in_a_workbook_is_shown(serving, look, keep, tmp_path: Path) -> None:
    rows: list[list[object]] = [["run", "Model Size", "tokens", "loss"]]
    rows += [[f"r{n}", 1e7 * (n % 3 + 1), 1e8 * (n + 1), 60.0 - n] for n in range(12)]
    page = look(f"{serving()}/laws")
    page.wait_for_selector("section[data-name=printed]")
    page.set_input_files("#file", workbook(tmp_path / "mine.xlsx", sheet(rows)))
    page.wait_for_selector("#upload .taken", timeout=60_000)
    assert "mine.xlsx: 12 runs, 1 language" in page.locator("#upload").inner_text()
    assert "are these perplexities?" in page.locator("#upload .warning").inner_text()
    page.locator("#upload summary").click()
    assert "column 'Model Size' is read as params" in page.locator("#upload .understood").inner_text()
    assert ".xlsx" in (page.locator("#file").get_attribute("accept") or "")
    keep(page, "laws-upload-findings")


def test_a_table_is_uploaded_and_a_link_opens_it_again(serving, look, keep, table: Path) -> None:
    page = look(f"{serving()}/laws")
    page.wait_for_selector("section[data-name=printed]")
    page.set_input_files("#file", table)
    page.wait_for_selector("figure[data-name=curves-adaptive-transfer-sw] svg")
    assert "36 runs, 2 languages" in page.locator("#upload").inner_text()
    assert "source=upload-" in page.url
    assert page.locator("#source option:checked").inner_text() == "uploaded: mine.csv"
    assert page.locator("section[data-name=residuals] figure svg").count() == 3
    page.get_by_role("checkbox", name="data-constrained").check()
    page.wait_for_selector("figure[data-name=curves-data-constrained-sw] svg")
    assert "laws=chinchilla,data-constrained,adaptive-transfer" in page.url
    keep(page, "laws-upload")
    again = look(page.url)
    again.wait_for_selector("figure[data-name=curves-data-constrained-sw] svg")
    assert again.get_by_role("checkbox", name="data-constrained").is_checked()


def test_a_table_is_dropped(serving, look, table: Path) -> None:
    page = look(f"{serving()}/laws")
    page.wait_for_selector("section[data-name=printed]")
    page.evaluate(
        """text => { const data = new DataTransfer(); data.items.add(new File([text], "dropped.csv"));
        const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
        document.querySelector("#drop").dispatchEvent(event); }""",
        table.read_text(),
    )
    page.wait_for_selector("figure[data-name=curves-chinchilla-sw] svg")
    assert "dropped.csv" in page.locator("#upload").inner_text()


def test_a_bad_table_is_refused_where_it_was_chosen(serving, look, keep, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("params,tokens,loss\n1e6,1e9,three\n", encoding="utf-8")
    page = look(f"{serving()}/laws", errors=True)
    page.wait_for_selector("section[data-name=printed]")
    page.set_input_files("#file", bad)
    told = page.wait_for_selector("#upload [role=alert]").inner_text()
    assert "bad.csv: row 2, loss: 'three' is not a number" in told
    assert page.locator("section[data-name=printed]").count() == 1
    keep(page, "laws-refused")
    (tmp_path / "big.csv").write_bytes(b"a" * (33 << 20))
    page.set_input_files("#file", tmp_path / "big.csv")
    page.wait_for_function("() => document.querySelector('#upload [role=alert]')?.innerText.includes('33.0 MB')")


def test_an_upload_that_is_gone_is_asked_for_again(serving, look) -> None:
    page = look(f"{serving()}/laws?source=upload-{'0' * 32}", errors=True)
    page.wait_for_selector("#message [role=alert]")
    assert "upload the table again" in page.locator("#message").inner_text()


def test_a_profile_and_a_comparison_by_keyboard(serving, look, keep, folder: Path) -> None:
    page = look(f"{serving(folder)}/laws?laws=chinchilla&targets=sv")
    page.wait_for_selector(CURVES)
    parameter = page.get_by_label("Profile of a parameter")
    assert page.locator("#parameters option[value=alpha]").count() == 1
    parameter.fill("alpha")
    parameter.press("Tab")
    page.wait_for_selector("figure[data-name=profile-chinchilla-sv] svg")
    assert "90 % interval" in page.locator("section[data-name=profile] .words").inner_text()
    page.get_by_label("Compare on held-out runs").focus()
    page.keyboard.press("Space")
    page.wait_for_selector("figure[data-name=held-out-r2] svg")
    assert "parameter=alpha" in page.url
    assert "compare=true" in page.url
    keep(page, "laws-profile")


def test_what_cannot_be_shown_takes_nothing_else_away(serving, look, folder: Path) -> None:
    page = look(f"{serving(folder)}/laws?laws=chinchilla&targets=sv&parameter=tau_xx")
    page.wait_for_selector(CURVES)
    assert "tau_xx" in page.locator("section[data-name=none] .warning").inner_text()


def test_saved_fits_show_their_numbers(serving, look, folder: Path, tmp_path: Path) -> None:
    from babelscale import fit, laws

    fit(laws.Chinchilla("sv"), Runs.read(folder), resamples=20).save(tmp_path / "sv.json")
    page = look(f"{serving(tmp_path / 'sv.json')}/laws")
    page.wait_for_selector("section[data-name=laws] table")
    assert "Swedish" in page.locator("section[data-name=laws]").inner_text()
    assert not page.locator("#fitting").is_visible()


def test_dark_and_narrow(serving, look, keep, folder: Path) -> None:
    page = look(
        f"{serving(folder)}/laws?targets=sv,sw&laws=chinchilla&parameter=alpha", width=390, height=800, dark=True
    )
    page.wait_for_selector("figure[data-name=profile-chinchilla-sw] svg")
    keep(page, "laws-narrow-dark")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
