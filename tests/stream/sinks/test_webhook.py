"""A webhook against a server that answers, refuses, hangs, cuts, and asks for patience."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from scripted_server import Say, Scripted, scripted, trickling

from abhinaya.stream.sinks.alerts.webhook import Webhook, secret_of, sign
from abhinaya.stream.sinks.alerts.worker import DeliveryError, Job

SECRET = b"between us"
BODY = b'{"type": "alert", "text": "\xc3\xa4rger"}'
Clock = Callable[[], float]


def webhook(server: Scripted, **changes: Any) -> Webhook:
    fields: dict[str, Any] = {
        "url": f"{server.url}/hook",
        "secret": SECRET,
        "timeout_s": 2.0,
        "attempts": 3,
        "first_pause_s": 0.01,
    }
    return Webhook(**(fields | changes))


def failure(hook: Webhook, stop: threading.Event | None = None) -> str:
    with pytest.raises(DeliveryError) as error:
        hook.deliver(Job(BODY), stop or threading.Event())
    return str(error.value)


def header(server: Scripted, name: str, index: int = 0) -> str:
    return {k.lower(): v for k, v in server.headers[index].items()}[name]


def test_a_post_is_json_signed_and_dated() -> None:
    with scripted(lambda i, request: Say()) as server:
        job = Job(BODY)
        webhook(server, clock=lambda: 1_700_000_000.9).deliver(job, threading.Event())
        webhook(server, secret=b"").deliver(job, threading.Event())
    assert server.requests == [json.loads(BODY)] * 2
    assert "webhook-signature" not in {name.lower() for name in server.headers[1]}
    assert header(server, "content-type") == "application/json"
    assert header(server, "webhook-id") == job.id
    assert header(server, "webhook-timestamp") == "1700000000"
    content = f"{job.id}.1700000000.".encode() + BODY
    right = base64.b64encode(hmac.new(SECRET, content, hashlib.sha256).digest()).decode()
    assert header(server, "webhook-signature") == f"v1,{right}"


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    """From the specification at standardwebhooks.com; a secret is text or base64."""
    assert secret_of("plain äöü") == "plain äöü".encode()
    with pytest.raises(ValueError, match="not base64"):
        secret_of("whsec_no!")
    secret = secret_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again_as_the_same_delivery(status: int) -> None:
    clock = iter([10.0, 11.0, 12.0])
    with scripted(lambda i, request: Say(status=status if i < 2 else 204)) as server:
        hook = webhook(server, clock=lambda: next(clock, 13.0))
        hook.deliver(Job(BODY), threading.Event())
    assert len(server.requests) == 3
    assert len({header(server, "webhook-id", i) for i in range(3)}) == 1
    assert len({header(server, "webhook-signature", i) for i in range(3)}) == 3  # of their time


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ([400], "127.0.0.1 answered 400"),
        ([401], "127.0.0.1 answered 401"),
        ([410], "127.0.0.1 answered 410"),
        ([307], "127.0.0.1 answered 307: give the address that it leads to"),
        ([500, 502, 502], "127.0.0.1 answered 502 (3 tries)"),
    ],
)
def test_a_refusal_is_final_and_tries_end_with_the_last_failure(
    statuses: list[int], said: str
) -> None:
    headers = {"Location": "/v1/hook"}
    with scripted(lambda i, request: Say(status=statuses[i], headers=headers)) as server:
        # the path is often a secret: it is not in the message
        assert failure(webhook(server, url=f"{server.url}/T0KEN")) == said
    assert len(server.requests) == len(statuses)


def test_a_server_that_hangs_or_trickles_is_left_after_the_time_limit() -> None:
    with scripted(lambda i, request: Say(wait_s=30.0)) as server:
        begun = time.monotonic()
        text = failure(webhook(server, timeout_s=0.2, attempts=2))
        assert text == "127.0.0.1 did not answer within 0.2 s (2 tries)"
        assert time.monotonic() - begun < 5
    assert len(server.requests) == 2
    assert "127.0.0.1 cannot be reached" in failure(webhook(server)), "nobody is there"
    with trickling(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9999) as url:
        hook, begun = Webhook(url, SECRET, 0.5, attempts=2, first_pause_s=0.01), time.monotonic()
        assert failure(hook) == "127.0.0.1 did not answer within 0.5 s (2 tries)"
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("say", [Say(body="x" * 1000, drip_s=1.0), Say(body="ok", cut=True)])
def test_an_answer_is_taken_by_its_status_however_it_ends(say: Say) -> None:
    with scripted(lambda i, request: say) as server:
        begun = time.monotonic()
        webhook(server).deliver(Job(BODY), threading.Event())
        assert time.monotonic() - begun < 5
    assert len(server.requests) == 1


def test_a_connection_that_breaks_is_tried_again_and_a_pause_asked_for_is_kept() -> None:
    def script(index: int, request: dict[str, Any]) -> Say:
        if index == 0:
            raise ConnectionAbortedError  # the handler ends, and with it the connection
        return Say(status=429, headers={"Retry-After": "1"}) if index == 1 else Say()

    with scripted(script) as server:
        webhook(server).deliver(Job(BODY), threading.Event())
    assert len(server.requests) == 3
    assert server.times[2] - server.times[1] >= 1.0


def test_the_end_of_the_run_ends_a_pause() -> None:
    stop = threading.Event()

    def script(index: int, request: dict[str, Any]) -> Say:
        threading.Timer(0.1, stop.set).start()
        return Say(status=503, headers={"Retry-After": "20"})

    with scripted(script) as server:
        begun = time.monotonic()
        failure(webhook(server), stop)
        assert time.monotonic() - begun < 5
    assert len(server.requests) == 1
