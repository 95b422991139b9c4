"""A front process: reads inputs and sends their segments to the hub.

One thread reads the sources and finds speech (`reader.py`). The main thread exchanges messages with
the hub and keeps the segments that the hub has not acknowledged. Reading a file waits while its
outbox is full. A live source never waits: the oldest unsent segments become gaps instead. Several
files share one front; an input that may delay others has its own front (`run/inputs.py`).
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import zmq

from abhinaya.models.text import unpack
from abhinaya.stream.clock import to_samples, unix_time
from abhinaya.stream.errors import AbhinayaError, NetworkError, ProcessError, SourceError
from abhinaya.stream.front.assignment import Assignment, open_feed
from abhinaya.stream.front.numbering import Speech
from abhinaya.stream.front.outbox import CATCH_UP, Item, LatestOnly, Outbox
from abhinaya.stream.front.reader import Feed, Reader
from abhinaya.stream.front.vad import SileroVad
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.wire.child import (
    Notes,
    Stop,
    drain,
    leave_fault,
    run_child,
    wake,
    wakeup,
)
from abhinaya.stream.wire.client import Client
from abhinaya.stream.wire.codec import MAX_STATES_BYTES, Decoder, Encoder
from abhinaya.stream.wire.greeting import Greeting
from abhinaya.stream.wire.keys import Keys
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
    ToFront,
    Welcome,
)
from abhinaya.stream.wire.sockets import connect, messages, send, workers_endpoint

POLL_MS: Final = 100
NOT_KEPT: Final = "the hub did not answer, and later audio took the place (flow.kept_s)"

Report = Callable[[str, AbhinayaError], None]
"""Receives the name of an input that failed, and its error."""

Note = Callable[[dict[str, int]], None]
"""Receives at each heartbeat how far each stream was read: a dead front cannot report that."""


class Front:
    """The loop of the main thread. `remarks` has pairs (input, text)."""

    def __init__(
        self,
        name: str,
        run: configuration.Config,
        feeds: Sequence[Feed],
        socket: Client,
        remarks: queue.SimpleQueue[tuple[str, str]],
        report: Report,
        note: Note = lambda reached: None,
    ) -> None:
        self._name = name
        self._run = run
        self._feeds = feeds
        self._socket = socket
        self._remarks = remarks
        self._report = report
        self._note = note
        self._encoder = Encoder()
        self._decoder: Decoder[Message] = Decoder(ToFront, MAX_STATES_BYTES)
        self._woken, writing = wakeup()
        self._reader = Reader(name, lambda: wake(writing))
        self._outboxes: dict[str, Outbox] = {}
        self._states: dict[str, dict[str, bytes]] = {}
        """By stream: state of each service before the first unacknowledged segment."""
        self._reported: set[str] = set()
        self._greeting = Greeting()
        self._stop = Stop()

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
                self._note({i.stream: feed.reached for feed in self._feeds for i in feed.infos})
            if self._greeting.is_due(now):
                self._greet()
            if stop.asked:
                for feed in self._feeds:
                    if feed.source is not None:
                        feed.source.interrupt()
            poller.poll(min(POLL_MS, max(0, math.ceil(1000 * (next_beat - now)))))
            drain(self._woken)
            if self._socket.is_new():
                self._greeting.connected(now)
            for message in messages(self._socket, self._decoder):
                self._handle(message)
            self._collect()
            self._send_items()
            if stop.asked:
                self._note({i.stream: feed.reached for feed in self._feeds for i in feed.infos})
        if self._reader.error:
            raise self._reader.error
        return 0

    def _is_done(self) -> bool:
        """Report failed inputs that are done; return whether all items are acknowledged."""
        for feed in self._feeds:
            if feed.fault and feed.is_done and feed.name not in self._reported:
                self._reported.add(feed.name)
                self._report(feed.name, feed.fault)
        if self._reader.error:
            return all(box.empty for box in self._outboxes.values())
        return all(feed.is_done for feed in self._feeds)

    def _greet(self) -> None:
        # a stream that is over would be a new one for a new hub, and stay open there
        infos = [info for feed in self._feeds for info in feed.unfinished()]
        if not infos:
            return
        first = {s.stream: s.acknowledged for feed in self._feeds for s in feed.written}
        first |= {stream: outbox.acknowledged for stream, outbox in self._outboxes.items()}
        self._send(
            Hello(
                front=self._name,
                incarnation=str(os.getpid()),
                run=infos[0].run,
                streams=tuple(infos),
                first_sequences=tuple(first.get(info.stream, 0) for info in infos),
            )
        )

    def _handle(self, message: Message) -> None:
        if isinstance(message, Welcome):
            self._welcome(message)
        elif isinstance(message, Credit):
            if message.stream in self._outboxes:
                self._outboxes[message.stream].credit(message.acknowledged, message.window)
                self._states[message.stream] = message.states
        elif isinstance(message, Introduce):
            self._greeting.again(time.monotonic())
        elif isinstance(message, Refused):
            reason = f"was refused by the hub: {message.reason}"
            # with several inputs, perhaps only one of them is refused
            if message.rights:
                raise NetworkError(self._name, reason, message.remedy)
            if len(self._feeds) > 1 or message.restart:
                raise ProcessError(self._name, reason)
            raise SourceError(self._feeds[0].infos[0].source, reason)

    def _welcome(self, welcome: Welcome) -> None:
        self._greeting.accept()
        if not self._outboxes:
            self._begin({standing.stream: standing for standing in welcome.streams})
        for standing in welcome.streams:
            outbox = self._outboxes[standing.stream]
            outbox.credit(standing.acknowledged, standing.window)
            outbox.resume(standing.next_sequence)
            for service, state in self._states.get(standing.stream, {}).items():
                self._send(Known(stream=standing.stream, service=service, state=state))

    def _begin(self, standings: dict[str, Standing]) -> None:
        """Start reading; `standings` is the hub's progress of each stream."""
        flow, vad = self._run.flow, SileroVad()
        readable: list[tuple[Feed, Speech]] = []
        for feed in self._feeds:
            progress = {standing.stream: standing for standing in feed.written} | standings
            of_feed = [progress[info.stream] for info in feed.infos]
            for s in of_feed:
                pace = CATCH_UP if feed.live else sys.maxsize
                feed.outboxes[s.stream] = Outbox(s.acknowledged, s.window, flow.file_window, pace)
                feed.latest[s.stream] = LatestOnly()
            self._outboxes |= feed.outboxes
            if feed.source is None:
                feed.items.extend(_end(s, feed.fault) for s in of_feed if not s.ended)
                feed.over = True
                continue
            written = {s.stream: s for s in feed.written}
            known = [_later(s, written.get(s.stream)) for s in of_feed]
            speech = Speech(
                self._run.vad,
                feed.source,
                [info.stream for info in feed.infos],
                # also if the predecessor died before its first segment: its time is then a gap
                known if feed.written and not feed.source.repeatable else (),
                lambda: self._stop.asked,
                vad=vad,
                heard=[info.heard for info in feed.infos],
            )
            feed.reached = speech.reached
            readable.append((feed, speech))
        self._reader.start(readable)

    def _collect(self) -> None:
        """Move found items into the outboxes while there is room."""
        for feed in self._feeds:
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
        self._reader.make_room()

    def _send_items(self) -> None:
        if not self._greeting.accepted:
            return
        while not self._remarks.empty():
            name, text = self._remarks.get()
            self._send(Remark(source=name, text=text))
        for feed in self._feeds:
            for stream, outbox in feed.outboxes.items():
                for item in outbox.sendable():
                    held_s = outbox.held_s(item, time.monotonic())
                    if not self._send(_stamped(item, feed.live, held_s)):
                        return
                    outbox.sent(item)
                for message in feed.latest[stream].take(outbox.unsent):
                    self._send(message)

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
    """Return the later of two standings: a restarted hub may have the earlier one."""
    return hub if written is None or hub.next_sequence >= written.next_sequence else written


