"""Frames of MPEG audio (mp3, mp2) and of AAC in ADTS, as raw bytes.

Headers: ISO/IEC 11172-3, 2.4.1.3, and 13818-7, 6.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

TAGS: Final = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")
"""Beginnings of tags, which may stand between frames and after the last one."""

_KBITS: Final = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by (version, layer); version 2 has the same for layers 2 and 3."""
_RATES: Final = (44_100, 48_000, 32_000)
_ADTS_RATES: Final = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
)  # fmt: skip
_LENGTH_TAG: Final = re.compile(
    rb"(?:Xing|Info)...[\x01\x03\x05\x07-\x0f](....)|VBRI.{10}(....)", re.S
)
_IN_A_ROW: Final = 3
_SEARCH_BYTES: Final = 1 << 16
_BOXES: Final = {b"styp", b"moof", b"sidx", b"emsg", b"prft", b"ftyp", b"moov", b"mdat", b"free"}
"""First boxes of a part in fragmented mp4."""
_MARK_BYTES: Final = 64
"""Bytes by which a packet is recognised in its file."""
_FARTHEST_BYTES: Final = 1 << 26
_TOLERANCE_S: Final = 0.1


class Frame(NamedTuple):
    """What the header of a frame declares."""

    length: int
    """Bytes, with the header."""
    samples: int
    rate: int
    kind: bytes
    """The bits that do not change from frame to frame."""


_NO_FRAME: Final = Frame(0, 0, 1, b"")


