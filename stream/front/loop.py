"""The loop of a front process: sends the segments of its inputs to the hub.

One thread reads the sources and finds speech (`reader.py`). The main thread exchanges messages with
the hub and keeps the segments that the hub has not acknowledged. Reading a file waits while its
outbox is full. A live source never waits: the oldest unsent segments become gaps instead. Several
files share one front; an input that may delay others has its own front (`run/inputs.py`).
"""

from __future__ import annotations

import itertools
import math
import os
import queue
import sys
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

import msgspec
import zmq

from abhinaya.stream.clock import to_samples, unix_time
from abhinaya.stream.errors import AbhinayaError, NetworkError, ProcessError, SourceError
from abhinaya.stream.front.child import Place
from abhinaya.stream.front.numbering import Speech
from abhinaya.stream.front.outbox import CATCH_UP, Item, LatestOnly, Outbox
from abhinaya.stream.front.reader import Feed, Reader
from abhinaya.stream.front.vad import SileroVad
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.wire.child import (
    Stop,
    drain,
    wake,
    wakeup,
)
from abhinaya.stream.wire.client import Client
from abhinaya.stream.wire.codec import MAX_STATES_BYTES, Decoder, Encoder
from abhinaya.stream.wire.greeting import Greeting
from abhinaya.stream.wire.messages import (
    Activity,
    Beat,
    Credit,
    End,
    Hello,
    Introduce,
    Known,
    Message,
    Refused,
    Remark,
    Segment,
    Standing,
    StreamInfo,
    ToFront,
    Welcome,
)
from abhinaya.stream.wire.sockets import messages, send, workers_endpoint

POLL_MS: Final = 100
NOT_KEPT: Final = "the hub did not answer, and later audio took the place (flow.kept_s)"

Report = Callable[[str, AbhinayaError], None]
"""Receives the name of an input that failed, and its error."""

Note = Callable[[dict[str, int]], None]
"""Receives at each heartbeat how far each stream was read: a dead front cannot report that."""


