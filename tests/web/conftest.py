"""A served application and a real Chromium: what the page does on a screen, and that nothing leaves this machine."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn

from babelscale.web import create_app

# Pictures of every page, kept for the eye of whoever reads the results.
SCREENSHOTS = Path("build/screenshots")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Seen:
    """What a page did besides drawing: errors it logged, and what it asked for."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def elsewhere(self) -> list[str]:
        """Requests that left this machine; `data:` and `blob:` do not."""
        return [url for url in self.requests if urlsplit(url).hostname not in ("127.0.0.1", None)]


@contextmanager
def running(path: Path | None = None) -> Iterator[str]:
    """An application on a free port of this machine; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_app(path), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def serving() -> Iterator[Callable[[Path | None], str]]:
    """Serves a path, or published figures alone, until the module's tests are done; gives the address."""
    held: dict[Path | None, tuple[object, str]] = {}

    def serve(path: Path | None = None) -> str:
        if path not in held:
            manager = running(path)
            held[path] = (manager, manager.__enter__())
        return held[path][1]

    yield serve
    for manager, _ in held.values():
        manager.__exit__(None, None, None)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, for one module: its event loop and `asyncio.run` of other tests do not go together."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=list(_QUIET))
        yield chromium
        chromium.close()


@pytest.fixture
def look(browser) -> Iterator[Callable]:
    """Opens an address and gives the page; a test fails afterwards where the page logged an error or asked elsewhere.

    look(address, width=1300, height=1000, dark=False) -> a Playwright page; `page.seen` is what it did.
    """
    contexts, seen = [], Seen()

    def opened(address: str, *, width: int = 1300, height: int = 1000, dark: bool = False, errors: bool = False):
        """`errors`: the test expects refusals, which Chromium logs."""
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        if not errors:
            page.on("console", lambda said: seen.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.seen = seen
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert seen.errors == []
    assert seen.elsewhere == []


@pytest.fixture
def keep() -> Callable:
    """Keeps a picture of a page under a name."""

    def shot(page, name: str) -> Path:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        page.screenshot(path=path, full_page=True)
        return path

    return shot
