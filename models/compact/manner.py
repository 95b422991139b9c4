"""How an utterance is spoken, as a vector: its moments against those of what was heard before.

The spectrogram network sees frames; what tells emotions apart in a voice that it never met is how
pitch, level and spectrum as a whole differ from that voice's own (Schuller et al., 2009, for such
functionals; Sethu et al., 2007, for normalising by the speaker). So the same few moments are taken
of the utterance and of the stream, and the difference is what a voter sees. NumPy only.

How long the utterance is stays out: actors who are given a sentence take their time for disgust,
while how long a segment is in life depends on where it was cut.

T frames, D = N_VALUES values of a frame (`voice.py`), Q = N_MANNER numbers of an utterance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import FloatArray, Heard
from abhinaya.models.compact.features import N_MELS, speech_frames
from abhinaya.models.compact.running import PRIOR_STD, Sums
from abhinaya.models.compact.voice import (
    CEPSTRA,
    MEL,
    MOTION,
    PITCH,
    PITCH_MOTION,
    PITCH_SQUARED,
    STRENGTH,
    VOICED,
)

LEVEL_QUANTILES: Final = (0.05, 0.25, 0.75, 0.95)
PITCH_QUANTILES: Final = (0.1, 0.25, 0.75, 0.9)
FEWEST_VOICED: Final = 7
"""Frames with a pitch that its course can be told from."""
COURSE: Final = 1 + len(LEVEL_QUANTILES) + 1 + len(PITCH_QUANTILES) + 2
N_MANNER: Final = 20 + 40 + 40 + 6 + 7 + 12
LARGEST: Final = 6.0
"""No number is larger than this, whatever comes in."""
_SPREAD: Final = slice(CEPSTRA.start, MOTION.stop)


@dataclass(frozen=True, slots=True)
class Spoken:
    """What of an utterance does not depend on what was heard before it."""

    sums: Sums
    """Of its speech frames, its own running peak fresh."""
    course: FloatArray
    """[COURSE] level: drift, quantiles; pitch: whether it has a course, quantiles, first and last
    third. Levels in nats, pitches as natural logs of Hz."""


def spoken(values: FloatArray) -> Spoken:
    """Look at an utterance's frames [T, D]."""
    speech, _ = speech_frames(values[:, MEL])
    loud = values[speech]
    return Spoken(Sums.of(loud), _course(loud))


def _course(loud: FloatArray) -> FloatArray:
    course = np.zeros(COURSE, np.float32)
    if len(loud) == 0:
        return course
    level = loud[:, CEPSTRA.start] / np.sqrt(N_MELS)
    drift = np.linspace(-1.0, 1.0, len(level)) if len(level) > 1 else np.zeros(1)
    course[0] = float(np.mean(level * drift))
    course[1:5] = np.quantile(level, LEVEL_QUANTILES)
    pitch = loud[loud[:, VOICED] > 0.5, PITCH]
    if len(pitch) >= FEWEST_VOICED:
        third = len(pitch) // 3
        course[5] = 1.0
        course[6:10] = np.quantile(pitch, PITCH_QUANTILES)
        course[10:12] = pitch[:third].mean(), pitch[-third:].mean()
    return course


def manner(said: Spoken, heard: Heard) -> FloatArray:
    """Tell how it was `said`, by the measure of what was `heard`: [Q] numbers around 0."""
    if said.sums.weight <= 0.0:
        return np.zeros(N_MANNER, np.float32)
    mean, std = said.sums.moments()
    heard_mean, heard_std = heard.mean.astype(np.float64), heard.std.astype(np.float64)
    std = np.maximum(std, 0.05)
    moved = (mean - heard_mean)[CEPSTRA] / heard_std[CEPSTRA]
    spread = np.log(std / heard_std)[_SPREAD]
    spread_at_all = np.log(std / PRIOR_STD)[_SPREAD]
    own, before = _pitch_of(mean), _pitch_of(heard_mean)
    relative = [
        own[0] - before[0],
        (own[0] - before[0]) / before[1],
        np.log(own[1] / before[1]),
        mean[VOICED] - heard_mean[VOICED],
        mean[STRENGTH] - heard_mean[STRENGTH],
        10.0 * (own[2] - before[2]),
    ]
    absolute = [
        own[0] - 5.0,
        np.log(own[1]),
        before[0] - 5.0,
        np.log(before[1]),
        mean[VOICED],
        mean[STRENGTH],
        np.log((max(heard.frames - said.sums.weight, 0.0) + 100.0) / 1_000.0),
    ]
    level = heard_mean[MEL].mean()
    course = [said.course[0], *(said.course[1:5] - level)]
    if said.course[5] > 0.5:
        pitches = said.course[6:12] - before[0]
        course += [*pitches, (pitches[5] - pitches[4]) / before[1]]
    else:
        course += [0.0] * 7
    together = np.concatenate([moved, spread, spread_at_all, relative, absolute, course])
    bounded: FloatArray = np.clip(together, -LARGEST, LARGEST).astype(np.float32)
    return bounded


def _pitch_of(mean: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and deviation of the log pitch, and its motion, over the voiced frames."""
    voiced = max(float(mean[VOICED]), 0.02)
    pitch = float(mean[PITCH]) / voiced
    variance = float(mean[PITCH_SQUARED]) / voiced - pitch**2
    return pitch, float(np.sqrt(max(variance, 1e-3))), float(mean[PITCH_MOTION]) / voiced
