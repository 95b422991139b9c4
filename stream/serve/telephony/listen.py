"""`WS /v1/listen`: audio in, results out, in the form of Deepgram's interface."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from abhinaya.models.text import to_json
from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import AbhinayaError, ConfigError
from abhinaya.stream.serve.access import SUBPROTOCOL
from abhinaya.stream.serve.calls import CallError
from abhinaya.stream.serve.errors import ApiError
from abhinaya.stream.serve.telephony.line import Doors
from abhinaya.stream.serve.telephony.listen_session import (
    ListenSession,
    parse_query,
)
from abhinaya.stream.serve.telephony.results import Answer, Results
from abhinaya.stream.serve.telephony.sockets import (
    IDLE_S,
    NORMAL,
    Inbox,
    LineError,
    close,
    closing,
)
from abhinaya.stream.sinks.events import wall_time

AHEAD_S: Final = 5.0
"""Audio may come so much before its time; then nothing is read until it is due."""
PAUSE_S: Final = 0.1
DRAIN_S: Final = 30.0
"""How long the last results may take after `CloseStream`."""
STATUS: Final = {
    "too many": (429, "TOO_MANY_REQUESTS"),
    "unavailable": (503, "UNAVAILABLE"),
    "in use": (409, "IN_USE"),
}
"""Code of a `CallError` -> status of the handshake, and Deepgram's word."""
_LOG: Final = logging.getLogger(__name__)


def routes(doors: Doors, idle_s: float = IDLE_S, drain_s: float = DRAIN_S) -> list[BaseRoute]:
    """Return the route."""

    async def endpoint(websocket: WebSocket) -> None:
        holds = doors.require(websocket, "ingest")
        request_id = str(uuid4())
        try:
            listen = parse_query(QueryParams(websocket.scope["query_string"]).multi_items())
            line = doors.opens(
                f"listen:{listen.call or request_id}",
                listen.tracks, listen.fed, listen.rate, listen.facts,
            )  # fmt: skip
        except (ConfigError, CallError) as e:
            status, word = STATUS.get(getattr(e, "code", ""), (400, "INVALID_QUERY_PARAMETER"))
            if "origin" in websocket.headers:  # a browser sees only how the connection is closed
                raise ApiError(status, word.lower(), str(e)) from None
            await websocket.send_denial_response(_denial(e, status, word, request_id))
            return
        session = ListenSession(listen, line)
        results = Results(request_id, line.streams, listen.wishes)
        inbox, events = Inbox(websocket, holds, idle_s), doors.events(line.streams)
        await _Connection(websocket, inbox, session, results, events).run(drain_s)

    return [WebSocketRoute("/v1/listen", endpoint)]


def _denial(error: AbhinayaError, status: int, word: str, request_id: str) -> Response:
    """Return the answer to a handshake that is refused, in Deepgram's form."""
    body = {"err_code": word, "err_msg": str(error), "request_id": request_id}
    shown = str(error).encode("ascii", "replace").decode()
    return JSONResponse(body, status, {"dg-request-id": request_id, "dg-error": shown})


@dataclass(slots=True)
class _Connection:
    """One client: a task reads its messages, another sends it results."""

    websocket: WebSocket
    inbox: Inbox
    session: ListenSession
    results: Results
    events: AsyncGenerator[Mapping[str, Any]]

    async def run(self, drain_s: float) -> None:
        """Serve the client until it or its patience ends."""
        session, line = self.session, self.session.line
        created = wall_time(unix_time())
        sending = asyncio.create_task(self._send_results())
        code, reason = NORMAL, ""
        try:
            await self._accept()
            with self.inbox:
                while not session.ended:
                    message = await self.inbox.next()
                    if message is None:
                        return
                    if answer := session.receive(message):
                        await self._send(answer)
                    while line.ahead_s > AHEAD_S:  # a recording: the sender has to wait
                        await asyncio.sleep(PAUSE_S)
            line.close()
            await asyncio.wait([sending], timeout=drain_s)
            await self._send(session.metadata(self.results.request_id, created))
        except (LineError, CallError) as e:
            code, reason = closing(e)
            _LOG.warning("listen: %s", e)
        except (WebSocketDisconnect, OSError):
            return
        finally:
            line.close(reason)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await close(self.websocket, code, reason)

    async def _accept(self) -> None:
        offered = self.websocket.scope.get("subprotocols") or ()
        header = (b"dg-request-id", self.results.request_id.encode())
        await self.websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None, [header])

    async def _send_results(self) -> None:
        """Send results until all streams have ended."""
        running = set(self.results.streams)
        async with aclosing(self.events) as events:
            async for event in events:
                if event["type"] == "stream_ended":
                    running.discard(event["stream"])
                    if not running:
                        return
                finalized = self._finalized(event)
                if answer := self.results.answer(event, finalized=finalized):
                    await self._send(answer)

    def _finalized(self, event: Mapping[str, Any]) -> bool:
        """Return whether this is the first final result of a channel after its `Finalize`."""
        if event["type"] not in ("verdict", "gap") or not event.get("final", True):
            return False
        streams, finalized = self.results.streams, self.session.finalized
        channel = streams.index(event["stream"]) if event["stream"] in streams else -1
        is_first = channel in finalized
        finalized.discard(channel)
        return is_first

    async def _send(self, answer: Answer) -> None:
        await self.websocket.send_text(to_json(answer).decode())
