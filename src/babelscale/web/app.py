"""The page on this machine: a study's report, or a form that plans from the study's printed figures; and their JSON.

GET /             the report of PATH, made anew when its runs change; without PATH the form and its plan
GET /api/plan     ?languages=sw,yo&compute=1e21[&published=1]
GET /api/runs     what the runs are, in a few numbers
"""

import math
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from babelscale.errors import DomainError, InputError
from babelscale.planning import Plan, plan
from babelscale.reporting.compose import page
from babelscale.reporting.findings import plan_section
from babelscale.reporting.page import Section, content_policy, render
from babelscale.reporting.result import Walk
from babelscale.reporting.walk import analyse
from babelscale.web.headers import SafeHeaders

LOCAL = ("localhost", "127.0.0.1")
# A plan over more languages than any study has trained on says nothing, and would keep the machine busy.
MOST_LANGUAGES = 50
_FOOTER = (
    "Planned from the printed figures of Longpre et al. (2025), arXiv 2510.22037. Figures measured on text of your own "
    "are better: run a study, and serve its folder."
)


def create_app(path: str | Path | None = None, *, hosts: tuple[str, ...] = LOCAL) -> Starlette:
    """The application for a study's folder, a folder or table of runs, or (no path) the published figures.

    Args:
        hosts: names by which a browser may ask for it; every other Host is refused.
    """
    if path is None:
        routes = [Route("/", _planner), Route("/api/plan", _published_plan), Route("/api/runs", _no_runs)]
    else:
        shelf = _Shelf(Path(path))
        routes = [Route("/", shelf.report), Route("/api/plan", shelf.plan), Route("/api/runs", shelf.runs)]
    middleware = [
        Middleware(SafeHeaders, policy=content_policy()),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
    ]
    handlers: dict[type[Exception], Callable[[Request, Exception], Response]] = {
        InputError: _refused,
        DomainError: _refused,
        HTTPException: _http_error,
    }
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)  # pyright: ignore[reportArgumentType]


def serve(path: str | Path | None = None, *, host: str = "127.0.0.1", port: int = 8765) -> None:
    """Serve until interrupted.

    Raises:
        InputError: there is nothing readable at `path`.
    """
    import uvicorn

    if path is not None and not Path(path).exists():
        raise InputError(f"{path}: no such file or folder", hint="name a study's folder, or a folder or table of runs")
    hosts = LOCAL if host in (*LOCAL, "0.0.0.0", "::", "::1") else (*LOCAL, host)
    uvicorn.run(create_app(path, hosts=hosts), host=host, port=port, log_level="info", server_header=False)


class _Shelf:
    """The walk of a path and its page, made anew when the files behind it change; one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: object = None
        self._walk: Walk | None = None
        self._page = ""

    def walk(self) -> Walk:
        with self._lock:
            stamp = self._look()
            if self._walk is None or stamp != self._stamp:
                self._walk, self._page, self._stamp = analyse(self._path), "", stamp
            return self._walk

    def report(self, request: Request) -> Response:
        walk = self.walk()
        with self._lock:
            self._page = self._page or page(walk)
            return HTMLResponse(self._page)

    def plan(self, request: Request) -> Response:
        languages, compute, published = _question(request.query_params)
        if published:
            return JSONResponse(_answer(languages, compute).to_dict())
        walk = self.walk()
        fits = [fit for fit in walk.best_fits if fit.target is None or fit.target in languages]
        if not fits:
            known = ", ".join(fit.target or "all text" for fit in walk.best_fits) or "none"
            raise InputError(f"no law was fitted for {', '.join(languages)}", hint=f"fitted targets: {known}")
        return JSONResponse(plan(fits, compute=compute, languages=languages).to_dict())

    def runs(self, request: Request) -> Response:
        walk = self.walk()
        table = walk.runs.table
        return JSONResponse(
            {
                "title": walk.title,
                "runs": len(walk.runs),
                "languages": list(walk.runs.languages),
                "targets": list(walk.runs.targets),
                "params": [table["params"].min(), table["params"].max()],
                "tokens": [table["tokens"].min(), table["tokens"].max()],
                "metric": walk.runs.metric,
                "hash": walk.runs.hash,
                "laws": [{"law": fit.law.name, "target": fit.target} for fit in walk.fits],
                "limits": list(walk.limits),
            }
        )

    def _look(self) -> object:
        """Names, times and sizes of the files behind the runs."""
        folder = self._path / "runs" if (self._path / "runs").is_dir() else self._path
        files = [*folder.glob("*.parquet"), *folder.glob("*.csv"), self._path / "design.json", self._path]
        found = [file for file in files if file.is_file()]
        return sorted((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in found)


def _planner(request: Request) -> Response:
    """The form, and the plan it asks for; what cannot be planned is said on the page."""
    asked = {name: request.query_params.get(name, "") for name in ("languages", "compute")}
    sections, status = [], 200
    if any(asked.values()):
        try:
            languages, compute, _ = _question(request.query_params)
            sections = [plan_section(_answer(languages, compute))]
        except (InputError, DomainError) as error:
            status = 400
            said = [error.message, *([f"Hint: {error.hint}."] if error.hint else [])]
            sections = [Section("This cannot be planned", "refused", warning=said)]
    title = "What to train, and how long"
    subtitle = "Model size, tokens and mixture of languages for a compute budget, from published scaling laws"
    return HTMLResponse(render(title, subtitle, sections, footer=_FOOTER, asked=asked), status)


def _published_plan(request: Request) -> Response:
    languages, compute, _ = _question(request.query_params)
    return JSONResponse(_answer(languages, compute).to_dict())


def _no_runs(request: Request) -> Response:
    raise HTTPException(404, "no runs are served here; start it as `babelscale serve PATH`")


def _answer(languages: list[str], compute: float) -> Plan:
    return plan(compute=compute, languages=languages, published=True)


def _question(query: Mapping[str, str]) -> tuple[list[str], float, bool]:
    """Languages, compute and whether to plan from published figures.

    Raises:
        InputError: naming the field.
    """
    languages = list(dict.fromkeys(code.strip() for code in query.get("languages", "").split(",") if code.strip()))
    if not languages:
        raise InputError("languages: none given", hint="codes with commas between them, such as sw,yo,ha")
    if len(languages) > MOST_LANGUAGES:
        raise InputError(f"languages: {len(languages)} given", hint=f"{MOST_LANGUAGES} at most are planned together")
    told = query.get("compute", "")
    try:
        compute = float(told)
    except ValueError:
        compute = math.nan
    if not (math.isfinite(compute) and compute > 0):
        raise InputError(f"compute: {told[:40]!r} is not a number of FLOPs", hint="a positive number, such as 1e21")
    return languages, compute, query.get("published", "") not in ("", "0", "false")


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, InputError | DomainError)
    return JSONResponse({"error": error.message, "hint": error.hint}, 400)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail, "hint": None}, error.status_code, headers=error.headers)
