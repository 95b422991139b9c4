"""Publishes events to the sinks of the hub, and keeps each until the recorder has confirmed it.

Pure. The recorder is the one sink that confirms. A new recorder gets all unconfirmed events again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from abhinaya.stream.wire.messages import Activity, Event, Message, NodeUp, Notice, StreamStarted

Door = Literal["workers", "sinks"]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message and its receiver."""

    door: Door
    peer: bytes
    message: Message


class Publisher:
    """The sinks of a hub, and the events for them."""

    def __init__(self, hub: str) -> None:
        self._hub = hub
        self._sinks: set[bytes] = set()
        self._recorder: bytes | None = None
        self._unconfirmed: deque[Notice] = deque()
        self._number = 0
        self._out: list[Outgoing] = []

    def knows(self, peer: bytes) -> bool:
        """Whether a peer has subscribed."""
        return peer in self._sinks

    def is_recorder(self, peer: bytes) -> bool:
        """Whether a peer is the recorder."""
        return peer == self._recorder

    def subscribe(self, peer: bytes, confirm: bool, present: Iterable[Event]) -> None:
        """Add a sink and send the events `present`; to a recorder also the unconfirmed ones."""
        self._sinks.add(peer)
        sent = {_subject(notice.event) for notice in self._unconfirmed}
        for event in present:
            if not confirm or _subject(event) not in sent:
                self._send(peer, Notice(number=0, hub=self._hub, event=event))
        if confirm:
            self._recorder = peer
            for notice in self._unconfirmed:
                self._send(peer, notice)

    def drop(self, peer: bytes) -> None:
        """Remove a sink."""
        self._sinks.discard(peer)
        if peer == self._recorder:
            self._recorder = None

    def publish(self, event: Event) -> None:
        """Send an event to every sink, and keep it until the recorder has confirmed it."""
        self._number += 1
        notice = Notice(number=self._number, hub=self._hub, event=event)
        self._unconfirmed.append(notice)
        self._broadcast(notice)

    def publish_unnumbered(self, event: Event | Activity) -> None:
        """Send an event without confirmation: status, activity, or a provisional verdict."""
        self._broadcast(Notice(number=0, hub=self._hub, event=event))

    def confirmed(self, number: int) -> list[Event | Activity]:
        """Return the events up to `number`, which the recorder has now written."""
        events = []
        while self._unconfirmed and self._unconfirmed[0].number <= number:
            events.append(self._unconfirmed.popleft().event)
        return events

    def take(self) -> list[Outgoing]:
        """Return the messages to send since the last call."""
        out, self._out = self._out, []
        return out

    def _broadcast(self, notice: Notice) -> None:
        for peer in self._sinks:
            self._send(peer, notice)

    def _send(self, peer: bytes, message: Message) -> None:
        self._out.append(Outgoing("sinks", peer, message))


def _subject(event: Event | Activity) -> tuple[type[Event], str, str] | None:
    """Return the identity of the stream or service that an event announces; None for others."""
    if isinstance(event, StreamStarted):
        return StreamStarted, event.info.stream, ""
    if isinstance(event, NodeUp):
        return NodeUp, event.node, event.service
    return None
