"""A reader of a standing hub gets the events of the runs of others, each once."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fakes
import pytest
import zmq

from abhinaya.stream.hub.main import serve
from abhinaya.stream.run.others import Ledgers, Others
from abhinaya.stream.wire.child import Stop
from abhinaya.stream.wire.codec import Encoder
from abhinaya.stream.wire.messages import (
    Activity,
    End,
    Event,
    Gap,
    Hello,
    Message,
    Remark,
    StreamInfo,
)
from abhinaya.stream.wire.sockets import connect, send, workers_endpoint

pytestmark = pytest.mark.processes


@pytest.fixture
def endpoint() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="others-", dir="/tmp"))
    yield f"ipc://{folder}"
    shutil.rmtree(folder)


@contextmanager
def hub(endpoint: str) -> Iterator[None]:
    stop = Stop()
    thread = threading.Thread(target=serve, args=(fakes.config(), endpoint, stop))
    thread.start()
    time.sleep(1)  # the reader finds it
    try:
        yield
    finally:
        stop.asked = True
        thread.join()


def play(endpoint: str, run: str, *messages: Message) -> None:
    """Be the front of a run with one stream."""
    info = StreamInfo(
        stream="call", front=f"front-{run}", source="x", live=False, start_unix_s=0.0, run=run
    )
    hello = Hello(front=info.front, incarnation="1", run=run, streams=(info,), first_sequences=(0,))
    with zmq.Context() as context:
        socket = connect(context, workers_endpoint(endpoint), info.front)
        for message in (hello, *messages):
            deadline = time.monotonic() + 5
            while not send(socket, Encoder().encode(message)):  # not connected yet
                assert time.monotonic() < deadline
                time.sleep(0.02)
        time.sleep(0.5)
        socket.close(linger=0)


def test_runs_of_others_are_read_once_and_our_own_not_at_all(endpoint: str) -> None:
    heard: list[tuple[str, Event | Activity]] = []
    gap = Gap(stream="call", sequence=0, start=0, end=16_000, reason="full")
    end = End(stream="call", sequence=1, position=16_000)
    ledgers = Ledgers()

    def reader(name: str) -> Others:
        return Others(endpoint, None, name, "own", lambda e, run: heard.append((run, e)), ledgers)

    others, second = reader("reader"), reader("second")  # as if the runs were in two cells
    others.start()
    second.start()
    try:
        with hub(endpoint):
            play(endpoint, "own", gap)
            play(endpoint, "one", gap)
            play(endpoint, "two", gap, end)
        with hub(endpoint):  # a new one, which hears all of it again
            play(endpoint, "one", gap, end)
        others.check()
    finally:
        others.close()
        second.close()
    kinds = [(run, type(event).__name__) for run, event in heard if not isinstance(event, Remark)]
    assert kinds == [
        ("one", "StreamStarted"),
        ("one", "Gap"),
        ("two", "StreamStarted"),
        ("two", "Gap"),
        ("two", "StreamEnded"),
        ("one", "StreamEnded"),
    ]
    assert ["was away" in event.text for _, event in heard if isinstance(event, Remark)] == [
        True,
        True,
    ]
