"""One operation of the API: who may call it, what it takes and gives, and its place in OpenAPI."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from abhinaya.stream.serve.access import Access
from abhinaya.stream.serve.errors import ApiError, answer
from abhinaya.stream.serve.tokens import Principal

MOST: Final = 2**53 - 1
"""The largest integer that JavaScript keeps exact."""
Number = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]

File = Annotated[str, msgspec.Meta(extra_json_schema={"format": "binary"})]
"""The file of a form; its value is the name."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operation:
    """What OpenAPI says about a route."""

    summary: str
    role: str = "reader"
    """Role of the caller; empty: anybody."""
    query: type[msgspec.Struct] | None = None
    """Parameters of the query."""
    body: type[msgspec.Struct] | None = None
    """The JSON that the request carries."""
    form: type[msgspec.Struct] | None = None
    """The fields of a form. Then the handler reads the request, also its JSON."""
    answer: Any = None
    """Type of the JSON of a success, or several; None: no content, or `media`."""
    status: int = 200
    media: tuple[str, ...] = ()
    """Types of content of a success that is not (only) JSON."""
    refusals: tuple[int, ...] = ()
    """Statuses of failure beside 400, 401, 403 and 429."""
    logged: bool = True
    """Whether the audit log gets an entry."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, checked."""

    request: Request
    who: Principal
    query: Any
    body: Any

    @property
    def id(self) -> int:
        """Return the number in the path.

        Raises:
            ApiError: 404, no stored thing has such a number.

        """
        number = int(self.request.path_params["id"])
        if number > MOST:
            raise not_found("this number")
        return number


Handler = Callable[[Ask], Awaitable[Any]]


class Endpoint(Route):
    """A route with its operation."""

    def __init__(
        self, method: str, path: str, access: Access, operation: Operation, handler: Handler
    ) -> None:
        self.operation = operation
        served = functools.partial(_serve, access, operation, handler)
        super().__init__(path, served, methods=[method], name=f"{method} {path}")


async def _serve(
    access: Access, operation: Operation, handler: Handler, request: Request
) -> Response:
    who = Principal("", "reader")
    if operation.role:
        identify = access.require if operation.logged else access.identify
        who = identify(request, operation.role)
    query = parsed(operation.query, dict(request.query_params)) if operation.query else None
    body = None
    if operation.body is not None and operation.form is None:
        body = decoded(operation.body, await request.body())
    found = await handler(Ask(request, who, query, body))
    if isinstance(found, Response):
        return found
    if found is None:
        return Response(status_code=operation.status)
    return answer(found, operation.status)


def parsed(kind: type[T], values: dict[str, Any]) -> T:
    """Return parameters of a query or fields of a form as a struct.

    Raises:
        ApiError: 400, one of them is wrong.

    """
    try:
        return msgspec.convert(values, kind, strict=False)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise ApiError(400, "parameter", _wrong("parameter", "query", error), _SEE) from error


def decoded(kind: type[T], data: bytes) -> T:
    """Return the JSON of a request as a struct.

    Raises:
        ApiError: 400, it is not what it must be.

    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, "body", _wrong("field", "body", error), _SEE) from error


def _wrong(kind: str, whole: str, error: Exception) -> str:
    """Return what is wrong with a query, form or body, with the name of the parameter or field."""
    reason, _, name = str(error).partition(" - at `$.")
    return f"{kind} `{name.rstrip('`')}`: {reason}" if name else f"the {whole} is wrong: {reason}"


def not_found(what: str) -> ApiError:
    """Return the error for something that is not stored."""
    return ApiError(404, "not_found", f"{what} is unknown", "it may have been deleted")


_SEE: Final = "see /v1/openapi.json"
