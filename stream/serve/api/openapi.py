"""The OpenAPI document, made from the operations of the routes and the structs they name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from abhinaya.models.command_line import version
from abhinaya.stream.serve.api.endpoint import Endpoint, Operation
from abhinaya.stream.serve.errors import Failure, answer

_REF: Final = "#/components/schemas/{name}"
_MEANING: Final = {
    400: "a parameter or the body is wrong",
    401: "the token or the session is missing, unknown or over",
    403: "the role is too low, or the request comes from another site",
    404: "unknown",
    409: "somebody else was first, or it is over",
    413: "the body is too long",
    415: "the body has another type of content",
    422: "the input cannot be used",
    429: "too many requests",
    503: "busy, or the history cannot be read",
}
_PATH: Final = re.compile(r"{(\w+)(?::(\w+))?}")


def routes(documented: Iterable[BaseRoute]) -> list[BaseRoute]:
    """Return the route of the document about other routes."""
    made = document(documented)

    async def show(_: Request) -> Response:
        return answer(made)

    return [Route("/v1/openapi.json", show)]


def document(documented: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the OpenAPI document about all routes that are endpoints."""
    endpoints = [route for route in documented if isinstance(route, Endpoint)]
    kinds = list(dict.fromkeys([Failure, *(k for e in endpoints for k in _kinds(e.operation))]))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        path = _PATH.sub(r"{\1}", endpoint.path)
        for method in sorted((endpoint.methods or set()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(endpoint, of, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Abhinaya",
            "version": version(),
            "description": "Events have the form of docs/events.md, with `number` and `stream_id`.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "abhinaya_session"},
            },
        },
    }


def _kinds(operation: Operation) -> Iterator[Any]:
    yield from (k for k in (operation.query, operation.body, operation.form) if k is not None)
    yield from _answers(operation)


def _answers(operation: Operation) -> tuple[Any, ...]:
    """Return the types of the JSON of a success."""
    given = operation.answer
    return given if isinstance(given, tuple) else () if given is None else (given,)


def _operation(
    endpoint: Endpoint, of: dict[Any, dict[str, Any]], components: dict[str, Any]
) -> dict[str, Any]:
    operation = endpoint.operation
    made: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": [
            *_in_path(endpoint.path),
            *(_in_query(components[operation.query.__name__]) if operation.query else ()),
        ],
        "responses": _responses(operation, of, named="{" in endpoint.path),
        "security": [{"token": []}, {"session": []}] if operation.role else [],
    }
    if operation.role:
        made["description"] = f"Needs the role {operation.role}."
    content: dict[str, Any] = {}
    if operation.body is not None:
        content["application/json"] = {"schema": of[operation.body]}
    if operation.form is not None:
        content["multipart/form-data"] = {"schema": of[operation.form]}
    if content:
        made["requestBody"] = {"required": True, "content": content}
    return made


def _in_path(path: str) -> Iterator[dict[str, Any]]:
    for name, kind in _PATH.findall(path):
        schema = {"type": "integer", "minimum": 0} if kind == "int" else {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, of in schema["properties"].items():
        required = name in schema.get("required", ())
        # a query has no null: the parameter is left out
        choices = [kind for kind in of.get("anyOf", [of]) if kind.get("type") != "null"]
        inner = {k: v for k, v in choices[0].items() if k != "default"}
        yield {"name": name, "in": "query", "required": required, "schema": inner}


def _responses(
    operation: Operation, of: dict[Any, dict[str, Any]], *, named: bool
) -> dict[str, Any]:
    content: dict[str, Any] = {media: {} for media in operation.media}
    if kinds := [of[kind] for kind in _answers(operation)]:
        content["application/json"] = {"schema": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}}
    success: dict[str, Any] = {"description": "done"}
    if content:
        success["content"] = content
    statuses = {400, 429, *operation.refusals, *((401, 403) if operation.role else ())}
    if named:
        statuses.add(404)
    if operation.body is not None or operation.form is not None:
        statuses.add(413)
    failed = {"application/json": {"schema": of[Failure]}}
    return {str(operation.status): success} | {
        str(status): {"description": _MEANING[status], "content": failed}
        for status in sorted(statuses)
    }
