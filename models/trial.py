"""Runs a voter on a packaged second of speech, and compares its answer with the expected one."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import numpy as np

from abhinaya.models.base import SAMPLE_RATE, Abstention, Ballot, FloatArray, Utterance, Voter
from abhinaya.models.labels import HIGH, LABELS, LOW

SENTENCE: Final = "How can I help you?"
"""Words of the recording: a synthetic voice of the demo call (Kokoro-82M, Apache-2.0), neutral."""
TOLERANCE: Final = 0.05
"""Difference of a probability that other processors and batch sizes may cause."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Result of running a voter twice on one utterance."""

    answer: Ballot | Abstention
    first_ms: float
    """Time of the first run, which includes one-time costs."""
    again_ms: float
    """Time of the second run."""


@cache
def recording() -> FloatArray:
    """Return the packaged second of speech, [16000] in [-1, 1]."""
    with resources.files("abhinaya.models").joinpath("trial.npy").open("rb") as file:
        samples: FloatArray = np.load(file, allow_pickle=False).astype(np.float32) / 32768
    return samples


def utterance(seconds: float = 1.0) -> Utterance:
    """Return an utterance that any voter accepts: the recording, repeated, and its words."""
    return Utterance(
        np.resize(recording(), int(seconds * SAMPLE_RATE)), transcript=SENTENCE, language="en"
    )


def attempt(voter: Voter) -> Trial:
    """Run a voter twice."""
    times_ms = []
    for _ in range(2):
        begun = time.perf_counter()
        (answer,) = voter.vote([utterance()])
        times_ms.append(1000 * (time.perf_counter() - begun))
    return Trial(answer, *times_ms)


def fault_of_answer(voter: Voter, answer: Ballot | Abstention) -> str:
    """Return what is wrong with a voter's answer to the recording; empty if nothing is."""
    found = answer.probabilities if isinstance(answer, Ballot) else None
    if found is not None and not all(math.isfinite(p) for p in found):
        return "its probabilities for the test recording are not numbers"
    rated = answer.attributes if isinstance(answer, Ballot) else None
    if rated is not None and not all(LOW <= value <= HIGH for value in rated):
        return f"its attributes for the test recording are not from {LOW:g} to {HIGH:g}"
    expected = voter.card.trial
    if not expected:
        return ""
    if found is None:
        return "it gave no probabilities for the test recording"
    return difference(expected, found)


def difference(
    expected: Sequence[float],
    found: Sequence[float],
    names: Sequence[str] = LABELS,
    tolerance: float = TOLERANCE,
) -> str:
    """Return how probabilities for the recording differ from expected ones; empty if equal."""
    wrong = max(range(len(names)), key=lambda i: abs(expected[i] - found[i]))
    if abs(expected[wrong] - found[wrong]) <= tolerance:
        return ""
    return (
        f"its answer to the test recording is wrong: {names[wrong]} {found[wrong]:.2f}, "
        f"not {expected[wrong]:.2f}"
    )
