"""Asterisk's AudioSocket: a TCP server; each connection is a call of one track.

A message is a byte of type, two of length (big-endian) and the payload.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from abhinaya.stream.errors import ConfigError, NetworkError
from abhinaya.stream.serve.calls import CallError
from abhinaya.stream.serve.telephony.line import Line, Opens
from abhinaya.stream.serve.telephony.sockets import (
    IDLE_S,
    INVALID,
    POLICY,
    SILENT,
    LineError,
)

HANG_UP: Final = 0x00
ID: Final = 0x01
DIGIT: Final = 0x03
FAILURE: Final = 0xFF
RATES: Final = {
    0x10: 8_000, 0x11: 12_000, 0x12: 16_000, 0x13: 24_000, 0x14: 32_000, 0x15: 44_100,
    0x16: 48_000, 0x17: 96_000, 0x18: 192_000,
}  # fmt: skip
"""Type of a message with samples (s16le) -> samples a second."""
READ: Final = 1 << 15
"""Bytes read at once."""

_LOG: Final = logging.getLogger(__name__)


class Frames:
    """Cuts a byte stream into messages; what is not complete waits (at most 64 kB)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Return the messages that are complete now: type and payload."""
        data, begin = self._rest + data, 0
        while len(data) - begin >= 3:
            end = begin + 3 + int.from_bytes(data[begin + 1 : begin + 3])
            if end > len(data):
                break
            yield data[begin], data[begin + 3 : end]
            begin = end
        self._rest = data[begin:]


class SocketSession:
    """What one connection has said so far. Without I/O."""

    def __init__(self, opens: Opens) -> None:
        self._opens = opens
        self._frames = Frames()
        self._id: UUID | None = None
        self._rate = 0
        self._line: Line | None = None
        self.ended = False

    def receive(self, data: bytes) -> None:
        """Take bytes.

        Raises:
            LineError: they break the rules; end the session with `close` and this reason.

        """
        for kind, payload in self._frames.feed(data):
            if self.ended:
                return
            self._take(kind, payload)

    def close(self, reason: str = "") -> None:
        """End the call; a second call does nothing."""
        self.ended = True
        line, self._line = self._line, None
        if line:
            line.close(reason)

    def _take(self, kind: int, payload: bytes) -> None:
        if kind in RATES:
            self._audio(kind, payload)
        elif kind == ID:
            if self._id or len(payload) != 16:
                raise LineError(INVALID, "UUID", "came twice or has not 16 bytes", "send it once")
            self._id = UUID(bytes=payload)
        elif kind == HANG_UP:
            self.ended = True
        elif kind == FAILURE:
            raise LineError(POLICY, "Asterisk", f"failed with {payload[:4].hex()}", "see its log")
        elif kind != DIGIT:
            raise LineError(INVALID, f"type 0x{kind:02x}", "unknown", "connect Asterisk")

    def _audio(self, kind: int, payload: bytes) -> None:
        if not self._id:
            raise LineError(POLICY, "audio", "came before the UUID", "send the UUID first")
        if len(payload) % 2:
            raise LineError(INVALID, "audio", "ends within a sample", "send 16-bit samples")
        if not self._line:  # the type of the first audio is the rate of the call
            self._rate = RATES[kind]
            self._line = self._opens(f"asterisk:{self._id}", ("",), "s16le", self._rate, {})
        elif RATES[kind] != self._rate:
            raise LineError(POLICY, "audio", "changes its sample rate", "keep one rate a call")
        self._line.feed(0, payload)


def address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`.

    Raises:
        ConfigError: it is not an address, or one that strangers may reach.

    """
    host, _, port = text.rpartition(":")
    try:
        at = ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError:
        raise ConfigError(text, "is not IP:PORT", "give 127.0.0.1:9092") from None
    if at.is_unspecified or not at.is_private or not 0 <= number < 65_536:
        reason = "AudioSocket knows no passwords, so it listens on loopback and private IPs only"
        raise ConfigError(text, reason, "give 127.0.0.1:9092, or the address of a VPN")
    return str(at), number


class AudioSocketServer:
    """Listens on `HOST:PORT`.

    Args:
        text: the address.
        opens: opens a call of the gateway.
        most: connections at a time.
        idle_s: a connection without a message for so long is cut off.

    Raises:
        ConfigError: it is not an address, or one that strangers may reach.

    """

    def __init__(self, text: str, opens: Opens, most: int, idle_s: float = IDLE_S) -> None:
        self._text, (self._host, self.port) = text, address(text)
        self._opens, self._most, self._idle_s = opens, most, idle_s
        self._open = dict[asyncio.Task[Any], asyncio.StreamWriter]()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            NetworkError: the address is in use or not of this machine.

        """
        try:
            server = await asyncio.start_server(self._take, self._host, self.port, limit=READ)
        except OSError as e:
            reason = f"cannot listen: {e.strerror or e}"
            raise NetworkError(f"AudioSocket {self._text}", reason, "choose another address") from e
        self._server, self.port = server, server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End all connections."""
        if self._server:
            self._server.close()
        for writer in self._open.values():
            writer.transport.abort()  # its reader gets an end
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open[task] = writer
        try:
            if len(self._open) <= self._most:
                await _serve(reader, self._opens, self._idle_s)
            else:
                _LOG.warning("AudioSocket: refused a connection, %d are open", self._most)
        finally:
            del self._open[task]
            writer.close()


async def _serve(reader: asyncio.StreamReader, opens: Opens, idle_s: float) -> None:
    session, reason = SocketSession(opens), ""
    try:
        while not session.ended:
            async with asyncio.timeout(idle_s):
                data = await reader.read(READ)
            if not data:
                break
            session.receive(data)
    except (LineError, CallError) as e:
        reason = str(e)
        _LOG.warning("AudioSocket: %s", reason)
    except TimeoutError:
        silent = LineError(SILENT, "AudioSocket", f"no audio for {idle_s:g} s", "hang up")
        reason = str(silent)
        _LOG.warning("%s", reason)
    except OSError as e:
        reason = f"connection lost: {e.strerror or e}"
    finally:
        session.close(reason)
