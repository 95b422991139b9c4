"""The recording server of SIPREC: UDP and TCP in the gateway's loop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from abhinaya.models.text import clean
from abhinaya.stream.errors import ConfigError, NetworkError
from abhinaya.stream.serve.telephony.line import Opens
from abhinaya.stream.serve.telephony.siprec import sip
from abhinaya.stream.serve.telephony.siprec.call import Ports, RecordedCall
from abhinaya.stream.serve.telephony.siprec.dialogs import Answerer, Dialog, Invitation, Out, Path
from abhinaya.stream.serve.telephony.siprec.sip import plain
from abhinaya.stream.settings.siprec import SiprecConfig

TICK_S: Final = 0.05
MAX_CONNECTIONS: Final = 256
MAX_UNSENT: Final = 262_144
"""Bytes that a peer may leave unread before its connection is cut."""

_LOG = logging.getLogger("abhinaya.siprec")


def address(listen: str) -> tuple[str, int]:
    """Return host and port.

    Raises:
        ConfigError: it is not HOST:PORT.

    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"serve.siprec.listen {listen}", "is not HOST:PORT", "write 0.0.0.0:5060")
    return host.strip("[]"), int(port)


def peer_check(peers: Iterable[str]) -> Callable[[str], bool]:
    """Return whether a host is one of these addresses and networks.

    Raises:
        ConfigError: one of them is neither.

    """
    networks = []
    for text in peers:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            reason, remedy = "is not an address or network", "write 192.0.2.7 or 192.0.2.0/24"
            raise ConfigError(f"serve.siprec.peers {text}", reason, remedy) from None

    @lru_cache(1_024)
    def allowed(host: str) -> bool:
        try:
            address = ipaddress.ip_address(plain(host))
        except ValueError:
            return False
        return any(address in network for network in networks)

    return allowed


class RecordingServer:
    """Takes the calls of recorders.

    Args:
        config: settings.
        opens: opens a call of the gateway.
        clock: seconds.

    Raises:
        ConfigError: a setting is wrong.

    """

    def __init__(
        self, config: SiprecConfig, opens: Opens, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config, self.counts = config, Counter[str]()
        self._opens, self._clock = opens, clock
        self.host, self.port = address(config.listen)
        self.allowed = peer_check(config.peers)
        first, last = config.ports
        if not 0 < first < last <= 65_535:
            reason, remedy = "is not a range of ports", "write two from 1 to 65535"
            raise ConfigError(f"serve.siprec.ports {first}, {last}", reason, remedy)
        self._ports: Ports
        self._answerer: Answerer
        self._udp: asyncio.DatagramTransport
        self._tcp: asyncio.Server
        self._ticking: asyncio.Task[None]
        self.connections: dict[int, asyncio.Transport] = {}

    async def start(self) -> None:
        """Listen.

        Raises:
            NetworkError: the address cannot be used.

        """
        loop = asyncio.get_running_loop()
        try:
            self._udp, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=(self.host, self.port)
            )
            self.host, self.port = self._udp.get_extra_info("sockname")[:2]
            try:
                self._tcp = await loop.create_server(
                    lambda: _Connection(self), self.host, self.port
                )
            except OSError:
                self._udp.close()
                raise
        except OSError as error:
            reason = f"cannot be used: {error.strerror or error}"
            remedy = "choose another address or port"
            subject = f"serve.siprec.listen {self.config.listen}"
            raise NetworkError(subject, reason, remedy) from error
        self._ports = Ports(self.host, self.config.ports)
        self._answerer = Answerer(self._open, self.port, self.allowed)
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """End all calls and stop listening."""
        self._ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._ticking
        for dialog in list(self._answerer.dialogs.values()):
            self._send(self._answerer.hang_up(self._clock(), dialog, "the monitor ends"))
        self._tcp.close()
        for transport in [self._udp, *self.connections.values()]:
            transport.close()

    @property
    def calls(self) -> int:
        """Number of open calls."""
        return len(self._answerer.dialogs)

    def receive(self, message: sip.Request | sip.Response, path: Path) -> None:
        """Take a message of a peer."""
        self._send(self._answerer.receive(self._clock(), message, path))

    def local(self, peer: str, bound: str) -> str:
        """Return our address as this peer reaches it."""
        if self.config.host:
            return self.config.host
        return plain(bound if bound not in ("0.0.0.0", "::") else _towards(peer))  # noqa: S104

    def _open(self, now: float, invitation: Invitation) -> RecordedCall:
        return RecordedCall(now, invitation, self._opens, self._ports, self._clock, self.counts)

    def _send(self, outs: Iterable[Out]) -> None:
        for path, data in outs:
            if path.transport == "UDP":
                self._udp.sendto(data, path.peer)
            elif transport := self.connections.get(path.connection):
                transport.write(data)
                if transport.get_write_buffer_size() > MAX_UNSENT:
                    transport.abort()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = self._clock()
            self._send(self._answerer.tick(now))
            for dialog in list(self._answerer.dialogs.values()):
                try:
                    self._send(self._watched(now, dialog))
                except Exception:  # a bug must not end the other calls
                    _LOG.exception("call %s", clean(dialog.call_id))

    def _watched(self, now: float, dialog: Dialog) -> list[Out]:
        assert isinstance(dialog.session, RecordedCall)
        silent_s = dialog.session.tick(now)
        if dialog.session.fault:
            return self._answerer.hang_up(now, dialog, dialog.session.fault)
        if silent_s is None or silent_s < self.config.timeout_s:
            return []
        return self._answerer.hang_up(now, dialog, f"no RTP for {self.config.timeout_s:g} s")


@lru_cache(1_024)
def _towards(peer: str) -> str:
    """Return the address from which we reach a peer."""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))
        return str(probe.getsockname()[0])


class _Datagrams(asyncio.DatagramProtocol):
    """SIP over UDP."""

    def __init__(self, server: RecordingServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not data.strip(b"\r\n\0"):
            return  # a keep-alive
        try:
            message = sip.parse(data)
            local = self._server.local(addr[0], self._server.host)
        except (ValueError, OSError):
            self._server.counts["malformed"] += 1
            return
        self._server.receive(message, Path("UDP", addr[:2], local))


class _Connection(asyncio.Protocol):
    """SIP over TCP."""

    def __init__(self, server: RecordingServer) -> None:
        self._server, self._framer = server, sip.Framer()
        self._path: Path | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, server = transport, self._server
        peer = transport.get_extra_info("peername")
        if not server.allowed(peer[0]) or len(server.connections) >= MAX_CONNECTIONS:
            server.counts["connections refused"] += 1
            transport.abort()
            return
        local = server.local(peer[0], transport.get_extra_info("sockname")[0])
        self._path = Path("TCP", peer[:2], local, id(self))
        server.connections[id(self)] = transport

    def data_received(self, data: bytes) -> None:
        if self._path is None:
            return
        try:
            for message in self._framer.feed(data):
                self._server.receive(message, self._path)
        except ValueError:
            self._server.counts["malformed"] += 1
            self._transport.close()
            return
        while self._framer.pings:
            self._framer.pings -= 1
            self._transport.write(b"\r\n")
        if self._framer.broken:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._server.connections.pop(id(self), None)
