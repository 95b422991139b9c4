"""What the compact voters do with audio before their network: refuse, normalise, pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from abhinaya.models.base import Abstention, FloatArray, Heard, Utterance
from abhinaya.models.compact.features import (
    N_MELS,
    SAMPLE_RATE,
    SILENCE_LEVEL,
    SpeechStatistics,
    frame_levels,
    log_mel,
    normalise,
)

SHORTEST_S: Final = 0.25
"""Less than a syllable holds no emotion that can be told."""


def listen(utterance: Utterance) -> FloatArray | Abstention:
    """Normalised log-mel energies [T, M] of an utterance, or why there are none.

    Normalised by what the stream has heard; without that, by the utterance alone.

    Raises:
        ValueError: `heard` has another number of mel bins than M.

    """
    samples = utterance.samples
    if len(samples) < SHORTEST_S * SAMPLE_RATE:
        return Abstention(
            f"only {len(samples) / SAMPLE_RATE:.2f} s of audio; {SHORTEST_S} s are needed"
        )
    if not np.isfinite(samples).all():
        return Abstention("audio has samples that are not numbers")
    energies = log_mel(samples)
    if frame_levels(energies).max() <= SILENCE_LEVEL:
        return Abstention("audio is silent")
    return normalise(energies, _statistics(utterance))


def _statistics(utterance: Utterance) -> Heard:
    heard = utterance.heard
    if heard is None or heard.frames == 0:
        own = SpeechStatistics()
        own.update(utterance.samples)
        return own.heard()
    if heard.mean.shape != (N_MELS,) or heard.std.shape != (N_MELS,):
        raise ValueError(f"heard has {heard.mean.shape} mel bins; this voter needs {N_MELS}")
    return heard


def pad(features: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Features [B, T, M] and mask [B, T] (1 inside, 0 beyond the end) of clips [T_b, M]."""
    longest = max(len(clip) for clip in features)
    padded = np.zeros((len(features), longest, N_MELS), np.float32)
    mask = np.zeros((len(features), longest), np.float32)
    for b, clip in enumerate(features):
        padded[b, : len(clip)] = clip
        mask[b, : len(clip)] = 1.0
    return padded, mask
