"""Calls and a push front that the test plays: slow, gone, refusing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from abhinaya.stream.serve import pump
from abhinaya.stream.serve.calls import AudioFormat, CallError, Calls
from abhinaya.stream.settings.serve import ServeConfig
from abhinaya.stream.wire.push import (
    Audio,
    Decoder,
    Done,
    Here,
    OpenCall,
    ToPushFront,
    encode,
    push_endpoint,
)
from abhinaya.stream.wire.push import Calls as AllCalls

LAW = AudioFormat("mulaw", 8000)


class Front:
    """A push front that reads only when it is asked."""

    def __init__(self, directory: Path) -> None:
        self.context: Any = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger, self.socket.rcvhwm = 0, 1
        self.socket.connect(push_endpoint(str(directory)))
        self.decoder = Decoder(ToPushFront)
        self.say(Here(incarnation="1"))

    def say(self, message: Here | Done) -> None:
        self.socket.send_multipart(encode(message))

    def next(self, kind: type[Any]) -> Any:
        """The next message of a kind."""
        while self.socket.poll(5000):
            message, _ = self.decoder.decode(self.socket.recv_multipart())
            if isinstance(message, kind):
                return message
        raise AssertionError(f"no {kind.__name__} came")

    def close(self) -> None:
        self.socket.close()
        self.context.term()


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def calls(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    monkeypatch.setattr(pump, "MAX_MESSAGES", 4)
    calls = Calls(directory, ServeConfig(calls=2))
    yield calls
    calls.close()


def wait(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def open_call(calls: Calls, name: str, *tracks: str, law: AudioFormat = LAW) -> Any:
    return calls.open(name, tracks or ("",), law, source="a test")


def code(what: Callable[[], object]) -> str:
    with pytest.raises(CallError) as caught:
        what()
    assert caught.value.reason
    return caught.value.code


def test_what_cannot_be_a_call_is_refused_with_a_code(directory: Path, calls: Calls) -> None:
    assert code(lambda: open_call(calls, "a")) == "unavailable"
    front = Front(directory)
    wait(lambda: calls.ready)
    first = open_call(calls, "line/1~\u202e", "a", "b")
    assert first.streams == ("line-1-\\u202e/a", "line-1-\\u202e/b")
    assert code(lambda: open_call(calls, "line-1-\u202e")) == "in use"
    for law in (AudioFormat("x16le", 8000), AudioFormat("", 8000), AudioFormat("alaw", 3)):  # type: ignore[arg-type]
        assert code(lambda law=law: open_call(calls, "b", law=law)) == "unknown format"
    for tracks in ([], ["a", "a"], [f"{n}" for n in range(17)]):
        made = (calls.open, ("b", tuple(tracks), LAW))
        assert code(lambda made=made: made[0](*made[1], source="")) == "unknown track"
    second = open_call(calls, "b")
    assert code(lambda: open_call(calls, "c")) == "too many"
    assert code(lambda: first.feed(2, b"x")) == "unknown track"
    assert code(lambda: first.feed(0, bytes(64 * 1024 + 1))) == "too large"
    assert front.next(OpenCall).name == first.name
    number = front.next(OpenCall).call
    front.say(Done(call=number, reason="the hub has no room"))
    wait(lambda: second.refused)
    assert code(lambda: second.feed(0, b"x")) == "refused"
    second.close()
    assert open_call(calls, "b").name == "b~2"
    first.close("cut")
    first.feed(0, b"late")
    assert first.dropped == 4
    front.close()


def test_a_slow_front_costs_counted_audio_and_a_new_one_is_told_where_to_go_on(
    directory: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Front(directory)
    wait(lambda: calls.ready)
    call, fed = open_call(calls, "line", "a", "b"), 0
    while not call.dropped:  # 60 kB a message: the sockets are full soon
        call.feed(0, bytes(60_000))
        fed += 60_000
        time.sleep(0.001)
        assert fed < 1e9
    slow.next(OpenCall)
    slow.close()
    call.feed(1, b"abc", 0)
    wait(lambda: not calls.ready)
    again = Front(directory)
    (told,) = again.next(AllCalls).calls
    assert [track.position for track in told.tracks] == [fed, 3]
    call.feed(1, b"d", 3)
    (part,) = again.next(Audio).parts
    assert (part.track, part.position, part.size) == (1, 3, 1)
    monkeypatch.setattr(pump, "AWAY_S", 0.1)
    again.close()
    call.feed(0, b"x")
    wait(lambda: call.refused)  # nobody comes any more
    assert code(lambda: open_call(calls, "other")) == "unavailable"
