"""The page Study in Chromium: a study's files appear while it is open, and it shows them."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from babelscale.study import Study, cost, failures
from babelscale.web.pages import study as page_of_study

pytest.importorskip("sentencepiece", reason="a study is prepared, which takes the laboratory")

TINY = """
name = "tiny"
title = "<script>alert(1)</script> & no, nan"
languages = ["sv", "no", "nan"]
corpus = { source = "CORPUS", held_out_tokens = 300 }
tokenizer = { vocabulary = 400 }
recipe = { batch_size = 4, sequence_length = 32, evaluations = 2, evaluation_tokens = 256 }
sizes = { xs = { layers = 1, heads = 1, d_model = 8, d_ff = 16, d_head = 8 } }

[[groups]]
name = "all"
mixture = "bilingual"
sizes = ["xs"]
tokens = [1e4, 2e4]
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Six runs of which none is begun."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for code in ("sv", "no", "nan"):
        (corpus / f"{code}.txt").write_text("".join(f"{code} rad {k * 7919 % 1000} av tusen\n" for k in range(3000)))
    (tmp_path / "tiny.toml").write_text(TINY.replace("CORPUS", str(corpus)))
    study = Study.create(tmp_path / "tiny.toml", tmp_path / "study")
    study.prepare()
    return study


def lines(first: int, last: int) -> str:
    return "".join(json.dumps({"step": k, "loss": 8 - k / 50}) + "\n" for k in range(first, last + 1))


def evaluated(step: int, code: str) -> str:
    totals = {"nats": 3000.0, "tokens": 1000, "bytes": 2400, "unigram_nats": 5000.0}
    line = {"step": step, "language": code, "lr_state": "stable", "split": "validation"} | totals
    return json.dumps(line) + "\n"


def write(study: Study, name: str, text: str) -> Path:
    log = study.folder / "working" / name / "0000aaaa" / "log.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(text)
    return log


