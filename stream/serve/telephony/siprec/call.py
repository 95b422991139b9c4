"""The sockets of a recorded call: RTP comes in, audio goes to the gateway's calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Final

from abhinaya.models.text import clean
from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.serve.telephony.line import Line, Opens
from abhinaya.stream.serve.telephony.siprec import sdp
from abhinaya.stream.serve.telephony.siprec.dialogs import Invitation, Path
from abhinaya.stream.serve.telephony.siprec.rtp import Receiver
from abhinaya.stream.serve.telephony.siprec.sip import SipError

RETRY_S: Final = 30
DATAGRAM: Final = 8_192
"""Bytes: a second of G.711."""
AT_ONCE: Final = 64
"""Datagrams of a track before others have their turn."""

_LOG = logging.getLogger("abhinaya.siprec")


class Ports:
    """Hands out pairs of sockets for RTP and RTCP.

    Args:
        host: address of the sockets.
        ports: first and last port; RTP has an even one.

    """

    def __init__(self, host: str, ports: tuple[int, int]) -> None:
        self._host, (first, last) = host, ports
        self._pairs = range(first + first % 2, last, 2)
        self._next = secrets.randbelow(max(1, len(self._pairs)))

    def open(self) -> tuple[socket.socket, socket.socket]:
        """Return two bound sockets, of neighbouring ports.

        Raises:
            SipError: all ports are in use.

        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        fault = "none is configured"
        for i in range(len(self._pairs)):
            port = self._pairs[(self._next + i) % len(self._pairs)]
            with contextlib.ExitStack() as stack:
                try:
                    rtp = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                    rtcp = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                    rtp.bind((self._host, port))
                    rtcp.bind((self._host, port + 1))
                except OSError as error:
                    fault = error.strerror or str(error)
                    continue
                rtp.setblocking(False)
                rtcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # nobody reads RTCP
                stack.pop_all()
                self._next = (self._next + i + 1) % len(self._pairs)
                return rtp, rtcp
        raise SipError(503, f"no port for RTP is free: {fault}", Retry_After=str(RETRY_S))


class RecordedCall:
    """The media of one call, as `dialogs.Session`.

    Raises:
        SipError: there is no port or no room for the call.

    """

    def __init__(
        self,
        now: float,
        invitation: Invitation,
        opens: Opens,
        ports: Ports,
        clock: Callable[[], float],
        counts: Counter[str],
    ) -> None:
        self.call_id, self._clock, self._counts = invitation.call_id, clock, counts
        self._law = sdp.common_law(invitation.media)
        self._number, self._versions = secrets.randbits(31), count(1)
        self._since = now
        self.fault = ""
        """Why the gateway takes no more audio of this call; empty if it does."""
        received = [i for i, line in enumerate(invitation.media) if not line.fault]
        self._tracks = {line: track for track, line in enumerate(received)}
        """Media line -> track."""
        self._sockets: list[tuple[socket.socket, socket.socket]] = []
        try:
            for _ in received:
                self._sockets.append(ports.open())
            self._line = self._opened(opens, invitation, received)
        except BaseException:
            self._close_sockets()
            raise
        signalling = invitation.path.peer[0]
        self.receivers = [
            Receiver(now, invitation.media[i], self._law, signalling, counts) for i in received
        ]
        self.answer = self._answer(invitation.media, invitation.path)
        loop = asyncio.get_running_loop()
        for track, (rtp, _) in enumerate(self._sockets):
            loop.add_reader(rtp, self._readable, track, rtp)

    def _opened(self, opens: Opens, invitation: Invitation, received: Sequence[int]) -> Line:
        name = f"siprec:{clean(invitation.call_id).replace('/', '_')}"
        tracks = tuple(invitation.tracks[i] for i in received)
        try:
            return opens(name, tracks, self._law, sdp.RATE, invitation.facts)
        except AbhinayaError as error:
            raise SipError(503, str(error), Retry_After=str(RETRY_S)) from error

    def agree(self, now: float, media: tuple[sdp.Media, ...], path: Path) -> None:
        """Take a new offer: hold, other codecs, another address."""
        if len(media) <= max(self._tracks):
            raise SipError(488, "a media line is missing, refuse it with port 0 instead")
        for line, track in self._tracks.items():
            self.receivers[track].agree(now, media[line], path.peer[0])
        self._since = now
        self.answer = self._answer(media, path)

    def _answer(self, media: Sequence[sdp.Media], path: Path) -> bytes:
        ports = [0] * len(media)
        for line, track in self._tracks.items():
            if not media[line].fault:
                ports[line] = self._sockets[track][0].getsockname()[1]
        session = self._number, next(self._versions)
        return sdp.answer(media, ports, self._law, host=path.local, session=session)

    def _readable(self, track: int, rtp: socket.socket) -> None:
        now, receiver = self._clock(), self.receivers[track]
        for data, source in _datagrams(rtp):
            receiver.receive(now, source, data)
        self._pass_on(now, track)

    def _pass_on(self, now: float, track: int) -> None:
        ready = self.receivers[track].buffer.pop(now)
        try:
            for position, data in ready if not self.fault else ():
                self._line.feed(track, data, position)
        except AbhinayaError as error:
            self.fault = str(error)

    def tick(self, now: float) -> float | None:
        """Pass on what has waited; return how long no packet has come, None during a hold."""
        for track in range(len(self.receivers)):
            self._pass_on(now, track)
        if all(receiver.held for receiver in self.receivers):
            return None
        return now - max([self._since, *(r.newest for r in self.receivers if r.newest is not None)])

    def close(self, reason: str) -> None:
        """End the call; an empty reason is a natural end."""
        now, loop = self._clock(), asyncio.get_running_loop()
        for track, (rtp, _) in enumerate(self._sockets):
            self._readable(track, rtp)
            loop.remove_reader(rtp)
            self.receivers[track].buffer.restart()
            self._pass_on(now, track)
        self._close_sockets()
        self._line.close(reason)
        buffers = [receiver.buffer for receiver in self.receivers]
        counted = ", ".join(f"{b.lost} lost and {b.late} late" for b in buffers)
        _LOG.info("call %s ended: %s; packets: %s", clean(self.call_id), reason or "BYE", counted)

    def _close_sockets(self) -> None:
        for pair in self._sockets:
            for one in pair:
                one.close()


def _datagrams(rtp: socket.socket) -> Iterator[tuple[bytes, tuple[str, int]]]:
    for _ in range(AT_ONCE):
        try:
            data, source = rtp.recvfrom(DATAGRAM)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            continue
        yield data, source[:2]
