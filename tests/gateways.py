"""A gateway on a free port, without a run: a test writes events into its board."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fakes
import httpx2

from abhinaya.stream.cells.map import CellMap
from abhinaya.stream.serve.app import Gateway, Service
from abhinaya.stream.serve.main import application, opened
from abhinaya.stream.serve.server import Server, bind
from abhinaya.stream.serve.tokens import Tokens
from abhinaya.stream.settings.compliance import ComplianceConfig
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
    tls: tuple[Path, Path] | None = None,
    compliance: ComplianceConfig | None = None,
    cells: Callable[[], CellMap] | None = None,
    **limits: Any,
) -> Iterator[Running]:
    """Serve in a thread until the end of the block."""
    config = dataclasses.replace(fakes.config(), serve=ServeConfig(**limits))
    config = dataclasses.replace(config, compliance=compliance or config.compliance)
    with (
        closing(bind("127.0.0.1", port)) as door,
        TemporaryDirectory(dir="/tmp") as short,
        opened(config, folder, Path(short), current=cells) as gateway,
    ):
        app = application(gateway, proxy)
        server = Server(app, door, config.serve, gateway.board, tls, services)
        server.start()
        try:
            tokens = gateway.access.tokens
            yield Running(gateway, tokens, door.getsockname()[1], tokens.own.read_text().strip())
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
