"""A server that sends a byte now and then is left when the time is over."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import pytest

from abhinaya.models.timed_http import TimedClient

HEAD = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "head": HEAD + b"X: " + b"x" * 10_000,
    "body": HEAD + b"Content-Length: 9999\r\n\r\n" + b"x" * 9999,
    "body without a length": HEAD + b"\r\n" + b"x" * 9999,
    "nothing": b"",
}


@contextmanager
def trickling(answer: bytes, pause_s: float = 0.05) -> Iterator[str]:
    """A server that sends one byte after the other, and holds the connection."""
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=trickle, args=(connection,), daemon=True).start()

    def trickle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            for byte in answer:
                if over.wait(pause_s):
                    return
                connection.sendall(bytes([byte]))
            over.wait(30)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x"
    finally:
        over.set()
        server.close()


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_server_that_trickles_is_left_in_time(answer: bytes) -> None:
    with trickling(answer) as url:
        client, begun = TimedClient(), time.monotonic()
        for _ in range(2):
            with (
                pytest.raises(httpx2.TimeoutException),
                client.stream("POST", url, 1.5, content=b"{}") as found,
            ):
                found.read()
        assert 2.5 < time.monotonic() - begun < 8
        client.close()


def test_one_that_answers_in_time_is_read_and_asked_again_over_the_same_connection() -> None:
    with trickling(HEAD + b"Content-Length: 2\r\n\r\nok", 0.0) as url:
        client = TimedClient()
        with client.stream("GET", url, 5.0) as found:
            assert found.read() == b"ok"
        with pytest.raises(httpx2.TimeoutException), client.stream("GET", url, 0.3):
            pass  # the second answer never comes
