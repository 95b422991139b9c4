"""Samples are the clock: the one place that converts between them and seconds."""

from __future__ import annotations

from typing import Final

from abhinaya.models import base

SAMPLE_RATE: Final = base.SAMPLE_RATE
"""Samples a second of every stream, after the source has resampled it."""

INT16_FULL_SCALE: Final = 32768.0
"""What an int16 sample is divided by to be a float in [-1, 1)."""


def to_samples(seconds: float) -> int:
    """Give the number of samples nearest to `seconds`."""
    return round(seconds * SAMPLE_RATE)


def to_seconds(samples: int) -> float:
    """Give the duration of `samples` in seconds."""
    return samples / SAMPLE_RATE
