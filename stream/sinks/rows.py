"""Rows: the fields of events (docs/events.md) that files and reports use.

All times are seconds from the first sample of the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, get_args

import msgspec

from abhinaya.models.labels import Attributes, Rating
from abhinaya.models.text import one_line
from abhinaya.models.vote.ensemble import NOT_ASKED
from abhinaya.stream.sinks.events import SCHEMA


class AttributesRow(msgspec.Struct, frozen=True):
    """Attributes of a segment."""

    arousal: Rating
    valence: Rating
    dominance: Rating

    def __str__(self) -> str:
        return str(Attributes(self.arousal, self.valence, self.dominance))


class VoteRow(msgspec.Struct, frozen=True):
    """The vote of one voter."""

    voter: str
    label: str
    """Empty if the vote has only attributes."""
    probabilities: dict[str, float | None] | None = None
    """Probability of each label; None if the voter gives only a label."""
    model: str = ""
    attributes: AttributesRow | None = None

    @property
    def text(self) -> str:
        """The label, or the attributes without one."""
        return self.label or str(self.attributes or "")

    @property
    def claim(self) -> float | None:
        """The probability that the voter gives to its own label."""
        return (self.probabilities or {}).get(self.label)


class MissingRow(msgspec.Struct, frozen=True):
    """A voter without a vote, and the reason."""

    voter: str
    reason: str

    @property
    def fault(self) -> bool:
        """Whether the verdict lacks the vote; a voter of the cascade may not have been needed."""
        return self.reason != NOT_ASKED


class TranscriptRow(msgspec.Struct, frozen=True):
    """The transcript of a segment."""

    text: str
    translation: str = ""
    """English translation; empty without one."""
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
    """Label that won the vote, even if `label` is `unknown`; None without a vote."""
    margin: float | None = None
    revision: int = 0
    final: bool = True
    reason: str = ""
    votes: tuple[VoteRow, ...] = ()
    missing: tuple[MissingRow, ...] = ()
    transcript: TranscriptRow | None = None
    attributes: AttributesRow | None = None
    latency_ms: dict[str, float] = {}

    @property
    def text(self) -> str:
        """The transcript and its translation on one line; empty without a transcript."""
        if self.transcript is None:
            return ""
        text, english = self.transcript.text, self.transcript.translation
        return one_line(f"{text} ({english})" if english else text)


class Lost(msgspec.Struct, frozen=True, tag="gap", tag_field="type"):
    """A gap: audio without a verdict."""

    stream: str
    segment: int
    start_s: float
    end_s: float
    reason: str = ""


class Began(msgspec.Struct, frozen=True, tag="stream_started", tag_field="type"):
    """A stream has started."""

    stream: str
    source: str = ""
    live: bool = False
    wall_time: str = ""


class Ended(msgspec.Struct, frozen=True, tag="stream_ended", tag_field="type"):
    """A stream has ended."""

    stream: str
    duration_s: float
    reason: str = ""
    sound: str = ""
    """What is wrong with its sound."""


class NodeLost(msgspec.Struct, frozen=True, tag="node_down", tag_field="type"):
    """A worker process has died."""

    node: str
    service: str
    reason: str = ""


class Note(msgspec.Struct, frozen=True, tag="remark", tag_field="type"):
    """A remark on an input."""

    source: str
    text: str


LONGEST_S: Final = 1e9
"""A stream of 30 years is damage."""

Segment = Decided | Lost
Row = Decided | Lost | Began | Ended | NodeLost | Note

TYPES: Final[dict[str, type[Row]]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(Row)
}


def to_row(values: Mapping[str, Any]) -> Row | None:
    """Return an event as a row; None if files and reports do not use its type.

    Raises:
        ValueError: it is not an event of this schema, or a field is missing or has a wrong type.

    """
    kind = values.get("type")
    if values.get("schema") != SCHEMA or not isinstance(kind, str):
        raise ValueError(f"it is not an event of the schema {SCHEMA}")
    if kind not in TYPES:
        return None
    row = msgspec.convert(values, TYPES[kind])
    if isinstance(row, Decided | Lost):
        if not 0 <= row.start_s <= row.end_s <= LONGEST_S:
            raise ValueError(f"it starts at {row.start_s} s and ends at {row.end_s} s")
        if not 0 <= row.segment < 2**62:
            raise ValueError(f"its segment has the number {row.segment}")
    if isinstance(row, Decided) and not 0 <= row.revision < 2**31:
        raise ValueError(f"its revision has the number {row.revision}")
    if isinstance(row, Decided | Began) and row.wall_time:
        datetime.fromisoformat(row.wall_time)  # raises if it is not a time
    if isinstance(row, Ended) and not 0 <= row.duration_s <= LONGEST_S:
        raise ValueError(f"its duration is {row.duration_s} s")
    return row
