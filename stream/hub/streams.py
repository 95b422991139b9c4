"""The table of streams: which front sends each stream, and how far it has come. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from abhinaya.stream.hub.segments import Stream
from abhinaya.stream.hub.validation import are_valid_sequences
from abhinaya.stream.settings.config import FlowConfig
from abhinaya.stream.wire.messages import (
    Activity,
    Credit,
    End,
    Gap,
    Hello,
    Known,
    Segment,
    Standing,
    StreamInfo,
    Suspect,
    Welcome,
)


@dataclass(slots=True)
class Front:
    """A front process."""

    name: str
    incarnation: str
    streams: tuple[str, ...]
    last_received: float
    silent: bool = False
    must_resend: bool = False
    """Whether an item was lost: the front must introduce itself and send again from there."""


class Streams:
    """The fronts and streams of a hub."""

    def __init__(self, hub: str, flow: FlowConfig) -> None:
        self._hub = hub
        self._flow = flow
        self._fronts: dict[bytes, Front] = {}
        self._streams: dict[str, Stream] = {}

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._fronts

    def __getitem__(self, stream: str) -> Stream:
        return self._streams[stream]

    @property
    def fronts(self) -> tuple[str, ...]:
        """Names of the fronts that are not silent."""
        return tuple(front.name for front in self._fronts.values() if not front.silent)

    def open_streams(self) -> Iterator[StreamInfo]:
        """Yield the streams that have not ended."""
        return (s.info for s in self._streams.values() if not s.ended)

    def fault(self, hello: Hello) -> str:
        """Return why a front is refused; empty if it is accepted."""
        firsts = hello.first_sequences
        if len(hello.streams) != len(firsts) or not are_valid_sequences(firsts):
            return "its first sequence numbers are invalid, or do not fit its streams"
        for info in hello.streams:
            known = self._streams.get(info.stream)
            owner = self._fronts.get(known.front) if known and not known.ended else None
            if owner is not None and owner.name != hello.front:
                return f"stream {info.stream!r} is being sent by {owner.name}"
        return ""

    def add_front(self, now: float, peer: bytes, hello: Hello) -> list[StreamInfo]:
        """Add a front; return its new streams."""
        # a restarted front replaces the process of the same name
        for other in [p for p, f in self._fronts.items() if f.name == hello.front]:
            del self._fronts[other]
        names = tuple(info.stream for info in hello.streams)
        self._fronts[peer] = Front(hello.front, hello.incarnation, names, now)
        new = []
        for info, first in zip(hello.streams, hello.first_sequences, strict=True):
            stream = self._streams.get(info.stream)
            if stream is None:
                self._streams[info.stream] = Stream(info, peer, first, first)
                new.append(info)
            else:
                stream.front = peer
        return new

    def welcome(self, hello: Hello) -> Welcome:
        """Return the reply to a front: how far its streams have come."""
        streams = [self._streams[info.stream] for info in hello.streams]
        return Welcome(
            hub=self._hub,
            streams=tuple(
                Standing(
                    stream=stream.info.stream,
                    next_sequence=stream.next_sequence,
                    acknowledged=stream.acknowledged,
                    position=stream.position,
                    start_unix_s=stream.info.start_unix_s,
                    window=self._window(stream),
                )
                for stream in streams
            ),
        )

    def received(self, now: float, peer: bytes) -> Front:
        """Note a message from a front; return the front."""
        front = self._fronts[peer]
        front.last_received, front.silent = now, False
        return front

    def must_resend(self, peer: bytes) -> None:
        """Note that an item of a front was lost."""
        self._fronts[peer].must_resend = True

    def newly_silent(self, now: float, silent_s: float) -> list[Front]:
        """Return the fronts with open streams whose silence has just become too long."""
        fronts = [
            front
            for front in self._fronts.values()
            if now - front.last_received > silent_s
            and not front.silent
            and any(not self._streams[name].ended for name in front.streams)
        ]
        for front in fronts:
            front.silent = True
        return fronts

    def paused(self, seconds: float) -> None:
        """Note that the hub itself did not run: nobody was silent meanwhile."""
        for front in self._fronts.values():
            front.last_received += seconds

    def suspects(self, now: float, limit_s: float) -> Iterator[Suspect]:
        """Yield the silent fronts, for the one who watches their processes."""
        for front in self._fronts.values():
            if front.silent:
                yield Suspect(
                    name=front.name,
                    incarnation=front.incarnation,
                    reason=f"has been silent for {now - front.last_received:.1f} s",
                    limit_s=limit_s,
                )

    def of(self, peer: bytes, item: Known | Segment | Gap | End | Activity) -> Stream | None:
        """Return the stream of an item; None if it does not belong to this front."""
        stream = self._streams.get(item.stream)
        return stream if stream is not None and stream.front == peer else None

    def is_in_turn(self, stream: Stream, item: Segment | Gap | End) -> bool:
        """Whether a new item is the next one, and within the credit of the front."""
        # not `_window`: that may have become smaller since the front sent the item
        within = item.sequence < stream.acknowledged + self._most(stream)
        return within and item.sequence == stream.next_sequence

    def credit(self, stream: Stream) -> Credit:
        """Return the acknowledgement, window and states of a stream for its front."""
        return Credit(
            stream=stream.info.stream,
            acknowledged=stream.acknowledged,
            window=self._window(stream),
            states=stream.acknowledged_states(),
        )

    def remove(self, name: str) -> Iterable[Stream]:
        """Remove a dead front; return its streams that have not ended."""
        peers = [p for p, f in self._fronts.items() if f.name == name]
        streams = [s for peer in peers for s in self._fronts.pop(peer).streams]
        return [self._streams[s] for s in streams if not self._streams[s].ended]

    def _window(self, stream: Stream) -> int:
        if stream.info.live:
            return self._most(stream)
        files = sum(not s.ended and not s.info.live for s in self._streams.values())
        return max(1, min(self._most(stream), self._flow.files_window // max(1, files)))

    def _most(self, stream: Stream) -> int:
        # a live front may send more than the backlog: the hub then drops segments, because only the
        # hub knows which ones are already in work
        return 2 * self._flow.live_backlog if stream.info.live else self._flow.file_window
