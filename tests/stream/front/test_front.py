"""The front's loop against a hub that the test plays: windows, acknowledgements, new hubs."""

from __future__ import annotations

import dataclasses
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fakes
import msgspec
import numpy as np
import pytest
import zmq

from abhinaya.bench.demo import CALL
from abhinaya.stream.errors import AbhinayaError, ProcessError, SourceError
from abhinaya.stream.front import reader as module
from abhinaya.stream.front.assignment import AssignedInput
from abhinaya.stream.front.loop import Front
from abhinaya.stream.front.opening import open_feed
from abhinaya.stream.front.reader import Feed
from abhinaya.stream.settings.config import Config, FlowConfig, SuperviseConfig, WorkerConfig
from abhinaya.stream.sources.base import AudioChunk, InputConfig, Opened
from abhinaya.stream.sources.opening import open_source
from abhinaya.stream.wire.child import Stop
from abhinaya.stream.wire.codec import Decoder, Encoder
from abhinaya.stream.wire.messages import (
    Activity,
    Beat,
    Credit,
    End,
    Gap,
    Hello,
    Introduce,
    Known,
    Message,
    Refused,
    Segment,
    Standing,
    StreamInfo,
    ToHub,
    Welcome,
)
from abhinaya.stream.wire.sockets import connect


