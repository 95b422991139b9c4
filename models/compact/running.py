"""Running statistics of one stream's speech: what its segments are measured by. NumPy only.

Why the statistics are computed in the front and travel with each segment: normalising by the
speaker and the channel is worth more to a small speech model than any choice of architecture, but
the state behind it must not live in a voter. A voter has replicas, is restarted, and gets segments
again after a failure; with the statistics in the message, every one of them normalises the same
segment in the same way. The front calls `SpeechStatistics.update` with the segment first and sends
`heard()` after it, so the first segment of a stream already has statistics: its own.

Shapes: n samples, T frames, D = N_VALUES values of a frame, R = N_FUNCTIONALS functionals of an
utterance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.features import HOP_SAMPLES, SAMPLE_RATE, frame_count, speech_frames
from abhinaya.models.compact.functionals import FEWEST_FRAMES, N_FUNCTIONALS, functionals
from abhinaya.models.compact.heard import Heard
from abhinaya.models.compact.moments import Array64, Sums, heard_from
from abhinaya.models.compact.voice import CONTEXT_FRAMES, MEL, frame_values

REMEMBERED: Final = 16.0
"""Utterances whose functionals are remembered: an older one weighs 1 / e after so many."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How this voice has spoken: the functionals of its utterances, added up."""

    weight: float
    """Utterances, older ones counting less."""
    total: Array64
    """[R]"""

    @classmethod
    def none(cls) -> Habits:
        """Of no utterance."""
        return cls(0.0, np.zeros(N_FUNCTIONALS))

    def after(self, values: FloatArray) -> Habits:
        """Add an utterance of frames [T, D], unless there is too little speech in it."""
        return self.after_one(*functionals(values))

    def after_one(self, found: FloatArray, frames: int) -> Habits:
        """Add an utterance of these functionals [R] and so many frames of speech."""
        if frames < FEWEST_FRAMES:
            return self
        keep = float(np.exp(-1.0 / REMEMBERED))
        return Habits(keep * self.weight + 1.0, keep * self.total + found)

    def told(self, heard: Heard) -> Heard:
        """Put them into `heard`."""
        if self.weight <= 0.0:
            return heard
        habits = (self.total / self.weight).astype(np.float32)
        return replace(heard, utterances=self.weight, habits=habits)


@dataclass(frozen=True, slots=True)
class _State:
    """All that the statistics remember: under 20 kB however long the stream."""

    tail: FloatArray
    """Samples from the first of the context frames on: they and what did not fill a frame yet."""
    context: int
    """Frames at the beginning of `tail` that were heard already; the next ones depend on them."""
    peak: float
    sums: Sums
    before: Habits
    """Of the utterances before the last one."""
    habits: Habits


class SpeechStatistics:
    """Running mean and deviation of the frame values of one stream's speech, and its habits.

    Deterministic. Mean and deviation are those of everything heard, the last utterance too, and fed
    in pieces equals fed whole, for any cuts. Habits are those of the utterances before it, each of
    them what one call of `update` was given: an utterance is told by how it differs from others.
    Frames near silence do not count. Old speech is forgotten exponentially, so that a new speaker
    or a changed channel takes over; pauses do not age what was heard.
    """

    def __init__(self, memory_s: float = 120.0) -> None:
        """`memory_s`: seconds of speech after which a frame's weight has fallen to 1/e."""
        if not memory_s > 0.0:
            raise ValueError(f"memory_s must be over 0 seconds, got {memory_s}")
        self._forget = float(np.exp(-HOP_SAMPLES / (SAMPLE_RATE * memory_s)))
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new stream begins."""
        self._state = _State(
            np.zeros(0, np.float32), 0, -np.inf, Sums.none(), Habits.none(), Habits.none()
        )

    def update(self, samples: FloatArray) -> None:
        """Hear an utterance's samples [n]; those that are not finite are taken as silence."""
        clean = _clean(samples)
        habits = self._state.habits
        after = self._after(clean)
        self._state = replace(after, before=habits, habits=habits.after(frame_values(clean)))

    def heard(self) -> Heard:
        """Return the statistics of everything heard until now, to measure the last utterance by."""
        return self._state.before.told(heard_from(self._state.sums))

    def preview(self, samples: FloatArray) -> Heard:
        """Tell what `heard` would say after `update(samples)`, without hearing them.

        For provisional segments, whose samples come once more in the final one.
        """
        state = self._after(_clean(samples))
        return state.habits.told(heard_from(state.sums))

    def _after(self, samples: FloatArray) -> _State:
        state = self._state
        joined = np.concatenate([state.tail, samples])
        frames = frame_count(len(joined))
        if frames <= state.context:
            return replace(state, tail=joined)
        values = frame_values(joined)[state.context :]
        context = min(CONTEXT_FRAMES, frames)
        speech, peak = speech_frames(values[:, MEL], state.peak)
        loud = values[speech]
        sums = state.sums.scaled(self._forget ** len(loud)) + Sums.of(loud, self._forget)
        tail = joined[(frames - context) * HOP_SAMPLES :]
        return replace(state, tail=tail, context=context, peak=peak, sums=sums)


def _clean(samples: FloatArray) -> FloatArray:
    return np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
