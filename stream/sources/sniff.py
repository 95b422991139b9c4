"""What a broadcast is coded in, from its first bytes, which may be the middle of a frame.

FFmpeg finds out as well, but of a broadcast that one tunes into it wants 128 kB first: at 64 kbit/s
that is 16 s.
"""

from __future__ import annotations

_ADTS_HEADER = 7
_FRAMES = 3
"""Headers that have to follow each other at the distance that each one tells."""


def format_of(head: bytes, content_type: str) -> str:
    """Give FFmpeg's name of the format; empty if FFmpeg had better find out."""
    if is_adts(head):
        return "aac"
    kind = content_type.partition(";")[0].strip().lower()
    return "mp3" if kind in ("audio/mpeg", "audio/mp3") else ""


def is_adts(data: bytes) -> bool:
    """Whether there are AAC frames in ADTS (ISO/IEC 13818-7, 6.2), wherever the first begins."""
    start = data.find(b"\xff")
    while start >= 0:
        if _chained(data, start):
            return True
        start = data.find(b"\xff", start + 1)
    return False


def _chained(data: bytes, at: int) -> bool:
    kind = data[at + 1 : at + 3]
    for _ in range(_FRAMES):
        header = data[at : at + _ADTS_HEADER]
        synchronised = (
            len(header) == _ADTS_HEADER and header[0] == 0xFF and header[1] & 0xF6 == 0xF0
        )
        if not synchronised or header[1:3] != kind:
            return False
        length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        if length <= _ADTS_HEADER:
            return False
        at += length
    return True
