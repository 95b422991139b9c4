"""A front process: one input in, segments out.

One thread reads the source and finds speech; the main thread talks to the hub and keeps what the
hub has not acknowledged. A source that can wait waits while the outbox is full; a live one never
does: the oldest unsent segments become gaps instead.
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import zmq

from abhinaya.stream.errors import AbhinayaError, NetworkError, ProcessError, SourceError
from abhinaya.stream.front.numbering import Speech, SpeechItem
from abhinaya.stream.front.outbox import Fleeting, Item, Outbox
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.sources import open_source
from abhinaya.stream.sources.base import InputConfig, Source, channel_names
from abhinaya.stream.wire.child import Stop, drain, run_child, wake, wakeup
from abhinaya.stream.wire.codec import MAX_STATES_BYTES, Decoder, Encoder
from abhinaya.stream.wire.messages import (
    Activity,
    Beat,
    Credit,
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
from abhinaya.stream.wire.sockets import Keys, connect, receive, send, workers_endpoint

POLL_MS: Final = 100


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What one front is to do, as its supervisor writes it down."""

    front: str
    endpoint: str
    """Of the hub."""
    keys: tuple[str, str] | None = None
    """Directory and name of the CURVE keys, for a hub on another machine."""
    input: InputConfig
    name: str
    """Of the stream, or what the names of split channels begin with."""
    standings: tuple[Standing, ...] = ()
    """What is written of the streams already, if the front takes over from one that died."""


@dataclass(slots=True)
class _Shared:
    """What the reading thread and the main thread share; guarded by `lock`."""

    lock: threading.Lock
    items: deque[SpeechItem]
    room: threading.Event
    """Set while the source may go on."""
    over: bool = False
    fault: AbhinayaError | None = None


