"""How loud a stream is, to say why no speech was found in it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from abhinaya.stream.clock import SAMPLE_RATE

SILENT = 1e-4
"""Largest swing around the mean in a silent stream (-80 dB)."""
QUIET_DB = -50.0
"""Level of the loudest chunk below which speech is hardly recognised."""
FULL = 0.98
"""A clipped sample, after resampling."""
CLIPPED = 0.02
"""Share of clipped samples that spoils speech."""
SHORT_S = 0.5


class Level:
    """Statistics of the samples of all channels of one input. A constant offset counts as silence.

    Args:
        channels: number of channels.

    """

    def __init__(self, channels: int) -> None:
        self._samples = 0
        self._sounding = np.zeros(channels)
        self._clipped = np.zeros(channels)
        self._peak = np.zeros(channels)
        self._power = np.zeros(channels)

    def add(self, samples: npt.NDArray[np.float32]) -> None:
        """Count the next samples [n, channels]."""
        if not len(samples):
            return
        self._samples += len(samples)
        high, low = samples.max(axis=0), samples.min(axis=0)
        swing = (high - low) / 2
        self._peak = np.maximum(self._peak, swing)
        self._power = np.maximum(self._power, samples.var(axis=0))
        self._sounding += len(samples) * (swing > SILENT)
        if max(high.max(), -low.min()) >= FULL:
            self._clipped += (np.abs(samples) >= FULL).sum(axis=0)

    def sound(self, channel: int, speech: bool) -> str:
        """Return why a channel has no speech, or with `speech` why some may be missed.

        Empty if nothing is wrong.
        """
        if not self._samples:
            return "it holds no audio"
        peak_db = 20 * math.log10(max(float(self._peak[channel]), 1e-9))
        loudest_db = 10 * math.log10(max(float(self._power[channel]), 1e-18))
        clipped = float(self._clipped[channel]) / self._samples
        seconds = self._samples / SAMPLE_RATE
        if self._peak[channel] < SILENT and not speech:
            return "it is silent; is the microphone muted, or the speech in another track?"
        if loudest_db < QUIET_DB:
            return f"it is very quiet (its peak is at {peak_db:.0f} dB); raise the recording level"
        if clipped > CLIPPED:
            return f"it is clipped ({clipped:.0%} of its samples); lower the recording level"
        if speech:
            return ""
        if seconds < SHORT_S:
            return f"it has only {seconds:.2f} s"
        share = float(self._sounding[channel]) / self._samples
        level = f"it has sound (in {share:.0%} of its time, up to {peak_db:.0f} dB)"
        return f"{level}, but none that resembles a voice; is it music or noise?"
