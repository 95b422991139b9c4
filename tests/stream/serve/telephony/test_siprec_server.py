"""The recording server on real sockets: driven by sipp, by broken clients, and by silence."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gateways import running
from recorder_client import BODY, FakeCalls, ports_of, request, rtp, sdp, sdp_line, sound
from sipp_scenario import needs_sipp, scenario

from abhinaya.stream.errors import ConfigError, NetworkError, SourceError, WireError
from abhinaya.stream.serve.telephony.siprec.server import RecordingServer, peer_check
from abhinaya.stream.settings.siprec import SiprecConfig

LOOPBACK = "127.0.0.1"
VIA = f"SIP/2.0/UDP {LOOPBACK};branch=z9hG4bK1"


@asynccontextmanager
async def serving(calls: FakeCalls, **settings: object) -> AsyncIterator[RecordingServer]:
    config = SiprecConfig(**{"listen": f"{LOOPBACK}:0", **settings})  # type: ignore[arg-type]
    server = RecordingServer(config, calls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def until(true: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


class Client:
    """A recorder's client over UDP."""

    def __init__(self, server: RecordingServer) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((LOOPBACK, 0))
        self.socket.setblocking(False)
        self.server, self.tag, self._count = (LOOPBACK, server.port), "", 0

    async def ask(
        self, method: str, body: str = "", *, call: str = "call-1", kind: str = ""
    ) -> str:
        """Send a request; return its answer."""
        self._count += method != "ACK"
        branch = f"z9hG4bK{method}{self._count}"
        port = self.socket.getsockname()[1]
        change = {"Via": f"SIP/2.0/UDP {LOOPBACK}:{port};branch={branch}"}
        change |= {"Content-Type": kind} if kind else {}
        data = request(
            method, body, call=call, number=self._count, to_tag=self.tag, change=dict(change)
        )
        self.socket.sendto(data, self.server)
        return await self.read() if method != "ACK" else ""

    async def read(self) -> str:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            return (await loop.sock_recv(self.socket, 9_999)).decode()

    async def call(self, body: str = BODY, *, call: str = "call-1", kind: str = "") -> list[int]:
        """Invite and confirm; return the ports."""
        answer = await self.ask("INVITE", body, call=call, kind=kind)
        assert answer.startswith("SIP/2.0 200")
        self.tag = answer.partition("To: ")[2].partition("tag=")[2].partition("\r\n")[0]
        await self.ask("ACK", call=call)
        return list(ports_of(answer.encode()))


# --- sipp -----------------------------------------------------------------------------------------