class Front:
    """The loop of the main thread. `remarks` has pairs (input, text).

    `place` says where the hub is; None: it never moves. `stays` is the id of the run if feeds come
    and go (`add`) until the front is asked to stop.
    """

    def __init__(
        self,
        name: str,
        run: configuration.Config,
        feeds: Sequence[Feed],
        socket: Client,
        remarks: queue.SimpleQueue[tuple[str, str]],
        report: Report,
        place: Place | None = None,
        note: Note = lambda reached: None,
        stays: str = "",
    ) -> None:
        self._name = name
        self._run = run
        self._feeds = list(feeds)
        self._stays = stays
        self._new: queue.SimpleQueue[list[Feed]] = queue.SimpleQueue()
        self._socket = socket
        self._remarks = remarks
        self._report = report
        self._place = place
        self._note = note
        self._encoder = Encoder()
        self._decoder: Decoder[Message] = Decoder(ToFront, MAX_STATES_BYTES)
        self._woken, self._writing = wakeup()
        self.reader = Reader(name, lambda: wake(self._writing), bool(stays))
        self._reading = False
        self._vad: SileroVad | None = None
        self._outboxes: dict[str, Outbox] = {}
        self._owners: dict[str, Feed] = {}
        """By stream, as the outboxes."""
        self._due: dict[Feed, None] = {}
        """Feeds that may have something to send."""
        self._states: dict[str, dict[str, bytes]] = {}
        """By stream: state of each service before the first unacknowledged segment."""
        self._greeting = Greeting()
        self._stop = Stop()
        self._cancelled: Collection[str] = ()
        """Names of inputs that shall end."""

    def run(self, stop: Stop) -> int:
        """Run until all sources are read and all items acknowledged; return the exit code.

        Without a hub it waits: its supervisor decides how long.

        Raises:
            ProcessError: an unexpected error, or the hub refuses this front.

        """
        self._stop = stop
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._woken, zmq.POLLIN)
        poller.register(self._socket.watch(), zmq.POLLIN)
        next_beat = 0.0
        while not self._is_done():
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + self._run.supervise.beat_s
                if self._greeting.accepted:
                    self._send(Beat(name=self._name))
                self._note_reached()
                self._follow()
            if self._greeting.is_due(now):
                self._greet()
            if stop.asked or self._cancelled:
                for feed in self._feeds:
                    if feed.source is not None and self._must_end(feed):
                        feed.source.interrupt()
            poller.poll(min(POLL_MS, max(0, math.ceil(1000 * (next_beat - now)))))
            drain(self._woken)
            self._take_new()
            if self._socket.is_new():
                self._greeting.connected(now)
            for message in messages(self._socket, self._decoder):
                self._handle(message)
            self._collect()
            self._send_items()
            if stop.asked:
                self._note_reached()
        if self.reader.error:
            raise self.reader.error
        return 0

    def add(self, feeds: list[Feed]) -> None:
        """Read these inputs too, each call the streams of one input; any thread may call this."""
        self._new.put(feeds)
        wake(self._writing)

    def _follow(self) -> None:
        """Connect to the hub where it is now, and greet it like one that was restarted.

        Note also which inputs were cancelled.
        """
        if self._place is None:
            return
        self._cancelled = self._place.cancelled()
        if self._place.moved():
            self._socket.move(workers_endpoint(self._place.endpoint), self._place.server)
            self._greeting = Greeting()

    def _must_end(self, feed: Feed) -> bool:
        return self._stop.asked or feed.name in self._cancelled

    def _take_new(self) -> None:
        while not self._new.empty():
            feeds = self._new.get()
            self._feeds += feeds
            if self._greeting.accepted:
                self._introduce(feeds)

    def _note_reached(self) -> None:
        self._note({i.stream: feed.reached for feed in self._feeds for i in feed.infos})

    def _is_done(self) -> bool:
        """Forget the inputs that are done; return whether all items are acknowledged."""
        if self.reader.error:
            return all(box.empty for box in self._outboxes.values())
        over = (feed for feed in self._feeds if feed.over or feed.written)
        if done := [feed for feed in over if feed.is_done]:
            for feed in done:
                self._forget(feed)
            self._feeds = [feed for feed in self._feeds if feed not in done]
        return not self._feeds and (self._stop.asked or not self._stays)

    def _forget(self, feed: Feed) -> None:
        if feed.fault:
            self._report(feed.name, feed.fault)
        for info in feed.infos:
            self._outboxes.pop(info.stream, None)
            self._owners.pop(info.stream, None)
            self._states.pop(info.stream, None)
        self._due.pop(feed, None)
        feed.done(feed.fault.reason if feed.fault else "")

    def _greet(self) -> None:
        if self._stays:
            self._send(self._hello(self._stays, []))
        elif self._feeds:
            self._introduce(self._feeds)

    def _introduce(self, feeds: Sequence[Feed]) -> None:
        """Introduce the streams of these feeds; if feeds come and go, in addition to others."""
        # a stream that is over would be a new one for a new hub, and stay open there
        if infos := [info for feed in feeds for info in feed.unfinished()]:
            self._send(self._hello(infos[0].run, infos, adds=bool(self._stays)))

    def _hello(self, run: str, infos: Sequence[StreamInfo], adds: bool = False) -> Hello:
        first = {s.stream: s.acknowledged for feed in self._feeds for s in feed.written}
        first |= {stream: outbox.acknowledged for stream, outbox in self._outboxes.items()}
        return Hello(
            front=self._name,
            incarnation=str(os.getpid()),
            run=run,
            streams=tuple(infos),
            first_sequences=tuple(first.get(info.stream, 0) for info in infos),
            adds=adds,
        )

    def _handle(self, message: Message) -> None:
        if isinstance(message, Welcome):
            self._welcome(message)
        elif isinstance(message, Credit):
            if (outbox := self._outboxes.get(message.stream)) is not None:
                outbox.credit(message.acknowledged, message.window)
                self._states[message.stream] = message.states
                self._due[self._owners[message.stream]] = None
        elif isinstance(message, Introduce):
            self._greeting.again(time.monotonic())
        elif isinstance(message, Refused):
            reason = f"was refused by the hub: {message.reason}"
            if message.streams and self._stays:
                self._refused(message.streams, reason)
                return
            # with several inputs, perhaps only one of them is refused
            if message.rights:
                raise NetworkError(self._name, reason, message.remedy)
            if self._stays or len(self._feeds) > 1 or message.restart:
                raise ProcessError(self._name, reason)
            raise SourceError(self._feeds[0].infos[0].source, reason)

    def _refused(self, streams: Sequence[str], reason: str) -> None:
        """End the inputs of these streams: the hub does not take them."""
        for feed in self._feeds:
            if not feed.outboxes and any(info.stream in streams for info in feed.infos):
                feed.fault, feed.over = SourceError(feed.name, reason), True

    def _welcome(self, welcome: Welcome) -> None:
        self._greeting.accept()
        if self._stays and not welcome.streams:
            for _, feeds in itertools.groupby(self._feeds, lambda feed: feed.name):
                self._introduce(list(feeds))
        standings = {standing.stream: standing for standing in welcome.streams}
        begun = [
            feed
            for feed in self._feeds
            if not feed.outboxes and any(info.stream in standings for info in feed.infos)
        ]
        self._begin(begun, standings)
        for standing in welcome.streams:
            outbox = self._outboxes.get(standing.stream)
            if outbox is None:  # it has ended meanwhile
                continue
            outbox.credit(standing.acknowledged, standing.window)
            outbox.resume(standing.next_sequence)
            self._due[self._owners[standing.stream]] = None
            for service, state in self._states.get(standing.stream, {}).items():
                self._send(Known(stream=standing.stream, service=service, state=state))

    def _begin(self, feeds: Sequence[Feed], standings: dict[str, Standing]) -> None:
        """Start reading; `standings` is the hub's progress of each stream."""
        flow = self._run.flow
        readable: list[tuple[Feed, Speech]] = []
        for feed in feeds:
            progress = {standing.stream: standing for standing in feed.written} | standings
            of_feed = [progress[info.stream] for info in feed.infos]
            for s in of_feed:
                pace = CATCH_UP if feed.live else sys.maxsize
                feed.outboxes[s.stream] = Outbox(s.acknowledged, s.window, flow.file_window, pace)
                feed.latest[s.stream] = LatestOnly()
            self._outboxes |= feed.outboxes
            self._owners |= dict.fromkeys(feed.outboxes, feed)
            if feed.begin is not None and of_feed[0].ended:
                feed.fault = SourceError(feed.name, "the hub had ended its streams before")
                feed.over = True
                continue
            if feed.source is None:
                feed.items.extend(_end(s, feed.fault) for s in of_feed if not s.ended)
                feed.over = True
                continue
            written = {s.stream: s for s in feed.written}
            known = [_later(s, written.get(s.stream)) for s in of_feed]
            self._vad = self._vad or SileroVad()
            speech = Speech(
                self._run.vad,
                feed.source,
                [info.stream for info in feed.infos],
                # also if the predecessor died before its first segment: its time is then a gap
                known if feed.is_continued else (),
                partial(self._must_end, feed),
                vad=self._vad,
                heard=[info.heard for info in feed.infos],
                begin=feed.begin,
            )
            feed.reached = speech.reached
            readable.append((feed, speech))
        self.reader.add(readable)
        if readable and not self._reading:
            self._reading = True
            self.reader.start()

    def _collect(self) -> None:
        """Move found items into the outboxes while there is room."""
        for feed in self._feeds:
            if feed.items:
                self._due[feed] = None
            while feed.items:
                item = feed.items[0]
                if isinstance(item, Activity) or (isinstance(item, Segment) and item.part):
                    feed.latest[item.stream].put(item)
                else:
                    outbox = feed.outboxes[item.stream]
                    if outbox.full and not feed.live:
                        break
                    outbox.put(item, time.monotonic())
                    if feed.live:
                        most = to_samples(self._run.flow.kept_s) // len(feed.outboxes)
                        outbox.shed(most, NOT_KEPT)
                feed.items.popleft()
        self.reader.make_room()

    def _send_items(self) -> None:
        if not self._greeting.accepted:
            return
        while not self._remarks.empty():
            name, text = self._remarks.get()
            self._send(Remark(source=name, text=text))
        while self._due:
            feed = next(iter(self._due))
            for stream, outbox in feed.outboxes.items():
                for item in outbox.sendable():
                    held_s = outbox.held_s(item, time.monotonic())
                    if not self._send(_stamped(item, feed.live, held_s)):
                        return
                    outbox.sent(item)
                for message in feed.latest[stream].take(outbox.unsent):
                    self._send(message)
            del self._due[feed]

    def _send(self, message: Message) -> bool:
        return send(self._socket, self._encoder.encode(message))


def _stamped(item: Item, live: bool, held_s: float) -> Item:
    """Set the sending time. For a file this is the capture time too, so waiting is not latency."""
    if not isinstance(item, Segment):
        return item
    now = unix_time()
    captured = item.captured_unix_s if live else now
    return msgspec.structs.replace(
        item, sent_unix_s=now, captured_unix_s=captured, held_ms=1000 * held_s if live else 0.0
    )


def _end(standing: Standing, fault: AbhinayaError | None) -> End:
    return End(
        stream=standing.stream,
        sequence=standing.next_sequence,
        position=standing.position,
        reason=str(fault),
    )


def _later(hub: Standing, written: Standing | None) -> Standing:
    """Return the later of two standings: a restarted hub has none of its own, or an earlier one."""
    known = (hub, written) if written else (hub,)
    return max(known, key=lambda standing: (standing.next_sequence, standing.position))
