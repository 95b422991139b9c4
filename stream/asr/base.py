"""What a transcriber is: the values it gives and what it says about itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]
"""[n] 16 kHz mono in [-1, 1]: one segment."""


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A recognised word and where it is in its segment."""

    text: str
    start: int
    """First sample, from the start of the segment."""
    end: int
    """One past the last sample; at most the segment's length."""
    confidence: float | None = None
    """In [0, 1], where the transcriber has one."""


@dataclass(frozen=True, slots=True)
class Transcription:
    """What was said in one segment."""

    text: str
    """Empty if no words were recognised."""
    words: tuple[SpokenWord, ...] = ()
    confidence: float | None = None
    """In [0, 1]; None without words. Comparable within one transcriber, not across."""
    language: str = ""
    """ISO 639-1, given or detected."""
    reason: str = ""
    """Why the text is empty."""


class Transcriber(Protocol):
    """A speech recogniser.

    `transcribe` must not let a result depend on what else is in the batch, or came before.
    """

    @property
    def model(self) -> str:
        """Name, for people and for the wire."""
        ...

    @property
    def version(self) -> str:
        """Version of model or engine."""
        ...

    @property
    def licence(self) -> str:
        """Licence of the model: its SPDX name where it has one."""
        ...

    @property
    def noncommercial(self) -> bool:
        """Whether that licence forbids commercial use."""
        ...

    def transcribe(self, batch: Sequence[Audio]) -> list[Transcription]:
        """Give one transcription for each segment, in the same order."""
        ...
