"""The recorder: receives notices, drops duplicates, and confirms written events to the hub.

`Inbox` and `Ledger` (ledger.py) decide; `Recorder` does the network.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import zmq
from msgspec.structs import replace

from abhinaya.stream.errors import NetworkError
from abhinaya.stream.run.ledger import Ledger
from abhinaya.stream.wire.codec import MAX_STATES_BYTES, Decoder, Encoder
from abhinaya.stream.wire.greeting import Greeting
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.messages import (
    Activity,
    Died,
    Event,
    Introduce,
    Message,
    NodeDown,
    NodeUp,
    Notice,
    Refused,
    Seen,
    Status,
    Subscribe,
    ToSink,
)
from abhinaya.stream.wire.sockets import connect, messages, send, sinks_endpoint

STALE_S: Final = 2.0
"""Silence of the hub after which the recorder subscribes again: the hub may be a new one."""


class Inbox:
    """Which notices have arrived, so that each is written once and none is left out. Pure."""

    def __init__(self) -> None:
        self.hub = ""
        """See Notice.hub; empty before the first notice."""
        self.written = 0
        """Number of the last notice that is written; there is no hole before it."""
        self.confirmed = 0
        self.incomplete = False
        """Whether a notice was lost: the hub must send all unconfirmed ones again."""

    def take(self, notice: Notice) -> bool:
        """Return whether to write a notice now."""
        if notice.hub != self.hub:
            self.hub, self.written, self.confirmed, self.incomplete = notice.hub, 0, 0, False
        if not notice.number:
            return True
        self.incomplete = notice.number > self.written + 1
        return not self.incomplete and notice.number > self.written


def in_cell(event: Event | Activity, cell: str) -> Event | Activity:
    """Return an event with the name of its cell before the names of nodes: cells have the same."""
    if not cell:
        return event
    if isinstance(event, NodeUp | NodeDown):
        return replace(event, node=f"{cell}/{event.node}")
    if isinstance(event, Status):
        nodes = tuple(replace(load, node=f"{cell}/{load.node}") for load in event.nodes)
        return replace(event, nodes=nodes)
    return event


class Recorder:
    """The network client of the recorder.

    Args:
        endpoint: endpoint of the hub.
        name: name of this sink.
        run: id of the run to record.
        keys: keys for a hub on another machine.
        ledger: that of the run, which may have several recorders.
        cell: name of the cell of the hub, with which the names of its nodes begin.

    """

    def __init__(
        self,
        endpoint: str,
        name: str,
        run: str,
        keys: Keys | None = None,
        ledger: Ledger | None = None,
        cell: str = "",
    ) -> None:
        self._name, self._run = name, run
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = connect(self._context, sinks_endpoint(endpoint), name, keys)
        self._encoder = Encoder()
        self._decoder: Decoder[Message] = Decoder(ToSink, MAX_STATES_BYTES)
        self.ledger = Ledger() if ledger is None else ledger
        self._cell = cell
        self._inbox = Inbox()
        self._greeting = Greeting()
        self._dead: list[Died] = []
        self.last_received = time.monotonic()
        """Time of the last message from the hub."""
        self.answered = False
        """Whether the hub has ever answered."""

    def poll(self, timeout_s: float) -> Iterator[Event | Activity]:
        """Yield the new events; each is taken as written when the caller asks for the next one."""
        now = time.monotonic()
        if self.socket.is_new():
            self._greeting.connected(now)
        elif now - self.last_received > STALE_S:
            self._greeting.again(now)  # the hub may have given up this sink
        if self._greeting.is_due(now):
            self._send(Subscribe(sink=self._name, confirm=True, run=self._run))
            self._inbox.confirmed = 0  # what was confirmed on the old connection may be lost
        if not self.socket.poll(math.ceil(1000 * timeout_s)):
            return
        for message in messages(self.socket, self._decoder):
            self.last_received = now = time.monotonic()
            self.answered = True
            if isinstance(message, Introduce):
                self._greeting.again(now)
            elif isinstance(message, Refused):
                reason = f"refused the recorder: {message.reason}"
                raise NetworkError("hub", reason, message.remedy)
            elif isinstance(message, Notice):
                yield from self._notice(now, message)
        self._confirm()

    def died(
        self,
        name: str,
        reason: str,
        final: bool,
        services: tuple[str, ...] = (),
        reached: Mapping[str, int] | None = None,
    ) -> None:
        """Report a death to the hub; a final death is also reported to later hubs."""
        died = Died(
            name=name, reason=reason, final=final, services=services, reached=dict(reached or {})
        )
        if final:
            self._dead.append(died)
        if self._greeting.accepted:
            self._send(died)

    def forget(self, name: str) -> None:
        """Forget the death of a front whose streams are all written."""
        self._dead = [died for died in self._dead if died.name != name]

    def forget_hub(self) -> None:
        """Note that the hub was restarted: it needs time."""
        self.last_received = time.monotonic()

    def unreachable(self, endpoint: str, wait_s: float) -> NetworkError:
        """Return why the hub does not answer, or why a run waits no longer for it."""
        if not self.answered:
            return self.socket.error(endpoint)
        reason = f"the hub has not answered for {wait_s:g} s"
        if self.cause:
            return NetworkError(endpoint, f"{reason}: {self.cause}", self.socket.remedy)
        return NetworkError(endpoint, reason, "supervise.hub_wait_s sets how long a run waits")

    @property
    def cause(self) -> str:
        """Why the hub does not answer, if it is there but does not let us in; else empty."""
        return self.socket.cause

    def close(self) -> None:
        """Confirm the written events and close the socket."""
        self._confirm()
        self.socket.close(linger=200)
        self._context.term()

    def _notice(self, now: float, notice: Notice) -> Iterator[Event | Activity]:
        new = self._inbox.take(notice)
        if self._inbox.incomplete:
            self._greeting.again(now)
            return
        if not self._greeting.accepted:
            self._greeting.accept()
            for died in self._dead:
                self._send(died)
        event = self.ledger.admit(in_cell(notice.event, self._cell)) if new else None
        if event is not None:
            yield event
        self._inbox.written = max(self._inbox.written, notice.number)

    def _confirm(self) -> None:
        inbox = self._inbox
        seen = Seen(hub=inbox.hub, number=inbox.written)
        if inbox.written > inbox.confirmed and self._send(seen):
            inbox.confirmed = inbox.written

    def _send(self, message: Message) -> bool:
        return send(self.socket, self._encoder.encode(message))
