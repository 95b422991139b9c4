"""What the hub knows of each stream and each of its segments: one record a segment.

Pure. A record begins with the segment's first partial, or with the segment, and ends with `drop`.
The deciders (dispatch, aggregator, partials) work on it and keep little themselves.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from abhinaya.stream.wire.messages import (
    Gap,
    Segment,
    StreamEnded,
    StreamInfo,
    Transcript,
    Verdict,
    Vote,
)

Key = tuple[str, int]
"""A segment: (stream, sequence number)."""

CONTEXT_TURNS: Final = 16
"""Transcripts of a stream that are kept as context."""


class State(Enum):
    """Where one service stands with one segment."""

    WAITING = auto()  # for what it needs, or to know what it needs
    QUEUED = auto()
    HELD = auto()  # by a node
    DONE = auto()
    ABSENT = auto()


OPEN: Final = (State.WAITING, State.QUEUED, State.HELD)


@dataclass(slots=True)
class Work:
    """One service's part in one segment."""

    state: State = State.WAITING
    attempts: int = 0
    reason: str = ""


@dataclass(slots=True, eq=False)
class Stream:
    """One stream: how far it has come, and what later segments need of earlier ones."""

    info: StreamInfo
    front: bytes
    next_sequence: int
    """The lowest sequence number that has not come."""
    acknowledged: int
    """The lowest whose verdict is not written down."""
    position: int = 0
    """End of the last item that came, in samples."""
    ended: bool = False
    end_written: bool = False
    outcomes: deque[Record | Gap | StreamEnded] = field(default_factory=deque)
    """What is still to be published, in order."""
    said: dict[int, Transcript] = field(default_factory=dict)
    """The latest transcripts with words, by sequence number."""
    states: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """By stateful service: what it knows after a segment; only its model reads that."""

    def transcribed(self, transcript: Transcript) -> None:
        """Keep what was said, as context for later segments."""
        if transcript.text:
            self.said[transcript.sequence] = transcript
            if len(self.said) > CONTEXT_TURNS:
                del self.said[min(self.said)]

    def keep_state(self, sequence: int, service: str, state: bytes) -> None:
        """Keep what a service knows after a segment; an empty state changes nothing."""
        if state:
            self.states.setdefault(service, {})[sequence] = state

    def restore_state(self, service: str, state: bytes) -> None:
        """Take back what a service knew before the first open segment, unless it knows more."""
        if not self.states.get(service):
            self.keep_state(self.acknowledged - 1, service, state)

    def states_before(self, sequence: int, services: Iterable[str]) -> dict[str, bytes]:
        """Return by service what it knows before a segment."""
        found = {}
        for service in services:
            known = self.states.get(service, {})
            before = max((s for s in known if s < sequence), default=None)
            if before is not None:
                found[service] = known[before]
        return found

    def acknowledged_states(self) -> dict[str, bytes]:
        """Forget what came before the last written segment; return what is known after it."""
        for known in self.states.values():
            for sequence in sorted(s for s in known if s < self.acknowledged)[:-1]:
                del known[sequence]
        return self.states_before(self.acknowledged, self.states) if self.states else {}


@dataclass(slots=True, eq=False)
class Record:
    """One segment on its way to its last verdict; before it is over, its latest partial."""

    stream: Stream
    item: Segment
    """What is being decided: the whole segment, or a partial."""
    received: float
    due: float
    order: int
    """Counts all records: of equals, the first to come goes first."""
    work: dict[str, Work] = field(default_factory=dict)
    """By service; empty for a partial whose verdict is published."""
    begun: float | None = None
    """When a node was first given it."""
    transcribed: float | None = None
    voted: float | None = None
    """When the last voter answered or was given up."""
    transcript: Transcript | None = None
    votes: dict[str, Vote] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """By voter that will not vote: why."""
    verdict: Verdict | None = None
    """The latest one on the whole segment."""
    choices: tuple[str, ...] = ()
    """Labels that the refiner is to choose among; empty while it is not asked."""
    refinement: Vote | None = None
    nodes: dict[str, bool] = field(default_factory=dict)
    """Who was given it; True for a node that may still keep something of its partials."""
    next: Segment | None = None
    """The newest partial, which waits until the one before is decided."""
    words: Transcript | None = None
    """What the latest answered partial said."""
    served: float = 0.0
    """When a node was last given a partial of it."""

    @property
    def key(self) -> Key:
        """Identity of the segment."""
        return self.item.stream, self.item.sequence

    def begin(self, item: Segment, now: float, due: float) -> None:
        """Start over with the next partial, or with the whole segment."""
        self.item, self.received, self.due = item, now, due
        self.work, self.votes, self.missing = {}, {}, {}
        self.begun = self.transcribed = self.voted = self.transcript = None

    def settled(self, voters: Collection[str]) -> bool:
        """Whether every voter has answered or been given up."""
        return len(self.votes) + len(self.missing) >= len(voters)

    def stands(self, service: str) -> State | None:
        """Return where a service stands; None for one that was not asked."""
        return self.work[service].state if service in self.work else None

    def is_open(self, services: Iterable[str]) -> bool:
        """Whether one of these services may still answer."""
        return any(self.stands(name) in OPEN for name in services)


class Segments:
    """The records of all streams."""

    def __init__(self) -> None:
        self._records: dict[str, dict[int, Record]] = {}
        self._order = itertools.count()

    def __iter__(self) -> Iterator[Record]:
        return (record for records in self._records.values() for record in records.values())

    def get(self, key: Key) -> Record | None:
        """Return the record of a segment, if it is open."""
        return self._records.get(key[0], {}).get(key[1])

    def of(self, stream: Stream) -> list[Record]:
        """Return the open segments of a stream, in order."""
        return list(self._records.get(stream.info.stream, {}).values())

    def open(self, stream: Stream, item: Segment, now: float, due: float) -> Record:
        """Take in a partial or a whole segment; the record goes on if there was a partial."""
        records = self._records.setdefault(item.stream, {})
        record = records.get(item.sequence)
        if record is None:
            record = Record(stream, item, now, due, next(self._order))
            records[item.sequence] = record
        else:
            record.begin(item, now, due)
        return record

    def drop(self, record: Record) -> None:
        """Forget a segment; what was said in it may still be context."""
        stream, sequence = record.key
        records = self._records[stream]
        del records[sequence]
        if not records:
            del self._records[stream]
            self.clear(record.stream)

    def clear(self, stream: Stream) -> None:
        """Forget what later segments would need, once a stream is over and nobody works on it."""
        if stream.end_written and stream.info.stream not in self._records:
            stream.said.clear()
            stream.states.clear()
