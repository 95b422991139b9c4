"""What the live view knows: every stream and process, from the events that sinks get. No I/O.

Memory is bounded however long a run goes on: of each stream the latest segments are kept, and of
streams that have ended the latest ones.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Final, NamedTuple

from abhinaya.stream.clock import SAMPLE_RATE, to_seconds
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.events import latency_ms
from abhinaya.stream.sinks.track import Change, Track
from abhinaya.stream.wire.messages import (
    Activity,
    Event,
    FrontDown,
    Gap,
    NodeDown,
    NodeUp,
    Status,
    StreamEnded,
    StreamInfo,
    StreamStarted,
    Verdict,
)

SPANS: Final = 512
"""Segments and gaps of a stream that are kept: more than any timeline shows."""
CHANGES: Final = 64
"""Changes of the mood that are kept."""
ENDED: Final = 128
"""Streams that have ended and are kept; the oldest go."""
LATENCIES: Final = 64
"""Verdicts whose latency counts in the status line."""
GAP: Final = "gap"
"""Stands among the labels for what was not heard."""


class Span(NamedTuple):
    """A segment or a gap on the timeline, in samples of the stream."""

    sequence: int
    start: int
    end: int
    label: str


@dataclass(slots=True)
class StreamState:
    """One stream as far as it is seen; positions are samples."""

    name: str
    info: StreamInfo | None = None
    spans: deque[Span] = field(default_factory=lambda: deque(maxlen=SPANS))
    """In the order of their start."""
    activity: Activity | None = None
    """The latest news of who speaks; None for an input that does not report it."""
    begun: int = 0
    """Where somebody last began to speak."""
    processed: int = 0
    """The latest position that an event has reported."""
    verdict: Verdict | None = None
    """On the latest whole segment."""
    so_far: Verdict | None = None
    """On the speech that goes on."""
    latency_ms: float | None = None
    """Of the latest verdict, provisional ones too."""
    ended: StreamEnded | None = None
    alert_unix_s: float | None = None
    gap_unix_s: float | None = None
    _mood: Track = field(default_factory=Track)

    @property
    def live(self) -> bool:
        """Whether its audio arrives by itself."""
        return self.info is not None and self.info.live

    @property
    def speaking(self) -> bool:
        """Whether somebody speaks now: as reported, else if there is a provisional verdict."""
        if self.ended is not None or self.activity is None:
            return self.so_far is not None
        return self.activity.speaking

    @property
    def latest(self) -> Verdict | None:
        """The verdict to show: on the speech that goes on, if there is one."""
        return self.so_far or self.verdict

    @property
    def mood(self) -> str:
        """The smoothed label; `unknown` before there is enough evidence."""
        return self._mood.label

    @property
    def moods(self) -> list[Change]:
        """The latest changes of the mood."""
        return self._mood.changes

    def position(self, now_unix_s: float) -> int:
        """Return how far the stream has come: by the clock if it is live."""
        if self.ended:
            return self.ended.position
        if self.info is None or not self.info.live:
            return self.processed
        return max(self.processed, int((now_unix_s - self.info.start_unix_s) * SAMPLE_RATE))

    def spoke(self, event: Activity) -> None:
        """Take that somebody begins or stops speaking."""
        self.activity = event
        if event.speaking:
            self.begun = event.position
        self.processed = max(self.processed, event.position)

    def decided(self, verdict: Verdict, latency_ms: float) -> None:
        """Take a verdict: provisional, on a whole segment, or a revision."""
        self.processed = max(self.processed, verdict.end)
        newest = self.spans[-1].sequence if self.spans else -1
        if not verdict.final:
            # one that comes late, after the verdict on the whole segment, says nothing new
            if verdict.sequence > newest:
                self.so_far, self.latency_ms = verdict, latency_ms
            return
        self._settle(verdict.sequence)
        span = Span(verdict.sequence, verdict.start, verdict.end, verdict.label)
        if verdict.sequence > newest:
            self.spans.append(span)
            self.verdict, self.latency_ms = verdict, latency_ms
            # a revision comes too late for the mood, which holds what was first
            start_s, end_s = to_seconds(verdict.start), to_seconds(verdict.end)
            self._mood.add(verdict.label, start_s, end_s, verdict.agreement)
            del self._mood.changes[:-CHANGES]
            return
        for i, old in enumerate(self.spans):
            if old.sequence == verdict.sequence:
                self.spans[i] = span
        if self.verdict is not None and self.verdict.sequence == verdict.sequence:
            self.verdict = verdict

    def lost(self, gap: Gap, now_unix_s: float) -> None:
        """Take a gap."""
        self._settle(gap.sequence)
        self.processed = max(self.processed, gap.end)
        self.gap_unix_s = now_unix_s
        self.spans.append(Span(gap.sequence, gap.start, gap.end, GAP))

    def end(self, event: StreamEnded) -> None:
        """Take the end of the stream."""
        self.ended, self.so_far = event, None

    def _settle(self, sequence: int) -> None:
        if self.so_far is not None and self.so_far.sequence <= sequence:
            self.so_far = None


class Board:
    """All streams and processes of a run, as far as they are seen."""

    def __init__(self) -> None:
        self.streams: dict[str, StreamState] = {}
        """By name, in the order of their start."""
        self.voters: set[str] = set()
        """Every voter that was seen."""
        self.up: dict[str, str] = {}
        """Nodes that are ready: name and service."""
        self.down: dict[str, str] = {}
        """Nodes and fronts that were there and are not: name and reason."""
        self.restarts = 0
        """Times that a node came back."""
        self.status: Status | None = None
        self.gaps = 0
        self.gap_reason = ""
        """Of the latest gap."""
        self.alert: Alert | None = None
        """The latest."""
        self.alert_unix_s = 0.0
        self.alerts = 0
        self._latencies: deque[float] = deque(maxlen=LATENCIES)

    @property
    def latency_ms(self) -> float | None:
        """Median of the latest verdicts, from the end of speech; None before the first."""
        return median(self._latencies) if self._latencies else None

    def see(self, event: Event | Activity, now_unix_s: float) -> None:
        """Take an event, provisional ones too."""
        match event:
            case StreamStarted(info=info):
                self._of(info.stream).info = info
            case Activity():
                self._of(event.stream).spoke(event)
            case Verdict():
                self._decided(event, now_unix_s)
            case Gap():
                self.gaps += 1
                self.gap_reason = event.reason
                self._of(event.stream).lost(event, now_unix_s)
            case StreamEnded():
                self._end(event)
            case NodeUp():
                self.restarts += self.down.pop(event.node, None) is not None
                self.up[event.node] = event.service
                if event.gives == "vote":
                    self.voters.add(event.service)
            case NodeDown():
                self.up.pop(event.node, None)
                self.down[event.node] = event.reason
            case FrontDown():
                self.down[event.front] = event.reason
            case Status():
                self.status = event
                for front in event.fronts:
                    self.down.pop(front, None)
            case _:
                pass

    def _end(self, event: StreamEnded) -> None:
        self._of(event.stream).end(event)
        ended = [name for name, stream in self.streams.items() if stream.ended]
        for name in ended[:-ENDED]:
            del self.streams[name]

    def raised(self, alert: Alert, now_unix_s: float) -> None:
        """Take an alert."""
        self.alert, self.alert_unix_s = alert, now_unix_s
        self.alerts += 1
        self._of(alert.stream).alert_unix_s = now_unix_s

    def _decided(self, verdict: Verdict, now_unix_s: float) -> None:
        self.voters.update(vote.voter for vote in verdict.votes)
        self.voters.update(missing.voter for missing in verdict.missing)
        total_ms = latency_ms(verdict, now_unix_s)["total"]
        if verdict.final and not verdict.revision:
            self._latencies.append(total_ms)
        self._of(verdict.stream).decided(verdict, total_ms)

    def _of(self, name: str) -> StreamState:
        return self.streams.setdefault(name, StreamState(name))
