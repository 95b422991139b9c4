"""Statistics of the speech heard so far in one stream: what running normalisation needs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from abhinaya.models.base import FloatArray, Utterance


@dataclass(frozen=True, slots=True)
class Heard:
    """What the compact voters measure an utterance by."""

    frames: int
    """Speech frames (10 ms) behind the statistics; 0 before any speech."""
    mean: FloatArray
    """[D] mean of the values of a frame, the first of which are log-mel energies."""
    std: FloatArray
    """[D] their standard deviation."""
    utterances: float = 0.0
    """Utterances before this one that `habits` are of, older ones counting less."""
    habits: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    """[R] mean of their functionals; empty where there were none."""


@dataclass(frozen=True, slots=True)
class Measured(Utterance):
    """An utterance with the statistics that it is to be measured by."""

    heard: Heard | None = None


def heard_of(utterance: Utterance) -> Heard | None:
    """Return the statistics that came with an utterance, if any did."""
    return utterance.heard if isinstance(utterance, Measured) else None
