"""The page on this machine, and the JSON API under it.

GET /plan, /transfer, /laws, /adding-languages, /study    the pages; their state stands in the address
GET /view/PAGE                                 what a page shows, as sections in JSON
GET /api/...                                   the functions of the Python API; /api/openapi.json describes them
POST /api/tables                               takes a table of runs (see `upload_endpoint`)
GET /report                                    the report of what is served, as one file
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from babelscale.errors import DomainError, InputError
from babelscale.reporting.report.build import report_html
from babelscale.reporting.report.html import content_policy
from babelscale.tabular import ENDINGS, PACKED_ENDINGS
from babelscale.web import assets, upload_endpoint
from babelscale.web.app_state import SERVED, AppState
from babelscale.web.endpoints import Dispatcher, Page, json_response, openapi, refusal
from babelscale.web.headers import SafeHeaders
from babelscale.web.job_queue import JobPending
from babelscale.web.pages import ENDPOINTS, PAGES

LOCAL = ("localhost", "127.0.0.1")
# Addresses of earlier versions, which saved links may hold.
_MOVED = {"/curse": "/adding-languages", "/view/curse": "/view/adding-languages"}


def create_app(path: str | Path | None = None, *, hosts: tuple[str, ...] = LOCAL) -> Starlette:
    """The application for a study's folder, a folder or table of runs, saved fits, or (no path) the published figures.

    Args:
        hosts: names by which a browser may ask for it; every other Host is refused.
    """
    state = AppState(None if path is None else Path(path))
    dispatcher = Dispatcher()
    routes = [
        Route("/", _home),
        assets.ROUTE,
        _description(),
        Route("/report", _report(state)),
        upload_endpoint.route(state.uploads),
        *(Route(path, _moved) for path in _MOVED),
        *(_view(page, state) for page in PAGES),
        *(endpoint.route(state, dispatcher) for endpoint in ENDPOINTS),
    ]
    middleware = [
        Middleware(SafeHeaders, hosts=hosts),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
    ]
    handlers: dict[type[Exception], Callable[[Request, Exception], Response]] = {
        InputError: _refused,
        DomainError: _refused,
        HTTPException: _http_error,
    }

    @asynccontextmanager
    async def whole_life(app: Starlette) -> AsyncIterator[None]:
        dispatcher.processes.start()
        yield
        dispatcher.close()
        state.close()

    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=whole_life)  # pyright: ignore[reportArgumentType]


def serve(
    path: str | Path | None = None, *, host: str = "127.0.0.1", port: int = 8765, names: tuple[str, ...] = ()
) -> None:
    """Serve until interrupted.

    Args:
        names: by which browsers on other machines ask for this one, where `host` is not this machine alone.

    Raises:
        InputError: there is nothing readable at `path`.
    """
    import uvicorn

    if path is not None and not Path(path).exists():
        raise InputError(
            f"{path}: no such file or folder", hint="give the folder of a study, or a folder or table of runs"
        )
    every = host in ("0.0.0.0", "::")
    hosts = (*LOCAL, *names) if host in LOCAL or every else (*LOCAL, host, *names)
    # A person looks for longer than the usual 5 s; a connection that closes as the next question leaves would lose it.
    uvicorn.run(
        create_app(path, hosts=hosts),
        host=host,
        port=port,
        log_level="info",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
    )


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FunctionLoader(
        lambda name: resources.files("babelscale.web").joinpath("templates", name).read_text("utf-8")
    ),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page_text(page: Page, state: AppState) -> str:
    """The HTML of a page, with the controls that its query declares."""
    return _TEMPLATES.get_template(page.template).render(
        page=page,
        form=page.query.form(),
        pages=PAGES,
        release=assets.release(),
        sources=state.sources,
        state=state,
        endings=(*ENDINGS, *PACKED_ENDINGS),
    )


def _view(page: Page, state: AppState) -> Route:
    return Route(f"/{page.name}", lambda request: HTMLResponse(page_text(page, state)))


def _description() -> Route:
    return Route("/api/openapi.json", lambda request: json_response(openapi(ENDPOINTS, upload_endpoint.OPERATION)))


def _report(state: AppState) -> Callable[[Request], Response]:
    def report(request: Request) -> Response:
        if not state.has_runs:
            raise HTTPException(404, "no runs are served here; start it as `babelscale serve PATH`")
        try:
            analysis = state.analysis(SERVED)
        except JobPending as busy:
            text = _TEMPLATES.get_template("waiting.html").render(what=busy.what, done=busy.done, total=busy.total)
            return HTMLResponse(text, 202, headers={"refresh": "2"})
        policy = f"{content_policy()}; frame-ancestors 'none'"
        return HTMLResponse(report_html(analysis), headers={"content-security-policy": policy})

    return report


def _home(request: Request) -> Response:
    return RedirectResponse(PAGES[0].name)


def _moved(request: Request) -> Response:
    return RedirectResponse(f"{_MOVED[request.url.path]}?{request.url.query}".removesuffix("?"), 308)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, InputError | DomainError)
    return refusal(error.message, error.hint, 400)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = refusal(error.detail, None, error.status_code)
    answer.headers.update(error.headers or {})
    return answer
