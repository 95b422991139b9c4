"""Resampling to 16 kHz in pieces, equal to resampling at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from abhinaya.stream.clock import SAMPLE_RATE

FloatArray = npt.NDArray[np.float32]


class Resampler:
    """The resampler of one stretch of audio without holes.

    Args:
        rate: samples a second of what is fed.
        channels: how many channels it has.

    """

    def __init__(self, rate: int, channels: int) -> None:
        self.rate = rate
        self._channels = channels
        self._stream: Any = None
        self.reset()

    def reset(self) -> None:
        """Forget what was fed."""
        if self.rate == SAMPLE_RATE:
            return
        import soxr

        self._stream = soxr.ResampleStream(self.rate, SAMPLE_RATE, self._channels, dtype="float32")

    def feed(self, samples: FloatArray) -> FloatArray:
        """Take samples [n, channels]; give those at 16 kHz [m, channels] that are settled."""
        return self._run(samples, last=False)

    def flush(self) -> FloatArray:
        """Give what is left [m, channels] and start afresh."""
        rest = self._run(np.zeros((0, self._channels), np.float32), last=True)
        self.reset()
        return rest

    def _run(self, samples: FloatArray, *, last: bool) -> FloatArray:
        if self._stream is None:
            return samples
        out: FloatArray = self._stream.resample_chunk(np.ascontiguousarray(samples), last=last)
        return out.reshape(-1, self._channels)
