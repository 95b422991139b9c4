"""What a transcriber is: the values it takes and returns, and what it says about itself."""

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
    """A segment, or as much of one as has been spoken, with what is known of it."""

    samples: Audio
    """From the start of the segment up to now. The final one may be shorter than a part before:
    the length limit cuts a segment at a pause that lies back."""
    stream: str = ""
    sequence: int = 0
    """With `stream`, which segment it is: its parts come one after the other, and then the final
    one. Any of them may be missing, or go to another replica."""
    final: bool = True
    """False while speech goes on: more of the same segment will come."""
    previous: str = ""
    """Text of the stream's segments before, as far as it is known and `context_turns` asks."""
    state: bytes = b""
    """What the transcriber itself returned with the segment before of this stream."""


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
    """How many of its first words a later part will not change; without meaning when final, since
    then none will change."""
    state: bytes = b""
    """What to hand over with the next segment of the stream; of a part it is of no use."""


class Transcriber(Protocol):
    """A speech recogniser.

    `transcribe` must not let a result depend on what else is in the batch. What a stream's earlier
    segments have to do with it is in `Hearing.state` and nowhere else, so that another replica
    answers the same. It may keep what it has made of the parts of a segment until the final one
    comes, or `forget` is called, but not of more segments than it needs: hubs die. A final
    transcription does not depend on which parts came before it.
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

    @property
    def context_turns(self) -> int:
        """How many segments before are to be in `Hearing.previous`, at most."""
        ...

    @property
    def stateful(self) -> bool:
        """Whether what it returns depends on `Hearing.state`."""
        ...

    @property
    def incremental(self) -> bool:
        """Whether a later part of a segment costs only what is new: then every part is given."""
        ...

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        """Return one transcription for each segment, in the same order."""
        ...

    def forget(self, stream: str, sequence: int) -> None:
        """Drop what is kept of a segment: it will not be finished here. Often there is nothing."""
        ...
