"""The sink side of the wire: receive notices, let none through twice, confirm what is written.

`Ledger` decides; `Recorder` does the network. The hub may die and a new one repeat what the old one
had said: what the ledger knows of each stream makes that harmless.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import zmq

from abhinaya.stream.errors import NetworkError
from abhinaya.stream.wire.codec import Decoder, Encoder
from abhinaya.stream.wire.messages import (
    Activity,
    Died,
    Event,
    Gap,
    Introduce,
    Message,
    NodeDown,
    NodeUp,
    Notice,
    Refused,
    Seen,
    Standing,
    StreamEnded,
    StreamStarted,
    Subscribe,
    ToSink,
    Verdict,
)
from abhinaya.stream.wire.sockets import Keys, connect, receive, send, sinks_endpoint

SUBSCRIBE_EVERY_S: Final = 0.2

STALE_S: Final = 2.0
"""Silence of the hub, which beats, after which it may be another one that knows nothing of us."""


@dataclass(frozen=True, slots=True)
class _Told:
    """A verdict, as far as the next one is compared with it."""

    revision: int
    label: str
    evidence: int
    """Votes, and the refiner's answer: a later verdict rests on more."""

    @classmethod
    def of(cls, verdict: Verdict, revision: int, label: str) -> _Told:
        """Take it from a verdict."""
        return cls(revision, label, evidence(verdict))


def evidence(verdict: Verdict) -> int:
    """Count the answers that a verdict rests on."""
    return len(verdict.votes) + (verdict.refinement is not None)


@dataclass(slots=True)
class _Track:
    """What has been let through of one stream."""

    input: str = ""
    start_unix_s: float = 0.0
    next_sequence: int = 0
    position: int = 0
    ended: bool = False
    told: dict[int, _Told] = field(default_factory=dict)
    """What was last told of the latest segments."""
    provisional: tuple[int, int] = (-1, 0)
    """Sequence number and part of the latest provisional verdict."""

    def is_next(self, sequence: int, part: int) -> bool:
        """Whether a provisional verdict still has something to say; it then counts as told."""
        new = sequence >= self.next_sequence and (sequence, part) > self.provisional
        if new:
            self.provisional = (sequence, part)
        return new


class Ledger:
    """What has been seen, so that nothing is told twice.

    Args:
        remembered: segments of each stream of which a revision is still recognised.

    """

    def __init__(self, remembered: int = 256) -> None:
        self._remembered = remembered
        self._tracks: dict[str, _Track] = {}
        self._inputs: dict[str, dict[str, _Track]] = {}
        """The same by input: with a thousand files, nobody looks at all of them for each."""
        self._up: set[tuple[str, str]] = set()

    def admit(self, event: Event | Activity) -> Event | Activity | None:
        """Return the event as it is to be told, or None if it has been; it then counts as told."""
        if isinstance(event, Verdict):
            return self._admit_verdict(event)
        return event if self._is_new(event) else None

    def _is_new(self, event: Event | Activity) -> bool:
        match event:
            case StreamStarted(info=info):
                new = info.stream not in self._tracks
                track = self._track(info.stream)
                track.input, track.start_unix_s = info.input, info.start_unix_s
                self._inputs.setdefault(info.input, {})[info.stream] = track
                return new
            case NodeUp(node=node, service=service):
                new = (node, service) not in self._up
                self._up.add((node, service))
                return new
            case NodeDown(node=name):
                self._up = {(node, service) for node, service in self._up if node != name}
                return True
            case Gap():
                return self._advance(event.stream, event.sequence, event.end)
            case StreamEnded():
                new = self._advance(event.stream, event.sequence, event.position)
                self._track(event.stream).ended |= new
                return new
            case _:
                return True

    def standings(self, name: str) -> tuple[Standing, ...]:
        """Return what is written of an input's streams, for a process that takes over."""
        return tuple(
            Standing(
                stream=stream,
                next_sequence=track.next_sequence,
                acknowledged=track.next_sequence,
                position=track.position,
                start_unix_s=track.start_unix_s,
                window=1,
            )
            for stream, track in self._inputs.get(name, {}).items()
        )

    def input_of(self, stream: str) -> str:
        """Return the input that a stream is from; empty if it is not known."""
        track = self._tracks.get(stream)
        return track.input if track is not None else ""

    def begun(self, name: str) -> bool:
        """Whether a stream of an input has begun."""
        return name in self._inputs

    def over(self, name: str) -> bool:
        """Whether the end of every stream that began of an input is written."""
        return all(track.ended for track in self._inputs.get(name, {}).values())

    def _track(self, stream: str) -> _Track:
        return self._tracks.setdefault(stream, _Track())

    def _admit_verdict(self, verdict: Verdict) -> Verdict | None:
        track = self._track(verdict.stream)
        if not verdict.final:
            return verdict if track.is_next(verdict.sequence, verdict.part) else None
        if self._advance(verdict.stream, verdict.sequence, verdict.end):
            told = msgspec.structs.replace(verdict, revision=0)
        else:
            known = track.told.get(verdict.sequence)
            # what a hub says again, or a new one finds again, counts if it knows more than before
            if known is None or evidence(verdict) <= known.evidence:
                return None
            told = msgspec.structs.replace(verdict, revision=known.revision + 1)
            if verdict.label == known.label:
                track.told[verdict.sequence] = _Told.of(verdict, known.revision, known.label)
                return None
        track.told[told.sequence] = _Told.of(told, told.revision, told.label)
        if len(track.told) > self._remembered:
            del track.told[min(track.told)]
        return told

    def _advance(self, stream: str, sequence: int, position: int) -> bool:
        track = self._track(stream)
        if sequence < track.next_sequence:
            return False
        track.next_sequence, track.position = sequence + 1, max(track.position, position)
        return True


