"""`abhinaya.client`: light, and without a hole when the gateway goes and returns."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from gateways import running
from places import ROOT

from abhinaya.client import Client, GatewayError


def test_it_needs_neither_numpy_nor_the_monitor() -> None:
    code = "import abhinaya.client, sys; print([m for m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("numpy", "zmq", "starlette", "abhinaya.stream"):
        assert f"'{heavy}'" not in done.stdout


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_after_a_restart_of_the_gateway_no_event_is_missing(tmp_path: Path, kind: str) -> None:
    heard: list[dict[str, Any]] = []
    some, done = threading.Event(), threading.Event()

    def take(event: dict[str, Any]) -> bool:
        heard.append(event)
        some.set()
        return len(heard) == 22  # the new gateway also ends the stream of the old one

    async def follow(client: Client) -> None:
        async for event in client.aevents(after=0):
            if take(event):
                return

    def listen(client: Client) -> None:
        if kind == "async":
            asyncio.run(follow(client))
        else:
            for event in client.events(after=0):
                if take(event):
                    break
        done.set()

    with running(tmp_path) as web:
        port = web.port
        client = Client(web.url, web.token, patience_s=20)
        threading.Thread(target=listen, args=(client,), daemon=True).start()
        web.begin("call")
        for n in range(10):
            web.say("call", n)
        assert some.wait(5)
    with running(tmp_path, port=port) as web:
        for n in range(10, 20):
            web.say("call", n)
        assert done.wait(10)
    assert [event["number"] for event in heard] == list(range(1, 23))
    assert [event["segment"] for event in heard if event["type"] == "verdict"] == list(range(20))


def test_a_refusal_says_why_and_is_not_tried_again(tmp_path: Path) -> None:
    with running(tmp_path) as web:
        with pytest.raises(GatewayError, match="the token is unknown; send"):
            next(iter(Client(web.url, "wrong").events()))
        with pytest.raises(GatewayError, match="the token is unknown"):
            Client(web.url, "wrong").streams()
        client = Client(web.url, web.token)
        stream = web.begin("call")
        assert [row["id"] for row in client.streams()] == [stream]
        with pytest.raises(GatewayError, match="stream 99 is unknown"):
            client.get("/v1/streams/99")
    with pytest.raises(GatewayError, match="has not answered for 0 s"):
        next(iter(Client(web.url, web.token, patience_s=0).events()))
    with pytest.raises(GatewayError, match="begin it with http"):
        Client("localhost", "x")


def test_the_example_prints_the_labels(tmp_path: Path) -> None:
    with running(tmp_path) as web:
        web.begin("call")
        web.say("call", 0, "angry")
        command = [sys.executable, str(ROOT / "examples" / "watch.py"), web.url, web.tokens.own]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            process.kill()
    assert line.split() == ["0.00", "call", "angry"], json.dumps(line)
