"""Whether a container is complete, by its own structure: how many bytes it lacks."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from abhinaya.stream.sources.media.mpeg import TAGS

Peek = Callable[[int, int], bytes]
"""Returns the bytes (offset, count) of a file; fewer at its end."""

_SHORT_S: Final = 0.5
"""A file whose audio ends this much before its declared end is cut off."""
_COMPLETE_S: Final = 0.1
"""In a file that is cut off, audio that reaches its declared end to this is complete."""
Known = Callable[[Peek, int], "Structure"]

STREAMED: Final = 0x7FFF_0000
"""A writer that cannot seek declares 0, or a length from here on."""
_TAIL: Final = 1 << 20
_PAGES: Final = 1 << 17
"""The last bytes of an ogg file, with at least one whole page."""
_TAIL_BYTES: Final = 1 << 17
_PADDING: Final = 1 << 16
"""Maximum bytes of zeros that may follow the last fragment of an mp4 without an index."""
_CLUSTER: Final = b"\x1f\x43\xb6\x75"
_FLV_TAGS: Final = (8, 9, 18)
"""Audio, video, script."""
_ASF_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_BOXES: Final = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"pnot"}
_PACKED: Final = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf'\x1c": "7-Zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"Rar!": "rar",
}


@dataclass(frozen=True, slots=True)
class Contents:
    """The bytes of a file that is also being decoded."""

    peek: Peek
    size: Callable[[], int]
    opened_size: int
    """Size when it was opened."""
    piped: bool = False
    """Whether only the beginning can be read again."""


class Passing:
    """The beginning and the end of bytes that pass by and cannot be read again."""

    def __init__(self) -> None:
        self.head = b""
        self.size = 0
        self._tail: deque[bytes] = deque()
        self._tail_size = 0

    def add(self, data: bytes) -> None:
        """Note the next bytes."""
        self.size += len(data)
        self.head += data if len(self.head) < _TAIL_BYTES else b""
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size - len(self._tail[0]) >= _TAIL_BYTES:
            self._tail_size -= len(self._tail.popleft())

    def peek(self, at: int, count: int) -> bytes:
        """Return bytes of the beginning or the end; empty between them."""
        if at + count <= len(self.head) or self.size == len(self.head):
            return self.head[at : at + count]
        begin = self.size - self._tail_size
        return b"".join(self._tail)[at - begin :][:count] if at >= begin else b""

    def contents(self) -> Contents:
        """Return what is known of the bytes."""
        return Contents(self.peek, lambda: self.size, sys.maxsize, piped=True)


@dataclass(frozen=True, slots=True)
class Structure:
    """What the structure of a file says."""

    missing: int | None = None
    """Bytes that are declared and not there; 0: complete; None: the format does not tell."""
    after: int = 0
    """Bytes of audio after the end that a WAV header declares."""
    lacks: str = ""
    """A part without which the file cannot be read."""
    end: int = 0
    """Number of the last sample by the last page of an ogg file; 0: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is known at the end of a file, to decide whether it is cut off."""

    given_s: float
    """Seconds of audio."""
    declared_s: float
    """Seconds that the file declares; 0: none."""
    own: bool
    """Whether it declares them of the audio alone."""
    others: bool
    """Whether the file has other tracks."""
    reached_s: float
    """End of the last packet of any track."""
    missing: int | None
    """See `Structure`."""
    cut: bool
    """Whether the last packet is incomplete or cannot be decoded."""
    damaged: bool
    """Whether something in the file could not be decoded."""
    lax: bool
    """Whether a wrong declared length is usual in the format."""

    def fault(self) -> tuple[str, bool]:
        """Return what is wrong, or an empty string, and whether audio is missing."""
        reached_s = self.given_s if self.own else max(self.given_s, self.reached_s)
        short = self.declared_s - reached_s > max(_SHORT_S, 0.01 * self.declared_s)
        rest_s = abs(self.declared_s - self.given_s)
        complete = self.own and self.declared_s > 0 and rest_s < _COMPLETE_S
        broken = bool(self.missing) or (self.cut and self.missing is None)
        trusted = self.own and not self.lax
        whole = not broken and not self.cut and not self.damaged
        if short and whole and not trusted and (self.lax or self.missing == 0):
            lengths = f"declares {self.declared_s:.2f} s, but holds {self.given_s:.2f} s"
            return f"{lengths}, and nothing seems to be cut off", False
        if broken and self.others and complete:
            return "is cut off, but its audio is complete", False
        at = f"breaks off at {self.given_s:.2f} s"
        if short:
            return f"{at} of {self.declared_s:.2f} s", True
        if self.missing:
            return f"{at}: {self.missing} bytes of the file are missing", True
        return (f"{at}: its last packet is incomplete", True) if broken else ("", False)


def structure(peek: Peek, size: int) -> Structure:
    """Return the structure of a file of `size` bytes."""
    head = peek(0, 64)
    if head[8:12] == b"WAVE":
        return _wav(peek, size, "big" if head[:4] == b"RIFX" else "little")
    if head[4:8] in _BOXES:
        return _mp4(peek, size)
    if head[:1] == b"\x47" == peek(188, 1) == peek(376, 1):
        return Structure(-size % 188 if peek(size - size % 188, 1) == b"\x47" else 0)
    known = _KNOWN.get(head[:4])
    return known(peek, size) if known else Structure()


def packed(head: bytes) -> str:
    """Return the name of the compression of a file; empty if it is not compressed."""
    return next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")


def _declared(end: int, size: int) -> Structure:
    known = 8 < end < STREAMED or 8 < end <= size
    return Structure(max(0, end - size)) if known else Structure()


def _wav(peek: Peek, size: int, order: Literal["little", "big"]) -> Structure:
    at, wide, block = 12, 0, 1
    while len(head := peek(at, 24)) >= 8:
        name, length = head[:4], int.from_bytes(head[4:8], order)
        if name == b"ds64":
            wide = int.from_bytes(head[16:24], order)
        elif name == b"fmt ":
            block = max(1, int.from_bytes(head[20:22], order))
        elif name == b"data":
            if length == 0xFFFF_FFFF and wide:
                length = wide
            elif length == 0 or length >= STREAMED:
                return Structure()
            end = at + 8 + length
            if end > size:
                return Structure(end - size)
            end += end % 2
            rest, following = size - end, peek(end, 8)
            chunk = following.startswith(TAGS) or (
                following[:4].isascii() and int.from_bytes(following[4:], order) <= rest - 8
            )
            return Structure(0, 0 if chunk or rest < 8 + block else rest)
        at += 8 + length + length % 2
    return Structure()


def _caf(peek: Peek, size: int) -> Structure:
    at = 8
    while len(head := peek(at, 12)) == 12:
        length = int.from_bytes(head[4:12], "big", signed=True)
        if length < 0:
            return Structure()
        at += 12 + length
    return Structure(at - size) if at >= size else Structure()


def _mp4(peek: Peek, size: int) -> Structure:
    at, seen = 0, set()
    while len(head := peek(at, 16)) >= 8 and not head.startswith(TAGS):
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            length = size - at
        if not name.isalnum() or length < 8:  # padding, or rubbish where a fragment must stand
            few = size - at <= _PADDING and not any(peek(at, _PADDING))
            # zeros without end may stand for fragments that were never fetched
            at = at if b"moof" in seen and not (few or b"mfra" in seen) else size
            break
        seen.add(name)
        at += length
    if at < size and not peek(at, 1):
        return Structure()
    if peek(at, 16).startswith(TAGS):
        at = size
    if size - 8 < at < size and peek(at, 1) != b"\0":  # no length of a box, but a line break
        at = size
    return Structure(abs(at - size), lacks="" if b"moov" in seen else "its index (moov)")


def _vint(data: bytes, at: int, *, keep: bool) -> tuple[int, int]:
    """Return (value, bytes) of an EBML number; -1 if it is unknown, 0 bytes if it is wrong."""
    if at >= len(data) or data[at] == 0:
        return 0, 0
    length = 9 - data[at].bit_length()
    if at + length > len(data):
        return 0, 0
    value = int.from_bytes(data[at : at + length], "big")
    if keep:
        return value, length
    value &= (1 << 7 * length) - 1
    return (-1 if value == (1 << 7 * length) - 1 else value), length


def _matroska(peek: Peek, size: int) -> Structure:
    head = peek(0, 128)
    at = 4
    length, used = _vint(head, at, keep=False)
    at += used + max(0, length)
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return Structure()
    length, used = _vint(head, at + 4, keep=False)
    if length >= 0:
        return Structure(max(0, at + 4 + used + length - size))
    # it was streamed: the last cluster must end with the file
    if len(tail := peek(max(0, size - _TAIL), _TAIL)) < min(size, _TAIL):
        return Structure()
    at = tail.rfind(_CLUSTER)
    if at < 0:
        return Structure()
    while at < len(tail):
        _, first = _vint(tail, at, keep=True)
        length, second = _vint(tail, at + first, keep=False)
        if not first or not second:
            return Structure(1)
        at += first + second + max(0, length)
    return Structure(at - len(tail))


def _ogg(peek: Peek, size: int) -> Structure:
    if len(tail := peek(max(0, size - _PAGES), _PAGES)) < min(size, _PAGES):
        return Structure()
    at = tail.rfind(b"OggS")
    if at < 0:
        return Structure()
    if len(tail) < at + 27 or len(tail) < at + 27 + tail[at + 26]:
        return Structure(1)
    lacing = tail[at + 27 : at + 27 + tail[at + 26]]
    missing = max(0, at + 27 + len(lacing) + sum(lacing) - len(tail))
    chained = tail[at + 14 : at + 18] != peek(14, 4)
    end = 0 if chained else int.from_bytes(tail[at + 6 : at + 14], "little", signed=True)
    return Structure(missing, end=max(0, end))


def _flv(peek: Peek, size: int) -> Structure:
    at = int.from_bytes(peek(5, 4), "big") + 4
    while at < size:
        if len(head := peek(at, 4)) < 4 or head[0] not in _FLV_TAGS:
            return Structure()
        at += 11 + int.from_bytes(head[1:4], "big") + 4
    return Structure(max(0, at - 4 - size))


def _asf(peek: Peek, size: int) -> Structure:
    at = (head := peek(0, 1 << 16)).find(_ASF_PROPERTIES)
    return _declared(int.from_bytes(head[at + 40 : at + 48], "little") if at >= 0 else 0, size)


def _number(begin: int, end: int, order: Literal["little", "big"], more: int = 0) -> Known:
    """Return the reader of a format whose header has the length of the file."""
    return lambda peek, size: _declared(
        int.from_bytes(peek(begin, end - begin), order) + more, size
    )


def _au(peek: Peek, size: int) -> Structure:
    begin, length = (int.from_bytes(peek(at, 4), "big") for at in (4, 8))
    return _declared(begin + length if length != 0xFFFF_FFFF else 0, size)


_KNOWN: Final[dict[bytes, Known]] = {
    b"RIFF": _number(4, 8, "little", 8),
    b"FORM": _number(4, 8, "big", 8),
    b"riff": _number(16, 24, "little"),  # Wave64
    b".snd": _au,
    b"caff": _caf,
    b"\x1a\x45\xdf\xa3": _matroska,
    b"OggS": _ogg,
    b"\x30\x26\xb2\x75": _asf,
    b"FLV\x01": _flv,
}
