"""Everything a report says, as values: read once from JSON lines, put together stream by stream."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.report.bins import Bins
from abhinaya.stream.report.shares import Shares
from abhinaya.stream.report.talk import Conversation, Talk, calls
from abhinaya.stream.report.track import Track
from abhinaya.stream.sinks.reader import REMEDY, latest
from abhinaya.stream.sinks.rows import Began, Decided, Ended, Lost, NodeLost, Note, Row, Segment

TROUBLES: Final = 200
"""Lines about processes and inputs that a report shows at most."""


@dataclass(slots=True)
class Voter:
    """One voter over the whole run."""

    votes: int = 0
    agreed: int = 0
    """Votes for the label of the verdict."""
    labels: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    """Segments without its vote, by reason."""
    models: set[str] = field(default_factory=set)


@dataclass(slots=True)
class StreamAccount:
    """One stream."""

    name: str
    began: Began | None = None
    ended: Ended | None = None
    segments: list[Segment] = field(default_factory=list)
    """In the order of their start."""
    shares: Shares = field(default_factory=Shares)
    track: Track = field(default_factory=Track)
    bins: Bins = field(default_factory=Bins)

    @property
    def duration_s(self) -> float:
        """Its length, or how far it is decided."""
        decided_s = max((row.end_s for row in self.segments), default=0.0)
        return max(self.ended.duration_s if self.ended else 0.0, decided_s)

    @property
    def gaps(self) -> list[Lost]:
        """What was not heard."""
        return [row for row in self.segments if isinstance(row, Lost)]

    @property
    def labels(self) -> list[str]:
        """Its labels, the one with most speech first."""
        return sorted(self.shares.seconds, key=lambda label: -self.shares.seconds[label])


@dataclass(slots=True)
class Account:
    """A run."""

    title: str
    streams: dict[str, StreamAccount] = field(default_factory=dict)
    talks: dict[str, Talk] = field(default_factory=dict)
    """By the name of the call."""
    voters: dict[str, Voter] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    more_troubles: int = 0
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        """Length of the longest stream."""
        return max((stream.duration_s for stream in self.streams.values()), default=0.0)

    def stream(self, name: str) -> StreamAccount:
        """Give a stream, a new one if nothing is known of it yet."""
        return self.streams.setdefault(name, StreamAccount(name))


def gather(path: Path) -> Account:
    """Read a JSON lines file.

    Raises:
        SourceError: it cannot be read, or holds no stream.

    """
    account = Account(path.name)
    for row in latest(path):
        _take(account, row)
    if not account.streams:
        raise SourceError(str(path), "tells of no stream", REMEDY)
    for stream in account.streams.values():
        for segment in stream.segments:
            stream.shares.add(segment)
            stream.track.add(segment)
            stream.bins.add(segment)
            if isinstance(segment, Decided):
                _ballot(account, segment)
    for names in calls(list(account.streams)):
        account.talks[names[0].rpartition("/")[0]] = _talk(account, names)
    return account


def _take(account: Account, row: Row) -> None:
    match row:
        case Began():
            account.stream(row.stream).began = row
        case Ended():
            account.stream(row.stream).ended = row
            if row.reason:
                _trouble(account, f"{row.stream} broke off: {row.reason}")
        case Decided() | Lost():
            account.stream(row.stream).segments.append(row)
        case NodeLost():
            _trouble(account, f"{row.node} was down: {row.reason}")
        case Note():
            _trouble(account, f"{row.source}: {row.text}")


def _talk(account: Account, names: tuple[str, ...]) -> Talk:
    streams = [account.streams[name] for name in names]
    conversation = Conversation(names)
    for row in sorted((r for s in streams for r in s.segments), key=lambda r: r.start_s):
        conversation.add(row)
    return conversation.finish(max(stream.duration_s for stream in streams))


def _ballot(account: Account, row: Decided) -> None:
    for vote in row.votes:
        voter = account.voters.setdefault(vote.voter, Voter())
        voter.votes += 1
        voter.agreed += vote.label == row.label
        voter.labels[vote.label] += 1
        if vote.model:
            voter.models.add(vote.model)
    for missing in row.missing:
        account.voters.setdefault(missing.voter, Voter()).missing[missing.reason] += 1
    if "total" in row.latency_ms:
        account.latencies_ms.append(row.latency_ms["total"])


def _trouble(account: Account, text: str) -> None:
    if len(account.troubles) < TROUBLES:
        account.troubles.append(text)
    else:
        account.more_troubles += 1
