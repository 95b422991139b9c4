"""Reads a JSON lines file once, and collects the values of a report, stream by stream."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from abhinaya.models.labels import Attributes
from abhinaya.stream.errors import SourceError
from abhinaya.stream.report.shares import Share, shares
from abhinaya.stream.report.talk import Talk, calls, talk
from abhinaya.stream.sinks.reader import REMEDY, latest
from abhinaya.stream.sinks.rows import Began, Decided, Ended, Lost, NodeLost, Note, Row, Segment
from abhinaya.stream.sinks.track import Change, Track


@dataclass(slots=True)
class Voter:
    """Statistics of one voter over the whole run."""

    votes: int = 0
    agreed: int = 0
    """Number of votes with the same label as the verdict."""
    labels: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    """Number of segments without a vote, by reason."""
    models: set[str] = field(default_factory=set)


@dataclass(slots=True)
class StreamAccount:
    """Values of the report for one stream."""

    name: str
    began: Began | None = None
    ended: Ended | None = None
    segments: list[Segment] = field(default_factory=list)
    """Segments and gaps in the order of their start."""
    shares: dict[str, Share] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    """Changes of the smoothed label."""

    @property
    def duration_s(self) -> float:
        """Length of the stream; without an end event, the end of its last segment."""
        decided_s = max((row.end_s for row in self.segments), default=0.0)
        return max(self.ended.duration_s if self.ended else 0.0, decided_s)

    @property
    def gaps(self) -> list[Lost]:
        """Gaps of the stream."""
        return [row for row in self.segments if isinstance(row, Lost)]

    @property
    def labels(self) -> list[str]:
        """Labels of the stream, the one with most speech first."""
        return sorted(self.shares, key=lambda label: -self.shares[label].seconds)

    @property
    def attributes(self) -> Attributes | None:
        """Mean attributes over the segments that have them, weighted by length; None without."""
        rated = [
            (row.end_s - row.start_s, (of.arousal, of.valence, of.dominance))
            for row in self.segments
            if isinstance(row, Decided) and (of := row.attributes)
        ]
        total_s = sum(seconds for seconds, _ in rated)
        if not total_s:
            return None
        return Attributes(*(sum(s * values[k] for s, values in rated) / total_s for k in range(3)))

    @property
    def speech_s(self) -> float:
        """Seconds of speech in the stream."""
        return sum(share.seconds for share in self.shares.values())


@dataclass(slots=True)
class Account:
    """Values of the report for a run."""

    title: str
    streams: dict[str, StreamAccount] = field(default_factory=dict)
    talks: dict[str, Talk] = field(default_factory=dict)
    """Statistics of each call, by the name of its input."""
    voters: dict[str, Voter] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        """Length of the longest stream."""
        return max((stream.duration_s for stream in self.streams.values()), default=0.0)

    def stream(self, name: str) -> StreamAccount:
        """Return the stream of this name; add it if it is new."""
        return self.streams.setdefault(name, StreamAccount(name))


def gather(path: Path) -> Account:
    """Return the values of the run in a JSON lines file.

    Raises:
        SourceError: the file cannot be read, or holds no stream.

    """
    account = Account(path.name)
    for row in latest(path):
        _add(account, row)
    if not account.streams:
        raise SourceError(str(path), "holds no stream", REMEDY)
    for stream in account.streams.values():
        stream.shares = shares(stream.segments)
        track = Track()
        for segment in stream.segments:
            if isinstance(segment, Decided):
                track.add(segment.label, segment.start_s, segment.end_s, segment.agreement)
        stream.changes = track.changes
    for names in calls(list(account.streams)):
        channels = [account.streams[name] for name in names]
        rows = [row for channel in channels for row in channel.segments]
        longest_s = max(channel.duration_s for channel in channels)
        account.talks[names[0].rpartition("/")[0]] = talk(names, rows, longest_s)
    return account


def _add(account: Account, row: Row) -> None:
    match row:
        case Began():
            account.stream(row.stream).began = row
        case Ended():
            account.stream(row.stream).ended = row
            if row.reason:
                account.troubles.append(f"{row.stream} broke off: {row.reason}")
            elif row.sound:
                account.troubles.append(f"the sound of {row.stream}: {row.sound}")
        case Decided():
            account.stream(row.stream).segments.append(row)
            _count_votes(account, row)
        case Lost():
            account.stream(row.stream).segments.append(row)
        case NodeLost():
            account.troubles.append(f"{row.node} was down: {row.reason}")
        case Note():
            account.troubles.append(f"{row.source}: {row.text}")


def _count_votes(account: Account, row: Decided) -> None:
    for vote in row.votes:
        voter = account.voters.setdefault(vote.voter, Voter())
        voter.votes += 1
        voter.agreed += vote.label == row.label
        voter.labels.update([vote.label] if vote.label else ())
        if vote.model:
            voter.models.add(vote.model)
    for missing in row.missing:
        account.voters.setdefault(missing.voter, Voter()).missing[missing.reason] += 1
    if "total" in row.latency_ms:
        account.latencies_ms.append(row.latency_ms["total"])
