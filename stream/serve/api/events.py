"""Live events: `WS /v1/events`, and `GET /v1/events` as server-sent events.

Both first send what is stored after the number that the reader names (`from`, or `Last-Event-ID`),
then what comes. So a reader that was away loses nothing that is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from abhinaya.stream.serve.access import SUBPROTOCOL, Access
from abhinaya.stream.serve.api.endpoint import MOST, Ask, Endpoint, Number, Operation, parsed
from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.board import Item
from abhinaya.stream.serve.errors import ApiError, refuse
from abhinaya.stream.serve.tokens import Principal

PAGE: Final = 500
"""Events that are read from the store at once."""
BEAT_S: Final = 15.0
"""Seconds of quiet after which a reader is told that the gateway lives."""
CHECK_S: Final = 1.0
"""Seconds after which the token of a reader is looked up again."""
STALLED_S: Final = 30.0
"""Seconds in which a reader must take an event."""
GONE: Final = ApiError(401, "unauthorized", "the token was revoked or has expired")


class Which(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"after": "from"}):
    """Which events a reader wants."""

    streams: Annotated[str, msgspec.Meta(pattern=r"^(\d{1,15}(,\d{1,15}){0,999})?$")] = ""
    """Numbers of streams, separated by commas; empty: all events."""
    after: Number | None = None
    """The number after which to begin; without it, with what comes from now on."""

    @property
    def numbers(self) -> frozenset[int] | None:
        """Return the numbers of the streams; None: all."""
        return frozenset(map(int, self.streams.split(","))) if self.streams else None


class Follower:
    """The events for one reader: first the stored ones after a number, then the live ones."""

    def __init__(self, gateway: Gateway, which: Which) -> None:
        self._store = gateway.store
        self._streams = which.numbers
        self._reader = gateway.board.subscribe(self._streams, gateway.config.queue)
        self._behind = which.after is not None
        self._last = which.after or 0
        self._begun = False
        self._page: deque[Item] = deque()

    async def next(self, patience_s: float) -> Item | None:
        """Return the next event; None if none comes within so many seconds.

        Raises:
            StopAsyncIteration: the subscription has ended.
            StoreError: the history cannot be read.

        """
        while True:
            if self._page:
                return self._page.popleft()
            if self._behind:
                await self._turn()
                continue
            try:
                async with asyncio.timeout(patience_s):
                    item = await anext(self._reader)
            except TimeoutError:
                return None
            if not item.number or item.number > self._last:
                return item

    def close(self) -> None:
        """End the subscription."""
        self._reader.close()

    async def _turn(self) -> None:
        """Read the next page. After the last one, the live events follow without a hole."""
        if not self._begun:  # a number of another history would hide all events
            self._begun = True
            self._last = min(self._last, await asyncio.to_thread(self._store.last))
        one = next(iter(self._streams)) if self._streams and len(self._streams) == 1 else None
        rows = await asyncio.to_thread(self._store.events, self._last, one, PAGE)
        if rows:
            self._last = rows[-1][0]
            self._page.extend(
                Item(*row) for row in rows if self._streams is None or row[1] in self._streams
            )
        else:
            # what did not fit while the history was read is in the history too
            self._behind = self._reader.forgive() > 0


class Valid:
    """Whether the token of a long connection still holds; looked up once in a while."""

    def __init__(self, access: Access, who: Principal) -> None:
        self._access, self._who = access, who
        self._next = 0.0

    def holds(self, now: float) -> bool:
        """Return whether to go on."""
        if now < self._next:
            return True
        self._next = now + CHECK_S
        return self._access.is_valid(self._who)


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the routes of live events."""

    async def as_text(ask: Ask) -> StreamingResponse:
        which: Which = ask.query
        header = ask.request.headers.get("last-event-id", "")
        if header.isdecimal() and int(header) <= MOST:
            which = msgspec.structs.replace(which, after=int(header))
        return StreamingResponse(_lines(gateway, which, ask.who), media_type="text/event-stream")

    async def as_messages(socket: WebSocket) -> None:
        who = gateway.access.require(socket, "reader")
        which = parsed(Which, dict(socket.query_params))
        offered = socket.scope.get("subprotocols") or []
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        follower = Follower(gateway, which)
        listening = asyncio.create_task(_listen(socket, follower))
        try:
            await _send_all(gateway, socket, follower, who)
        except (WebSocketDisconnect, TimeoutError):
            pass
        finally:
            follower.close()
            listening.cancel()

    operation = Operation(
        "Follow events as server-sent events; the same route is a WebSocket",
        query=Which,
        media=("text/event-stream",),
    )
    return [
        Endpoint("GET", "/v1/events", gateway.access, operation, as_text),
        WebSocketRoute("/v1/events", as_messages),
    ]


async def _send_all(
    gateway: Gateway, socket: WebSocket, follower: Follower, who: Principal
) -> None:
    valid = Valid(gateway.access, who)
    with contextlib.suppress(StopAsyncIteration):
        while True:
            item = await follower.next(BEAT_S)
            if not valid.holds(time.monotonic()):
                await refuse(socket, GONE)
                return
            if item is not None:
                async with asyncio.timeout(STALLED_S):
                    await socket.send({"type": "websocket.send", "text": item.body.decode()})


async def _listen(socket: WebSocket, follower: Follower) -> None:
    """End the subscription when the reader leaves or sends something."""
    try:
        message = await socket.receive()
        if message["type"] != "websocket.disconnect":
            error = ApiError(400, "message", "this WebSocket takes no messages", "use /v1/listen")
            await refuse(socket, error)
    finally:
        follower.close()


async def _lines(gateway: Gateway, which: Which, who: Principal) -> AsyncIterator[bytes]:
    follower, valid = Follower(gateway, which), Valid(gateway.access, who)
    try:
        yield b"retry: 1000\n\n"
        while True:
            item = await follower.next(BEAT_S)
            if not valid.holds(time.monotonic()):
                return
            if item is None:
                yield b": still here\n\n"
                continue
            number = b"id: %d\n" % item.number if item.number else b""
            yield b"%sdata: %s\n\n" % (number, item.body)
    except StopAsyncIteration:
        return
    finally:
        follower.close()
