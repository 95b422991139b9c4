"""Converts between samples, which are the clock of a stream, and seconds."""

from __future__ import annotations

from typing import Final

from abhinaya.models import base

SAMPLE_RATE: Final = base.SAMPLE_RATE
"""Samples per second of every stream, after its source has resampled it."""

INT16_FULL_SCALE: Final = 32768.0
"""Divisor that converts an int16 sample to a float in [-1, 1)."""


def to_samples(seconds: float) -> int:
    """Return the number of samples nearest to `seconds`."""
    return round(seconds * SAMPLE_RATE)


def to_seconds(samples: int) -> float:
    """Return the duration of `samples` in seconds."""
    return samples / SAMPLE_RATE
