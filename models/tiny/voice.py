"""The running mean of the encoder's features over a voice's speech so far.

Voices differ far more than emotions do, so this mean is subtracted from each segment. It is the
voter's state and is sent with the answers (`Ballot.state`), so that any replica can continue the
stream. With little speech so far, the mean of all voices counts more.

Shapes: L levels, D width.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from abhinaya.models.base import FloatArray

TRUST_S: Final = 5.0
"""Seconds of speech after which both means have equal weight."""
MEMORY_S: Final = 60.0
"""Length of the running mean. Older speech fades, because the speaker may change."""

_SECONDS: Final = struct.Struct("<f")


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """Running mean of one stream."""

    mean: FloatArray
    """[L, D] mean of the frames so far."""
    seconds: float = 0.0
    """Length of the speech in the mean, MEMORY_S at most."""

    @classmethod
    def of(cls, state: bytes, usual: FloatArray) -> Voice:
        """Return the voice that `pack` wrote; a new voice if `state` is empty or invalid."""
        if len(state) != _SECONDS.size + 2 * usual.size:
            return cls(usual)
        (seconds,) = _SECONDS.unpack_from(state)
        mean = np.frombuffer(state, "<f2", offset=_SECONDS.size).astype(np.float32)
        if not (0.0 <= seconds <= MEMORY_S and np.isfinite(mean).all()):
            return cls(usual)
        return cls(mean.reshape(usual.shape), seconds)

    def pack(self) -> bytes:
        """Return the voice as a state for `of`."""
        return _SECONDS.pack(self.seconds) + self.mean.astype("<f2").tobytes()

    def measure(self, usual: FloatArray) -> FloatArray:
        """Return the mean [L, D] to subtract from a segment; `usual` is the mean of all voices."""
        share = self.seconds / (self.seconds + TRUST_S)
        return (share * self.mean + (1.0 - share) * usual).astype(np.float32)

    def after(self, levels: FloatArray, seconds: float) -> Voice:
        """Return the voice after a segment with these levels [L, T, D]."""
        before = min(self.seconds, max(0.0, MEMORY_S - seconds))
        total = before + seconds
        if not levels.shape[1] or total <= 0.0:
            return self
        mean = (before * self.mean + seconds * levels.mean(axis=1)) / total
        return Voice(mean.astype(np.float32), total)