def names_in(folder: Path) -> set[tuple[str, int]]:
    return {(str(path), path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def test_runs_appear_while_the_page_is_open(study: Study, serving, look, keep) -> None:
    first, second, *_ = study.specs
    page = look(f"{serving(study.folder)}/study?refresh=2")
    page.wait_for_selector("section[data-name=runs] table")
    assert "0 of 6 runs are finished, 6 waiting" in page.locator("#answer").inner_text()
    assert page.locator("#answer script").count() == 0
    assert page.locator("figure").count() == 0

    log = write(study, first, lines(1, 30) + evaluated(20, study.specs[first].mixture.languages[0]))
    page.wait_for_selector("figure[data-name=training] svg")
    page.wait_for_selector("figure[data-name=held-out] svg")
    assert "1 in progress" in page.locator("#answer").inner_text()
    row = page.locator("table", has=page.get_by_text("Runs in progress")).locator("tbody tr")
    assert "30 of" in row.inner_text()

    # Half a line is left for later; focus, scroll and open details stay.
    page.locator("figure[data-name=training] summary").click()
    page.wait_for_selector("figure[data-name=training] details .scroll")
    page.locator("section[data-name=runs] .scroll").first.focus()
    page.evaluate("() => window.scrollTo(0, 300)")
    marked = page.evaluate("() => { document.activeElement.marked = true; return window.scrollY; }")
    write(study, first, lines(31, 40) + '{"step": 41, "lo')
    page.wait_for_function("() => document.querySelector('#answer').innerText.includes('40 of')")
    assert page.evaluate("() => document.activeElement.marked === true && window.scrollY") == marked
    assert page.locator("figure[data-name=training] details").get_attribute("open") is not None
    assert "40" in page.locator("figure[data-name=training] details tbody tr").last.inner_text()

    failures.note(study.folder, second, 'the loss is nan "><img src=x onerror=alert(1)>')
    finished = study.finished(first)
    finished.parent.mkdir()
    (log.parent / "record.json").write_text("{}")
    log.parent.rename(finished)
    log.parent.parent.rmdir()
    page.wait_for_function("() => document.querySelector('#answer').innerText.includes('1 of 6 runs are finished')")
    assert "onerror" in page.locator(".warning").inner_text()
    assert page.locator("#answer img").count() == 0
    bar = page.locator("progress")
    assert 0 < float(bar.get_attribute("value") or 0) < float(bar.get_attribute("max") or 0)
    page.wait_for_selector("figure[data-name=done] svg")
    keep(page, "study")


def test_the_filter_is_state_and_off_means_off(study: Study, serving, look, keep) -> None:
    first, *_ = study.specs
    write(study, first, lines(1, 30))
    before = names_in(study.folder)
    page = look(f"{serving(study.folder)}/study?refresh=off&state=waiting", width=390, height=800, dark=True)
    page.wait_for_selector("section[data-name=runs] table")
    assert "Runs (5 of 6)" in page.locator("#answer").inner_text()
    page.fill("#text", "no+sv")
    page.wait_for_function("() => document.querySelector('#runs').innerText !== 'Runs (5 of 6)'")
    assert "text=no+sv" in page.url.replace("%2B", "+")
    page.fill("#text", "no such run")
    page.wait_for_function("() => document.querySelector('#answer').innerText.includes('No run matches')")
    page.fill("#text", "")
    page.select_option("#state", "all")
    page.wait_for_selector("figure[data-name=training] svg")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    keep(page, "study-narrow-dark")
    asked = len(page.seen.requests)
    page.wait_for_timeout(2600)
    assert len(page.seen.requests) == asked
    # Out of sight nothing is asked either.
    page.evaluate(
        """() => { Object.defineProperty(document, "hidden", { configurable: true, get: () => window.away === true });
        window.away = true; document.dispatchEvent(new Event("visibilitychange")); }"""
    )
    page.select_option("#refresh", "2")
    page.wait_for_timeout(500)
    asked = len(page.seen.requests)
    page.wait_for_timeout(2600)
    assert len(page.seen.requests) == asked
    page.evaluate("() => { window.away = false; document.dispatchEvent(new Event('visibilitychange')); }")
    page.wait_for_timeout(400)
    assert len(page.seen.requests) == asked + 1
    assert names_in(study.folder) == before


def asked_of(address: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(address) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def test_the_api_says_what_the_command_says(study: Study, serving, babelscale) -> None:
    write(study, next(iter(study.specs)), lines(1, 3))
    address = serving(study.folder)
    _, told = asked_of(f"{address}/api/study")
    assert told == json.loads(json.dumps(cost.status(study).to_dict()))
    assert len(told["under_way"]) == 1
    assert json.loads(babelscale("study", "status", study.folder, "--json").out) == told
    for query in ("state=none", "refresh=1", "what=x"):
        assert asked_of(f"{address}/view/study?{query}")[0] == 400


def test_where_no_study_is_served_it_says_what_to_serve(tmp_path: Path, serving) -> None:
    (tmp_path / "design.json").write_text('{"title": "runs of another house"}')
    for path, said in ((None, "The server has no folder of a study"), (tmp_path, "not a study's design")):
        status, shown = asked_of(f"{serving(path)}/view/study")
        assert status == 200
        assert said in shown["sections"][0]["paragraphs"][0]
        status, refused = asked_of(f"{serving(path)}/api/study")
        assert status == 400
        assert refused["hint"]


ALONE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_app import ask
from babelscale.web import create_app
answer = ask(create_app(Path(sys.argv[1])), "/view/study")
print(answer.status, answer.body)
"""


def test_the_page_needs_no_laboratory(study: Study) -> None:
    """A study that others train elsewhere is followed with the `page` extra alone."""
    lab = ("jax", "jaxlib", "optax", "orbax", "sentencepiece", "babel", "fsspec", "safetensors")
    write(study, next(iter(study.specs)), lines(1, 30))
    script = ALONE.format(names=lab, tests=str(Path(__file__).parent))
    said = subprocess.run(
        [sys.executable, "-c", script, str(study.folder)], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("200 ")
    assert "1 in progress" in said.stdout


def test_every_state_of_the_filter_is_a_control() -> None:
    template = Path(page_of_study.__file__).parents[1] / "templates" / "study.html"
    offered = set(re.findall(r'\("(\w+)", "', template.read_text(encoding="utf-8")))
    field = page_of_study.StudyQuery.model_fields["state"].annotation
    assert set(field.__args__) <= offered  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
