"""`Listening`: audio goes to a gateway, and what it hears comes back."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedOK, InvalidStatus, WebSocketException

MOST_BYTES: Final = 32_000
"""Of a message; the gateway takes 64 kB."""
AGAIN: Final = frozenset({409, 429})
"""Statuses that pass: the old connection of this name is still open, or too many are."""


@dataclass(slots=True)
class Listening:
    """One audio track. `feed` never waits; run `events` in a task of the same event loop.

    While the gateway is away, the newest audio is kept, and older audio is dropped and counted.
    """

    url: str
    options: dict[str, Any]
    wait_s: Callable[[float, Exception], float]
    """Returns how long to wait after an error; raises if another try is useless."""
    kept_bytes: int
    dropped: int = 0
    """Bytes that were not sent."""
    _audio: deque[bytes] = field(default_factory=deque)
    _waiting: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _over: bool = False

    def feed(self, data: bytes) -> None:
        """Send samples, in the encoding that `Client.listen` was given."""
        self._audio.append(data)
        self._waiting += len(data)
        while self._waiting > self.kept_bytes:
            lost = len(self._audio.popleft())
            self._waiting -= lost
            self.dropped += lost
        self._news.set()

    def close(self) -> None:
        """Say that no audio follows; `events` ends after the last verdict."""
        self._over = True
        self._news.set()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield verdicts and gaps as they come, in the form of docs/events.md.

        Raises:
            GatewayError: the gateway refuses this track, or is away for too long.

        """
        while True:
            try:
                async with connect(self.url, **self.options) as socket:
                    sending = asyncio.create_task(self._send(socket))
                    try:
                        async for text in socket:
                            message = msgspec.json.decode(text)
                            if message["type"] == "Results":
                                yield message["abhinaya"]
                    finally:
                        sending.cancel()
                if self._over:
                    return
                raise ConnectionError("the gateway has closed the connection")
            except ConnectionClosedOK:
                return
            except (OSError, WebSocketException) as error:
                await asyncio.sleep(self._pause_s(error))

    def _pause_s(self, error: Exception) -> float:
        if isinstance(error, InvalidStatus) and error.response.status_code in AGAIN:
            error = ConnectionError(f"status {error.response.status_code}")
        return self.wait_s(time.monotonic(), error)

    async def _send(self, socket: ClientConnection) -> None:
        while True:
            while self._audio:
                data = self._audio.popleft()
                self._waiting -= len(data)
                for begin in range(0, len(data), MOST_BYTES):
                    await socket.send(data[begin : begin + MOST_BYTES])
            if self._over:
                await socket.send('{"type":"CloseStream"}')
                return
            self._news.clear()
            await self._news.wait()
