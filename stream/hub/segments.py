"""The data of the hub: one `Stream` for each stream, one `Record` for each open segment.

Pure. A record is made for the first partial of a segment, or for the segment itself, and deleted by
`drop`. The deciders (dispatch, aggregator, partials) keep almost all of their data in it.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from abhinaya.stream.hub.validation import TRANSCRIBER
from abhinaya.stream.wire.keys import LOCAL
from abhinaya.stream.wire.keys import Key as Owner
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
"""A segment: (`Stream.id`, sequence number)."""

CONTEXT_TURNS: Final = 16
"""Number of transcripts of a stream that are kept as context."""


class State(Enum):
    """State of one service for one segment; its value is why there is no answer yet."""

    DEFERRED = "was waiting for the other voters"  # second stage: perhaps it is not asked
    WAITING = "was waiting for the transcript"  # its inputs are missing, or not declared yet
    QUEUED = "every node was busy"
    HELD = "its node was still at work"
    DONE = "it has answered"
    ABSENT = "no answer"  # there will be none


UNSENT: Final = (State.DEFERRED, State.WAITING, State.QUEUED)
OPEN: Final = (*UNSENT, State.HELD)


@dataclass(slots=True)
class Work:
    """Work of one service on one segment."""

    state: State = State.WAITING
    attempts: int = 0
    reason: str = ""


@dataclass(slots=True, eq=False)
class Stream:
    """Progress of one stream, and data of earlier segments that later ones need."""

    info: StreamInfo
    front: bytes
    """Socket identity of the front."""
    next_sequence: int
    """The lowest sequence number that was not received."""
    acknowledged: int
    """The lowest sequence number that the recorder has not confirmed."""
    owner: Owner = LOCAL
    """The key that opened its run."""
    position: int = 0
    """End of the last received item, in samples."""
    ended: bool = False
    end_written: bool = False
    present: float | None = None
    """When its front was last seen; None: not yet."""
    outcomes: deque[Record | Gap | StreamEnded] = field(default_factory=deque)
    """Items that are not published yet, in order."""
    transcripts: dict[int, Transcript] = field(default_factory=dict)
    """The latest transcripts with words, by sequence number."""
    states: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """State by stateful service and sequence number; only the model of the service can read it."""

    def allows(self, service: str) -> bool:
        """Whether a service may be asked about the stream. Nobody votes if it is not judged."""
        return self.info.judged or (self.info.heard and service == TRANSCRIBER)

    @property
    def id(self) -> str:
        """Run and name: the key inside the hub, and the name that nodes get and repeat."""
        return f"{self.info.run}:{self.info.stream}"

    def transcribed(self, transcript: Transcript) -> None:
        """Keep a transcript as context for later segments."""
        if transcript.text:
            self.transcripts[transcript.sequence] = transcript
            if len(self.transcripts) > CONTEXT_TURNS:
                del self.transcripts[min(self.transcripts)]

    def keep_state(self, sequence: int, service: str, state: bytes) -> None:
        """Keep the state of a service after a segment; an empty state changes nothing."""
        if state:
            self.states.setdefault(service, {})[sequence] = state

    def restore_state(self, service: str, state: bytes) -> None:
        """Restore the state before the first open segment, unless there is a newer one."""
        if not self.states.get(service):
            self.keep_state(self.acknowledged - 1, service, state)

    def states_before(self, sequence: int, services: Iterable[str]) -> dict[str, bytes]:
        """Return the state of each service before a segment."""
        found = {}
        for service in services:
            known = self.states.get(service, {})
            before = max((s for s in known if s < sequence), default=None)
            if before is not None:
                found[service] = known[before]
        return found

    def acknowledged_states(self) -> dict[str, bytes]:
        """Return the states after the last acknowledged segment."""
        return self.states_before(self.acknowledged, self.states)

    def delete_states_before(self, first_open: int) -> None:
        """Delete states that neither an open segment nor a restarted hub can need."""
        for known in self.states.values():
            for sequence in sorted(s for s in known if s < min(first_open, self.acknowledged))[:-1]:
                del known[sequence]


@dataclass(slots=True, eq=False)
class Record:
    """One open segment: until it is complete, its latest partial."""

    stream: Stream
    item: Segment
    """The whole segment, or the current partial."""
    received: float
    due: float
    """Deadline of the verdict."""
    order: int
    """Number of the record; breaks ties between equal deadlines."""
    work: dict[str, Work] = field(default_factory=dict)
    """Work by service; empty for a partial whose verdict is published."""
    begun: float | None = None
    """When the first node received a task."""
    transcribed: float | None = None
    voted: float | None = None
    """When the last voter answered or was given up."""
    transcript: Transcript | None = None
    votes: dict[str, Vote] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Reasons of the voters that will not vote."""
    verdict: Verdict | None = None
    """The latest verdict on the whole segment."""
    choices: tuple[str, ...] = ()
    """Labels that the refiner must choose from; empty unless the refiner still has to answer."""
    refinement: Vote | None = None
    nodes: dict[str, bool] = field(default_factory=dict)
    """Nodes that received a task; True while a node may keep data of the partials."""
    next: Segment | None = None
    """The newest partial; waits until the current one is decided."""
    words: Transcript | None = None
    """Transcript of the latest partial that has one."""
    served: float = 0.0
    """When a node last received a partial of the segment."""

    @property
    def key(self) -> Key:
        """Stream and sequence number."""
        return self.stream.id, self.item.sequence

    def begin(self, item: Segment, now: float, due: float) -> None:
        """Reset the record for the next partial or the whole segment."""
        self.item, self.received, self.due = item, now, due
        self.work, self.votes, self.missing = {}, {}, {}
        self.begun = self.transcribed = self.voted = self.transcript = None

    def voting(self, voters: Sequence[str]) -> Sequence[str]:
        """Return those of the voters that may judge the stream: all or none."""
        return voters if self.stream.info.judged else ()

    def settled(self, voters: Sequence[str]) -> bool:
        """Whether every voter has answered or been given up."""
        return len(self.votes) + len(self.missing) >= len(self.voting(voters))

    def state_of(self, service: str) -> State | None:
        """Return the state of a service; None if the service was not asked."""
        return self.work[service].state if service in self.work else None

    def is_open(self, services: Iterable[str]) -> bool:
        """Whether one of these services may still answer."""
        return any(self.state_of(name) in OPEN for name in services)


