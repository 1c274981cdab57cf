"""What a hostile page, address or string reaches of the page on this machine: nothing."""

import json
from urllib.parse import quote

import pytest
from tests.web.injections import STRINGS
from tests.web.test_app import ask

from babelscale.web import create_app, serve
from babelscale.web.pages import ENDPOINTS, PAGES


@pytest.fixture(scope="module")
def app():
    return create_app()


def test_there_are_enough_strings() -> None:
    assert len(set(STRINGS)) >= 200


def test_this_machine_alone_is_served_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr("uvicorn.run", lambda app, **given: asked.update(given))
    serve()
    assert asked["host"] == "127.0.0.1"


@pytest.mark.parametrize(
    "path",
    [
        "/static/x/../../app.py",
        "/static/x/..%2f..%2fapp.py",
        "/static/x/....//app.py",
        "/static//etc/passwd",
        "/static/x/%2e%2e%2fheaders.py",
        "/static/x/vega.js%00.css",
        "/static/x/page.css/../../app_state.py",
        "/static/x/C:\\windows\\win.ini",
        "/static/x/__init__.py",
        "/../../../etc/passwd",
        "//etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_folder(app, path: str) -> None:
    for form in (path, path.replace("%2f", "/").replace("%2e", ".").replace("%00", "\0")):
        assert ask(app, form).status == 404


def test_strings_come_back_as_json_and_as_nothing_else(app) -> None:
    for text in STRINGS:
        for name in ("languages", "source", "weights", "compute"):
            query = {"languages": "sw", "compute": "1e21"} | {name: text}
            answer = ask(app, "/api/plan", "&".join(f"{key}={quote(value)}" for key, value in query.items()))
            assert 400 <= answer.status < 500, (name, text)
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert json.loads(answer.body)["error"]


def test_no_page_repeats_what_its_address_says(app) -> None:
    for page in PAGES:
        plain = ask(app, f"/{page.name}").body
        for text in STRINGS[::20]:
            assert ask(app, f"/{page.name}", f"languages={quote(text)}").body == plain


def test_every_endpoint_refuses_what_it_does_not_know(app) -> None:
    for endpoint in ENDPOINTS:
        answer = ask(app, endpoint.path, "languages=sw&no-such-parameter=1")
        assert answer.status in (400, 404), endpoint.path
        assert json.loads(answer.body)["error"]


def test_a_question_longer_than_any_person_asks_is_refused(app) -> None:
    answer = ask(app, "/api/plan", f"compute=1e21&languages={'sw,' * 30_000}")
    assert answer.status == 400
    assert "characters" in answer.json()["error"]


@pytest.mark.parametrize("number", ["1e400", "-0", "0x10", "1_000", "٣", "nan", "inf", "1e-400", " ", "1,5"])
def test_odd_numbers_are_refused_or_read_as_what_they_are(app, number: str) -> None:
    answer = ask(app, "/api/plan", f"languages=sw,yo&compute={quote(number)}")
    assert answer.status in (200, 400)
    if answer.status == 200:
        assert answer.json()["compute"] == float(number)
    else:
        assert answer.json()["hint"]
