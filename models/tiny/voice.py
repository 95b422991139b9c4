"""What is known of a voice: the running mean of the encoder's features over its speech so far.

A voice differs from another by far more than a feeling does from calm, so each segment is measured
from that mean. It is the voter's own state: it travels with the answers (`Ballot.state`), so that
any replica goes on where another left off. Until enough was heard, the mean of all voices counts.

Shapes: L levels, D width.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from abhinaya.models.base import FloatArray

TRUST_S: Final = 5.0
"""Seconds of a voice that count as much as the mean of all voices."""
MEMORY_S: Final = 60.0
"""Older speech fades: a microphone may be handed on."""

_SECONDS: Final = struct.Struct("<f")


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """Of one stream."""

    mean: FloatArray
    """[L, D] of its frames so far."""
    seconds: float = 0.0
    """Of speech behind it, MEMORY_S at most."""

    @classmethod
    def of(cls, state: bytes, usual: FloatArray) -> Voice:
        """Return what `pack` wrote; without a state, or with one of another size, a new voice."""
        if len(state) != _SECONDS.size + 2 * usual.size:
            return cls(usual)
        (seconds,) = _SECONDS.unpack_from(state)
        mean = np.frombuffer(state, "<f2", offset=_SECONDS.size).astype(np.float32)
        if not (0.0 <= seconds <= MEMORY_S and np.isfinite(mean).all()):
            return cls(usual)
        return cls(mean.reshape(usual.shape), seconds)

    def pack(self) -> bytes:
        """Return it as a state."""
        return _SECONDS.pack(self.seconds) + self.mean.astype("<f2").tobytes()

    def measure(self, usual: FloatArray) -> FloatArray:
        """Return the mean [L, D] that a segment is measured from; `usual` is that of all voices."""
        share = self.seconds / (self.seconds + TRUST_S)
        return (share * self.mean + (1.0 - share) * usual).astype(np.float32)

    def after(self, levels: FloatArray, seconds: float) -> Voice:
        """Return what is known after a segment with these levels [L, T, D]."""
        before = min(self.seconds, max(0.0, MEMORY_S - seconds))
        total = before + seconds
        if not levels.shape[1] or total <= 0.0:
            return self
        mean = (before * self.mean + seconds * levels.mean(axis=1)) / total
        return Voice(mean.astype(np.float32), total)
