"""Mean and deviation of what was heard, and what stands in for them while that is little.

NumPy only. Shapes: T frames, D = N_VALUES values of a frame (`voice.py`), the first M = N_MELS of
them log-mel energies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.heard import Heard
from abhinaya.models.compact.prior import (
    PRIOR_CEPSTRA_STD,
    PRIOR_LEVEL,
    PRIOR_MEL_STD,
    PRIOR_MOTION_STD,
    PRIOR_SHAPE,
    PRIOR_VOICE_MEAN,
    PRIOR_VOICE_STD,
)
from abhinaya.models.compact.voice import CEPSTRA, MEL, N_CEPSTRA, N_VALUES, cosines

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
