"""The page on this machine, and the JSON API under it.

GET /plan, /transfer, /laws, /adding-languages, /study    the pages; the address contains their state
GET /view/PAGE                                 the content of a page, as sections in JSON
GET /api/...                                   the functions of the Python API; /api/openapi.json describes them
POST /api/tables                               receives a table of runs (see `uploads`)
GET /report                                    the report of the served runs, as one file
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
from babelscale.web import assets, uploads
from babelscale.web.app_state import SERVED, AppState
from babelscale.web.endpoints import Dispatcher, Page, openapi
from babelscale.web.headers import SafeHeaders
from babelscale.web.job_queue import JobPending
from babelscale.web.pages import ENDPOINTS, PAGES
from babelscale.web.responses import json_response, refusal

LOCAL = ("localhost", "127.0.0.1")
# Addresses of earlier versions, for saved links.
_MOVED = {"/curse": "/adding-languages", "/view/curse": "/view/adding-languages"}


def create_app(path: str | Path | None = None, *, hosts: tuple[str, ...] = LOCAL) -> Starlette:
    """The application for a path (see `AppState`); without a path it serves the published figures.

    Args:
        hosts: accepted names of this server; requests with another Host are refused.
    """
    state = AppState(None if path is None else Path(path))
    dispatcher = Dispatcher()
    routes = [
        Route("/", _home),
        assets.ROUTE,
        _description(),
        Route("/report", _report(state)),
        uploads.route(state.uploads),
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
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        dispatcher.processes.start()
        yield
        dispatcher.close()
        state.close()

    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=lifespan)  # pyright: ignore[reportArgumentType]


def serve(
    path: str | Path | None = None, *, host: str = "127.0.0.1", port: int = 8765, names: tuple[str, ...] = ()
) -> None:
    """Serve until interrupted.

    Args:
        names: further names of this server for browsers on other machines, if `host` is not this machine alone.

    Raises:
        InputError: `path` does not exist.
    """
    import uvicorn

    if path is not None and not Path(path).exists():
        raise InputError(
            f"{path}: no such file or folder", hint="give the folder of a study, or a folder or table of runs"
        )
    every = host in ("0.0.0.0", "::")
    hosts = (*LOCAL, *names) if host in LOCAL or every else (*LOCAL, host, *names)
    # People pause longer than the default of 5 s, and a question that meets a closing connection would be lost.
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
    """The HTML of a page, with the controls of its query."""
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
    return Route("/api/openapi.json", lambda request: json_response(openapi(ENDPOINTS, uploads.OPERATION)))


def _report(state: AppState) -> Callable[[Request], Response]:
    def report(request: Request) -> Response:
        if not state.has_runs:
            raise HTTPException(404, "this server has no runs; start it with `babelscale serve PATH`")
        try:
            analysis = state.analysis(SERVED)
        except JobPending as job:
            text = _TEMPLATES.get_template("waiting.html").render(what=job.what, done=job.done, total=job.total)
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
