"""Stand-ins for the gateway: calls that keep their audio, and a server of the real kind."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from abhinaya.stream.serve.calls import CallError
from abhinaya.stream.serve.telephony.line import Line
from abhinaya.stream.serve.telephony.sockets import POLICY
from abhinaya.stream.sources.base import SampleFormat


@dataclass
class FakeLine:
    """A call. It does with positions what the real one does."""

    name: str
    streams: tuple[str, ...]
    encoding: SampleFormat
    rate: int
    facts: Mapping[str, str]
    audio: dict[int, bytes] = field(default_factory=lambda: defaultdict(bytes))
    holes: int = 0
    flushed: list[int] = field(default_factory=list)
    closed: str | None = None
    ahead_s: float = 0.0

    def feed(self, track: int, data: bytes, position: int | None = None) -> None:
        assert self.closed is None
        assert 0 < len(data) <= 1 << 16
        size = 2 if self.encoding == "s16le" else 4 if self.encoding == "f32le" else 1
        assert not len(data) % size
        end = len(self.audio[track]) // size
        if position is not None:
            assert position >= end
            self.holes += position > end
            self.audio[track] += bytes(size) * (position - end)
        self.audio[track] += data

    def flush(self, track: int) -> None:
        self.flushed.append(track)

    def close(self, reason: str = "") -> None:
        self.closed = reason if self.closed is None else self.closed


@dataclass
class FakeDoors:
    """The gateway: opens calls, and tells the events that a test puts in."""

    most: int = 100
    twilio_token: str = "secret-of-the-account"
    twilio_next: str = ""
    holds: bool = True
    lines: list[FakeLine] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)

    def opens(
        self,
        name: str,
        tracks: tuple[str, ...],
        encoding: SampleFormat,
        rate: int,
        facts: Mapping[str, str],
    ) -> Line:
        live = [line.name for line in self.lines if line.closed is None]
        if name in live:
            raise CallError("in use", name, "a call of this name is open", "use another name")
        if len(live) >= self.most:
            raise CallError("too many", name, "too many calls", "try again later")
        streams = tuple(f"{name}/{track}" if track else name for track in tracks)
        self.lines.append(FakeLine(name, streams, encoding, rate, facts))
        return self.lines[-1]

    def require(self, connection: HTTPConnection, role: str) -> Callable[[], bool]:
        assert role == "ingest"
        if connection.headers.get("authorization") not in ("Token good", "Bearer good"):
            raise WebSocketException(POLICY, "forbidden")
        return lambda: self.holds

    def signed(self, connection: HTTPConnection, provider: str) -> None:
        self.noted.append(provider)

    async def events(self, streams: tuple[str, ...]) -> AsyncGenerator[Mapping[str, Any]]:
        """Those of the test; each stream ends when its call does."""
        at = 0
        while True:
            await asyncio.sleep(0.01)
            for event in self.told[at:]:
                yield event
            at = len(self.told)
            if any(line.streams == streams and line.closed is not None for line in self.lines):
                for stream in streams:
                    yield {"type": "stream_ended", "stream": stream}


def end(client: ClientConnection) -> tuple[int | None, str | None]:
    """Read to the end of a connection; return the code and reason of the server."""
    with suppress(ConnectionClosed):
        while True:
            client.recv(10)
    return client.close_code, client.close_reason


@contextmanager
def served(routes: list[BaseRoute]) -> Iterator[str]:
    """A server of these routes on a port of its own: HOST:PORT."""
    config = uvicorn.Config(Starlette(routes=routes), "127.0.0.1", 0, ws="websockets-sansio")
    config.log_level = "critical"
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