def frame_at(data: bytes, at: int = 0) -> Frame | None:
    """Return the frame whose header stands at `at`; None if there is no header."""
    head = data[at : at + 6]
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    layer = 4 - (head[1] >> 1 & 3)
    if layer == 4:
        place = head[2] >> 2 & 15
        if head[1] & 0xF6 != 0xF0 or place >= len(_ADTS_RATES):
            return None
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        return Frame(length, 1024, _ADTS_RATES[place], head[1:3]) if length > 7 else None
    version, bits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or bits in (0, 15) or rate == 3:
        return None
    old = 1 if version == 3 else 2
    kbits = _KBITS[(old, layer if old == 1 else min(layer, 2))][bits - 1]
    hertz = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return Frame(4 * (12_000 * kbits // hertz + padding), 384, hertz, _fixed(head))
    samples = 576 if layer == 3 and old == 2 else 1152
    return Frame(samples * 125 * kbits // hertz + padding, samples, hertz, _fixed(head))


def find_frames(data: bytes, begin: int = 0) -> int | None:
    """Return where several frames of one kind follow each other; None if nowhere."""
    at = data.find(b"\xff", begin)
    while at >= 0:
        if _follow(data, at):
            return at
        at = data.find(b"\xff", at + 1)
    return None


def find_frames_in(peek: Callable[[int, int], bytes], begin: int) -> int | None:
    """Return where in a file, from `begin` on, several frames of one kind follow each other."""
    overlap = 1 << 13
    while data := peek(begin, _SEARCH_BYTES + overlap):
        if (at := find_frames(data)) is not None:
            return begin + at
        begin += _SEARCH_BYTES
    return None


def tag_bytes(data: bytes) -> int:
    """Return the length of the tag that `data` begins with; 0 if it declares none."""
    if data[:3] == b"ID3" and len(data) >= 10 and max(data[6:10]) < 0x80:
        ends = 20 if data[5] & 0x10 else 10  # a footer
        return ends + sum(
            byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True)
        )
    if data[:8] == b"APETAGEX" and data[23:24] >= b"\xa0":  # a header, before the items
        return 32 + int.from_bytes(data[12:16], "little")
    return 0


def without_tags(data: bytes) -> bytes:
    """Return audio without the tags at its beginning."""
    while length := tag_bytes(data):
        data = data[length:]
    return data


def is_known(data: bytes) -> bool:
    """Return whether a part of a broadcast begins like one: with packets, boxes, tags or frames."""
    data = data[: 1 << 14]
    packets = (data[at : at + 377 : 188] == b"\x47\x47\x47" for at in range(188))
    known = data.startswith((*TAGS, b"\x0b\x77")) or data[4:8] in _BOXES
    return known or any(packets) or find_frames(data) is not None


def is_adts(data: bytes) -> bool:
    """Return whether AAC frames in ADTS follow each other somewhere in `data`."""
    at = find_frames(data)
    return at is not None and data[at + 1] & 0xF6 == 0xF0


def length_tag_s(data: bytes) -> float | None:
    """Return the seconds that a Xing, Info or VBRI frame at the beginning of `data` declares."""
    frame, found = frame_at(data), _LENGTH_TAG.search(data, 0, 200)
    if frame is None or found is None:
        return None
    return int.from_bytes(found[1] or found[2], "big") * frame.samples / frame.rate


def _fixed(head: bytes) -> bytes:
    return bytes((head[1] & 0xFE, head[2] & 0x0C))


def _follow(data: bytes, at: int) -> bool:
    first = frame_at(data, at)
    for _ in range(_IN_A_ROW):
        frame = frame_at(data, at)
        if first is None or frame is None or frame.kind != first.kind:
            return False
        at += frame.length
    return True


class RawBytes:
    """Measures damage in audio without time stamps by the bytes that are no frames.

    Args:
        peek: returns the bytes (offset, count) of the file; None if it cannot be read twice.

    """

    def __init__(self, peek: Callable[[int, int], bytes] | None) -> None:
        self._peek = peek
        self._begin = (find_frames_in(peek, 0) or 0) if peek else 0
        self._good = 0
        self._good_s = 0.0
        self._packets = 0
        self._astray = False  # after damage, FFmpeg may have skipped bytes
        self._tag_left = 0  # bytes of a tag that are still to come
        self._kind = b""
        self._played_s = 0.0  # by the headers of the frames, before padding is cut off
        self.bytes = self._begin
        """Bytes of the file up to the end of the latest packet."""
        self.known_bytes = self._begin
        """Bytes of the file up to the end of the latest frame or tag."""
        self.declared_s = 0.0
        """Seconds that the length tags of the file and of files joined to it declare."""
        if peek is not None and (tag_s := length_tag_s(head := peek(self._begin, 4096))):
            self.declared_s = tag_s
            self.bytes += len(head[: (frame_at(head) or _NO_FRAME).length])

    @property
    def is_whole(self) -> bool:
        """Return whether all frames were there that the length tags declare."""
        return 0 < self.declared_s <= self._played_s + 1e-3 < self.declared_s + _TOLERANCE_S

    def is_tag(self, packet: bytes) -> bool:
        """Return whether a packet is a tag, or a part of one: pictures in it resemble frames."""
        if self._tag_left <= 0 and packet.startswith(TAGS):
            length = tag_bytes(packet)
            inside = self._peek and self._peek(self.bytes + length - 1, 1)
            self._tag_left = max(len(packet), length if inside else 0)
        if self._tag_left <= 0:
            return False
        self._tag_left -= len(packet)
        self.bytes += len(packet)
        self.known_bytes = self.bytes
        return True

    def is_length_tag(self, packet: bytes, given_s: float) -> bool:
        """Return whether a packet is not audio, but the length tag of a file joined to this one."""
        seconds = length_tag_s(packet)
        if seconds is None:
            return False
        self.bytes += len(packet)
        self.declared_s = given_s + seconds
        return True

    def lost_s(self, packet: bytes, frames: Sequence[Any]) -> float:
        """Count a packet and its decoded frames; return the seconds that were lost with it."""
        begin = self.bytes
        if self._astray and frames:
            begin, self._astray = self._locate(packet, begin), False
        skipped, self.bytes = begin - self.bytes, begin + len(packet)
        heard_s: float = sum(frame.samples / frame.sample_rate for frame in frames)
        if frames and len(packet) <= self._usual(packet):
            frame = frame_at(packet) or _NO_FRAME
            self.known_bytes, self._kind = self.bytes, frame.kind
            self._played_s += frame.samples / frame.rate
            self._good += len(packet)
            self._good_s += heard_s
            self._packets += 1
            return skipped * self._good_s / self._good
        if not self._good:
            return 0.0
        self._astray = True
        return max(0.0, (skipped + len(packet)) * self._good_s / self._good - heard_s)

    def _locate(self, packet: bytes, begin: int) -> int:
        """Return where a packet stands in the file, from `begin` on; `begin` if it is not found."""
        mark, at = packet[:_MARK_BYTES], begin
        while self._peek is not None and at < begin + _FARTHEST_BYTES:
            data = self._peek(at, _SEARCH_BYTES + _MARK_BYTES)
            if (found := data.find(mark)) >= 0:
                return at + found
            if len(data) <= _MARK_BYTES:
                break
            at += _SEARCH_BYTES
        return begin

    def is_cut(self, packet: bytes) -> bool:
        """Return whether a packet ends before the end of its frame."""
        frame, usual = frame_at(packet), self._good / max(1, self._packets)
        return len(packet) < (frame.length if frame else 0.9 * usual)

    def begins_frame(self, packet: bytes) -> bool:
        """Return whether a packet that cannot be decoded may be a frame; else something follows."""
        if self._peek is None:
            return True
        frame = frame_at(packet)
        return (
            packet[:1] == b"\xff" if len(packet) < 6 else bool(frame and frame.kind == self._kind)
        )

    def _usual(self, packet: bytes) -> float:
        """Return the most bytes of a packet that is one frame."""
        frame = frame_at(packet)
        if frame is not None:
            return frame.length + 1
        return 3.0 * self._good / self._packets if self._packets else float(len(packet))
