"""A server that sends a byte now and then is left when the time is over."""

from __future__ import annotations

import threading
import time

import httpx2
import pytest
from scripted_server import trickling

from abhinaya.models.timed_http import TimedClient, retry_after_s
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.web import HttpError, Web

HEAD = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "head": HEAD + b"X: " + b"x" * 10_000,
    "body": HEAD + b"Content-Length: 9999\r\n\r\n" + b"x" * 9999,
    "body without a length": HEAD + b"\r\n" + b"x" * 9999,
    "nothing": b"",
}


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


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_feeds_and_playlists_are_left_in_time_too(answer: bytes) -> None:
    settings = NetworkConfig(connect_s=0.5, stall_s=0.2)
    with trickling(answer) as url:
        web, begun = Web("x", settings, lambda _: None, threading.Event()), time.monotonic()
        with pytest.raises(HttpError, match=r"too slowly|sent nothing") as error:
            web.fetch(url, 100_000)
        assert error.value.transient
        if answer == ANSWERS["head"]:
            with pytest.raises(HttpError, match="too slowly"):
                web.get(url)
        assert time.monotonic() - begun < 8
        web.close()


def test_retry_after_is_seconds_or_a_date_or_nothing() -> None:
    date = "Wed, 21 Oct 2015 07:28:30 GMT"
    assert [retry_after_s(header, 1445412500) for header in ("2.5", "-3", date)] == [2.5, 0, 10]
    assert retry_after_s(date, 1445419999) == 0
    assert not [h for h in (None, "soon", "", "nan", "inf") if retry_after_s(h, 0) is not None]