class Front:
    """The loop of the main thread.

    Args:
        assignment: what to do.
        run: the configuration.
        source: opened.
        socket: connected to the hub.
        remarks: what the source says about its audio.

    """

    def __init__(
        self,
        assignment: Assignment,
        run: configuration.Config,
        source: Source,
        socket: zmq.Socket[bytes],
        remarks: queue.SimpleQueue[str],
    ) -> None:
        self._assignment = assignment
        self._run = run
        self._source = source
        self._socket = socket
        self._remarks = remarks
        self._encoder = Encoder()
        self._decoder: Decoder[Message] = Decoder(ToFront, MAX_STATES_BYTES)
        names = channel_names(assignment.input, source.channels)
        self._infos = tuple(
            StreamInfo(
                stream=f"{assignment.name}/{name}" if name else assignment.name,
                front=assignment.front,
                source=source.description,
                live=source.live,
                start_unix_s=source.start_unix_s,
            )
            for name in names
        )
        self._woken, self._wake = wakeup()
        self._shared = _Shared(threading.Lock(), deque(), threading.Event())
        self._outboxes: dict[str, Outbox] = {}
        self._fleeting = {info.stream: Fleeting() for info in self._infos}
        self._states: dict[str, dict[str, bytes]] = {}
        """By stream, what services know of it before its first unacknowledged segment."""
        self._welcomed = False
        self._stop = Stop()

    def run(self, stop: Stop) -> int:
        """Read the source to its end and see everything acknowledged; give the exit code.

        Raises:
            SourceError: the source broke off; what came before is acknowledged.

        """
        self._stop = stop
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._woken, zmq.POLLIN)
        deadline = time.monotonic() + self._run.supervise.ready_s
        next_beat = 0.0
        while not self._done():
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + self._run.supervise.beat_s
                self._beat()
            if not self._outboxes and now > deadline:
                raise NetworkError("hub", "did not answer", "see its log, or start it first")
            if stop.asked:
                self._source.interrupt()
            poller.poll(min(POLL_MS, max(0, math.ceil(1000 * (next_beat - now)))))
            drain(self._woken)
            while (frames := receive(self._socket)) is not None:
                self._handle(self._decoder.decode(frames))
            self._collect()
            self._send_items()
        if self._shared.fault:
            raise self._shared.fault
        return 0

    def _done(self) -> bool:
        return (
            self._shared.over
            and not self._shared.items
            and all(outbox.empty for outbox in self._outboxes.values())
        )

    def _beat(self) -> None:
        if self._welcomed:
            self._send(Beat(name=self._assignment.front))
        else:
            self._greet()

    def _greet(self) -> None:
        first = {s.stream: s.acknowledged for s in self._assignment.standings}
        self._send(
            Hello(
                front=self._assignment.front,
                incarnation=str(os.getpid()),
                streams=self._infos,
                first_sequences=tuple(
                    self._outboxes[i.stream].acknowledged
                    if i.stream in self._outboxes
                    else first.get(i.stream, 0)
                    for i in self._infos
                ),
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
            self._welcomed = False
            self._greet()
        elif isinstance(message, Refused):
            raise SourceError(self._source.description, f"was refused by the hub: {message.reason}")

    def _welcome(self, welcome: Welcome) -> None:
        self._welcomed = True
        if not self._outboxes:
            self._begin(welcome.streams)
        for standing in welcome.streams:
            outbox = self._outboxes[standing.stream]
            outbox.credit(standing.acknowledged, standing.window)
            outbox.resume(standing.next_sequence)
            for service, state in self._states.get(standing.stream, {}).items():
                self._send(Known(stream=standing.stream, service=service, state=state))

    def _begin(self, standings: Sequence[Standing]) -> None:
        """Start reading, now that the hub has said how far the streams have come."""
        flow = self._run.flow
        written = {s.stream: s for s in self._assignment.standings}
        for standing in standings:
            self._outboxes[standing.stream] = Outbox(
                standing.acknowledged,
                standing.window,
                2 * flow.live_backlog if self._source.live else flow.file_window,
            )
        known = [_further(s, written.get(s.stream)) for s in standings]
        speech = Speech(
            self._run.vad,
            self._source,
            [info.stream for info in self._infos],
            # a predecessor may have died before it sent anything: its time has passed all the same
            known if self._assignment.standings and not self._source.repeatable else (),
            lambda: self._stop.asked,
        )
        threading.Thread(target=self._read, args=(speech,), daemon=True).start()

    def _read(self, speech: Speech) -> None:
        """Run the reading thread: everything it finds goes into `_shared`."""
        shared = self._shared
        try:
            for item in speech.items():
                with shared.lock:
                    shared.items.append(item)
                wake(self._wake)
                if not self._source.live:
                    shared.room.wait()
        except AbhinayaError as error:
            shared.fault = error
        except Exception as error:  # a fault of ours must not pass for the end of the input
            traceback.print_exc()
            shared.fault = ProcessError(
                self._assignment.front, f"stopped on an unexpected {type(error).__name__}: {error}"
            )
        finally:
            shared.over = True
            wake(self._wake)

    def _collect(self) -> None:
        """Move what was found into the outboxes, as far as there is room."""
        live = self._source.live
        with self._shared.lock:
            while self._shared.items:
                item = self._shared.items[0]
                if isinstance(item, Activity) or (isinstance(item, Segment) and item.part):
                    self._fleeting[item.stream].put(item)
                    self._shared.items.popleft()
                    continue
                outbox = self._outboxes[item.stream]
                if outbox.full and not live:
                    break
                outbox.put(item)
                self._shared.items.popleft()
                if live:
                    outbox.shed("the hub was not reachable and the front's memory was full")
            if self._shared.items:
                self._shared.room.clear()
            else:
                self._shared.room.set()

    def _send_items(self) -> None:
        if not self._welcomed:
            return
        while not self._remarks.empty():
            self._send(Remark(source=self._assignment.front, text=self._remarks.get()))
        for stream, outbox in self._outboxes.items():
            for item in outbox.sendable():
                if not self._send(self._stamped(item)):
                    return
                outbox.sent(item)
            for passing in self._fleeting[stream].take(outbox.unsent):
                self._send(passing)

    def _stamped(self, item: Item) -> Item:
        """Note when a segment leaves; a file's waits for room, which is nobody's latency."""
        if not isinstance(item, Segment):
            return item
        now = time.time()
        captured = item.captured_unix_s if self._source.live else now
        return msgspec.structs.replace(item, sent_unix_s=now, captured_unix_s=captured)

    def _send(self, message: Message) -> bool:
        return send(self._socket, self._encoder.encode(message))


def _further(hub: Standing, written: Standing | None) -> Standing:
    """Give the standing that is further on: a hub that was started again may know less."""
    return hub if written is None or hub.next_sequence >= written.next_sequence else written


def serve(
    run: configuration.Config,
    assignment: Assignment,
    stop: Stop,
) -> int:
    """Open the input, connect, and send its speech; give the exit code.

    Raises:
        SourceError: the input cannot be opened or read to its end.

    """
    starts = [s.start_unix_s for s in assignment.standings]
    remarks: queue.SimpleQueue[str] = queue.SimpleQueue()
    source = open_source(assignment.input, remarks.put, starts[0] if starts else None, run.network)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    keys = Keys(Path(assignment.keys[0]), assignment.keys[1]) if assignment.keys else None
    socket = connect(context, workers_endpoint(assignment.endpoint), assignment.front, keys)
    try:
        return Front(assignment, run, source, socket, remarks).run(stop)
    finally:
        source.close()
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
    assignment = msgspec.json.decode(
        (args.directory / f"{args.name}.json").read_bytes(), type=Assignment
    )
    return run_child(
        args.name,
        args.directory,
        args.lifeline,
        lambda stop: serve(run, assignment, stop),
    )


if __name__ == "__main__":
    sys.exit(main())
