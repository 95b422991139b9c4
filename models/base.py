"""The interface of a voter: its input, its answers, and its card.

Shape letters used throughout the package:

    B  batch            T  time (frames or tokens)   D  feature or hidden width
    C  classes (8)      M  mel bins                  n  samples at 16 kHz
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from abhinaya.models.labels import LABELS, Attributes

FloatArray = npt.NDArray[np.float32]
Need = Literal["audio", "transcript"]

SAMPLE_RATE: Final = 16_000
"""Sample rate of all audio that models receive, in Hz."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """The input of a voter: one segment. Fields that the voter's card does not need are empty."""

    samples: FloatArray
    """[n] 16 kHz mono in [-1, 1]."""
    state: bytes = b""
    """State that this voter returned for the previous segment of the stream, readable only by this
    voter; empty for the first segment, and if the state is unknown."""
    transcript: str = ""
    """English transcript, or the English translation."""
    language: str = ""
    """Language of the transcript, ISO 639-1."""
    context: tuple[str, ...] = ()
    """Transcripts of earlier turns of the conversation, oldest first; most voters ignore it."""
    speaker: str = ""
    """Name of the speaker, if it is known; most voters ignore it."""
    choices: tuple[str, ...] = ()
    """Labels that a refiner chooses among, the likeliest first; empty for all eight. Most voters
    ignore it."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """A voter's answer: a label, with probabilities if the voter has them; attributes; or both.

    A model that only rates attributes votes for no label: its ballots have the label "".
    """

    label: str = ""
    """One of LABELS; empty if the answer has only attributes. Only ballots with a label count in
    the vote."""
    probabilities: tuple[float, ...] | None = None
    """[C] in the order of LABELS, or None for a voter that returns only a label."""
    state: bytes = b""
    """State for the next segment of the stream, at most 64 KiB."""
    attributes: Attributes | tuple[float, float, float] | None = None
    """Arousal, valence and dominance, each from 1 to 7; None if the voter does not rate them."""


@dataclass(frozen=True, slots=True)
class Abstention:
    """A voter's refusal to vote on a segment, with the reason that users read."""

    reason: str
    state: bytes = b""
    """State for the next segment; empty keeps the previous state."""


@dataclass(frozen=True, slots=True)
class Card:
    """Description of a model: shown at start, sent with Ready, printed by `models show`."""

    model: str
    """Name in the registry, for example `tiny-speech`."""
    version: str
    needs: frozenset[Need]
    labels: tuple[str, ...]
    """Labels that the model can return, a subset of LABELS; empty if it gives only attributes."""
    licence: str
    """SPDX name or the licence's own name."""
    noncommercial: bool = False
    """Whether the licence forbids commercial use."""
    notes: tuple[str, ...] = field(default_factory=tuple)
    """Limits in plain words."""
    context_turns: int = 0
    """Maximum number of earlier turns of the conversation that the model uses."""
    stateful: bool = False
    """Whether the answer depends on `Utterance.state`: segments of a stream then come in order."""
    served: bool = False
    """Whether the model runs on a server, which may be slow or cost money: it is then called only
    if needed, not for a trial at start."""
    trial: tuple[float, ...] = ()
    """[C] probabilities that the model must give for the test recording (`trial.py`); empty if
    unknown."""
    attributes: bool = False
    """Whether the model rates arousal, valence and dominance."""
    sample_rate_hz: int | None = None
    """Sample rate of the audio that the model reads; None if it reads no audio."""
    longest_s: float | None = None
    """Seconds of a segment that the model uses; None without a limit."""
    tensors: int | None = None
    """Number of weight tensors, all found in the model's files; None if unknown."""
    parameters: int | None = None
    """Numbers in those tensors, including encoders that the model shares with another voter."""
    memory_mb: float | None = None
    """Memory of the weights on their device, in 10^6 bytes, without activations."""


class Voter(Protocol):
    """A model that votes on segments. An answer must not depend on the rest of the batch."""

    @property
    def card(self) -> Card:
        """Description of the model."""
        ...

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        """Return one answer for each utterance, in the same order."""
        ...


def ballot(probabilities: Sequence[float] | FloatArray) -> Ballot:
    """Return the ballot for probabilities [C]; its label is the most probable one."""
    values = tuple(float(p) for p in probabilities)
    if len(values) != len(LABELS):
        raise ValueError(f"expected {len(LABELS)} probabilities, got {len(values)}")
    return Ballot(LABELS[max(range(len(values)), key=values.__getitem__)], values)