class PlayedHub:
    """A ROUTER that says what the test wants."""

    def __init__(self, base: str) -> None:
        self.context: Any = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(f"{base}/hub")
        self.encoder, self.decoder = Encoder(), Decoder[Message](ToHub)
        self.peer = b""

    def hear(self, timeout_s: float = 5.0) -> Message | None:
        """The next message that is no beat."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            if not self.socket.poll(int(1000 * left)):
                return None
            frames = self.socket.recv_multipart()
            self.peer = frames[0]
            message = self.decoder.decode(frames[1:])
            if not isinstance(message, Beat):
                return message
        return None

    def hear_all(self, segments: int = 0) -> list[Message]:
        """Return what comes until it is quiet, and not before so many segments have come."""
        heard: list[Message] = []
        while (message := self.hear(10.0 if segments > 0 else 0.5)) is not None:
            heard.append(message)
            segments -= isinstance(message, Segment)
        return heard

    def say(self, message: Message) -> None:
        self.socket.send_multipart([self.peer, *self.encoder.encode(message)])

    def welcome(self, hub: str = "1", sequence: int = 0, window: int = 2) -> None:
        standing = Standing(
            stream="call",
            next_sequence=sequence,
            acknowledged=sequence,
            position=0,
            start_unix_s=0.0,
            window=window,
        )
        self.say(Welcome(hub=hub, streams=(standing,)))

    def close(self) -> None:
        self.socket.close()
        self.context.term()


def feed(name: str, source: Opened | Feed | None) -> Feed:
    """An input of one stream: the call, unless the test gives another source."""
    if isinstance(source, Feed):
        return source
    source = source or open_source(InputConfig(what=str(CALL)))
    facts = {"source": name, "live": source.live, "start_unix_s": source.start_unix_s}
    return Feed(name, (StreamInfo(stream=name, front="front-0", input=name, **facts),), (), source)


class Running:
    """A front in a thread, and what became of it."""

    left: ClassVar[list[Running]] = []
    config: ClassVar[Config] = Config(
        profile="test",
        voters={"S1": WorkerConfig(model="none")},
        flow=FlowConfig(file_window=3, live_backlog=2, kept_s=8),
        supervise=SuperviseConfig(beat_s=0.05),
    )

    def __init__(self, base: str, **sources: Opened | Feed | None) -> None:
        self.remarks: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self.stop = Stop()
        self.context: Any = zmq.Context()
        socket = connect(self.context, f"{base}/hub", "front-0")
        self.faults: dict[str, AbhinayaError] = {}
        feeds = [feed(name, source) for name, source in (sources or {"call": None}).items()]
        self.front = Front(
            "front-0", self.config, feeds, socket, self.remarks, self.faults.__setitem__
        )
        self.code: int | None = None
        self.error: AbhinayaError | None = None
        self.thread = threading.Thread(target=self._run, args=(socket,), daemon=True)
        self.thread.start()
        self.left.append(self)

    def _run(self, socket: Any) -> None:
        try:
            self.code = self.front.run(self.stop)
        except AbhinayaError as error:
            self.error = error
        finally:
            socket.close()

    def join(self) -> None:
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.context.term()


@pytest.fixture
def base() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="abhinaya-") as folder:
        yield f"ipc://{Path(folder)}"
    while Running.left:  # a test that failed must not hold up the exit of all
        running = Running.left.pop()
        if running.thread.is_alive():
            running.context.destroy(linger=0)


@pytest.fixture
def hub(base: str) -> Iterator[PlayedHub]:
    hub = PlayedHub(base)
    yield hub
    hub.close()


def finish(hub: PlayedHub, running: Running) -> list[Message]:
    """Acknowledge everything until the front leaves; give what it said."""
    heard: list[Message] = []
    while running.thread.is_alive():
        message = hub.hear(0.2)
        if isinstance(message, Segment | Gap | End):
            heard.append(message)
            hub.say(Credit(stream="call", acknowledged=message.sequence + 1, window=2))
    running.join()
    return heard


def test_it_introduces_itself_until_it_is_welcome_and_keeps_to_the_window(
    base: str, hub: PlayedHub
) -> None:
    running = Running(base)
    hello = hub.hear()
    assert isinstance(hello, Hello)
    assert (hello.front, hello.first_sequences) == ("front-0", (0,))
    assert isinstance(hub.hear(), Hello)  # no answer: again
    hub.welcome(window=2)
    heard = [m for m in hub.hear_all(2) if isinstance(m, Segment)]
    assert [m.sequence for m in heard] == [0, 1]
    hub.say(Credit(stream="call", acknowledged=1, window=2))
    more = [m for m in hub.hear_all(1) if isinstance(m, Segment)]
    assert [m.sequence for m in more] == [2]
    hub.say(Credit(stream="call", acknowledged=3, window=2))
    rest = finish(hub, running)
    assert [m.sequence for m in rest] == list(range(3, 3 + len(rest)))  # type: ignore[union-attr]
    assert isinstance(rest[-1], End)
    assert running.code == 0


def test_it_hands_a_new_hub_what_services_knew_before_the_first_segment_that_it_sends(
    base: str, hub: PlayedHub
) -> None:
    running = Running(base)
    assert isinstance(hub.hear(), Hello)
    hub.welcome(window=2)
    assert [m.sequence for m in hub.hear_all(2) if isinstance(m, Segment)] == [0, 1]
    hub.say(Credit(stream="call", acknowledged=1, window=2, states={"S1": b"one", "ST1": b"two"}))
    hub.hear_all()
    hub.say(Introduce())
    hello = hub.hear()
    assert isinstance(hello, Hello)
    assert hello.first_sequences == (1,)
    hub.welcome(hub="2", sequence=1, window=2)
    said = [m for m in hub.hear_all(2) if not isinstance(m, Hello)]
    assert said[:2] == [
        Known(stream="call", service="S1", state=b"one"),
        Known(stream="call", service="ST1", state=b"two"),
    ]
    assert [m.sequence for m in said[2:] if isinstance(m, Segment)] == [1, 2]
    hub.say(Credit(stream="call", acknowledged=3, window=2))
    finish(hub, running)


def test_a_new_hub_gets_again_what_was_not_acknowledged(base: str, hub: PlayedHub) -> None:
    running = Running(base)
    hub.hear()
    hub.welcome(window=3)
    first = [m for m in hub.hear_all(3) if isinstance(m, Segment)]
    assert [m.sequence for m in first] == [0, 1, 2]
    hub.say(Credit(stream="call", acknowledged=1, window=3))
    hub.hear_all()
    hub.say(Introduce())
    hello = hub.hear()
    assert isinstance(hello, Hello)
    assert hello.first_sequences == (1,)
    hub.welcome(hub="2", sequence=1, window=3)
    again = [m for m in hub.hear_all(3) if isinstance(m, Segment)]
    assert [m.sequence for m in again] == [1, 2, 3]
    assert bytes(again[0].samples.buffer) == bytes(first[1].samples.buffer)
    hub.say(Credit(stream="call", acknowledged=4, window=3))
    finish(hub, running)
    assert running.code == 0


def test_a_live_front_without_a_hub_keeps_the_newest_and_says_what_it_dropped(
    base: str, hub: PlayedHub
) -> None:
    read = threading.Event()

    def to_the_end(audio: Iterator[AudioChunk]) -> Iterator[AudioChunk]:
        yield from audio
        read.set()

    # a file that claims to be live: all of it arrives at once, and nothing may wait
    source = open_source(InputConfig(what=str(CALL)))
    source = dataclasses.replace(source, live=True, audio=to_the_end(source.audio))
    running = Running(base, call=source)
    hub.hear()
    hub.welcome(window=1)
    assert read.wait(20)
    hub.hear_all()  # one is on its way; the last 8 s are kept; the rest has become gaps
    hub.say(Credit(stream="call", acknowledged=1, window=100))
    heard = [m for m in hub.hear_all() if isinstance(m, Segment | Gap | End)]
    assert [m.sequence for m in heard] == list(range(1, 1 + len(heard)))
    gaps = [m for m in heard if isinstance(m, Gap)]
    assert gaps
    assert all("later audio took the place" in gap.reason for gap in gaps)
    assert isinstance(heard[-1], End)
    assert isinstance(heard[-2], Segment)  # the newest is kept
    hub.say(Credit(stream="call", acknowledged=100, window=2))
    running.join()
    assert running.code == 0


def test_a_live_front_tells_what_is_still_spoken_behind_the_segments_before(
    base: str, hub: PlayedHub
) -> None:
    source = open_source(InputConfig(what=str(CALL)))
    whole = np.concatenate([chunk.samples for chunk in source.chunks()])[: 8 * 16_000]
    go_on = threading.Event()

    def slowly() -> Iterator[AudioChunk]:
        for start in range(0, len(whole), 320):
            part = whole[start : start + 320]
            yield AudioChunk(part, source.start_unix_s + (start + 320) / 16_000)
            if start % 16_000 == 0:
                go_on.wait(0.2)

    running = Running(base, call=dataclasses.replace(source, live=True, audio=slowly()))
    hub.hear()
    hub.welcome(window=100)
    heard: list[Message] = []
    while not (heard and isinstance(heard[-1], End)):
        message = hub.hear()
        assert message is not None
        heard.append(message)
        if fakes.is_whole(message) or isinstance(message, End):
            hub.say(Credit(stream="call", acknowledged=message.sequence + 1, window=100))
    running.join()
    parts = [m for m in heard if fakes.is_partial(m)]
    assert len(parts) >= 3
    assert [m.speaking for m in heard if isinstance(m, Activity)][:2] == [True, False]
    reached = 0
    for message in heard:
        if fakes.is_partial(message):
            assert message.sequence == reached
        elif isinstance(message, Segment):
            reached += 1


def test_a_refusal_ends_it_with_the_reason(base: str, hub: PlayedHub) -> None:
    running = Running(base)
    hub.hear()
    hub.say(Refused(reason="stream 'call' is being sent by front-9"))
    running.join()
    assert isinstance(running.error, SourceError)
    assert "front-9" in str(running.error)


def test_a_fault_of_ours_does_not_pass_for_the_end_of_the_input(
    base: str, hub: PlayedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(speeches: list[Any]) -> Iterator[Any]:
        yield speeches[0], End(stream="call", sequence=0, position=0)
        raise ZeroDivisionError(np.float32(1))

    monkeypatch.setattr(module, "read_round", broken)
    running = Running(base)
    hub.hear()
    hub.welcome()
    hub.hear_all()
    hub.say(Credit(stream="call", acknowledged=1, window=2))
    running.join()
    assert isinstance(running.error, ProcessError)
    assert "ZeroDivisionError" in str(running.error)


# --- several inputs -------------------------------------------------------------------------------


def test_several_inputs_are_read_side_by_side_and_one_that_breaks_off_harms_no_other(
    base: str, hub: PlayedHub
) -> None:
    whole = open_source(InputConfig(what=str(CALL)))

    def breaks() -> Iterator[AudioChunk]:
        audio = open_source(InputConfig(what=str(CALL))).audio
        for _ in range(1000):
            yield next(audio)
        raise SourceError("planted", "breaks off")

    running = Running(base, a=None, b=dataclasses.replace(whole, audio=breaks()), c=None)
    hello = hub.hear()
    assert isinstance(hello, Hello)
    assert [info.stream for info in hello.streams] == ["a", "b", "c"]
    standings = tuple(
        Standing(
            stream=name, next_sequence=0, acknowledged=0, position=0, start_unix_s=0.0, window=9
        )
        for name in "abc"
    )
    hub.say(Welcome(hub="1", streams=standings))
    heard: list[Segment | Gap | End] = []
    introduced: list[list[str]] = []
    while running.thread.is_alive():
        message = hub.hear(0.2)
        if isinstance(message, Segment | Gap | End):
            heard.append(message)
            more = message.sequence + 1
            hub.say(Credit(stream=message.stream, acknowledged=more, window=9))
            if isinstance(message, End):
                hub.say(Introduce())
        elif isinstance(message, Hello):
            introduced.append([info.stream for info in message.streams])
            hub.say(Welcome(hub="1", streams=()))
    running.join()
    assert running.code == 0
    assert introduced[0] == ["a", "c"], "a stream that is over is not introduced again"
    assert [(name, str(error)) for name, error in running.faults.items()] == [
        ("b", "planted: breaks off")
    ]
    of = {name: [m for m in heard if m.stream == name] for name in "abc"}
    for items in of.values():
        assert [item.sequence for item in items] == list(range(len(items)))
        assert isinstance(items[-1], End)
    assert (of["a"][-1].reason, of["b"][-1].reason) == ("", "planted: breaks off")
    cuts = [
        [(m.start, m.end, bytes(m.samples.buffer)) for m in of[name] if isinstance(m, Segment)]
        for name in "abc"
    ]
    assert len(cuts[1]) > 2
    assert cuts[0] == cuts[2]
    assert cuts[0][: len(cuts[1]) - 1] == cuts[1][:-1], "but for the segment that broke off"


def test_the_streams_of_an_input_that_cannot_be_opened_again_end(base: str, hub: PlayedHub) -> None:
    written = Standing(
        stream="b", next_sequence=3, acknowledged=3, position=99, start_unix_s=0.0, window=1
    )
    over = msgspec.structs.replace(written, stream="b/over", ended=True)
    assigned = AssignedInput(
        name="b", config=InputConfig(what="gone.wav"), standings=(over, written)
    )
    lost = open_feed("front-0", assigned, Running.config, queue.SimpleQueue(), "run")
    assert isinstance(lost.fault, SourceError)
    running = Running(base, b=lost)
    assert isinstance(hello := hub.hear(), Hello)
    assert [
        (info.stream, first)
        for info, first in zip(hello.streams, hello.first_sequences, strict=True)
    ] == [("b", 3)]
    hub.say(Welcome(hub="1", streams=(written,)))
    (end,) = [message for message in hub.hear_all() if isinstance(message, End)]
    assert (end.sequence, end.position) == (3, 99)
    assert "no such file" in end.reason
    hub.say(Credit(stream="b", acknowledged=4, window=1))
    running.join()
    assert list(running.faults) == ["b"]
