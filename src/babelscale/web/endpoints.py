"""Endpoints: an address, the question it takes and the function that answers; as routes, and as OpenAPI."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import babelscale
from babelscale.web.questions import Question
from babelscale.web.served import Served
from babelscale.web.work import Working

# Answers at once: more threads than CPUs would only make every one of them late.
_AT_ONCE = 2


@dataclass(frozen=True)
class Endpoint:
    """One address of the API.

    `answer(served, question)` gives what becomes JSON, or a whole Response. `says` is told in the documentation.
    """

    path: str
    question: type[Question]
    answer: Callable[[Served, Any], Any]
    says: str

    def route(self, served: Served) -> Route:
        async def respond(request: Request) -> Response:
            asked = self.question.read(request.query_params)
            try:
                found = await anyio.to_thread.run_sync(self.answer, served, asked, limiter=_limiter(request))
            except Working as busy:
                return json_response({"working": {"what": busy.what, "done": busy.done, "total": busy.total}}, 202)
            return found if isinstance(found, Response) else json_response(found)

        return Route(self.path, respond, methods=["GET"])


@dataclass(frozen=True)
class Page:
    """One page: its name is its address, its controls a template, and its endpoints what these ask."""

    name: str
    title: str
    says: str
    endpoints: Sequence[Endpoint]

    @property
    def template(self) -> str:
        return f"{self.name}.html"


def json_response(value: Any, status: int = 200) -> Response:
    """Strict JSON; NaN has no place in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, media_type="application/json")


def _limiter(request: Request) -> anyio.CapacityLimiter:
    state = request.app.state
    if not hasattr(state, "limiter"):
        state.limiter = anyio.CapacityLimiter(_AT_ONCE)
    return state.limiter


def openapi(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The API as an OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "babelscale",
            "version": babelscale.__version__,
            "description": "The functions of the Python package over HTTP, on this machine. Long answers come as 202 "
            "with their progress: ask again.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {endpoint.path: {"get": _operation(endpoint)} for endpoint in endpoints},
        "components": {"schemas": {"Refusal": _REFUSAL, "Working": _WORKING}},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "operationId": endpoint.path.strip("/").replace("/", "-"),
        "summary": endpoint.says.partition(". ")[0],
        "description": endpoint.says,
        "parameters": [
            {
                "name": name, "in": "query", "required": field.is_required(), "description": field.description or "",
                "schema": {"type": "string"}, **({"example": field.examples[0]} if field.examples else {}),
            }
            for name, field in endpoint.question.model_fields.items()
        ],
        "responses": {
            "200": {"description": "the answer", "content": {"application/json": {"schema": {"type": "object"}}}},
            "202": _answer("it is being worked on: ask again", "Working"),
            "400": _answer("the question cannot be answered", "Refusal"),
        },
    }  # fmt: skip


def _answer(says: str, schema: str) -> dict[str, Any]:
    return {
        "description": says, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    }  # fmt: skip


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
            "properties": {
                "what": {"type": "string"}, "done": {"type": "integer"}, "total": {"type": "integer"},
            },
        }
    },
}  # fmt: skip


def refusal(message: str, hint: str | None, status: int) -> JSONResponse:
    return JSONResponse({"error": message, "hint": hint}, status)
