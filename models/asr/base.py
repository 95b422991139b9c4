"""The protocol of a transcriber, and its inputs and results."""

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
    """A transcription request: a segment, or a partial (what has been spoken of it so far)."""

    samples: Audio
    """From the start of the segment. The final request may be shorter than an earlier partial: the
    length limit cuts a segment at an earlier pause."""
    stream: str = ""
    sequence: int = 0
    """Number in the stream. Partials come in order, then the final request; each of them may be
    missing, or go to another replica."""
    final: bool = True
    """False for a partial: the segment is still being spoken."""
    previous: str = ""
    """Text of the `context_turns` earlier segments, as far as it is known."""
    state: bytes = b""
    """State that the transcriber returned with the previous segment of this stream."""


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A recognised word and its place in the segment."""

    text: str
    start: int
    """First sample, from the start of the segment."""
    end: int
    """One past the last sample; at most the segment's length."""
    confidence: float | None = None
    """In [0, 1]; None if the transcriber has none."""


@dataclass(frozen=True, slots=True)
class Transcription:
    """The text of one segment."""

    text: str
    """Empty if no words were recognised."""
    words: tuple[SpokenWord, ...] = ()
    confidence: float | None = None
    """In [0, 1]; None without words. Comparable within one transcriber, not across."""
    language: str = ""
    """Language of `text`, set or detected (ISO 639-1)."""
    language_probability: float | None = None
    """Probability of the detected language; None if the language was set."""
    translation: str = ""
    """`text` in English, if a translation was requested and the language is not English."""
    reason: str = ""
    """Why the text is empty."""
    stable: int = 0
    """Number of first words that later partials will not change; 0 if final."""
    state: bytes = b""
    """State for the next segment of the stream; empty for partials."""


class Transcriber(Protocol):
    """A speech recogniser.

    A result must not depend on the rest of the batch. It may depend on earlier segments through
    `Hearing.state` only, so that every replica returns the same. A final transcription must not
    depend on earlier partials. Memory about the partials of a segment is dropped with its final
    request or at `forget`. It must be limited as well, since a hub may exit before it sends either.
    """

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def version(self) -> str:
        """Version of model or engine."""

    @property
    def licence(self) -> str:
        """Licence of the model: its SPDX name if there is one."""

    @property
    def noncommercial(self) -> bool:
        """Whether that licence forbids commercial use."""

    @property
    def context_turns(self) -> int:
        """Maximum number of segments in `Hearing.previous`."""

    @property
    def stateful(self) -> bool:
        """Whether results depend on `Hearing.state`."""

    @property
    def incremental(self) -> bool:
        """Whether a partial costs only its new audio; then the transcriber gets every partial."""

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        """Return one transcription for each segment, in the same order."""

    def forget(self, stream: str, sequence: int) -> None:
        """Drop the memory about a segment: its final request will not come."""
