"""Endpoints: an address, the question it takes and the function that answers; as routes, and as OpenAPI."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import babelscale
from babelscale.errors import DomainError, InputError
from babelscale.web.app_state import PUBLISHED, AppState
from babelscale.web.job_queue import JobPending, QueueFull
from babelscale.web.query import Query
from babelscale.web.worker_pool import AnswerPool

# Answers of this process at once: more threads than CPUs would only make every one of them late.
_AT_ONCE = 2
# Answers that are kept, and the bytes of the longest of these.
_KEPT, _LONGEST = 256, 400_000


@dataclass(frozen=True)
class Endpoint:
    """One address of the API.

    `answer(served, question)` gives what becomes JSON, or a whole Response. `says` is told in the documentation.
    `heavy` ones are answered in a process of their own where they rest on published figures alone.
    """

    path: str
    question: type[Query]
    answer: Callable[[AppState, Any], Any]
    description: str
    heavy: bool = False

    def respond(self, state: AppState, query: Mapping[str, str]) -> Response:
        """The answer to a query, refusals included."""
        try:
            found = self.answer(state, self.question.read(query))
        except JobPending as busy:
            return json_response({"working": {"what": busy.what, "done": busy.done, "total": busy.total}}, 202)
        except QueueFull as error:
            return refusal(error.message, error.hint, 503)
        except (InputError, DomainError) as error:
            return refusal(error.message, error.hint, 400)
        return found if isinstance(found, Response) else json_response(found)

    def route(self, state: AppState, dispatcher: "Dispatcher") -> Route:
        async def respond(request: Request) -> Response:
            return await dispatcher.respond(self, state, dict(request.query_params))

        return Route(self.path, respond, methods=["GET"])


class Dispatcher:
    """Chooses who answers: another process, a thread of this one, or the answers that were kept."""

    def __init__(self) -> None:
        self.processes = AnswerPool()
        self._here = anyio.CapacityLimiter(_AT_ONCE)
        self._there = anyio.CapacityLimiter(self.processes.count)
        self._kept: OrderedDict[str, Response] = OrderedDict()

    async def respond(self, endpoint: Endpoint, state: AppState, query: dict[str, str]) -> Response:
        if not (endpoint.heavy and (query.get("source") or state.default_source) == PUBLISHED):
            return await anyio.to_thread.run_sync(endpoint.respond, state, query, limiter=self._here)
        key = json.dumps([endpoint.path, sorted(query.items())])
        if (found := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return found
        found = await anyio.to_thread.run_sync(self.processes.ask, endpoint.path, query, limiter=self._there)
        if found.status_code == 200 and len(found.body) <= _LONGEST:
            self._kept[key] = found
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def close(self) -> None:
        self.processes.close()


@dataclass(frozen=True)
class Page:
    """One page: its name is its address, its controls a template, and its endpoints what these ask."""

    name: str
    title: str
    description: str
    endpoints: Sequence[Endpoint]
    query: type[Query] = Query  # its options are the controls of the page's form

    @property
    def template(self) -> str:
        return f"{self.name}.html"


def json_response(value: Any, status: int = 200) -> Response:
    """Strict JSON; NaN has no place in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, media_type="application/json")


def openapi(endpoints: Sequence[Endpoint], upload: dict[str, Any]) -> dict[str, Any]:
    """The API as an OpenAPI 3.1 document; `upload` is the operation that takes tables."""
    paths: dict[str, dict[str, Any]] = {endpoint.path: {"get": _operation(endpoint)} for endpoint in endpoints}
    paths.setdefault("/api/tables", {})["post"] = upload
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "babelscale",
            "version": babelscale.__version__,
            "description": (
                "The functions of the Python package over HTTP, on this machine. A long answer starts "
                "with status 202 and its progress: send the request again."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": {"Refusal": _REFUSAL, "Working": _WORKING}},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "operationId": endpoint.path.strip("/").replace("/", "-"),
        "summary": endpoint.description.partition(". ")[0],
        "description": endpoint.description,
        "parameters": [
            {
                "name": each.flag,
                "in": "query",
                "required": each.required,
                "description": each.help_with(lambda other: other.flag),
                "schema": {"type": "string"},
                **({"example": each.example} if each.example else {}),
            }
            for each in endpoint.question.parameters()
        ],
        "responses": {
            "200": {"description": "the answer", "content": {"application/json": {"schema": {"type": "object"}}}},
            "202": _response("the answer is being computed: send the request again", "Working"),
            "400": _response("the question cannot be answered", "Refusal"),
        },
    }


def _response(description: str, schema: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


_REFUSAL = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "hint": {"type": ["string", "null"]}},
}
_WORKING = {
    "type": "object",
    "required": ["working"],
    "properties": {
        "working": {
            "type": "object",
            "properties": {"what": {"type": "string"}, "done": {"type": "integer"}, "total": {"type": "integer"}},
        }
    },
}


def refusal(message: str, hint: str | None, status: int) -> JSONResponse:
    return JSONResponse({"error": message, "hint": hint}, status)
