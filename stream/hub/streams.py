"""The stream table: which front sends what, in order, and how far each stream has come. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from abhinaya.stream.hub.segments import Stream
from abhinaya.stream.hub.validation import countable
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
    Welcome,
)


@dataclass(slots=True)
class Front:
    """A process that reads an input."""

    name: str
    incarnation: str
    streams: tuple[str, ...]
    heard: float
    silent: bool = False


class Streams:
    """The fronts and streams that a hub knows."""

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
        """Say why a front cannot be taken in, if so."""
        firsts = hello.first_sequences
        if len(hello.streams) != len(firsts) or not countable(firsts):
            return "a front's greeting that contradicts itself"
        for info in hello.streams:
            known = self._streams.get(info.stream)
            owner = self._fronts.get(known.front) if known and not known.ended else None
            if owner is not None and owner.name != hello.front:
                return f"stream {info.stream!r} is being sent by {owner.name}"
        return ""

    def greet(self, now: float, peer: bytes, hello: Hello) -> list[StreamInfo]:
        """Take in a front; return the streams that are new."""
        # a front that was started again takes over from the process that bore its name
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
        """Tell a front how far its streams have come."""
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

    def hear(self, now: float, peer: bytes) -> None:
        """Note that a front lives."""
        self._fronts[peer].heard, self._fronts[peer].silent = now, False

    def newly_silent(self, now: float, silent_s: float) -> list[Front]:
        """Return the fronts with open streams that have newly been silent for too long."""
        fronts = [
            front
            for front in self._fronts.values()
            if now - front.heard > silent_s
            and not front.silent
            and any(not self._streams[name].ended for name in front.streams)
        ]
        for front in fronts:
            front.silent = True
        return fronts

    def of(self, peer: bytes, item: Known | Segment | Gap | End | Activity) -> Stream | None:
        """Return the stream that an item belongs to, if it is this front's."""
        stream = self._streams.get(item.stream)
        return stream if stream is not None and stream.front == peer else None

    def is_in_turn(self, stream: Stream, item: Segment | Gap | End) -> bool:
        """Whether an item that has not come yet is the next, and within the front's credit."""
        # its own limit and not its share of all: that may have become less since this was sent
        within = item.sequence < stream.acknowledged + self._most(stream)
        return within and item.sequence == stream.next_sequence

    def credit(self, stream: Stream) -> Credit:
        """Return what a front may forget, how much it may send, and what it keeps for a new hub."""
        return Credit(
            stream=stream.info.stream,
            acknowledged=stream.acknowledged,
            window=self._window(stream),
            states=stream.acknowledged_states(),
        )

    def remove(self, name: str) -> Iterable[Stream]:
        """Forget a front that has died; return its streams that have not ended."""
        peers = [p for p, f in self._fronts.items() if f.name == name]
        streams = [s for peer in peers for s in self._fronts.pop(peer).streams]
        return [self._streams[s] for s in streams if not self._streams[s].ended]

    def _window(self, stream: Stream) -> int:
        if stream.info.live:
            return self._most(stream)
        files = sum(not s.ended and not s.info.live for s in self._streams.values())
        return max(1, min(self._most(stream), self._flow.files_window // max(1, files)))

    def _most(self, stream: Stream) -> int:
        # a live front may send more than may wait, so that it is the hub who sheds, knowing what
        # has been begun
        return 2 * self._flow.live_backlog if stream.info.live else self._flow.file_window