@needs_sipp
@pytest.mark.slow  # in real time: a busy machine loses packets
@pytest.mark.parametrize("transport", ["u1", "t1"])
def test_sipp_brings_both_parties_whole(tmp_path: Path, transport: str) -> None:
    sounds = [sound(seed, 1.0) for seed in (1, 2)]
    files = [tmp_path / f"{i}.raw" for i in range(2)]
    for file, data in zip(files, sounds, strict=True):
        file.write_bytes(data)
    (tmp_path / "call.xml").write_text(scenario(*files, 1.0))
    calls = FakeCalls()

    async def play() -> tuple[int | None, bytes]:
        async with serving(calls) as server:
            flags = f"-sf call.xml -m 1 -nostdin -t {transport} -i {LOOPBACK} -mi {LOOPBACK}"
            flags += " -timeout 10s -timeout_error -trace_err"
            process = await asyncio.create_subprocess_exec(
                "sipp", f"{LOOPBACK}:{server.port}", *flags.split(), cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            output, _ = await process.communicate()
            assert not server.counts
            return process.returncode, output

    code, output = asyncio.run(play())
    assert code == 0, output[-2_000:]
    ((name, line),) = calls.lines.items()
    assert line.streams == (f"{name}/Asha", f"{name}/Bo")
    assert name.startswith("siprec:1-")
    assert (line.reason, line.encoding, line.gaps) == ("", "mulaw", [])
    for kept, data in zip(line.audio, sounds, strict=True):
        begin = len(kept) - len(data)
        assert kept[begin:] == data
        assert set(kept[:begin]) <= {0xFF}, "a party that begins later was silent"


# --- others ---------------------------------------------------------------------------------------


def test_a_call_goes_on_while_others_are_broken() -> None:
    calls = FakeCalls()

    async def play() -> None:
        async with serving(calls) as server:
            client = Client(server)
            ports = await client.call()
            hostile = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for data in (b"\0\xff" * 40, request()[:200], b"INVITE " * 99, b"\r\n\r\n"):
                hostile.sendto(data, client.server)
            _, writer = await asyncio.open_connection(*client.server)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            reader, large = await asyncio.open_connection(*client.server)
            large.write(b"\r\n\r\n" + request(change={"Content-Length": "100000000"}))
            answer = await reader.read()
            assert answer.startswith(b"SIP/2.0 513 Message Too Large")
            assert answer.endswith(b"\r\n\r\n\r\n"), "and the keep-alive"
            data, more = sound(1, 0.5), sound(2, 0.5)
            media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for i in range(25):
                part = slice(i * 160, i * 160 + 160)
                media.sendto(rtp(i, i * 160, data[part]), (LOOPBACK, ports[0]))
                media.sendto(rtp(i, i * 160, more[part], payload=0), (LOOPBACK, ports[1]))
                hostile.sendto(rtp(i, i * 160, b"x" * 160), (LOOPBACK, ports[0]))
                await asyncio.sleep(0.005)
            assert (await client.ask("BYE")).startswith("SIP/2.0 200")
            assert server.counts == {"foreign": 25, "malformed": 4}

    asyncio.run(play())
    (line,) = calls.lines.values()
    assert [kept[-4_000:] for kept in line.audio] == [sound(1, 0.5), sound(2, 0.5)]
    assert (line.reason, line.gaps) == ("", [])


def test_a_call_that_the_monitor_refuses_later_is_ended() -> None:
    calls = FakeCalls()

    async def play() -> None:
        async with serving(calls) as server:
            client = Client(server)
            ports = await client.call()
            calls.lines["siprec:call-1"].error = SourceError("siprec:call-1", 'has no "room"')
            client.socket.sendto(rtp(0, 0, b"x" * 160), (LOOPBACK, ports[0]))
            bye = await client.read()
            assert "Reason: SIP;text=\"siprec:call-1: has no 'room'\"" in bye
            assert server.calls == 0

    asyncio.run(play())


def test_silence_ends_a_call_but_a_hold_does_not() -> None:
    calls = FakeCalls()

    async def play() -> None:
        async with serving(calls, timeout_s=1.0) as server:
            silent, held = Client(server), Client(server)
            await silent.call(call="silent")
            inactive = sdp(sdp_line(40_000, direction="inactive"))
            await held.call(inactive, call="held", kind="application/sdp")
            bye = await silent.read()
            assert bye.startswith("BYE sip:src@127.0.0.1:5070 SIP/2.0")
            assert 'Reason: SIP;text="no RTP for 1 s"' in bye
            await asyncio.sleep(0.3)
            assert server.calls == 1

    asyncio.run(play())
    silent, held = calls.lines["siprec:silent"], calls.lines["siprec:held"]
    assert (silent.reason, held.reason) == ("no RTP for 1 s", "the monitor ends")
    assert len(held.audio[0]) > 4_000
    assert held.gaps == []


def test_no_room_no_port_and_a_second_call_of_the_name() -> None:
    async def play() -> None:
        calls = FakeCalls(WireError("calls", "200 are open", "try again later"))
        async with serving(calls, ports=(29_990, 29_993)) as server:
            answer = await Client(server).ask("INVITE", BODY)
            assert answer.startswith("SIP/2.0 503")
            assert "Retry-After: 30" in answer
            calls.error = None
            client = Client(server)
            await client.call()
            assert (await Client(server).ask("INVITE", BODY)).startswith("SIP/2.0 486")
            other = await Client(server).ask("INVITE", BODY, call="other")
            assert other.startswith("SIP/2.0 503")
            assert "no port for RTP is free" in other
            await client.ask("BYE")
            assert server.calls == 0
            await Client(server).call(call="other")

    asyncio.run(play())


def test_settings_that_are_wrong_are_named() -> None:
    with pytest.raises(ConfigError, match=r"peers 10.0.0: .*network"):
        peer_check(["10.0.0"])
    with pytest.raises(ConfigError, match="HOST:PORT"):
        RecordingServer(SiprecConfig(listen="5060"), FakeCalls())
    with pytest.raises(ConfigError, match="range of ports"):
        RecordingServer(SiprecConfig(listen="[::1]:5060", ports=(9, 3)), FakeCalls())
    allowed = peer_check(["10.0.0.0/8", "2001:db8::1"])
    assert [allowed(host) for host in ("10.2.3.4", "::ffff:10.1.1.1", "11.0.0.1", "x")] == [
        True,
        True,
        False,
        False,
    ]


def test_it_begins_and_ends_with_the_gateway(tmp_path: Path) -> None:
    first = RecordingServer(SiprecConfig(listen=f"{LOOPBACK}:0"), FakeCalls())
    other = tmp_path / "other"
    other.mkdir()
    with running(tmp_path, services=[first]):
        options = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        options.settimeout(5)
        options.sendto(
            request("OPTIONS", b"", change={"Via": f"{VIA};rport"}), (LOOPBACK, first.port)
        )
        assert options.recv(999).startswith(b"SIP/2.0 200 OK")
        again = RecordingServer(SiprecConfig(listen=f"{LOOPBACK}:{first.port}"), FakeCalls())
        with (
            pytest.raises(NetworkError, match=r"serve\.siprec\.listen .*another address or port"),
            running(other, services=[again]),
        ):
            pass
    with running(other, services=[again]):
        assert again.port == first.port