class Segments:
    """The records of all streams."""

    def __init__(self) -> None:
        self.audio: Counter[Owner] = Counter()
        """By owner: bytes of audio."""
        self._records: dict[str, dict[int, Record]] = {}
        self._order = itertools.count()

    def __iter__(self) -> Iterator[Record]:
        return (record for records in self._records.values() for record in records.values())

    def get(self, key: Key) -> Record | None:
        """Return the record of a segment; None if the segment is not open."""
        return self._records.get(key[0], {}).get(key[1])

    def __contains__(self, stream: Stream) -> bool:
        return stream.id in self._records

    def of(self, stream: Stream) -> list[Record]:
        """Return the open segments of a stream, in order."""
        return list(self._records.get(stream.id, {}).values())

    def open(self, stream: Stream, item: Segment, now: float, due: float) -> Record:
        """Return the record of a partial or segment; reuse that of an earlier partial."""
        records = self._records.setdefault(stream.id, {})
        record = records.get(item.sequence)
        self.audio[stream.owner] += item.samples.nbytes
        if record is None:
            record = Record(stream, item, now, due, next(self._order))
            records[item.sequence] = record
        else:
            self.audio[stream.owner] -= record.item.samples.nbytes
            record.begin(item, now, due)
        return record

    def keep(self, record: Record, partial: Segment | None) -> None:
        """Set the partial that waits for its turn."""
        for item, sign in ((record.next, -1), (partial, 1)):
            self.audio[record.stream.owner] += sign * (item.samples.nbytes if item else 0)
        record.next = partial

    def drop(self, record: Record) -> None:
        """Delete a record; the stream keeps the transcript as context."""
        stream, sequence = record.key
        records = self._records[stream]
        self.keep(record, None)
        self.audio[record.stream.owner] -= record.item.samples.nbytes
        del records[sequence]
        if not records:
            del self._records[stream]
        self.clear(record.stream)

    def clear(self, stream: Stream) -> None:
        """Delete transcripts and states of a stream that nothing can need any more."""
        records = self._records.get(stream.id)
        if stream.end_written and not records:
            stream.transcripts.clear()
            stream.states.clear()
        # a late vote on an open segment still needs the state before that segment
        stream.delete_states_before(min(records) if records else stream.next_sequence)
