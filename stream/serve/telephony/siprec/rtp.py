"""Packets of RTP (RFC 3550, 3551), and the receiver of one track; times are passed in."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

from abhinaya.stream.serve.telephony.jitter import JitterBuffer
from abhinaya.stream.serve.telephony.siprec.sdp import RATE, Law, Media
from abhinaya.stream.serve.telephony.siprec.sip import plain
from abhinaya.stream.sources.pcm import to_float

Address = tuple[str, int]

SILENT_S: Final = 2.0
"""After so long without a packet, the sender may go on from another port."""

_HEAD: Final = struct.Struct("!BBHII")
_RTCP: Final = range(192, 224)
"""Second byte of RTCP (RFC 5761)."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of RTP."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    data: bytes


def parse(data: bytes) -> Packet | None:
    """Return the packet of a datagram; None if it is not one of RTP."""
    if len(data) < _HEAD.size:
        return None
    first, second, sequence, timestamp, ssrc = _HEAD.unpack_from(data)
    if first >> 6 != 2 or second in _RTCP:
        return None
    begin, end = _HEAD.size + 4 * (first & 0x0F), len(data)
    if first & 0x10:  # a header extension, of four-byte words
        if end < begin + 4:
            return None
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4])
    if first & 0x20:  # the last byte is the length of the padding
        if not data[-1]:
            return None
        end -= data[-1]
    if begin > end:
        return None
    return Packet(second & 0x7F, sequence, timestamp, ssrc, data[begin:end])


def _translation(source: Law, target: Law) -> bytes:
    """Return the code of the other law that is nearest in value, for each code."""
    codes = bytes(range(256))
    distance = np.abs(to_float(codes, source)[:, None] - to_float(codes, target)[None, :])
    return bytes(distance.argmin(1).tolist())


_TO_LAW: Final[dict[Law, bytes]] = {
    "mulaw": _translation("alaw", "mulaw"),
    "alaw": _translation("mulaw", "alaw"),
}
"""Law of the call -> its codes for those of the other law."""


class Receiver:
    """Takes the datagrams of one track.

    The sender is who sends first from an address that it may have: that of the SDP or of the
    signalling. Other addresses are refused until the sender has been silent for a while.

    Args:
        media: what was agreed.
        law: law of the call: what is in the other one is converted.
        signalling: host of the signalling.
        counts: what is counted here by name: foreign, malformed, ignored.

    """

    def __init__(
        self, now: float, media: Media, law: Law, signalling: str, counts: Counter[str]
    ) -> None:
        self.buffer = JitterBuffer(RATE, silence=b"\xff" if law == "mulaw" else b"\xd5")
        self.buffer.begin(now)  # the tracks of a call share their zero
        self.newest: float | None = None
        """When the last packet of the sender came."""
        self._law, self._counts = law, counts
        self._sender: Address | None = None
        self._ssrc: int | None = None
        self.agree(now, media, signalling)

    def agree(self, now: float, media: Media, signalling: str) -> None:
        """Take what is agreed now: codecs, addresses, hold."""
        self._media, self._hosts = media, {plain(media.host), plain(signalling)}
        self._sender = None
        self.held = media.held or bool(media.fault)
        if self.held:
            self.buffer.pause(now)

    def receive(self, now: float, source: Address, data: bytes) -> None:
        """Take a datagram."""
        silent = self.newest is None or now - self.newest > SILENT_S
        if source != self._sender and (
            plain(source[0]) not in self._hosts or not (self._sender is None or silent)
        ):
            self._counts["foreign"] += 1
            return
        packet = parse(data)
        if packet is None:
            rtcp = len(data) >= 2 and data[1] in _RTCP
            self._counts["rtcp" if rtcp else "malformed"] += 1
            return
        self._sender, self.newest = source, now
        if packet.ssrc != self._ssrc:
            if self._ssrc is not None:
                self.buffer.restart()
            self._ssrc = packet.ssrc
        law = self._media.laws.get(packet.payload_type)
        audio = packet.data if law else b""
        if law is None:
            self._counts["ignored"] += 1
        elif law != self._law:
            audio = audio.translate(_TO_LAW[self._law])
        self.buffer.push(now, packet.sequence, packet.timestamp, audio)
        if packet.payload_type in self._media.noise:
            self.buffer.pause(now)
