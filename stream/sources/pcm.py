"""Raw PCM: bytes to samples."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

_TYPES: Final = {
    "u8": "u1", "s8": "i1",
    "s16le": "<i2", "s16be": ">i2",
    "s32le": "<i4", "s32be": ">i4",
    "f32le": "<f4", "f32be": ">f4", "f64le": "<f8",
}  # fmt: skip


def sample_bytes(sample_format: str) -> int:
    """Give the bytes of one sample."""
    return 3 if sample_format.startswith("s24") else np.dtype(_TYPES[sample_format]).itemsize


def to_float(data: bytes, sample_format: str, channels: int) -> FloatArray:
    """Give interleaved samples as [n, channels] in [-1, 1]; `data` holds whole frames only."""
    if sample_format.startswith("s24"):
        values = _from_24_bit(data, little=sample_format.endswith("le"))
    else:
        values = np.frombuffer(data, dtype=_TYPES[sample_format])
    if values.dtype.kind == "f":
        floats = values.astype(np.float32)
    else:
        half = 2.0 ** (8 * values.dtype.itemsize - 1)
        floats = ((values - (half if sample_format == "u8" else 0.0)) / half).astype(np.float32)
    return floats.reshape(-1, channels)


def _from_24_bit(data: bytes, *, little: bool) -> npt.NDArray[np.int32]:
    """Give 24-bit samples in the upper bytes of 32-bit ones."""
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    triples = np.frombuffer(data, np.uint8).reshape(-1, 3)
    wide[:, 1:] = triples if little else triples[:, ::-1]
    values: npt.NDArray[np.int32] = wide.view("<i4")[:, 0]
    return values
