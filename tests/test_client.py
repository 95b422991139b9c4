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
from websockets.asyncio.server import ServerConnection, serve

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


def test_a_track_goes_on_after_the_connection_was_lost_and_drops_the_oldest_audio() -> None:
    got: list[bytes | str] = []
    verdict = {"type": "verdict", "label": "happy"}

    async def gateway(socket: ServerConnection) -> None:
        first = not got
        async for message in socket:
            got.append(message)
            await socket.send(json.dumps({"type": "Results", "abhinaya": verdict}))
            await socket.send(json.dumps({"type": "SpeechStarted"}))
            if first:
                socket.transport.abort()
                return
            if isinstance(message, str):
                await socket.close()

    async def talk() -> tuple[list[dict[str, Any]], int]:
        async with serve(gateway, "127.0.0.1", 0) as server:
            address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            track = Client(address, "t", patience_s=10).listen(rate=8000, name="desk")
            for second in range(7):
                track.feed(bytes([second]) * 16_000)
            events: list[dict[str, Any]] = []

            async def speak() -> None:
                while not events:
                    await asyncio.sleep(0.01)
                while len(events) < 2:
                    track.feed(b"more")
                    await asyncio.sleep(0.02)
                track.close()

            speaking = asyncio.create_task(speak())
            async for event in track.events():
                events.append(event)
            await speaking
            return events, track.dropped

    events, dropped = asyncio.run(asyncio.wait_for(talk(), 20))
    assert events[0] == verdict
    assert dropped >= 2 * 16_000, "five seconds are kept"
    assert got[0] == bytes([2]) * 16_000
    assert got[-2:] == [b"more", '{"type":"CloseStream"}']


def test_a_track_that_is_refused_says_why(tmp_path: Path) -> None:
    async def listen(client: Client) -> None:
        async for _ in client.listen(rate=8000).events():
            pass

    with running(tmp_path) as web:
        with pytest.raises(GatewayError, match="the token is unknown"):
            asyncio.run(listen(Client(web.url, "wrong")))
        with pytest.raises(GatewayError, match="has not answered for 0 s"):
            asyncio.run(listen(Client(web.url, web.token, patience_s=0)))
