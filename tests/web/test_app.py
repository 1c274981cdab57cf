"""The page on this machine, asked through ASGI without a socket."""

import asyncio
import json
import re
import shutil
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from babelscale.errors import InputError
from babelscale.planning import plan
from babelscale.reporting.report.plan_section import plan_section
from babelscale.reporting.report.study_analysis import analyse
from babelscale.runs import Runs
from babelscale.web import create_app, serve
from babelscale.web.pages import PAGES
from babelscale.web.responses import sections


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str

    def json(self) -> dict:
        return json.loads(self.body)


def ask(app, path: str, query: str = "", method: str = "GET", **headers: str) -> Answer:
    """One request to an ASGI application."""
    given = {"host": "127.0.0.1:8765"} | {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8765),
    }
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent[1:]).decode()
    return Answer(sent[0]["status"], {k.decode().lower(): v.decode() for k, v in sent[0]["headers"]}, body)


@pytest.fixture(scope="module")
def published():
    return create_app()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> Path:
    place = tmp_path_factory.mktemp("served") / "synthetic"
    runs.write(place / "runs")
    design = {"name": "synthetic", "title": "Synthetic", "analysis": {"targets": ["sv"], "plan": {"compute": 1e14}}}
    (place / "design.json").write_text(json.dumps(design), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def study(folder: Path):
    return create_app(folder)


def patiently(app, path: str, query: str = "") -> Answer:
    """The answer of a question that may take long, asked again until it is there."""
    while (answer := ask(app, path, query)).status == 202:
        assert "working" in answer.body or "is being prepared" in answer.body
        time.sleep(0.05)
    return answer


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_page_opens_and_loads_nothing_from_elsewhere(published, page) -> None:
    shown = ask(published, f"/{page.name}")
    assert shown.status == 200
    assert f'data-page="{page.name}"' in shown.body
    loaded = re.findall(r'(?:src|href)="([^"]+)"', shown.body)
    assert loaded
    assert all(place.startswith(("/", "#")) for place in loaded)
    for place in loaded:
        assert ask(published, place.partition("#")[0] or f"/{page.name}").status in (200, 307, 400), place


def test_the_view_of_a_plan_is_the_section_of_the_report(published) -> None:
    shown = ask(published, "/view/plan", "languages=sw,yo,ha&compute=1e21").json()
    made = plan(compute=1e21, languages=["sw", "yo", "ha"], published=True)
    assert shown == json.loads(json.dumps({**sections([plan_section(made)]), "filled": {}}))
    names = [figure["name"] for figure in shown["sections"][0]["figures"]]
    assert names == ["plan-tokens", "plan-losses", "plan-baselines"]


def test_a_checkpoint_adds_its_section(published) -> None:
    shown = ask(published, "/view/plan", "languages=sw,hi&compute=1e21&start=checkpoint").json()
    assert [section["name"] for section in shown["sections"]] == ["plan", "continued"]
    assert len(shown["sections"][1]["tables"][0]["rows"]) == 2


def test_the_json_equals_the_python_answer(published) -> None:
    answer = ask(published, "/api/plan", "languages=sw,yo&compute=1e21&weights=sw=2,yo=1&max_epochs=8")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    made = plan(compute=1e21, languages=["sw", "yo"], weights={"sw": 2, "yo": 1}, max_epochs=8, published=True)
    assert answer.json() == json.loads(json.dumps(made.to_dict()))


def test_a_plus_in_an_address_is_no_space(published) -> None:
    answers = [ask(published, "/api/plan", f"languages=sw,yo&compute={text}").json() for text in ("1e%2B21", "1e+21")]
    assert answers[0] == answers[1]
    assert answers[0]["compute"] == 1e21


def test_the_design_of_a_plan_is_toml(published) -> None:
    answer = ask(published, "/api/plan.toml", "languages=sw,yo&compute=1e21")
    assert answer.status == 200
    assert set(tomllib.loads(answer.body)["analysis"]["sampling"]) == {"sw", "yo"}


def test_openapi_describes_every_parameter(published) -> None:
    told = ask(published, "/api/openapi.json").json()
    assert told["openapi"].startswith("3.1")
    for path, operations in told["paths"].items():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                assert parameter["description"], (path, parameter["name"])
    assert "requestBody" in told["paths"]["/api/tables"]["post"]
    assert {"/api/plan", "/api/plan.toml", "/api/runs", "/api/languages"} <= set(told["paths"])


def test_every_language_is_listed_under_its_code(published) -> None:
    told = ask(published, "/api/languages", "search=swa").json()["languages"]
    assert "sw" in {each["code"] for each in told}
    every = ask(published, "/api/languages").json()["languages"]
    assert {"no", "nan"} & {each["code"] for each in every}


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("", "languages"),
        ("languages=sw", "budget"),
        ("languages=sw&compute=lots", "lots"),
        ("languages=sw&compute=nan", "compute"),
        ("languages=sw&compute=-1", "compute"),
        ("languages=sw&compute=inf", "compute"),
        ("languages=sw&compute=1e21&weights=2", "weights"),
        ("languages=sw&compute=1e21&weights=sw=x", "weights"),
        ("languages=sw&compute=1e21&objective=best", "objective"),
        ("languages=sw&compute=1e21&draws=100000", "draws"),
        ("languages=sw&compute=1e21&colour=red", "colour"),
        ("languages=sw&compute=1e21&source=elsewhere", "elsewhere"),
        ("languages=qq&compute=1e21", "qq"),
        ("languages=%3Cscript%3E&compute=1e21", "script"),
        ("languages=" + ",".join(f"x-{i}" for i in range(500)) + "&compute=1e21", "languages"),
    ],
)
def test_bad_questions_are_refused_with_a_reason(published, query: str, word: str) -> None:
    for path in ("/api/plan", "/view/plan"):
        answer = ask(published, path, query)
        assert answer.status == 400
        assert word in answer.json()["error"]
        assert answer.json()["hint"]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", ""])
