"""Trying a voter out: one second of noise, one sentence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from abhinaya.models.base import SAMPLE_RATE, Abstention, Ballot, Utterance, Voter

SENTENCE: Final = "I can't believe that we really won!"


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it."""

    answer: Ballot | Abstention
    first_ms: float
    """The first time, with what is paid once."""
    again_ms: float
    """The second time."""


def utterance(seconds: float = 1.0) -> Utterance:
    """Return an utterance with all that any voter needs: noise and a sentence."""
    rng = np.random.default_rng(0)
    noise = (0.05 * rng.standard_normal(int(seconds * SAMPLE_RATE))).astype(np.float32)
    return Utterance(noise, transcript=SENTENCE)


def attempt(voter: Voter) -> Trial:
    """Let a voter vote twice."""
    took = []
    for _ in range(2):
        begun = time.perf_counter()
        (answer,) = voter.vote([utterance()])
        took.append(1000 * (time.perf_counter() - begun))
    return Trial(answer, *took)
