"""Frames by the measure of what was heard: what the sound network sees. NumPy only.

T frames, D = N_VALUES values of a frame (`voice.py`), M = N_MELS mel bins.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.features import N_MELS
from abhinaya.models.compact.functionals import pitch_of
from abhinaya.models.compact.heard import Heard
from abhinaya.models.compact.voice import MEL, PITCH, STRENGTH, VOICED

SEEN: Final = (*range(MEL.start, MEL.stop), VOICED, STRENGTH, PITCH)
"""Values of a frame that the network sees something of."""
N_TONES: Final = 4
"""Whether there is a pitch, how periodic the frame is, and the pitch, absolute and relative."""
N_FEATURES: Final = N_MELS + N_TONES
TONE_UNIT: Final = 0.25
"""Change of the log pitch that counts as 1."""
_VOICED, _STRENGTH, _PITCH = range(N_MELS, N_MELS + 3)


def normalised(seen: FloatArray, heard: Heard) -> FloatArray:
    """Features [T, N_FEATURES] of frames `seen` [T, len(SEEN)].

    Energies in deviations from what was heard, clipped to [-5, 5]; 25 ms do not resolve the pitch
    in them, so it stands beside them, as far from the usual one: in TONE_UNIT, and in deviations of
    this voice, both clipped to [-4, 4] and 0 where there is none.
    """
    mean, std = heard.mean[MEL], heard.std[MEL]
    pitch, deviation = pitch_of(heard.mean)
    voiced = seen[:, _VOICED]
    apart = seen[:, _PITCH] - np.float32(pitch)
    return np.concatenate(
        [
            np.clip((seen[:, :N_MELS] - mean) / std, -5.0, 5.0),
            np.stack(
                [
                    voiced,
                    2.0 * (seen[:, _STRENGTH] - heard.mean[STRENGTH]),
                    voiced * np.clip(apart / TONE_UNIT, -4.0, 4.0),
                    voiced * np.clip(apart / deviation, -4.0, 4.0),
                ],
                axis=1,
            ),
        ],
        axis=1,
    ).astype(np.float32)
