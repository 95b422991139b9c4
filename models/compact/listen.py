"""What the compact voters do with audio before their network: refuse, normalise, pad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from abhinaya.models.base import Abstention, FloatArray, Utterance
from abhinaya.models.compact.features import SAMPLE_RATE, SILENCE_LEVEL, frame_levels
from abhinaya.models.compact.functionals import N_FUNCTIONALS
from abhinaya.models.compact.heard import Heard, heard_of
from abhinaya.models.compact.manner import manner, spoken
from abhinaya.models.compact.measure import SEEN, normalised
from abhinaya.models.compact.running import SpeechStatistics
from abhinaya.models.compact.voice import MEL, N_VALUES, frame_values

SHORTEST_S: Final = 0.25
"""Less than a syllable holds no emotion that can be told."""


@dataclass(frozen=True, slots=True)
class Listened:
    """An utterance as the networks take it."""

    features: FloatArray
    """[T, F] log-mel energies and pitch, normalised by what the stream has heard."""
    manner: FloatArray
    """[Q] how it was spoken, by the measure of what the stream has heard."""


def listen(utterance: Utterance) -> Listened | Abstention:
    """Look at an utterance, or say why that cannot be.

    By the measure of what the stream has heard; without that, of the utterance alone.

    Raises:
        ValueError: `heard` has another number of values than D, or of functionals than R.

    """
    samples = utterance.samples
    if len(samples) < SHORTEST_S * SAMPLE_RATE:
        return Abstention(
            f"only {len(samples) / SAMPLE_RATE:.2f} s of audio; {SHORTEST_S} s are needed"
        )
    if not np.isfinite(samples).all():
        return Abstention("audio has samples that are not numbers")
    values = frame_values(samples)
    if frame_levels(values[:, MEL]).max() <= SILENCE_LEVEL:
        return Abstention("audio is silent")
    said = spoken(values)
    heard = _statistics(utterance)
    return Listened(normalised(values[:, SEEN], heard), manner(said, heard))


def _statistics(utterance: Utterance) -> Heard:
    heard = heard_of(utterance)
    if heard is None or heard.frames == 0:
        own = SpeechStatistics()
        own.update(utterance.samples)
        return own.heard()
    if heard.mean.shape != (N_VALUES,) or heard.std.shape != (N_VALUES,):
        raise ValueError(
            f"heard has {heard.mean.shape} values of a frame; this voter needs {N_VALUES}"
        )
    if heard.utterances > 0.0 and heard.habits.shape != (N_FUNCTIONALS,):
        raise ValueError(
            f"heard has {heard.habits.shape} functionals; this voter needs {N_FUNCTIONALS}"
        )
    return heard


def speech_feeds(heard: Sequence[Listened]) -> dict[str, FloatArray]:
    """Feed a speech network with a batch: `features` and `mask`, padded, and `manner`."""
    features, mask = pad([one.features for one in heard])
    return {
        "features": features,
        "mask": mask,
        "manner": np.stack([one.manner for one in heard]),
    }


def pad(features: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Features [B, T, F] and mask [B, T] (1 inside, 0 beyond the end) of clips [T_b, F]."""
    longest = max(len(clip) for clip in features)
    padded = np.zeros((len(features), longest, features[0].shape[1]), np.float32)
    mask = np.zeros((len(features), longest), np.float32)
    for b, clip in enumerate(features):
        padded[b, : len(clip)] = clip
        mask[b, : len(clip)] = 1.0
    return padded, mask
