"""A gateway on a free port, without a run: a test writes events into its board."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fakes
import httpx2

from abhinaya.stream.serve.access import Access, Tokens
from abhinaya.stream.serve.app import Gateway, Service
from abhinaya.stream.serve.audit import Audit
from abhinaya.stream.serve.board import Board
from abhinaya.stream.serve.calls import Calls
from abhinaya.stream.serve.main import application
from abhinaya.stream.serve.requests import Requests
from abhinaya.stream.serve.server import Server, bind
from abhinaya.stream.serve.store.store import Store
from abhinaya.stream.serve.telemetry.health import Health
from abhinaya.stream.serve.telemetry.metrics import Metrics
from abhinaya.stream.settings.serve import ServeConfig
from abhinaya.stream.wire.messages import StreamInfo, StreamStarted, Verdict

RUN = "run-1"


@dataclass(frozen=True)
class Running:
    """A gateway that runs, and how to call it."""

    gateway: Gateway
    tokens: Tokens
    port: int
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return httpx2.get(self.url + path, headers=self.bearer, **more)

    def post(self, path: str, **more: Any) -> httpx2.Response:
        return httpx2.post(self.url + path, headers=self.bearer, **more)

    def say(self, stream: str, sequence: int, label: str = "neutral", **more: Any) -> None:
        self.gateway.board.write(verdict(stream, sequence, label, **more), 1e9)

    def begin(self, stream: str) -> int:
        """Begin a stream; return its number."""
        self.gateway.board.write(started(stream), 1e9)
        return self.gateway.store.stream_id(RUN, stream)


@contextmanager
def running(
    folder: Path,
    proxy: tuple[str, ...] = (),
    services: Sequence[Service] = (),
    port: int = 0,
    **limits: Any,
) -> Iterator[Running]:
    """Serve in a thread until the end of the block."""
    config = ServeConfig(**limits)
    with (
        closing(Store(folder / "history.sqlite")) as store,
        closing(bind("127.0.0.1", port)) as door,
        TemporaryDirectory(dir="/tmp") as short,
        closing(Calls(Path(short))) as calls,
        closing(Audit(folder, strict=True)) as audit,
    ):
        tokens, board = Tokens(folder), Board(store)
        requests = Requests(config, folder / "uploads", board.streams_of)
        access = Access(tokens, 3600 * config.session_h, audit)
        metrics = Metrics(fakes.config())
        health = Health(fakes.config(), [lambda: str(store.fault or "")])
        gateway = Gateway(config, access, board, store, requests, metrics, health, calls)
        server = Server(application(gateway, proxy), door, config, board, None, services)
        server.start()
        try:
            port = door.getsockname()[1]
            yield Running(gateway, tokens, port, tokens.own.read_text().strip())
        finally:
            server.stop()


def started(stream: str, live: bool = True) -> StreamStarted:
    name = stream.rpartition("/")[0] or stream
    info = StreamInfo(
        stream=stream, front="front-0", source="x", live=live, start_unix_s=1e9, input=name, run=RUN
    )
    return StreamStarted(info=info)


def verdict(stream: str, sequence: int, label: str = "neutral", **more: Any) -> Verdict:
    start = 48_000 * sequence
    values: dict[str, Any] = {
        "stream": stream,
        "sequence": sequence,
        "start": start,
        "end": start + 32_000,
        "start_unix_s": 1e9 + 3 * sequence,
        "label": label,
        "leading": label,
        "confidence": 0.75,
        "agreement": 1.0,
        "votes": (),
        "captured_unix_s": 1e9,
        "stages_ms": {},
    }
    return Verdict(**(values | more))