class Recorder:
    """The recorder's end of the hub's sink socket.

    Args:
        endpoint: of the hub.
        name: of this sink, as the hub's log shows it.
        keys: for a hub on another machine.

    """

    def __init__(self, endpoint: str, name: str, keys: Keys | None = None) -> None:
        self._name = name
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = connect(self._context, sinks_endpoint(endpoint), name, keys)
        self._encoder = Encoder()
        self._decoder: Decoder[Message] = Decoder(ToSink)
        self.ledger = Ledger()
        self._hub = ""
        """The hub that knows this sink; empty while none does."""
        self._dead: list[Died] = []
        self._next_subscribe = 0.0
        self._written = 0
        self._confirmed = 0
        self.heard = time.monotonic()
        """When the hub was last heard."""

    def poll(self, timeout_s: float) -> Iterator[Event | Activity]:
        """Yield the events that are new; one counts as written when the next is asked for."""
        now = time.monotonic()
        if now - self.heard > STALE_S:
            self._hub = ""
        if not self._hub and now >= self._next_subscribe:
            self._next_subscribe = now + SUBSCRIBE_EVERY_S
            self._send(Subscribe(sink=self._name, confirm=True))
        if not self._socket.poll(math.ceil(1000 * timeout_s)):
            return
        while (frames := receive(self._socket)) is not None:
            self.heard = time.monotonic()
            message = self._decoder.decode(frames)
            if isinstance(message, Introduce):
                self._hub = ""
            elif isinstance(message, Refused):
                raise NetworkError("hub", f"refused this sink: {message.reason}")
            elif isinstance(message, Notice):
                self._meet(message.hub)
                event = self.ledger.admit(message.event)
                if event is not None:
                    yield event
                self._written = max(self._written, message.number)
        self._confirm()

    def died(self, name: str, reason: str, final: bool, services: tuple[str, ...]) -> None:
        """Tell the hub of a death that the supervisor has seen; of a final one, later hubs too."""
        died = Died(name=name, reason=reason, final=final, services=services)
        if final:
            self._dead.append(died)
        if self._hub:
            self._send(died)

    def forget_hub(self) -> None:
        """Subscribe anew: the hub was started again."""
        self._hub = ""
        self.heard = time.monotonic()

    def close(self) -> None:
        """Confirm what was written and leave."""
        self._confirm()
        self._socket.close(linger=200)
        self._context.term()

    def _meet(self, hub: str) -> None:
        if hub != self._hub:
            self._hub, self._written, self._confirmed = hub, 0, 0
            for died in self._dead:
                self._send(died)

    def _confirm(self) -> None:
        if self._written > self._confirmed and self._send(Seen(number=self._written)):
            self._confirmed = self._written

    def _send(self, message: Message) -> bool:
        return send(self._socket, self._encoder.encode(message))
