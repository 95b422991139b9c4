"""Calls and push fronts that the test plays: slow, gone, refusing, of several cells."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from abhinaya.stream.errors import NetworkError
from abhinaya.stream.serve import pump
from abhinaya.stream.serve.calls import AudioFormat, CallError, Calls
from abhinaya.stream.settings.serve import ServeConfig
from abhinaya.stream.wire.push import (
    Audio,
    CloseCall,
    Decoder,
    Done,
    Here,
    OpenCall,
    Part,
    ToPushFront,
    encode,
    push_endpoint,
)
from abhinaya.stream.wire.push import Calls as AllCalls

LAW = AudioFormat("mulaw", 8000)
ROOM = 150_000
"""Bytes that wait for a push front in these tests."""


class Front:
    """A push front that reads only when it is asked."""

    def __init__(self, directory: Path, cell: str = "") -> None:
        self.context: Any = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger, self.socket.rcvhwm = 0, 1
        self.socket.connect(push_endpoint(str(directory)))
        self.decoder = Decoder(ToPushFront)
        self.say(Here(incarnation="1", cell=cell))

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
        self.context.destroy(linger=0)


Make = Callable[..., Front]


@pytest.fixture
def front(directory: Path) -> Iterator[Make]:
    """Makes push fronts, and closes them."""
    made = list[Front]()

    def make(cell: str = "") -> Front:
        made.append(Front(directory, cell))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def calls(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    monkeypatch.setattr(pump, "MAX_MESSAGES", 4)
    monkeypatch.setattr(pump, "MAX_WAITING_BYTES", ROOM)
    calls = Calls(directory, ServeConfig(calls=2))
    yield calls
    calls.close()


class Two:
    """Cells that are not open any more, chosen by the names of calls."""

    def __init__(self, **of: str) -> None:
        self.of = {"east": "e", "west": "w"} | of

    def open(self) -> tuple[str, ...]:
        return ()

    def choose(self, call: str) -> str:
        if call not in self.of:
            raise NetworkError("map of cells", "has no open cell", "open one")
        return self.of[call]


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


def test_what_cannot_be_a_call_is_refused_with_a_code(front: Make, calls: Calls) -> None:
    assert code(lambda: open_call(calls, "a")) == "unavailable"
    played = front()
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
    assert played.next(OpenCall).name == first.name
    number = played.next(OpenCall).call
    played.say(Done(call=number, reason="the hub has no room"))
    wait(lambda: second.refused)
    assert code(lambda: second.feed(0, b"x")) == "refused"
    second.close()
    assert open_call(calls, "b").name == "b~2"
    first.close("cut")
    first.feed(0, b"late")
    assert first.dropped == 4


def test_a_slow_front_costs_counted_audio_and_a_new_one_is_told_where_to_go_on(
    front: Make, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = front()
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
    again, parts = front(), list[Part]()
    (told,) = again.next(AllCalls).calls
    call.feed(0, b"d")
    while Part(1, 0, fed, 1) not in parts:
        parts += again.next(Audio).parts
    assert Part(1, 1, 0, 3) in parts, "what came while nobody was there"
    begins = [part.position for part in parts if part.track == 0]
    assert begins == sorted(begins)
    assert told.tracks[0].position <= begins[0]
    monkeypatch.setattr(pump, "AWAY_S", 0.1)
    again.close()
    call.feed(0, b"x")
    wait(lambda: call.refused)  # nobody comes any more
    assert code(lambda: open_call(calls, "other")) == "unavailable"


def test_a_call_waits_for_the_push_front_of_its_cell_and_costs_the_others_nothing(
    front: Make, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert calls.cells() == {""}
    calls.divide(Two())
    east, west = open_call(calls, "east"), open_call(calls, "west")
    wait(lambda: calls.cells() == {"e", "w"})
    here = front("e")
    here.next(AllCalls)
    for n in range(10):
        east.feed(0, bytes([n]) * 30_000)
        west.feed(0, bytes([n]) * 30_000)
        assert here.next(Audio).parts == (Part(1, 0, 30_000 * n, 30_000),)
    assert (east.dropped, west.dropped) == (0, 300_000 - ROOM)
    there = front("w")
    (told,) = there.next(AllCalls).calls
    assert (told.name, told.tracks[0].position) == ("west", 0)
    west.feed(0, b"x")
    parts = [there.next(Audio).parts[0] for _ in range(6)]
    assert parts == [*(Part(2, 0, 30_000 * n, 30_000) for n in range(5)), Part(2, 0, 300_000, 1)]
    east.close()
    assert here.next(CloseCall).call == 1
    there.say(Done(call=1))  # not its call
    here.say(Done(call=1))
    wait(lambda: calls.cells() == {"w"})
    assert code(lambda: open_call(calls, "nowhere")) == "unavailable"
    calls.divide(Two(nowhere="e"))
    assert open_call(calls, "nowhere").streams == ("nowhere",)  # its name was not used up
    here.next(OpenCall)
    here.close()
    monkeypatch.setattr(pump, "AWAY_S", 0.1)
    west.feed(0, b"x")
    assert there.next(Audio).parts == (Part(2, 0, 300_001, 1),)
    there.close()


def test_a_cell_whose_push_front_never_comes_refuses_its_calls_and_takes_new_ones(
    front: Make, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "AWAY_S", 0.2)
    calls.divide(Two(first="a", second="a"))
    first = open_call(calls, "first")
    wait(lambda: first.refused)
    assert not calls.cells()
    first.close()
    second = open_call(calls, "second")  # perhaps the run starts it now
    wait(calls.cells)
    played = front("a")
    assert [call.name for call in played.next(AllCalls).calls] == ["second"]
    assert not second.refused
