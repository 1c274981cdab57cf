"""The page on this machine, asked through ASGI without a socket."""

import asyncio
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from babelscale.errors import InputError
from babelscale.runs import Runs
from babelscale.web import create_app, serve


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
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8765),
    }  # fmt: skip
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


def test_the_form_plans_from_the_address_bar(published) -> None:
    empty = ask(published, "/")
    assert empty.status == 200
    assert "<form" in empty.body
    assert "plan-tokens" not in empty.body
    answer = ask(published, "/", "languages=sw,yo,ha&compute=1e21")
    assert answer.status == 200
    assert "Swahili (sw)" in answer.body
    assert 'value="sw,yo,ha"' in answer.body
    assert "plan-tokens" in answer.body


def test_the_json_equals_the_python_answer(published) -> None:
    from babelscale.planning import plan

    answer = ask(published, "/api/plan", "languages=sw,yo&compute=1e21&published=1")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == json.loads(json.dumps(plan(compute=1e21, languages=["sw", "yo"], published=True).to_dict()))


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("", "languages"),
        ("languages=sw", "compute"),
        ("languages=sw&compute=lots", "lots"),
        ("languages=sw&compute=nan", "compute"),
        ("languages=sw&compute=-1", "compute"),
        ("languages=sw&compute=inf", "compute"),
        ("languages=qq&compute=1e21", "qq"),
        ("languages=%3Cscript%3E&compute=1e21", "script"),
        ("languages=" + ",".join(f"x-{i}" for i in range(60)) + "&compute=1e21", "60"),
    ],
)
def test_bad_questions_are_refused_with_a_reason(published, query: str, word: str) -> None:
    answer = ask(published, "/api/plan", query)
    assert answer.status == 400
    assert word in answer.json()["error"]
    assert answer.json()["hint"]
    shown = ask(published, "/", query)
    assert shown.status == (400 if query else 200)
    assert "<script>" not in shown.body


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", ""])
def test_other_hosts_are_refused(published, host: str) -> None:
    assert ask(published, "/", host=host).status == 400


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_here_and_not_fetch(published, site: str) -> None:
    assert ask(published, "/api/plan", "languages=sw&compute=1e21", sec_fetch_site=site).status == 403
    assert ask(published, "/", sec_fetch_site=site, sec_fetch_mode="navigate").status == 200


@pytest.mark.parametrize("path", ["/", "/api/plan", "/nowhere", "/api/runs", "/../../etc/passwd"])
def test_every_answer_carries_the_headers(published, path: str) -> None:
    headers = ask(published, path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src 'unsafe-inline'" not in policy


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/nowhere", "GET", 404), ("/", "POST", 405), ("/api/runs", "GET", 404)]
)
def test_what_is_not_there_is_json(published, path: str, method: str, status: int) -> None:
    answer = ask(published, path, method=method)
    assert answer.status == status
    assert answer.json()["error"]


def test_a_study_is_served_and_planned_from(study) -> None:
    page = ask(study, "/")
    assert page.status == 200
    assert "learning-curves" in page.body
    told = ask(study, "/api/runs").json()
    assert told["runs"] == 55
    assert told["languages"] == ["da", "id", "sv", "sw"]
    assert {"law": "adaptive-transfer", "target": "sv"} in told["laws"]
    made = ask(study, "/api/plan", "languages=sv,da&compute=1e14")
    assert made.status == 200
    assert set(made.json()["losses"]) == {"sv"}
    assert ask(study, "/api/plan", "languages=sw&compute=1e21&published=1").json()["params"] > 1e8


def test_a_plan_for_an_unfitted_language_says_which_are_fitted(study) -> None:
    answer = ask(study, "/api/plan", "languages=sw&compute=1e14")
    assert answer.status == 400
    assert "sv" in answer.json()["hint"]


def test_changed_runs_change_the_page(folder: Path, runs: Runs, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    app = create_app(copy)
    assert ask(app, "/api/runs").json()["runs"] == 55
    runs.select(runs.names[:40]).write(copy / "runs")
    assert ask(app, "/api/runs").json()["runs"] == 40


def test_nothing_to_serve_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        serve(tmp_path / "absent")
