"""Raw samples: linear PCM, and the two laws of G.711."""

from __future__ import annotations

from typing import Final

import numpy as np

from abhinaya.stream.sources.base import FloatArray, SampleFormat


def sample_bytes(kind: SampleFormat) -> int:
    """Return the length of a sample."""
    return 1 if kind in _G711 else int(kind[1:].rstrip("lbe")) // 8


def to_float(data: bytes, kind: SampleFormat) -> FloatArray:
    """Return samples as [n * channels] in [-1, 1]; `data` has whole samples only."""
    if kind in _G711:
        return _G711[kind][np.frombuffer(data, np.uint8)]
    letter, bits = kind[0], int(kind[1:].rstrip("lbe"))
    order = ">" if kind.endswith("be") else "<"
    if bits == 24:  # numpy has no 24-bit integers: use the upper bytes of 32-bit ones
        triples = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(triples), 4), np.uint8)
        wide[:, 1:] = triples[:, ::-1] if order == ">" else triples
        data, order, bits = wide.tobytes(), "<", 32
    values = np.frombuffer(data, f"{order}{'i' if letter == 's' else letter}{bits // 8}")
    if letter == "f":
        return values.astype(np.float32)
    half = 2.0 ** (bits - 1)
    return ((values - (half if letter == "u" else 0.0)) / half).astype(np.float32)


def _mulaw(code: int) -> int:
    """Return the 16-bit value of a code of the mu-law (ITU-T G.711, table 2)."""
    code = ~code & 0xFF
    size = ((((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return -size if code & 0x80 else size


def _alaw(code: int) -> int:
    """Return the 16-bit value of a code of the A-law (ITU-T G.711, table 1)."""
    code ^= 0x55
    segment, size = code >> 4 & 7, ((code & 0x0F) << 4) + 8
    size = size if segment == 0 else (size + 0x100) << (segment - 1)
    return size if code & 0x80 else -size


_G711: Final = {
    name: np.array([law(code) for code in range(256)], np.float32) / np.float32(32_768)
    for name, law in (("mulaw", _mulaw), ("alaw", _alaw))
}
"""Law -> value of each code, in [-1, 1)."""
