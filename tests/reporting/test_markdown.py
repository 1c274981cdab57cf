"""Markdown of a report, parsed back: every word is what it was, and nothing of a table becomes markup."""

import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from babelscale import reporting
from babelscale.charts import style
from babelscale.cli import main
from babelscale.errors import InputError
from babelscale.reporting.report import markdown
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.runs import Runs

HOSTILE = [
    "a | b",
    "\\",
    "\\|",
    "| --- |",
    "`code`",
    "``",
    "*bold* _it_",
    "[x](javascript:alert(1))",
    "![](x)",
    "<b>",
    "</td>",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "http://a.example/x",
    "www.a.example",
    "<a@b.example>",
    "two\nlines",
    "tab\there",
    "&amp; &lt; &#65;",
    "# no",
    "- no",
    "1. no",
    "1) no",
    "> no",
    "    no",
    "trailing ",
    " ",
    "~~no~~",
    "$x$",
    "---",
    "===",
    "+ no",
    "no",
    "nan",
    "NA",
    "on",
    "",
    "العربية",
    "a\r\nb",
    "[^1]",
    "[ ] x",
    "x\\",
]


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)


def said(token: Token) -> str:
    """The text of a run of inline tokens, none of which is markup."""
    assert token.type == "inline"
    assert {child.type for child in token.children or ()} <= {"text"}, token.content
    return "".join(child.content for child in token.children or ())


def cells(text: str) -> list[list[str]]:
    rows: list[list[str]] = []
    tokens = parsed(text)
    for token, following in itertools.pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            rows[-1].append(said(following))
    return rows


def test_every_cell_comes_back() -> None:
    table = Table("hostile", ["name", "a|b"], [[text, text] for text in HOSTILE], (1,))
    assert cells(markdown.tabulate(table)) == [["name", "a|b"], *([text, text] for text in HOSTILE)]


# Controls become the sign of what cannot be shown; surrogates are no text.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_any_cell_comes_back(rows: list[tuple[str, str]]) -> None:
    assert cells(markdown.tabulate(Table("any", ["a", "b"], rows))) == [["a", "b"], *map(list, rows)]


@given(TEXT)
def test_any_line_is_a_line_and_nothing_else(text: str) -> None:
    made = markdown.render("t", "s", [Section(f"x{text}", "x", [f"{text}x"], [f"{text}x"])])
    tokens = parsed(made)
    kinds = [token.type for token in tokens if token.type.endswith("_open")]
    assert kinds == [
        "heading_open",
        "paragraph_open",
        "heading_open",
        "paragraph_open",
        "bullet_list_open",
        "list_item_open",
        "paragraph_open",
    ]
    assert [said(token) for token in tokens if token.type == "inline"] == ["t", "s", f"x{text}", f"{text}x", f"{text}x"]


def test_hostile_words_stay_words_everywhere() -> None:
    for text in filter(str.strip, HOSTILE):
        tokens = parsed(markdown.render(text, text, [Section(text, "x", [text], [text])]))
        assert [said(token) for token in tokens if token.type == "inline"] == [text] * 5
        assert not [token for token in tokens if token.type in ("html_block", "fence", "code_block")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> Path:
    place = tmp_path_factory.mktemp("study") / "synthetic"
    runs.write(place / "runs")
    title = "A <b>title</b> | `more`"
    design = {"name": "synthetic", "title": title, "analysis": {"targets": ["sv"], "plan": {"compute": 1e14}}}
    (place / "design.json").write_text(json.dumps(design), encoding="utf-8")
    return place


def test_a_report_holds_what_the_page_holds(folder: Path) -> None:
    from babelscale.reporting.report.build import _parts

    path = reporting.build_report(folder, markdown=True)
    assert path == folder / "report.md"
    text = path.read_text(encoding="utf-8")
    parts = _parts(reporting.analyse(folder))[0]
    tokens = parsed(text)
    heads = [said(tokens[k + 1]) for k, token in enumerate(tokens) if token.type == "heading_open"]
    assert heads == ["A <b>title</b> | `more`", *(section.title for section in parts)]
    expected = []
    for section in parts:
        for table in (*(figure.table for figure in section.figures), *section.tables):
            expected += [list(table.columns), *(list(map(str, row)) for row in table.rows)]
    assert cells(text) == expected
    pictures = [child for token in tokens for child in token.children or () if child.type == "image"]
    figures = [figure for section in parts for figure in section.figures]
    assert [picture.content and picture.attrs["src"] for picture in pictures] == [
        f"report-figures/{figure.name}.svg" for figure in figures
    ]
    for picture, figure in zip(pictures, figures, strict=True):
        assert "".join(child.content for child in picture.children or ()) == figure.spec["description"]
        drawn = (folder / str(picture.attrs["src"])).read_text(encoding="utf-8")
        assert drawn.startswith("<svg")
        assert "currentColor" not in drawn
    assert {token.content.strip() for token in tokens if token.type == "html_block"} == {
        "<details><summary>The numbers behind this chart</summary>",
        "</details>",
    }
    warned = [line for section in parts for line in section.warning]
    assert text.count("> [!WARNING]") == sum(bool(section.warning) for section in parts)
    assert all(f"> {markdown._line(line)}" in text for line in warned)
    assert not re.search(r"https?://", text)


def test_the_same_walk_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    one, two = (reporting.build_report(folder, out=tmp_path / name / "r.md") for name in ("one", "two"))
    pictures = sorted((tmp_path / "one" / "r-figures").iterdir())
    assert one.read_bytes() == two.read_bytes()
    assert pictures
    for picture in pictures:
        assert picture.read_bytes() == (tmp_path / "two" / "r-figures" / picture.name).read_bytes()
    stale = tmp_path / "one" / "r-figures" / "of-an-earlier-report.svg"
    stale.write_text("<svg/>")
    reporting.build_report(folder, out=one)
    assert sorted((tmp_path / "one").rglob("*")) == sorted([one, one.parent / "r-figures", *pictures])


def test_the_command_takes_the_ending_or_the_word(folder: Path, tmp_path: Path, capsys) -> None:
    def call(*given: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["report", str(folder), *map(str, given)])
        assert ended.value.code == 0
        return capsys.readouterr().out.strip()

    assert call("--markdown") == str(folder / "report.md")
    assert call("--out", tmp_path / "x.md") == str(tmp_path / "x.md")
    assert (tmp_path / "x.md").read_text(encoding="utf-8").startswith("# A ")
    assert call("--out", tmp_path / "x.html") == str(tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(InputError, match=r"x\.html: Markdown"):
        reporting.build_report(folder, out=tmp_path / "x.html", markdown=True)


def test_a_table_s_own_report_stands_beside_it(runs: Runs, tmp_path: Path) -> None:
    table = tmp_path / "one.csv"
    table.write_text(
        "params,tokens,loss\n" + "".join(f"{n}e6,{d}e7,{2 + 1 / n + 1 / d}\n" for n in (1, 4) for d in (1, 2, 4, 8))
    )
    assert reporting.build_report(table, markdown=True) == tmp_path / "one.report.md"


def test_names_of_figures_are_addresses() -> None:
    chart = style.finish(style.alt.Chart(style.rows([])).mark_point(), "t", "a picture | [x](y)")
    figure = Figure("a b", chart, "how", Table("numbers", ["n"], [["1"]]))
    text = markdown.render("t", "s", [Section("s", "s", figures=[figure])], pictures="my report (1)-figures")
    image = next(child for token in parsed(text) for child in token.children or () if child.type == "image")
    assert image.attrs["src"] == "my%20report%20%281%29-figures/a%20b.svg"
