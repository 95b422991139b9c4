"""Asterisk's AudioSocket, driven by a scripted Asterisk."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from fake_lines import FakeDoors
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.stream.errors import ConfigError, NetworkError
from abhinaya.stream.serve.telephony.audiosocket import (
    AudioSocketServer,
    Frames,
    SocketSession,
    address,
)
from abhinaya.stream.serve.telephony.sockets import LineError

ID = UUID("40325ec2-5efd-4bd3-805f-53576e581d13")


def message(kind: int, payload: bytes = b"") -> bytes:
    return bytes([kind]) + len(payload).to_bytes(2) + payload


HELLO = message(0x01, ID.bytes)
SOUND = [bytes([n, 0]) * 160 for n in range(50)]
CALL = HELLO + b"".join(message(0x10, s) for s in SOUND) + message(0x03, b"5") + message(0x00)


@given(st.lists(st.integers(1, 700)))
def test_a_call_is_the_same_however_its_bytes_are_cut(cuts: list[int]) -> None:
    doors, data = FakeDoors(), CALL
    session = SocketSession(doors.opens)
    for cut in [*cuts, len(data)]:
        session.receive(data[:cut])
        data = data[cut:]
    session.close()
    line = doors.lines[0]
    assert (line.name, line.encoding, line.rate) == (f"asterisk:{ID}", "s16le", 8_000)
    assert (line.audio[0], line.closed, session.ended) == (b"".join(SOUND), "", True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (message(0x10, bytes(320)), "audio: came before the UUID"),
        (message(0x01, b"abc"), "UUID: came twice or has not 16 bytes"),
        (HELLO + HELLO, "UUID: came twice"),
        (HELLO + message(0x10, bytes(3)), "audio: ends within a sample"),
        (HELLO + message(0x10, b"ab") + message(0x12, b"ab"), "audio: changes its sample rate"),
        (HELLO + message(0xFF, b"\x04"), "Asterisk: failed with 04"),
        (b"GET / HTTP/1.1\r\n" * 5_000, "type 0x47: unknown"),
    ],
)
def test_wrong_messages_are_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(LineError, match=reason):
        SocketSession(FakeDoors().opens).receive(data)


@given(st.binary(max_size=400))
def test_no_bytes_break_a_session(data: bytes) -> None:
    session, opened = SocketSession(FakeDoors().opens), Frames()
    assert b"".join(message(*m) for m in opened.feed(data)) == data[: len(data) - len(opened._rest)]
    try:
        session.receive(HELLO + data)
    except LineError:
        session.close("wrong")


@pytest.mark.parametrize("text", ["", "9092", "localhost:1", "0.0.0.0:1", "8.8.8.8:1", "::1:x"])
def test_it_listens_only_where_strangers_do_not_reach_it(text: str) -> None:
    with pytest.raises(ConfigError):
        address(text)
    assert address("[::1]:9092") == ("::1", 9092)
    assert address("10.1.2.3:9092") == ("10.1.2.3", 9092)


def test_a_server_takes_many_calls_and_cuts_off_bad_ones() -> None:
    doors = FakeDoors()

    async def call(port: int, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        got = await reader.read()  # until the server closes
        writer.close()
        return got

    async def play() -> None:
        server = AudioSocketServer("127.0.0.1:0", doors.opens, most=3, idle_s=0.3)
        await server.start()
        port = server.port
        with pytest.raises(NetworkError, match="cannot listen"):
            await AudioSocketServer(f"127.0.0.1:{port}", doors.opens, most=1).start()
        other = message(0x01, bytes(16)) + message(0x12, bytes(640)) + message(0x00)
        await asyncio.gather(call(port, CALL), call(port, b"\x99\0\0"), call(port, other))
        await call(port, CALL)  # the same call again, after its end
        silent = call(port, HELLO + message(0x10, bytes(320)))
        twin = call(port, HELLO + message(0x10, bytes(320)))
        await asyncio.gather(silent, twin)
        open_call = message(0x01, bytes(16)) + message(0x10, bytes(320))
        cut = asyncio.create_task(call(port, open_call))
        while len(doors.lines) < 5:
            await asyncio.sleep(0.01)
        await server.stop()
        await cut

    asyncio.run(asyncio.wait_for(play(), 20))
    ended = sorted((line.rate, line.closed) for line in doors.lines)
    assert ended[:3] == [(8_000, "")] * 3
    assert ended[3][1].startswith("AudioSocket: no audio for 0.3 s")  # its twin was in use
    assert ended[4:] == [(16_000, "")]
