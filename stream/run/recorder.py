"""The recorder: receives notices, drops duplicates, and confirms written events to the hub.

`Ledger` decides; `Recorder` does the network. After a hub has died, a new hub may repeat events;
the ledger recognises them by the progress of each stream.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import zmq

from abhinaya.models.labels import Attributes
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.wire.codec import MAX_STATES_BYTES, Decoder, Encoder
from abhinaya.stream.wire.greeting import Greeting
from abhinaya.stream.wire.keys import Keys
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
from abhinaya.stream.wire.sockets import connect, messages, send, sinks_endpoint

MAX_UP: Final = 1000
"""Number of services of nodes that are remembered as ready."""

MAX_REVISABLE: Final = 100
"""Number of ended streams whose verdicts may still be revised."""

MAX_OVER: Final = 1000
"""Number of inputs that are over and remembered: a hub may repeat the ends of the latest ones."""

STALE_S: Final = 2.0
"""Silence of the hub after which the recorder subscribes again: the hub may be a new one."""


@dataclass(frozen=True, slots=True)
class _Published:
    """The last published verdict of a segment, for comparison with the next one."""

    revision: int
    said: tuple[str, Attributes | None]
    """Label and attributes."""
    evidence: int


def evidence(verdict: Verdict) -> int:
    """Return the number of answers in a verdict: votes, and that of the refiner."""
    return len(verdict.votes) + (verdict.refinement is not None)


@dataclass(slots=True)
class _Track:
    """Progress of one stream."""

    input: str = ""
    start_unix_s: float = 0.0
    next_sequence: int = 0
    position: int = 0
    ended: bool = False
    published: dict[int, _Published] = field(default_factory=dict)
    """The latest segments by sequence number."""
    provisional: tuple[int, int] = (-1, 0)
    """Sequence number and part of the latest provisional verdict."""

    def is_next(self, sequence: int, part: int) -> bool:
        """Whether a provisional verdict is newer than the last one; it is then the last one."""
        new = sequence >= self.next_sequence and (sequence, part) > self.provisional
        if new:
            self.provisional = (sequence, part)
        return new


class Ledger:
    """Record of all published events, so that no event is published twice.

    Args:
        remembered: number of segments of each stream that a verdict may still revise.

    """

    def __init__(self, remembered: int = 256) -> None:
        self._remembered = remembered
        self._tracks: dict[str, _Track] = {}
        self._inputs: dict[str, dict[str, _Track]] = {}
        """The same by input: with a thousand files, a search through all would be slow."""
        self._ended: deque[_Track] = deque()
        """The streams that ended last: one of their verdicts may still be revised."""
        self._over: deque[str] = deque()
        """The inputs that were over last."""
        self._up: dict[tuple[str, str], None] = {}
        """(node, service), the latest last."""

    def admit(self, event: Event | Activity) -> Event | Activity | None:
        """Return the event to publish, and mark it as published; None for a duplicate."""
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
                self._up[node, service] = None
                # a restarted hub does not say which nodes have gone meanwhile
                if len(self._up) > MAX_UP:
                    del self._up[next(iter(self._up))]
                return new
            case NodeDown(node=name):
                self._up = {up: None for up in self._up if up[0] != name}
                return True
            case Gap():
                return self._advance(event.stream, event.sequence, event.end)
            case StreamEnded():
                new = self._advance(event.stream, event.sequence, event.position)
                if new:
                    track = self._track(event.stream)
                    self._end(track)
                    self._forget_oldest(track.input)
                return new
            case _:
                return True

    def standings(self, name: str) -> tuple[Standing, ...]:
        """Return how far each stream of an input is written, for the front that continues it."""
        return tuple(
            Standing(
                stream=stream,
                next_sequence=track.next_sequence,
                acknowledged=track.next_sequence,
                position=track.position,
                start_unix_s=track.start_unix_s,
                window=1,
                ended=track.ended,
            )
            for stream, track in self._inputs.get(name, {}).items()
        )

    def endings(
        self, name: str, reached: Mapping[str, int], reason: str
    ) -> Iterator[Gap | StreamEnded]:
        """Yield a gap and the end for each stream of an input that has begun but not ended.

        Args:
            name: the input.
            reached: how far each stream was read, or its whole length if that is known.
            reason: why nothing more comes.

        """
        for stream, track in self._inputs.get(name, {}).items():
            if track.ended:
                continue
            number, start = track.next_sequence, track.position
            end = max(start, reached.get(stream, 0))
            if end > start:
                yield Gap(stream=stream, sequence=number, start=start, end=end, reason=reason)
                number += 1
            yield StreamEnded(stream=stream, sequence=number, position=end, reason=reason)

    def input_of(self, stream: str) -> str:
        """Return the input of a stream; empty if the stream is unknown."""
        track = self._tracks.get(stream)
        return track.input if track is not None else ""

    def begun(self, name: str) -> bool:
        """Whether an input has started a stream."""
        return name in self._inputs

    def over(self, name: str) -> bool:
        """Whether the end of each started stream of an input is written."""
        return all(track.ended for track in self._inputs.get(name, {}).values())

    def _track(self, stream: str) -> _Track:
        return self._tracks.setdefault(stream, _Track())

    def _end(self, track: _Track) -> None:
        track.ended = True
        self._ended.append(track)
        if len(self._ended) > MAX_REVISABLE:
            self._ended.popleft().published.clear()

    def _forget_oldest(self, name: str) -> None:
        """Note that a stream of an input has ended; forget the input that was over first."""
        if name and self.over(name):
            self._over.append(name)
        if len(self._over) > MAX_OVER and self.over(oldest := self._over.popleft()):
            for stream in self._inputs.pop(oldest, ()):
                del self._tracks[stream]

    def _admit_verdict(self, verdict: Verdict) -> Verdict | None:
        track, said = self._track(verdict.stream), (verdict.label, verdict.attributes)
        if not verdict.final:
            return verdict if track.is_next(verdict.sequence, verdict.part) else None
        if self._advance(verdict.stream, verdict.sequence, verdict.end):
            revision, changed = 0, True
        else:
            known = track.published.get(verdict.sequence)
            # a repeated or revised verdict counts only if it has more answers than the last one
            if known is None or evidence(verdict) <= known.evidence:
                return None
            changed = said != known.said
            revision = known.revision + changed
        track.published[verdict.sequence] = _Published(revision, said, evidence(verdict))
        if len(track.published) > self._remembered:
            del track.published[min(track.published)]
        return msgspec.structs.replace(verdict, revision=revision) if changed else None

    def _advance(self, stream: str, sequence: int, position: int) -> bool:
        track = self._track(stream)
        if sequence < track.next_sequence:
            return False
        track.next_sequence, track.position = sequence + 1, max(track.position, position)
        return True


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


class Recorder:
    """The network client of the recorder.

    Args:
        endpoint: endpoint of the hub.
        name: name of this sink.
        run: id of the run to record.
        keys: keys for a hub on another machine.

    """

    def __init__(self, endpoint: str, name: str, run: str, keys: Keys | None = None) -> None:
        self._name, self._run = name, run
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = connect(self._context, sinks_endpoint(endpoint), name, keys)
        self._encoder = Encoder()
        self._decoder: Decoder[Message] = Decoder(ToSink, MAX_STATES_BYTES)
        self.ledger = Ledger()
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
        if self._socket.is_new():
            self._greeting.connected(now)
        elif now - self.last_received > STALE_S:
            self._greeting.again(now)  # the hub may have given up this sink
        if self._greeting.is_due(now):
            self._send(Subscribe(sink=self._name, confirm=True, run=self._run))
            self._inbox.confirmed = 0  # what was confirmed on the old connection may be lost
        if not self._socket.poll(math.ceil(1000 * timeout_s)):
            return
        for message in messages(self._socket, self._decoder):
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
            return self._socket.error(endpoint)
        reason = f"the hub has not answered for {wait_s:g} s"
        if self.cause:
            return NetworkError(endpoint, f"{reason}: {self.cause}", self._socket.remedy)
        return NetworkError(endpoint, reason, "supervise.hub_wait_s sets how long a run waits")

    @property
    def cause(self) -> str:
        """Why the hub does not answer, if it is there but does not let us in; else empty."""
        return self._socket.cause

    def close(self) -> None:
        """Confirm the written events and close the socket."""
        self._confirm()
        self._socket.close(linger=200)
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
        if new and (event := self.ledger.admit(notice.event)) is not None:
            yield event
        self._inbox.written = max(self._inbox.written, notice.number)

    def _confirm(self) -> None:
        inbox = self._inbox
        seen = Seen(hub=inbox.hub, number=inbox.written)
        if inbox.written > inbox.confirmed and self._send(seen):
            inbox.confirmed = inbox.written

    def _send(self, message: Message) -> bool:
        return send(self._socket, self._encoder.encode(message))
