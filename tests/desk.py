"""A broker whose peers the test plays: what each was told, with a clock that is moved by hand."""

from __future__ import annotations

from typing import Any, TypeVar

import fakes
from msgspec.structs import replace

from abhinaya.models.vote.combiner import Combiner
from abhinaya.stream.hub.broker import Broker
from abhinaya.stream.hub.canary import CANARY
from abhinaya.stream.hub.publisher import Outgoing
from abhinaya.stream.hub.segments import Stream
from abhinaya.stream.wire import messages as m

M = TypeVar("M", bound=m.Message)
E = TypeVar("E", bound=m.Event | m.Activity)

FRONT = b"front-0"
OF_RUN = f"{fakes.RUN}:"
"""What the hub puts before the name of a stream for the nodes; here tests need not write it."""

VOTERS = ("S1", "T2", "ST1")
SERVICES = ("asr", *VOTERS)


class Desk:
    """A broker with a recorder that confirms nothing by itself, and what each peer was told."""

    def __init__(
        self, combiner: Combiner | None = None, supervised: bool = False, **changes: Any
    ) -> None:
        self.now = 100.0
        self.broker = Broker(fakes.config(**changes), "hub-1", combiner, supervised)
        self.told: list[tuple[bytes, m.Message]] = []
        self.notices: list[m.Notice] = []
        self.sink(m.Subscribe(sink="recorder", confirm=True, run=fakes.RUN))

    def deliver(self, out: list[Outgoing]) -> None:
        for item in out:
            message = item.message
            if isinstance(message, m.Notice):
                if item.peer == b"recorder":
                    self.notices.append(message)
                continue
            if isinstance(message, m.Task | m.Cancel):
                message = replace(message, stream=message.stream.removeprefix(OF_RUN))
            self.told.append((item.peer, message))

    def say(self, peer: bytes, *messages: m.Message) -> None:
        for message in messages:
            if isinstance(message, m.Vote | m.Transcript | m.Failed) and message.stream != CANARY:
                message = replace(message, stream=OF_RUN + message.stream)
            self.deliver(self.broker.from_worker(self.now, peer, message))

    def sink(self, message: m.Message, peer: bytes = b"recorder") -> None:
        self.deliver(self.broker.from_sink(self.now, peer, message))

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.deliver(self.broker.tick(self.now))

    def up(self, *services: str) -> Desk:
        for service in services:
            self.say(f"{service}-0".encode(), fakes.ready(service, credits=9))
        return self

    def front(self, live: bool = False, stream: str = "call") -> Desk:
        self.say(FRONT, fakes.hello(fakes.info(stream, live)))
        return self

    def answer(self, sequence: int = 0, *services: str, label: str = "happy") -> None:
        for service in services or SERVICES:
            self.say(f"{service}-0".encode(), fakes.answer(fakes.task(sequence), service, label))

    def to(self, peer: bytes, kind: type[M]) -> list[M]:
        return [m for p, m in self.told if p == peer and isinstance(m, kind)]

    def events(self, kind: type[E]) -> list[E]:
        return [n.event for n in self.notices if isinstance(n.event, kind)]

    def seen(self) -> None:
        last = max(self.notices, key=lambda notice: notice.number)
        self.sink(m.Seen(hub=last.hub, number=last.number))

    def status(self) -> m.Status:
        self.tick(1.0)
        return self.events(m.Status)[-1]

    def passing(self) -> list[m.Verdict]:
        """Verdicts that are provisional."""
        return [verdict for verdict in self.events(m.Verdict) if not verdict.final]

    def stream(self, name: str = "call", run: str = fakes.RUN) -> Stream:
        """What the hub has of a stream that is not over."""
        found = self.broker._runs.get(run)
        assert found is not None
        return found.streams[name]

    def verdict(self) -> m.Verdict:
        (verdict,) = self.events(m.Verdict)
        return verdict


def desk(**changes: Any) -> Desk:
    """A file front and one node of each service, all introduced."""
    return Desk(**changes).up(*SERVICES).front()
