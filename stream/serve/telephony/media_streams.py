"""The routes of telephone providers: their media streams, and the answer that starts Twilio's."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape, quoteattr

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from abhinaya.stream.serve.calls import CallError
from abhinaya.stream.serve.telephony.dialects import DIALECTS, PARTIES, Dialect
from abhinaya.stream.serve.telephony.line import Doors
from abhinaya.stream.serve.telephony.session import MediaSession
from abhinaya.stream.serve.telephony.signature import HEADER, is_signed
from abhinaya.stream.serve.telephony.sockets import (
    IDLE_S,
    LARGEST,
    NORMAL,
    Inbox,
    LineError,
    close,
    closing,
)

LISTEN_S: Final = 4 * 3_600
"""How long a call without a next step is listened to; Twilio's own limit."""
_LOG: Final = logging.getLogger(__name__)


def routes(doors: Doors, idle_s: float = IDLE_S) -> list[BaseRoute]:
    """Return the routes of all providers."""

    def stream(dialect: Dialect) -> WebSocketRoute:
        async def endpoint(websocket: WebSocket) -> None:
            holds = _admit(doors, websocket, dialect)
            session = MediaSession(dialect, doors.opens, _wanted(websocket))
            await websocket.accept()
            await _listen(websocket, session, Inbox(websocket, holds, idle_s))

        return WebSocketRoute(f"/v1/{dialect.name}/stream", endpoint)

    async def voice(request: Request) -> Response:
        body = await _body(request)
        fields = parse_qsl(body, keep_blank_values=True, max_num_fields=1_000)
        _admit(doors, request, DIALECTS["twilio"], fields)
        host = request.headers["host"]
        return Response(twiml(host, dict(fields), doors.twilio_next), media_type="text/xml")

    return [*map(stream, DIALECTS.values()), Route("/v1/twilio/voice", voice, methods=["POST"])]


def twiml(host: str, fields: dict[str, str], following: str = "") -> str:
    """Return what Twilio shall do with a call: stream it to us, then what it did before."""
    named = {name: fields[key] for name, key in (("from", "From"), ("to", "To")) if fields.get(key)}
    parameters = "".join(
        f"<Parameter name={quoteattr(name)} value={quoteattr(value)}/>"
        for name, value in named.items()
    )
    then = (
        f"<Redirect>{escape(following)}</Redirect>"
        if following
        else f'<Pause length="{LISTEN_S}"/>'
    )
    url = quoteattr(f"wss://{host}/v1/twilio/stream")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Start>'
        f'<Stream url={url} track="both_tracks">{parameters}</Stream></Start>{then}</Response>'
    )


def _admit(
    doors: Doors,
    connection: HTTPConnection,
    dialect: Dialect,
    fields: list[tuple[str, str]] | None = None,
) -> Callable[[], bool]:
    """Check Twilio's signature if there is one, else the token; return whether that still holds.

    Raises:
        Exception: neither is right: the error of `doors.require`.

    """
    given = connection.headers.get(HEADER, "")
    if dialect.signed and given and doors.twilio_token:
        url = connection.url
        path = url.path + (f"?{url.query}" if url.query else "")
        host = connection.headers.get("host", "")
        if is_signed(doors.twilio_token, host, path, given, fields or ()):
            doors.signed(connection, dialect.name)
            return lambda: True
        _LOG.warning("%s: wrong signature; is the token that of this account?", dialect.name)
    return doors.require(connection, "ingest")


def _wanted(websocket: WebSocket) -> tuple[str, ...]:
    """Return the tracks of the query, for providers that do not say them in `start`."""
    track = websocket.query_params.get("track", "").removesuffix("_track")
    return (track,) if track in PARTIES else ()


async def _listen(websocket: WebSocket, session: MediaSession, inbox: Inbox) -> None:
    """Pass messages on until the stream, the connection or the patience ends."""
    code, reason = NORMAL, ""
    try:
        with inbox:
            while not session.ended:
                message = await inbox.next()
                if message is None:
                    return
                if warning := session.receive(time.monotonic(), message):
                    _LOG.warning("%s: %s", session.dialect.name, warning)
    except (LineError, CallError) as e:
        code, reason = closing(e)
        _LOG.warning("%s: %s", session.dialect.name, e)
    finally:
        session.close(time.monotonic(), reason)
    await close(websocket, code, reason)


async def _body(request: Request) -> str:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST:
            break  # a form so cut has no valid signature
    return body.decode("utf-8", "replace")
