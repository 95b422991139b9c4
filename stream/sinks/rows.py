"""What files and reports show of a stream: the events of docs/events.md, as far as they need them.

Read back from JSON lines, or taken from a run that goes on: both become the same rows. All times
are seconds from the first sample of the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from abhinaya.stream.sinks.events import SCHEMA


class VoteRow(msgspec.Struct, frozen=True):
    """A vote that was cast."""

    voter: str
    label: str
    probabilities: dict[str, float | None] | None = None
    """Share by label; None for a voter that gives just a label."""
    model: str = ""

    @property
    def claim(self) -> float | None:
        """The probability that the voter gives to its own label."""
        return (self.probabilities or {}).get(self.label)


class MissingRow(msgspec.Struct, frozen=True):
    """A voter without a vote, and why."""

    voter: str
    reason: str


class TranscriptRow(msgspec.Struct, frozen=True):
    """What was said."""

    text: str
    translation: str = ""
    """The same in English, if it was translated."""
    confidence: float | None = None
    language: str = ""
    language_probability: float | None = None
    reason: str = ""
    """Why the text is empty."""


class Decided(msgspec.Struct, frozen=True, tag="verdict", tag_field="type"):
    """A verdict."""

    stream: str
    segment: int
    start_s: float
    end_s: float
    label: str
    wall_time: str = ""
    confidence: float | None = None
    agreement: float | None = None
    leading: str | None = None
    """What the votes come to, also where the label is withheld; None if nothing was decided."""
    margin: float | None = None
    revision: int = 0
    final: bool = True
    reason: str = ""
    votes: tuple[VoteRow, ...] = ()
    missing: tuple[MissingRow, ...] = ()
    transcript: TranscriptRow | None = None
    latency_ms: dict[str, float] = {}

    @property
    def text(self) -> str:
        """What was said, on one line, with its translation; empty if nobody knows."""
        if self.transcript is None:
            return ""
        text, english = self.transcript.text, self.transcript.translation
        return one_line(f"{text} ({english})" if english else text)


class Lost(msgspec.Struct, frozen=True, tag="gap", tag_field="type"):
    """A gap: samples for which there is no verdict."""

    stream: str
    segment: int
    start_s: float
    end_s: float
    reason: str = ""


class Began(msgspec.Struct, frozen=True, tag="stream_started", tag_field="type"):
    """A stream has begun."""

    stream: str
    source: str = ""
    live: bool = False
    wall_time: str = ""


class Ended(msgspec.Struct, frozen=True, tag="stream_ended", tag_field="type"):
    """A stream is over."""

    stream: str
    duration_s: float
    reason: str = ""


class NodeLost(msgspec.Struct, frozen=True, tag="node_down", tag_field="type"):
    """A worker process is gone."""

    node: str
    service: str
    reason: str = ""


class Note(msgspec.Struct, frozen=True, tag="remark", tag_field="type"):
    """Something to know about an input."""

    source: str
    text: str


Segment = Decided | Lost
Row = Decided | Lost | Began | Ended | NodeLost | Note

TYPES: Final[dict[str, type[Row]]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(Row)
}


def to_row(values: Mapping[str, Any]) -> Row | None:
    """Return an event as a row; None for one that no file or report shows.

    Raises:
        ValueError: it is not an event of this schema, or a field is missing or of a wrong type.

    """
    kind = values.get("type")
    if values.get("schema") != SCHEMA or not isinstance(kind, str):
        raise ValueError(f"it is not an event of the schema {SCHEMA}")
    if kind not in TYPES:
        return None
    row = msgspec.convert(values, TYPES[kind])
    if isinstance(row, Decided | Lost) and not 0 <= row.start_s <= row.end_s:
        raise ValueError(f"it goes from {row.start_s} s to {row.end_s} s")
    return row


def clean(text: str) -> str:
    """Return text in which what cannot be printed (controls, line breaks) is a space."""
    return "".join(c if c.isprintable() else " " for c in text)


def one_line(text: str) -> str:
    """Return text without line breaks, controls and doubled spaces."""
    return " ".join(clean(text).split())
