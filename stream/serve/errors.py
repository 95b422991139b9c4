"""The one form of errors over HTTP, and close codes of WebSockets.

{"error": {"code": "unauthorized", "message": "the token is unknown", "remedy": "..."}}
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from abhinaya.models.text import all_encodable, clean
from abhinaya.stream.errors import AbhinayaError, ConfigError, SinkError, SourceError, StoreError

CLOSE_CODES: Final = {401: 4401, 403: 4403, 404: 4404, 429: 4429, 503: 1013}
"""Status of a refusal -> close code of a WebSocket; 4400 for all others."""


class ApiError(AbhinayaError):
    """A request that is refused.

    Args:
        status: the status of HTTP.
        code: one word for programs.
        message: what is wrong, for a person.
        remedy: what the caller can do.
        headers: further headers of the answer.

    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        remedy: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, "", remedy)
        self.status, self.code, self.headers = status, code, headers or {}

    def __reduce__(self) -> tuple[type[ApiError], tuple[int, str, str, str]]:  # type: ignore[override]
        return type(self), (self.status, self.code, self.subject, self.remedy)


class Fault(msgspec.Struct, frozen=True):
    """What is wrong, and what to do."""

    code: str
    message: str
    remedy: str


class Failure(msgspec.Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: Fault


def failure(error: ApiError) -> Response:
    """Return an error as an answer of HTTP."""
    fault = Fault(error.code, clean(error.subject), clean(error.remedy))
    return answer(Failure(fault), error.status, error.headers)


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a value as JSON."""
    try:
        body = msgspec.json.encode(value)
    except UnicodeEncodeError:
        body = msgspec.json.encode(all_encodable(msgspec.to_builtins(value)))
    return Response(body, status, headers, "application/json")


def api_error(error: AbhinayaError) -> ApiError:
    """Return any error of ours as one of the API."""
    match error:
        case ApiError():
            return error
        case StoreError():
            status, code = 503, "history"
        case SinkError():
            status, code = 503, "disk"
        case ConfigError() | SourceError():
            status, code = 422, "input"
        case _:
            status, code = 500, "failed"
    message = f"{error.subject}: {error.reason}" if error.reason else error.subject
    return ApiError(status, code, message, error.remedy)


async def on_error(connection: Request | WebSocket, error: Exception) -> Response | None:
    """Answer a connection whose route has raised an error of ours."""
    assert isinstance(error, AbhinayaError)
    if isinstance(connection, WebSocket):
        await refuse(connection, error)
        return None
    return failure(api_error(error))


async def on_status(request: Request, error: Exception) -> Response:
    """Answer a request for which no route exists, or not with this method."""
    status = getattr(error, "status_code", 500)
    phrase = HTTPStatus(status).phrase
    message = phrase.lower()
    if status in (404, 405):
        message = f"the route {request.method} {request.url.path} is unknown"
    headers = dict(getattr(error, "headers", None) or {})
    code = phrase.lower().replace(" ", "_")
    remedy = "see /v1/openapi.json for all routes"
    return failure(ApiError(status, code, message, remedy, headers))


async def on_bug(_: Request, error: Exception) -> Response:
    """Answer a request that has failed by a fault of ours; the log has the traceback."""
    message = f"stopped on an unexpected {type(error).__name__}"
    return failure(ApiError(500, "bug", message, "please report it, with the log"))


async def refuse(socket: WebSocket, error: AbhinayaError) -> None:
    """End a WebSocket with an error.

    A program that is not in yet gets an answer of HTTP. A browser would not see it: it gets a close
    code and the reason, as does a program that is in.
    """
    refused = api_error(error)
    if socket.client_state is WebSocketState.CONNECTING:
        if "origin" not in socket.headers:
            await socket.send_denial_response(failure(refused))
            return
        await socket.accept()
    if socket.application_state is WebSocketState.CONNECTED:
        code = CLOSE_CODES.get(refused.status, 4400)
        await socket.close(code, clean(str(refused)).encode()[:120].decode(errors="ignore"))
