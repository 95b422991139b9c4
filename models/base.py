"""What a voter is: the values it sees, the values it gives, and what it says about itself.

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

from abhinaya.models.labels import LABELS

FloatArray = npt.NDArray[np.float32]
Need = Literal["audio", "transcript"]

SAMPLE_RATE: Final = 16_000
"""Of all audio that models see, in Hz."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One segment as a voter sees it. Fields that the voter did not ask for are empty."""

    samples: FloatArray
    """[n] 16 kHz mono in [-1, 1]."""
    state: bytes = b""
    """What this voter itself returned with the segment before of the stream; empty at first, and
    where nothing is known. Nobody else reads it."""
    transcript: str = ""
    """In English: the translation where there is one."""
    language: str = ""
    """ISO 639-1, of the transcript."""
    context: tuple[str, ...] = ()
    """Transcripts of earlier turns of the conversation, oldest first; most voters ignore it."""
    choices: tuple[str, ...] = ()
    """Labels that are still in question, the likeliest first, for who is asked to choose among
    them; empty for all. Most voters ignore it."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """A voter's answer: a label, and probabilities where the voter has them."""

    label: str
    probabilities: tuple[float, ...] | None = None
    """[C] in the order of LABELS, or None for a voter that gives just a label."""
    state: bytes = b""
    """What the voter wants to know with the next segment of the stream, at most 64 KiB."""


@dataclass(frozen=True, slots=True)
class Abstention:
    """A voter's refusal to vote on this segment, with the reason people will read."""

    reason: str
    state: bytes = b""
    """As that of a ballot; empty leaves what was known before."""


@dataclass(frozen=True, slots=True)
class Card:
    """What is known about a model: shown at start, sent with Ready, printed by `models show`."""

    model: str
    """Name in the registry, for example `tiny-speech`."""
    version: str
    needs: frozenset[Need]
    labels: tuple[str, ...]
    """Labels the model can give; a subset of LABELS."""
    licence: str
    """SPDX name or the licence's own name."""
    noncommercial: bool = False
    """Whether the licence forbids commercial use."""
    notes: tuple[str, ...] = field(default_factory=tuple)
    """Limits in plain words."""
    context_turns: int = 0
    """Earlier turns of the conversation that it makes use of, at most."""
    stateful: bool = False
    """Whether its answer depends on `Utterance.state`: segments of a stream then come in order."""
    served: bool = False
    """Whether it asks a server, which may be slow or cost money: it is not tried without need."""
    sample_rate_hz: int | None = None
    """Of the audio it hears; None for a voter that hears none."""
    longest_s: float | None = None
    """Seconds of audio it makes use of; None where there is no limit of its own."""
    tensors: int | None = None
    """Weights by name, every one of them found in its files; None when unknown."""
    parameters: int | None = None
    """Numbers in those weights, encoders that it shares with another voter included."""
    memory_mb: float | None = None
    """What they take on their device, in 10^6 bytes; activations come on top."""


class Voter(Protocol):
    """A model that votes on segments.

    `vote` must not let a result depend on what else is in the batch.
    """

    @property
    def card(self) -> Card:
        """What the model is."""
        ...

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        """Return one answer for each utterance, in the same order."""
        ...


def ballot(probabilities: Sequence[float] | FloatArray) -> Ballot:
    """Make a ballot from probabilities [C]; the label is the most probable one."""
    values = tuple(float(p) for p in probabilities)
    if len(values) != len(LABELS):
        raise ValueError(f"expected {len(LABELS)} probabilities, got {len(values)}")
    return Ballot(LABELS[max(range(len(values)), key=values.__getitem__)], values)
