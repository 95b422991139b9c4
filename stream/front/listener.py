"""Find speech in inputs: cut into frames, detect voice activity, segment each channel.

The result does not depend on how the samples are cut into chunks or which inputs are fed together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from abhinaya.stream.front.partials import Change, Ongoing
from abhinaya.stream.front.segmenter import Piece, Segmenter
from abhinaya.stream.front.vad import FRAME_SAMPLES, SileroVad, Vad, VadState
from abhinaya.stream.settings.config import VadConfig

FloatArray = npt.NDArray[np.float32]
Found = list[tuple[int, Piece]]
"""Pairs (channel, piece)."""


class Listener:
    """Finds the pieces of speech in all channels of one input.

    Args:
        config: settings of voice activity detection and segmentation.
        channels: number of channels.
        vad: voice activity detector, may be shared by listeners; by default a new Silero VAD.

    Raises:
        ModelError: the voice activity detector cannot be loaded.

    """

    def __init__(self, config: VadConfig, channels: int, vad: Vad | None = None) -> None:
        self.vad = vad or SileroVad()
        self.state = VadState.fresh(channels)
        self._segmenters = [Segmenter(config) for _ in range(channels)]
        self._ongoing = [Ongoing(config, segmenter) for segmenter in self._segmenters]
        self._rest = np.zeros((0, channels), np.float32)  # samples of an incomplete frame

    @property
    def position(self) -> int:
        """Samples of each channel that were fed or skipped."""
        return self._segmenters[0].position + len(self._rest)

    def feed(self, samples: FloatArray) -> Found:
        """Process the next samples [n, channels], any n; return the finished pieces."""
        return feed_together([(self, samples)])[0]

    def changes(self) -> list[tuple[int, Change]]:
        """Return pairs (channel, change between speech and silence) since the last call."""
        changes = ((channel, ongoing.change()) for channel, ongoing in enumerate(self._ongoing))
        return [(channel, change) for channel, change in changes if change]

    def partials(self) -> Found:
        """Return the partials that are due: unfinished pieces up to now."""
        pieces = ((channel, ongoing.partial()) for channel, ongoing in enumerate(self._ongoing))
        return [(channel, piece) for channel, piece in pieces if piece]

    def skip(self, samples: int) -> Found:
        """Skip samples that were lost; speech is cut before them."""
        pieces = self.finish()
        position = self.position + samples
        for segmenter in self._segmenters:
            segmenter.reset(position)
        return pieces

    def finish(self) -> Found:
        """End the stream: return the unfinished pieces, up to the last sample."""
        rest, self._rest = self._rest, self._rest[:0]
        pieces: Found = []
        if length := len(rest):  # pad the last frame with silence for the network
            frame = np.pad(rest, ((0, FRAME_SAMPLES - length), (0, 0))).T.copy()
            speech = self.vad.probabilities(frame, self.state)
            pieces = self.push(frame[None, :, :length], speech[None])
        for channel, segmenter in enumerate(self._segmenters):
            pieces += [(channel, piece) for piece in segmenter.flush()]
        self.state.reset()
        return pieces

    def frames(self, samples: FloatArray) -> FloatArray:
        """Add the next samples [n, channels]; return the complete frames [F, channels, S]."""
        samples = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(samples) - len(samples) % FRAME_SAMPLES
        self._rest = samples[whole:].copy()
        frames = samples[:whole].reshape(-1, FRAME_SAMPLES, len(self._segmenters))
        return np.ascontiguousarray(frames.transpose(0, 2, 1), np.float32)

    def push(self, frames: FloatArray, speech: FloatArray) -> Found:
        """Segment frames [F, channels, <= S] with their speech probabilities [F, channels]."""
        return [
            (channel, piece)
            for frame, probabilities in zip(frames, speech, strict=True)
            for channel, segmenter in enumerate(self._segmenters)
            for piece in segmenter.push(frame[channel], float(probabilities[channel]))
        ]


def feed_together(fed: Sequence[tuple[Listener, FloatArray]]) -> list[Found]:
    """Feed listeners that share a detector, all their channels in one batch.

    Returns the finished pieces of each listener, equal to the result of its `feed`.
    """
    framed = [(listener, listener.frames(samples)) for listener, samples in fed]
    speech = [np.zeros(frames.shape[:2], np.float32) for _, frames in framed]
    begin = 0
    for end in sorted({len(frames) for _, frames in framed}):
        together = [i for i, (_, frames) in enumerate(framed) if len(frames) >= end > begin]
        if not together:
            continue
        vad, states = framed[together[0]][0].vad, [framed[i][0].state for i in together]
        state = VadState.joined(states)
        for step in range(begin, end):
            batch = np.concatenate([framed[i][1][step] for i in together])
            probabilities = vad.probabilities(batch, state)
            first = 0
            for i in together:
                last = first + framed[i][1].shape[1]
                speech[i][step] = probabilities[first:last]
                first = last
        state.split_into(states)
        begin = end
    return [
        listener.push(frames, probabilities)
        for (listener, frames), probabilities in zip(framed, speech, strict=True)
    ]