def test_other_hosts_are_refused(published, host: str) -> None:
    assert ask(published, "/", host=host).status == 400


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_here_and_not_fetch(published, site: str) -> None:
    assert ask(published, "/api/plan", "languages=sw&compute=1e21", sec_fetch_site=site).status == 403
    assert ask(published, "/plan", sec_fetch_site=site, sec_fetch_mode="navigate").status == 200
    assert ask(published, "/plan", "", "POST", sec_fetch_site=site, sec_fetch_mode="navigate").status == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost.evil.example:8765", "http://["]
)
def test_pages_of_another_origin_are_refused(published, origin: str) -> None:
    assert ask(published, "/api/plan", "languages=sw&compute=1e21", origin=origin).status == 403
    assert ask(published, "/plan", origin="http://127.0.0.1:8765").status == 200


@pytest.mark.parametrize("path", ["/", "/api/plan", "/nowhere", "/api/runs", "/../../etc/passwd"])
def test_every_answer_carries_the_headers(published, path: str) -> None:
    headers = ask(published, path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/nowhere", "GET", 404), ("/plan", "POST", 405), ("/api/runs", "GET", 400)]
)
def test_what_is_not_there_is_json(published, path: str, method: str, status: int) -> None:
    answer = ask(published, path, method=method)
    assert answer.status == status
    assert answer.json()["error"]


def test_a_study_is_served_and_planned_from(study) -> None:
    page = patiently(study, "/report")
    assert page.status == 200
    assert "learning-curves" in page.body
    assert "unsafe-eval" not in page.headers["content-security-policy"]
    told = patiently(study, "/api/runs").json()
    assert told["runs"] == 55
    assert told["languages"] == ["da", "id", "sv", "sw"]
    assert {"law": "adaptive-transfer", "target": "sv"} in told["laws"]
    made = patiently(study, "/api/plan", "languages=sv&helpers=da&compute=1e14")
    assert made.status == 200
    assert set(made.json()["losses"]) == {"sv"}
    assert set(made.json()["tokens"]) == {"sv", "da"}
    assert ask(study, "/api/plan", "languages=sw&compute=1e21&source=published").json()["params"] > 1e8


def test_a_saved_fit_is_served_and_planned_from(folder: Path, tmp_path: Path) -> None:
    from babelscale import fit, laws

    runs = Runs.read(folder)
    fit(laws.Chinchilla("sv"), runs, resamples=20).save(tmp_path / "sv.json")
    app = create_app(tmp_path / "sv.json")
    made = ask(app, "/api/plan", "languages=sv&compute=1e14")
    assert made.status == 200
    assert made.json()["tokens"].keys() == {"sv"}
    assert ask(app, "/api/runs").status == 400
    assert ask(app, "/report").status == 404


def test_a_plan_for_an_unfitted_language_says_which_are_fitted(study) -> None:
    answer = patiently(study, "/api/plan", "languages=sw&compute=1e14")
    assert answer.status == 400
    assert "sv" in answer.json()["hint"]


def test_changed_runs_change_the_answers(folder: Path, runs: Runs, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    app = create_app(copy)
    assert patiently(app, "/api/runs").json()["runs"] == 55
    runs.select(runs.names[:40]).write(copy / "runs")
    assert patiently(app, "/api/runs").json()["runs"] == 40


def test_nothing_to_serve_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        serve(tmp_path / "absent")


def test_a_view_without_a_question_asks_for_what_was_fitted(study, folder: Path) -> None:
    shown = patiently(study, "/view/plan").json()
    assert shown["filled"]["languages"] == "sv"
    largest = max(fit.range["compute"][1] for fit in analyse(folder).best_fits)
    assert float(shown["filled"]["compute"]) == pytest.approx(10 * largest, rel=0.01)
    again = patiently(study, "/view/plan", "languages=sv&compute=" + shown["filled"]["compute"]).json()
    assert again["sections"] == shown["sections"]
    assert again["filled"] == {}
