"""Decoded frames of PyAV as arrays, and how their channels are mixed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from abhinaya.stream.sources.base import FloatArray

_TYPES: Final = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
_CENTRE: Final = 0.5
"""Share of the centre, which carries the voices of a film, in a mix of more than two channels."""


def to_float(frame: Any) -> FloatArray:
    """Return a decoded frame of any sample format as [n, channels] in [-1, 1]."""
    from av.audio.plane import AudioPlane

    channels = frame.layout.nb_channels
    kind = frame.format.name.removesuffix("p")
    planar = frame.format.is_planar
    count = frame.samples * (1 if planar else channels)
    # PyAV's `frame.to_ndarray()` and `frame.planes` read past the pointer array of planar audio
    # with eight channels or more, and crash; a single AudioPlane is safe.
    planes = [AudioPlane(frame, number) for number in range(channels if planar else 1)]
    parts = [np.frombuffer(memoryview(plane), dtype=_TYPES[kind], count=count) for plane in planes]
    values = np.stack(parts, axis=1) if planar else parts[0].reshape(-1, channels)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    scale = 2.0 ** (8 * values.dtype.itemsize - 1)
    offset = scale if kind == "u8" else 0.0
    return ((values - offset) / scale).astype(np.float32)


def weights(frame: Any) -> FloatArray | None:
    """Return the share of each channel in a mix [channels]; None for equal shares.

    If the layout has a centre, it gets half, and the low-frequency channel nothing.
    """
    names = [channel.name for channel in frame.layout.channels]
    others = [name for name in names if name not in ("FC", "LFE")]
    if "FC" not in names or not others:
        return None
    shares = {"FC": _CENTRE, "LFE": 0.0}
    return np.array([shares.get(n, (1 - _CENTRE) / len(others)) for n in names], np.float32)
