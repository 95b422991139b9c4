"""Hear speech in one input: frames, voice activity and a segmenter for each channel.

Its law: fed in pieces equals fed whole, sample for sample.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from abhinaya.stream.front.partials import Change, Ongoing
from abhinaya.stream.front.segmenter import Piece, Segmenter
from abhinaya.stream.front.vad import FRAME_SAMPLES, SileroVad, Vad, VadState
from abhinaya.stream.settings.config import VadConfig

FloatArray = npt.NDArray[np.float32]


class Listener:
    """The pieces of speech of all channels of one input, which run in step.

    Args:
        config: when speech begins and ends.
        channels: how many channels each chunk has.
        vad: who tells speech from silence; by default Silero, loaded here.

    Raises:
        ModelError: the voice activity detector cannot be loaded.

    """

    def __init__(self, config: VadConfig, channels: int, vad: Vad | None = None) -> None:
        self._vad = vad or SileroVad()
        self._state = VadState.fresh(channels)
        self._segmenters = [Segmenter(config) for _ in range(channels)]
        self._ongoing = [Ongoing(config, segmenter) for segmenter in self._segmenters]
        self._rest = np.zeros((0, channels), np.float32)  # fewer samples than a frame

    @property
    def position(self) -> int:
        """How many samples of each channel were fed or skipped."""
        return self._segmenters[0].position + len(self._rest)

    def feed(self, samples: FloatArray) -> list[tuple[int, Piece]]:
        """Take the next samples [n, channels], any n; give (channel, piece) as they finish."""
        heard = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(heard) - len(heard) % FRAME_SAMPLES
        pieces: list[tuple[int, Piece]] = []
        for start in range(0, whole, FRAME_SAMPLES):
            pieces += self._frame(heard[start : start + FRAME_SAMPLES])
        self._rest = heard[whole:].copy()
        return pieces

    def changes(self) -> list[tuple[int, Change]]:
        """Give the channels in which somebody begins or ceases to speak."""
        changes = ((channel, ongoing.change()) for channel, ongoing in enumerate(self._ongoing))
        return [(channel, change) for channel, change in changes if change]

    def parts(self) -> list[tuple[int, Piece]]:
        """Give the open pieces of which it is time to say something, as far as they have come."""
        parts = ((channel, ongoing.part()) for channel, ongoing in enumerate(self._ongoing))
        return [(channel, part) for channel, part in parts if part]

    def skip(self, samples: int) -> list[tuple[int, Piece]]:
        """Move on over samples that were lost; speech across the hole is cut before it."""
        pieces = self.finish()
        position = self.position + samples
        for segmenter in self._segmenters:
            segmenter.reset(position)
        return pieces

    def finish(self) -> list[tuple[int, Piece]]:
        """End the stream: give what is still open, down to the last sample."""
        rest, self._rest = self._rest, self._rest[:0]
        pieces = self._frame(rest) if len(rest) else []
        for channel, segmenter in enumerate(self._segmenters):
            pieces += [(channel, piece) for piece in segmenter.flush()]
        self._state.reset()
        return pieces

    def _frame(self, samples: FloatArray) -> list[tuple[int, Piece]]:
        """Pass one frame [n <= FRAME_SAMPLES, channels] on; a short one is heard with silence."""
        frames = np.zeros((len(self._segmenters), FRAME_SAMPLES), np.float32)
        frames[:, : len(samples)] = samples.T
        speech = self._vad.probabilities(frames, self._state)
        return [
            (channel, piece)
            for channel, segmenter in enumerate(self._segmenters)
            for piece in segmenter.push(frames[channel, : len(samples)], float(speech[channel]))
        ]
