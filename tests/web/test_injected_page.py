"""Hostile strings in the address of a page, in Chromium: shown as text, run by nobody."""

from urllib.parse import quote

import pytest
from tests.web.injections import STRINGS

from babelscale.web.pages import PAGES

_WATCH = """
window.hits = [];
for (const name of ["alert", "confirm", "prompt"]) window[name] = () => window.hits.push(name);
document.addEventListener("securitypolicyviolation", (event) => window.hits.push(event.violatedDirective));
"""


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_strings_in_the_address_are_text(serving, browser, page) -> None:
    context = browser.new_context()
    context.add_init_script(_WATCH)
    opened = context.new_page()
    elsewhere: list[str] = []
    opened.on("request", lambda asked: elsewhere.append(asked.url) if "evil.example" in asked.url else None)
    # Pages take their state by the same road, so each tries its own part of the strings.
    for text in STRINGS[PAGES.index(page) :: len(STRINGS) // 6]:
        told = quote(text)
        opened.goto(
            f"{serving()}/{page.name}?languages={told}&weights={told}&helpers={told}&compute={told}&source={told}"
        )
        opened.wait_for_timeout(150)
        assert opened.evaluate("() => [window.hits, window.hit ?? null]") == [[], None], text
        assert opened.evaluate("() => document.querySelectorAll('main script, main iframe, main img').length") == 0
    assert [url for url in elsewhere if "evil.example" in url.partition("?")[0]] == []
    context.close()
