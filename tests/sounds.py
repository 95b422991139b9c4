"""Sounds whose pitch, pace and level are known."""

from __future__ import annotations

import numpy as np

from abhinaya.models.base import SAMPLE_RATE


def buzz(hz: float, seconds: float = 0.5, gain: float = 0.1) -> np.ndarray:
    """A voice without a mouth: the first harmonics of a pitch."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (gain * sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 8))).astype(np.float32)


def glide(low_hz: float, high_hz: float, seconds: float = 1.0, gain: float = 0.1) -> np.ndarray:
    """A buzz whose pitch goes evenly from one to the other on the scale of its logarithm."""
    t = np.linspace(0.0, 1.0, int(seconds * SAMPLE_RATE))
    phase = 2 * np.pi * np.cumsum(low_hz * (high_hz / low_hz) ** t) / SAMPLE_RATE
    return (gain * sum(np.sin(k * phase) / k for k in range(1, 8))).astype(np.float32)


def hiss(seconds: float = 0.5, seed: int = 0, gain: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (gain * rng.standard_normal(int(seconds * SAMPLE_RATE))).astype(np.float32)
