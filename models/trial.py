"""Runs a voter once on a second of noise and a sentence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from abhinaya.models.base import SAMPLE_RATE, Abstention, Ballot, Utterance, Voter

SENTENCE: Final = "I can't believe that we really won!"


@dataclass(frozen=True, slots=True)
class Trial:
    """Result of running a voter twice on one utterance."""

    answer: Ballot | Abstention
    first_ms: float
    """Time of the first run, which includes one-time costs."""
    again_ms: float
    """Time of the second run."""


def utterance(seconds: float = 1.0) -> Utterance:
    """Return an utterance that any voter accepts: noise and a sentence."""
    rng = np.random.default_rng(0)
    noise = (0.05 * rng.standard_normal(int(seconds * SAMPLE_RATE))).astype(np.float32)
    return Utterance(noise, transcript=SENTENCE)


def attempt(voter: Voter) -> Trial:
    """Run a voter twice."""
    times_ms = []
    for _ in range(2):
        begun = time.perf_counter()
        (answer,) = voter.vote([utterance()])
        times_ms.append(1000 * (time.perf_counter() - begun))
    return Trial(answer, *times_ms)
