"""The walk writes what it found and takes it from disk again; the report is one file that needs nothing else."""

import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
import vl_convert

from babelscale import reporting
from babelscale.errors import InputError
from babelscale.reporting.report import build, final_losses, study_analysis
from babelscale.reporting.report.document import Section, Table
from babelscale.reporting.report.html import bundle, content_policy, html_document
from babelscale.runs import Runs


class Reader(HTMLParser):
    """The parts of a page that matter here."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.loads: list[str] = []
        self.charts: dict[str, dict] = {}
        self.places: set[str] = set()
        self.tables = self.details = 0
        self.text: list[str] = []
        self.tags: list[str] = []
        self._inside: str | None = None
        self._raw: str | None = None
        self.feed(text)
        self.close()
        self.said = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.loads += [value for name, value in given.items() if name in ("src", "href", "srcset", "poster", "data")]
        self.tables += tag == "table"
        self.details += tag == "details"
        if given.get("class") == "chart":
            self.places.add(given["id"])
        self._raw = tag if tag in ("script", "style") else None
        self._inside = given.get("data-chart") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._raw = None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.charts[self._inside] = json.loads(data)
        elif self._raw is None:
            self.text.append(data)


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> Path:
    folder = tmp_path_factory.mktemp("study") / "synthetic"
    runs.write(folder / "runs")
    design = {
        "name": "synthetic",
        "title": "A <b>title</b> & more",
        "corpus": {"kind": "phrasebook", "seed": 0},
        "analysis": {"targets": ["sv", "qu"], "plan": {"compute": 1e14, "languages": ["sv", "da", "sw"]}},
    }
    (folder / "design.json").write_text(json.dumps(design), encoding="utf-8")
    reporting.build_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(analysed: Path) -> Reader:
    return Reader((analysed / "report.html").read_text(encoding="utf-8"))


def test_the_walk_writes_every_result(analysed: Path) -> None:
    for name in ("transfer", "comparison", "plan", "walk", "fits/chinchilla-sv", "fits/adaptive-transfer-sv"):
        held = json.loads((analysed / "analysis" / f"{name}.json").read_text(encoding="utf-8"))
        assert held, name
    assert not list(analysed.rglob(".*")), "no temporary file stays behind"


def test_what_cannot_be_done_is_a_sentence(analysed: Path, page: Reader) -> None:
    found = reporting.analyse(analysed)
    assert any("law of qu" in limit and "no loss was measured" in limit for limit in found.limits)
    assert "No chinchilla law of qu" in page.said


def test_the_second_walk_takes_the_first_ones_results(analysed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (analysed / "report.html").read_bytes()
    monkeypatch.setattr(study_analysis, "fit", lambda *_, **__: pytest.fail("fitted again"))
    monkeypatch.setattr(study_analysis, "compare", lambda *_, **__: pytest.fail("compared again"))
    again = reporting.analyse(analysed)
    assert again.reused
    assert again.plan is not None
    assert again.plan.losses["sv"].low < again.plan.losses["sv"].loss < again.plan.losses["sv"].high
    reporting.build_report(analysed)
    assert (analysed / "report.html").read_bytes() == before


def test_other_runs_are_analysed_anew(analysed: Path, runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(analysed, folder)
    assert reporting.analyse(folder).reused
    runs.select(runs.names[:-3]).write(folder / "runs")
    assert not reporting.analyse(folder).reused


@pytest.mark.parametrize("damage", ["{", "[]", '{"settings": 1}'])
def test_damaged_results_are_made_anew(analysed: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(analysed, folder)
    (folder / "analysis" / "plan.json").write_text(damage, encoding="utf-8")
    found = reporting.analyse(folder)
    assert not found.reused
    assert found.plan is not None


def test_the_page_loads_nothing(page: Reader) -> None:
    assert all(link.startswith("#") for link in page.loads), page.loads
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(page.tags)


def test_the_policy_names_exactly_the_scripts_of_the_page(analysed: Path) -> None:
    import base64
    import hashlib

    text = (analysed / "report.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    policy = content_policy()
    assert len(scripts) == 2
    for script in scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "unsafe-eval" not in policy
    assert policy.startswith("default-src 'none'")
    assert text.count(bundle()[:2000]) == 1


def test_every_chart_draws_and_has_its_table(page: Reader) -> None:
    several = {"learning-curves", "final-losses", "transfer-map", "measured-predicted", "law-sv", "plan-tokens"}
    assert several | {"held-out-r2", "expanding-window"} <= set(page.charts)
    assert page.places == set(page.charts)
    assert page.details >= len(page.charts)
    for name, spec in page.charts.items():
        assert "<svg" in vl_convert.vegalite_to_svg(spec), name
        assert spec["description"], name


def test_the_page_is_small(analysed: Path) -> None:
    assert (analysed / "report.html").stat().st_size < 4_000_000


def test_the_page_says_what_it_is(page: Reader) -> None:
    assert "A <b>title</b> & more" in page.said, "escaped, and so read as text"
    assert "b" not in page.tags
    assert "phrasebook" in page.said
    assert "What these runs do not show" in page.said
    assert "90 % interval" in page.said
    assert "one seed" in page.said


def test_hostile_names_stay_text(tmp_path: Path, runs: Runs) -> None:
    name = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&amp;'\""
    first = runs.names[0]
    table, exposure, losses = (
        frame.with_columns(run=pl.col("run").replace(first, name)) for frame in (runs.table, runs.exposure, runs.losses)
    )
    table = table.with_columns(mixture=pl.lit("<svg onload=alert(2)>"))
    hostile = Runs.of(table, exposure, losses).select([name, *runs.names[1:5]])
    text = build.report_html(
        study_analysis.StudyAnalysis("n", hostile, {"title": name, "groups": [{"name": name, "why": name, "runs": []}]})
    )
    read = Reader(text)
    assert read.tags.count("script") == 2 + len(read.charts)
    assert not {"img", "svg"} & set(read.tags)
    assert json.dumps(name)[1:-1] in json.dumps(read.charts["final-losses"])


def test_bare_runs_give_fewer_sections(tmp_path: Path, runs: Runs) -> None:
    folder = runs.select(runs.names[:6]).write(tmp_path / "bare")
    place = reporting.build_report(folder)
    assert place == folder / "report.html"
    assert not (folder / "analysis").exists()
    read = Reader(place.read_text(encoding="utf-8"))
    assert "No transfer scores" in read.said or "transfer-map" in read.charts
    assert "plan-tokens" not in read.charts


def test_one_flat_table_is_enough(tmp_path: Path) -> None:
    sizes, lengths = (1e6, 3e6, 9e6), (1e7, 4e7, 1.6e8, 6.4e8)
    rows = [(N, D, 1.7 + 480 / N**0.35 + 2000 / D**0.37) for N in sizes for D in lengths]
    table = tmp_path / "chinchilla.csv"
    pl.DataFrame(rows, schema=["params", "tokens", "loss"], orient="row").write_csv(table)
    place = reporting.build_report(table)
    assert place == tmp_path / "chinchilla.report.html"
    read = Reader(place.read_text(encoding="utf-8"))
    assert "chinchilla" in read.said
    assert "nats per token" in read.said
    assert "transfer-map" not in read.charts


def test_unreadable_design_names_the_file(study: Path) -> None:
    (study / "design.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"design\.json"):
        reporting.analyse(study)


def test_progress_counts_to_its_total(study: Path) -> None:
    told: list[tuple[str, int, int]] = []
    reporting.analyse(study, progress=lambda *step: told.append(step))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1] == told[-1][2]


def test_a_page_without_charts_carries_no_script() -> None:
    text = html_document("t", "s", [Section("one", "one", tables=[Table("c", ("a",), [["1"]])])])
    assert "script" not in Reader(text).tags
    assert len(text) < 20_000


def test_a_continued_run_stands_beside_the_one_from_scratch(study: Path):
    section = final_losses.continued(study_analysis.analyse(study))
    assert section is not None
    (row,) = section.tables[0].rows
    assert row[0].endswith("(sw)")
    assert row[-2] == "small-sw-continued"
    assert row[-1] == "small-sw-3e+05"
    runs = Runs.read(study)
    scratch = runs.losses.filter(run="small-sw-3e+05", lr_state="decayed").row(0, named=True)
    assert float(row[3]) == pytest.approx(scratch["nats"] / math.log(2) / scratch["bytes"], abs=1e-4)


def test_final_losses_stand_in_every_unit(study: Path):
    table = final_losses.in_every_unit(study_analysis.analyse(study), 5)
    assert len(table.columns) == 5
    assert len(table.rows) == 5
    bits, nats, below = (float(cell) for cell in table.rows[0][2:])
    # The synthetic corpus has 4 bytes a token and a unigram of 6 nats a token.
    assert nats == pytest.approx(bits * 4 * math.log(2), abs=1e-3)
    assert below == pytest.approx(nats - 6.0, abs=1e-3)


@pytest.mark.parametrize("name", ["report.pdf", "report", "report.docx"])
def test_an_ending_of_no_report_is_refused_before_any_work(tmp_path: Path, runs: Runs, name: str) -> None:
    runs.write(tmp_path / "runs")
    with pytest.raises(InputError, match="a report cannot have this ending") as told:
        reporting.build_report(tmp_path / "runs", out=tmp_path / name, progress=lambda *_: pytest.fail("work was done"))
    assert str(told.value.hint) == "use a file name that ends in .html or .md"
    assert not (tmp_path / name).exists()
