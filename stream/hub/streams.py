"""The fronts of a hub: which one sends each stream, and how far the stream has come. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from abhinaya.stream.hub.runs import Run, Runs
from abhinaya.stream.hub.segments import Stream
from abhinaya.stream.hub.validation import are_valid_sequences, fault_of_name
from abhinaya.stream.settings.config import FlowConfig
from abhinaya.stream.wire.keys import LOCAL, Key
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

MAX_STREAMS: Final = 10_000
"""Maximum number of streams of a key that are not over."""

MAX_OVER: Final = 4096
"""How many streams of a run that are over are remembered."""


IDLE_S: Final = 2.0
"""Time without a segment after which a file gives its place to the next one."""


class Windows:
    """How many segments of each stream may be in progress at once.

    A live stream cannot wait. Files share what the nodes manage: those that began first are
    processed, the others wait. While live streams lose voters, all files wait.

    `manageable` is the number of segments of files that may be in progress at once.
    """

    def __init__(self, flow: FlowConfig) -> None:
        self._flow = flow
        self.manageable = self.most_of_files = flow.files_window
        self.changed = False
        """Whether `review` is due."""
        self._windows: dict[str, int] = {}
        """By id: the windows of the files that need not wait."""
        self._busy: dict[str, float] = {}
        """By id of such a file: when it last had a segment in progress."""

    def of(self, stream: Stream) -> int:
        """Return how many segments, from the first unacknowledged one, may be sent."""
        return self.most(stream) if stream.info.live else self._windows.get(stream.id, 0)

    def most(self, stream: Stream) -> int:
        """Return the largest window that a stream may have had."""
        # a live front may send more than the backlog: the hub then drops segments, because only the
        # hub knows which ones are already in work
        return 2 * self._flow.live_backlog if stream.info.live else self._flow.file_window

    def review(self, now: float, streams: Iterable[Stream]) -> list[Stream]:
        """Choose anew which files wait; return those whose window is another now."""
        files = [s for s in streams if not s.info.live and not s.end_written]
        self.changed = False
        left, before, busy = self.manageable, self._windows, self._busy
        self._windows, self._busy = {}, {}
        for stream in files:
            if left <= 0:
                break
            in_progress = stream.next_sequence > stream.acknowledged
            since = now if in_progress else busy.get(stream.id, now)
            window = min(self._flow.file_window, left)
            self._busy[stream.id], self._windows[stream.id] = since, window
            if now - since < IDLE_S and not stream.ended:
                left -= window
        return [s for s in files if before.get(s.id, 0) != self._windows.get(s.id, 0)]

    @property
    def begun(self) -> int:
        """Number of files that need not wait."""
        return len(self._windows)


@dataclass(slots=True)
class Front:
    """A front process."""

    name: str
    incarnation: str
    run: Run
    streams: dict[str, None]
    """Names of its streams that are not over."""
    last_received: float
    silent: bool = False
    must_resend: bool = False
    """Whether an item was lost on the way."""

    def open_streams(self) -> Iterator[Stream]:
        """Yield its streams that have not ended."""
        streams = (self.run.streams.get(name) for name in self.streams)
        return (stream for stream in streams if stream is not None and not stream.ended)


class Streams:
    """The fronts of a hub and their streams, which stand in their runs."""

    def __init__(self, hub: str, flow: FlowConfig, runs: Runs) -> None:
        self._hub = hub
        self.windows = Windows(flow)
        self._runs = runs
        self._fronts: dict[bytes, Front] = {}

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._fronts

    def __getitem__(self, peer: bytes) -> Front:
        return self._fronts[peer]

    def fault(self, peer: bytes, hello: Hello, key: Key = LOCAL) -> str:
        """Return why a front, or what it adds, is refused; empty if it is accepted."""
        if fault := fault_of_name(hello.front) or self._runs.fault(hello.run, key):
            return fault
        if peer in self._fronts and self._fronts[peer].run.id != hello.run:
            return "it has already introduced itself in another run"
        firsts = hello.first_sequences
        if len(hello.streams) != len(firsts) or not are_valid_sequences(firsts):
            return "its first sequence numbers are invalid, or do not fit its streams"
        if any(info.run != hello.run for info in hello.streams):
            return "it has a stream of another run"
        names = {info.stream for info in hello.streams}
        if len(names) < len(hello.streams):
            return "it has two streams of the same name"
        run = self._runs.get(hello.run)
        others = (r for r in self._runs if r is not run and r.owner == (run.owner if run else key))
        here = len(names | run.streams.keys() if run else names)
        if here + sum(len(r.streams) for r in others) > MAX_STREAMS:
            return f"its key would have more than {MAX_STREAMS} streams at a time"
        for info in hello.streams:
            known = run.streams.get(info.stream) if run else None
            owner = self._fronts.get(known.front) if known and not known.ended else None
            if owner is not None and not owner.silent and owner.name != hello.front:
                return f"stream {info.stream!r} is being sent by {owner.name}"
        return ""

    def behind(self, hello: Hello) -> Iterator[tuple[Stream, int]]:
        """Yield (stream, first item) of those of which another hub has had later items since."""
        run = self._runs.get(hello.run)
        for info, first in zip(hello.streams, hello.first_sequences, strict=True):
            stream = run.streams.get(info.stream) if run else None
            if stream is not None and first > stream.next_sequence:
                yield stream, first

    def add_front(
        self, now: float, peer: bytes, hello: Hello, key: Key = LOCAL
    ) -> list[StreamInfo]:
        """Add a front, or streams to a front that is known; return the new streams."""
        run = self._runs.open(now, hello.run, key)
        if not hello.adds:
            # a restarted front replaces the process of the same name
            self.remove(run, hello.front)
            self._fronts[peer] = Front(hello.front, hello.incarnation, run, {}, now)
        self.received(now, peer)
        new = []
        for info, first in zip(hello.streams, hello.first_sequences, strict=True):
            if info.stream in run.over:
                continue
            self._fronts[peer].streams[info.stream] = None
            stream = run.streams.get(info.stream)
            if stream is None:
                run.streams[info.stream] = Stream(info, peer, first, first, run.owner)
                new.append(info)
            else:
                stream.front = peer
        return new

    def live(self) -> list[Stream]:
        """Return the live streams that have not ended, in the order in which they began."""
        return [
            s for run in self._runs for s in run.streams.values() if s.info.live and not s.ended
        ]

    def review(self, now: float) -> list[Stream]:
        """Choose anew which files wait; return the streams whose fronts must hear of it."""
        return self.windows.review(now, (s for r in self._runs for s in r.streams.values()))

    def welcome(self, peer: bytes, hello: Hello) -> Welcome:
        """Return the reply to a front: how far its streams have come."""
        run = self._fronts[peer].run
        return Welcome(
            hub=self._hub,
            streams=tuple(
                run.over.get(info.stream) or self._standing(run.streams[info.stream])
                for info in hello.streams
            ),
        )

    def received(self, now: float, peer: bytes) -> None:
        """Note a message from a front."""
        self._fronts[peer].last_received, self._fronts[peer].silent = now, False

    def lost_item(self, peer: bytes) -> None:
        """Note that an item of a front was lost on the way."""
        self._fronts[peer].must_resend = True

    def must_resend(self, peer: bytes) -> bool:
        """Whether a front must introduce itself, and send again what was lost."""
        return self._fronts[peer].must_resend

    def newly_silent(self, now: float, silent_s: float) -> list[Front]:
        """Return the fronts with open streams whose silence has just become too long.

        Forget the silent fronts without open streams.
        """
        found = []
        for peer, front in list(self._fronts.items()):
            if now - front.last_received <= silent_s:
                front.run.last_present = now
            elif not any(front.open_streams()):
                del self._fronts[peer]
            elif not front.silent:
                front.silent = True
                found.append(front)
        return found

    def paused(self, seconds: float) -> None:
        """Note that the hub itself did not run: nobody was silent meanwhile."""
        for front in self._fronts.values():
            front.last_received += seconds
        for run in self._runs:
            run.last_present += seconds
            for stream in run.streams.values():
                stream.present = stream.present and stream.present + seconds

    def report(
        self, now: float, limit_s: float
    ) -> tuple[dict[str, list[str]], dict[str, list[Suspect]]]:
        """Return by run: the names of its fronts, and those that are silent instead."""
        names: dict[str, list[str]] = {}
        suspects: dict[str, list[Suspect]] = {}
        for front in self._fronts.values():
            if not front.silent:
                names.setdefault(front.run.id, []).append(front.name)
                continue
            suspect = Suspect(
                name=front.name,
                incarnation=front.incarnation,
                reason=f"has been silent for {now - front.last_received:.1f} s",
                limit_s=limit_s,
            )
            suspects.setdefault(front.run.id, []).append(suspect)
        return names, suspects

    def of(self, peer: bytes, item: Known | Segment | Gap | End | Activity) -> Stream | None:
        """Return the stream of an item; None if it does not belong to this front."""
        stream = self._fronts[peer].run.streams.get(item.stream)
        return stream if stream is not None and stream.front == peer else None

    def is_in_turn(self, stream: Stream, item: Segment | Gap | End) -> bool:
        """Whether a new item is the next one, and within the credit of the front."""
        # not its window: that may have become smaller since the front sent the item
        within = item.sequence < stream.acknowledged + self.windows.most(stream)
        return within and item.sequence == stream.next_sequence

    def credit(self, stream: Stream) -> Credit:
        """Return the acknowledgement, window and states of a stream for its front."""
        return Credit(
            stream=stream.info.stream,
            acknowledged=stream.acknowledged,
            window=self.windows.of(stream),
            states=stream.acknowledged_states(),
        )

    def credit_of_over(self, peer: bytes, stream: str) -> Credit | None:
        """Return the acknowledgement of a stream that is over; None for another stream."""
        over = self._fronts[peer].run.over.get(stream)
        if over is None:
            return None
        return Credit(stream=stream, acknowledged=over.acknowledged, window=over.window)

    def remove(self, run: Run, name: str) -> list[Stream]:
        """Remove the front of this name in a run; return its streams that have not ended."""
        peers = [p for p, f in self._fronts.items() if f.name == name and f.run is run]
        return [stream for peer in peers for stream in self._fronts.pop(peer).open_streams()]

    def close(self, run: Run, stream: Stream) -> None:
        """Forget a stream that is over, except how long it was."""
        name = stream.info.stream
        run.over[name] = self._standing(run.streams.pop(name))
        if (front := self._fronts.get(stream.front)) is not None:
            front.streams.pop(name, None)
        if len(run.over) > MAX_OVER:
            del run.over[next(iter(run.over))]

    def forget_left(self, now: float, run: Run, after_s: float) -> Iterator[Stream]:
        """Forget, and yield, the streams whose front went to another hub: it is away for so long.

        If it comes back, it says how far they are written, as to a hub that was restarted.
        """
        for name, stream in list(run.streams.items()):
            front = self._fronts.get(stream.front)
            if stream.present is None or (front is not None and not front.silent):
                stream.present = now
            written = not stream.ended and stream.acknowledged == stream.next_sequence
            if written and now - stream.present > after_s:
                del run.streams[name]
                yield stream

    def forget(self, run: Run) -> None:
        """Forget a run and its fronts."""
        for peer in [peer for peer, front in self._fronts.items() if front.run is run]:
            del self._fronts[peer]
        self._runs.forget(run)

    def _standing(self, stream: Stream) -> Standing:
        return Standing(
            stream=stream.info.stream,
            next_sequence=stream.next_sequence,
            acknowledged=stream.acknowledged,
            position=stream.position,
            start_unix_s=stream.info.start_unix_s,
            window=self.windows.of(stream),
            ended=stream.ended,
        )
