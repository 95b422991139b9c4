"""Running statistics of one stream's speech: what its segments are measured by. NumPy only.

Why the statistics are computed in the front and travel with each segment: normalising by the
speaker and the channel is worth more to a small speech model than any choice of architecture, but
the state behind it must not live in a voter. A voter has replicas, is restarted, and gets segments
again after a failure; with the statistics in the message, every one of them normalises the same
segment in the same way. The front calls `SpeechStatistics.update` with the segment first and sends
`heard()` after it, so the first segment of a stream already has statistics: its own.

Shapes: n samples, T frames, D = N_VALUES values of a frame (`voice.py`), the first M = N_MELS of
them log-mel energies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import FloatArray, Heard
from abhinaya.models.compact.features import (
    HOP_SAMPLES,
    SAMPLE_RATE,
    frame_count,
    speech_frames,
)
from abhinaya.models.compact.prior import (
    PRIOR_CEPSTRA_STD,
    PRIOR_LEVEL,
    PRIOR_MEL_STD,
    PRIOR_MOTION_STD,
    PRIOR_SHAPE,
    PRIOR_VOICE_MEAN,
    PRIOR_VOICE_STD,
)
from abhinaya.models.compact.voice import (
    CEPSTRA,
    CONTEXT_FRAMES,
    MEL,
    N_CEPSTRA,
    N_VALUES,
    cosines,
    frame_values,
)

Array64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sums:
    """Weighted sums of frame values, from which mean and deviation follow. Sums add up."""

    weight: float
    first: Array64
    """[D] weighted sum of the values."""
    second: Array64
    """[D] weighted sum of their squares."""

    @classmethod
    def none(cls) -> Sums:
        """Of no frames."""
        return cls(0.0, np.zeros(N_VALUES), np.zeros(N_VALUES))

    @classmethod
    def of(cls, values: FloatArray, forget: float = 1.0) -> Sums:
        """Of frames [T, D]; the last weighs 1, each one `forget` times what the next one does."""
        weights = forget ** np.arange(len(values) - 1, -1, -1, dtype=np.float64)
        wide = values.astype(np.float64)
        return cls(float(weights.sum()), weights @ wide, weights @ wide**2)

    def scaled(self, factor: float) -> Sums:
        """All weights times `factor`."""
        return Sums(self.weight * factor, self.first * factor, self.second * factor)

    def moments(self) -> tuple[Array64, Array64]:
        """Mean [D] and deviation [D]; the weight must be over 0."""
        mean = self.first / self.weight
        return mean, np.sqrt(np.maximum(self.second / self.weight - mean**2, 0.0))

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.weight + other.weight, self.first + other.first, self.second + other.second
        )


SHRINKAGE_FRAMES: Final = 100.0
"""Weight of the prior against what was heard: after 1 s of speech they count the same."""
SMALLEST_STD: Final = np.full(N_VALUES, 0.01)
"""[D] Least deviation to divide by: a bin that the channel cuts off must not be blown up."""
SMALLEST_STD[MEL] = 0.8

PER_LEVEL: Final = np.zeros(N_VALUES)
"""[D] By how much each value's mean rises when the level does by 1."""
PER_LEVEL[MEL] = 1.0
PER_LEVEL[CEPSTRA] = cosines().sum(axis=0)

PRIOR_MEAN: Final = np.concatenate(
    [PRIOR_SHAPE, PRIOR_SHAPE @ cosines(), np.zeros(N_CEPSTRA), PRIOR_VOICE_MEAN]
).astype(np.float32)
"""[D] of speech whose level is 0."""
PRIOR_STD: Final = np.concatenate(
    [PRIOR_MEL_STD, PRIOR_CEPSTRA_STD, PRIOR_MOTION_STD, PRIOR_VOICE_STD]
).astype(np.float32)
"""[D] within one clip."""


def heard_from(sums: Sums) -> Heard:
    """Mean and deviation of what was heard, drawn towards the prior while that is little.

    The level is taken from the speech itself and only the shape of the spectrum is drawn to the
    prior, so that the gain of a microphone never matters, not even in the first second.
    """
    if sums.weight <= 0.0:
        return Heard(0, PRIOR_MEAN.copy(), PRIOR_STD.copy())
    trust = sums.weight / (sums.weight + SHRINKAGE_FRAMES)
    mean, std = sums.moments()
    prior = PRIOR_MEAN + float(mean[MEL].mean()) * PER_LEVEL
    shrunk_std = np.sqrt(trust * std**2 + (1.0 - trust) * PRIOR_STD.astype(np.float64) ** 2)
    return Heard(
        frames=round(sums.weight),
        mean=(trust * mean + (1.0 - trust) * prior).astype(np.float32),
        std=np.maximum(shrunk_std, SMALLEST_STD).astype(np.float32),
    )


def fixed_statistics() -> Heard:
    """Return the training speech's own statistics, the same for everybody: no normalisation."""
    mean = PRIOR_MEAN + PRIOR_LEVEL * PER_LEVEL
    return Heard(1, mean.astype(np.float32), PRIOR_STD.copy())


@dataclass(frozen=True, slots=True)
class _State:
    """All that the statistics remember: under 6 kB however long the stream."""

    tail: FloatArray
    """Samples from the first of the context frames on: they and what did not fill a frame yet."""
    context: int
    """Frames at the beginning of `tail` that were heard already; the next ones depend on them."""
    peak: float
    sums: Sums


class SpeechStatistics:
    """Running mean and deviation of the frame values of one stream's speech.

    Deterministic, and fed in pieces equals fed whole, for any cuts. Frames near silence do not
    count. Old speech is forgotten exponentially, so that a new speaker or a changed channel
    takes over; pauses do not age what was heard.
    """

    def __init__(self, memory_s: float = 120.0) -> None:
        """`memory_s`: seconds of speech after which a frame's weight has fallen to 1/e."""
        if not memory_s > 0.0:
            raise ValueError(f"memory_s must be over 0 seconds, got {memory_s}")
        self._forget = float(np.exp(-HOP_SAMPLES / (SAMPLE_RATE * memory_s)))
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new stream begins."""
        self._state = _State(np.zeros(0, np.float32), 0, -np.inf, Sums.none())

    def update(self, samples: FloatArray) -> None:
        """Hear samples [n] of speech; samples that are not finite are taken as silence."""
        self._state = self._after(samples)

    def heard(self) -> Heard:
        """Return the statistics of everything heard until now."""
        return heard_from(self._state.sums)

    def preview(self, samples: FloatArray) -> Heard:
        """Tell what `heard` would say after `update(samples)`, without hearing them.

        For provisional segments, whose samples come once more in the final one.
        """
        return heard_from(self._after(samples).sums)

    def _after(self, samples: FloatArray) -> _State:
        state = self._state
        clean = np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        joined = np.concatenate([state.tail, clean])
        frames = frame_count(len(joined))
        if frames <= state.context:
            return replace(state, tail=joined)
        values = frame_values(joined)[state.context :]
        context = min(CONTEXT_FRAMES, frames)
        speech, peak = speech_frames(values[:, MEL], state.peak)
        loud = values[speech]
        sums = state.sums.scaled(self._forget ** len(loud)) + Sums.of(loud, self._forget)
        return _State(joined[(frames - context) * HOP_SAMPLES :], context, peak, sums)
