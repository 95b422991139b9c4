"""A hub that nobody supervises, and what a run over it brings out."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import Event, Gap, Status, StreamEnded, Verdict

HUB = """
import pathlib, sys
from abhinaya.stream.hub.main import serve
from abhinaya.stream.settings.config import decode
from abhinaya.stream.wire.child import Stop
serve(decode(pathlib.Path(sys.argv[1]).read_bytes()), sys.argv[2], Stop())
"""


class Collector:
    """A sink, and an observer, that keeps what it gets; strikes after some verdicts."""

    def __init__(self, after: int, strike: Callable[[], None]) -> None:
        self.events: list[Event] = []
        self.troubles: list[str] = []
        self.left, self.strike = after, strike

    def write(self, event: Event, now_unix_s: float) -> None:
        if not isinstance(event, Status):
            self.events.append(event)
        if isinstance(event, Verdict):
            self.left -= 1
            if not self.left:
                self.strike()

    def loading(self, stages: dict[str, Stage]) -> None:
        pass

    def trouble(self, message: str) -> None:
        self.troubles.append(message)

    def close(self) -> None:
        pass

    def of(self, stream: str) -> list[Verdict | Gap | StreamEnded]:
        """The events of a stream, having checked that none is missing or there twice."""
        own = [
            event
            for event in self.events
            if isinstance(event, Verdict | Gap | StreamEnded) and event.stream == stream
        ]
        assert [event.sequence for event in own] == list(range(len(own)))
        assert isinstance(own[-1], StreamEnded)
        return own


def wait_for(endpoint: str) -> None:
    """Wait until somebody listens."""
    host, port = endpoint.removeprefix("tcp://").split(":")
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with socket.socket() as probe:
            if not probe.connect_ex((host, int(port))):
                return
        time.sleep(0.1)
    raise AssertionError("no hub")
