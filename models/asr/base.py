"""The transcriber's protocol, and the values it takes and returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]
"""[n] 16 kHz mono in [-1, 1]: one segment."""


@dataclass(frozen=True, slots=True, eq=False)
class Hearing:
    """A segment, or the part of one that has been spoken so far."""

    samples: Audio
    """From the start of the segment. The final one may be shorter than a part before: the length
    limit cuts a segment at a pause further back."""
    stream: str = ""
    sequence: int = 0
    """With `stream` it names the segment. Parts come in order, then the final one; any of them may
    be missing, or go to another replica."""
    final: bool = True
    """False while speech goes on: more of the same segment will come."""
    previous: str = ""
    """Text of the `context_turns` segments before, as far as it is known."""
    state: bytes = b""
    """What the transcriber returned with the segment before of this stream."""


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
    """ISO 639-1, given or detected: of `text`."""
    language_probability: float | None = None
    """Of the detected language; None where it was given."""
    translation: str = ""
    """`text` in English, where that was asked for and it is in another language."""
    reason: str = ""
    """Why the text is empty."""
    stable: int = 0
    """How many of its first words a later part will not change; only of parts."""
    state: bytes = b""
    """For the next segment of the stream; not of parts."""


class Transcriber(Protocol):
    """A speech recogniser.

    A result must not depend on what else is in the batch. It depends on earlier segments through
    `Hearing.state` alone, so that another replica answers the same. What it keeps of the parts of a
    segment it drops with the final one or at `forget`, and it limits how much: hubs die. A final
    transcription does not depend on the parts before it.
    """

    @property
    def model(self) -> str:
        """Name, for people and for the wire."""

    @property
    def version(self) -> str:
        """Version of model or engine."""

    @property
    def licence(self) -> str:
        """Licence of the model: its SPDX name where it has one."""

    @property
    def noncommercial(self) -> bool:
        """Whether that licence forbids commercial use."""

    @property
    def context_turns(self) -> int:
        """Most segments in `Hearing.previous`."""

    @property
    def stateful(self) -> bool:
        """Whether results depend on `Hearing.state`."""

    @property
    def incremental(self) -> bool:
        """Whether a later part of a segment costs only what is new: then it gets every part."""

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        """Return one transcription for each segment, in the same order."""

    def forget(self, stream: str, sequence: int) -> None:
        """Drop what is kept of a segment: it will not be finished here."""