def serve(
    run: configuration.Config,
    assignment: Assignment,
    stop: Stop,
    report: Report,
    note: Note = lambda reached: None,
) -> int:
    """Open the inputs, connect to the hub, and send the segments; return the exit code.

    Raises:
        ProcessError: an unexpected error, or the hub refuses this front.

    """
    remarks: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    feeds: list[Feed] = []
    for assigned in assignment.inputs:
        try:
            feeds.append(open_feed(assignment.front, assigned, run, remarks, assignment.run))
        except AbhinayaError as error:
            report(assigned.name, error)
    if not feeds:
        return 0
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    keys = Keys(Path(assignment.keys[0]), assignment.keys[1]) if assignment.keys else None
    socket = connect(context, workers_endpoint(assignment.endpoint), assignment.front, keys)
    try:
        return Front(assignment.front, run, feeds, socket, remarks, report, note).run(stop)
    finally:
        for feed in feeds:
            if feed.source is not None:
                feed.source.close()
        socket.close()
        context.term()


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a child of the supervisor."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--name", required=True)
    args = parser.parse_args(argv)
    run = configuration.decode((args.directory / "config.json").read_bytes())
    assignment = unpack((args.directory / f"{args.name}.json").read_bytes(), Assignment)
    return run_child(
        args.name,
        args.directory,
        args.lifeline,
        lambda stop: serve(
            run,
            assignment,
            stop,
            lambda name, error: leave_fault(args.directory, args.name, name, error),
            Notes(args.directory, args.name),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
