"""Endpoints: an address, its query and the function that answers; as routes, and as OpenAPI."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import babelscale
from babelscale.errors import DomainError, InputError
from babelscale.web.app_state import PUBLISHED, AppState
from babelscale.web.job_queue import JobPending, QueueFull
from babelscale.web.query import Query
from babelscale.web.responses import json_response, refusal
from babelscale.web.worker_pool import AnswerPool

# Threads of this process that answer; with more threads than CPUs every answer would be late.
_THREADS = 2
# Number of cached answers, and bytes of the longest of these.
_CACHED, _LONGEST = 256, 400_000


@dataclass(frozen=True)
class Endpoint:
    """One address of the API.

    `answer(state, query)` returns a result, values for JSON, or a complete Response. `heavy` endpoints answer in
    another process if the query needs published figures only.
    """

    path: str
    query: type[Query]
    answer: Callable[[AppState, Any], Any]
    description: str
    heavy: bool = False

    def respond(self, state: AppState, query: Mapping[str, str]) -> Response:
        """The answer to a query; errors become refusals."""
        try:
            answer = self.answer(state, self.query.read(query))
        except JobPending as busy:
            return json_response({"working": {"what": busy.what, "done": busy.done, "total": busy.total}}, 202)
        except QueueFull as error:
            return refusal(error.message, error.hint, 503)
        except (InputError, DomainError) as error:
            return refusal(error.message, error.hint, 400)
        return answer if isinstance(answer, Response) else json_response(answer)

    def route(self, state: AppState, dispatcher: "Dispatcher") -> Route:
        async def respond(request: Request) -> Response:
            return await dispatcher.respond(self, state, dict(request.query_params))

        return Route(self.path, respond, methods=["GET"])


class Dispatcher:
    """Sends a query to another process or to a thread of this one, or takes the answer from the cache."""

    def __init__(self) -> None:
        self.processes = AnswerPool()
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._workers = anyio.CapacityLimiter(self.processes.count)
        self._cache: OrderedDict[str, Response] = OrderedDict()

    async def respond(self, endpoint: Endpoint, state: AppState, query: dict[str, str]) -> Response:
        if not (endpoint.heavy and (query.get("source") or state.default_source) == PUBLISHED):
            return await anyio.to_thread.run_sync(endpoint.respond, state, query, limiter=self._threads)
        key = json.dumps([endpoint.path, sorted(query.items())])
        if (response := self._cache.get(key)) is not None:
            self._cache.move_to_end(key)
            return response
        response = await anyio.to_thread.run_sync(self.processes.ask, endpoint.path, query, limiter=self._workers)
        if response.status_code == 200 and len(response.body) <= _LONGEST:
            self._cache[key] = response
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        return response

    def close(self) -> None:
        self.processes.close()


@dataclass(frozen=True)
class Page:
    """One page: its name is its address, and a template contains its controls, which send queries to its endpoints."""

    name: str
    title: str
    description: str
    endpoints: Sequence[Endpoint]
    query: type[Query] = Query  # its options are the controls of the page's form

    @property
    def template(self) -> str:
        return f"{self.name}.html"


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
                "The functions of the Python package over HTTP, on this machine. If an answer takes long, the status "
                "is 202 and the body contains the progress. Send the request again later."
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
            for each in endpoint.query.parameters()
        ],
        "responses": {
            "200": {"description": "the answer", "content": {"application/json": {"schema": {"type": "object"}}}},
            "202": _response("the answer is being computed; send the request again", "Working"),
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
