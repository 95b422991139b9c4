"""The state of all streams and processes for the live view, updated by events. No I/O.

Memory is bounded: only the latest segments of each stream and the latest ended streams are kept.
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
"""Number of segments and gaps that are kept of a stream: more than any timeline shows."""
CHANGES: Final = 64
"""Number of mood changes that are kept of a stream."""
ENDED: Final = 128
"""Number of ended streams that are kept; the oldest are removed."""
LATENCIES: Final = 64
"""Number of latest verdicts whose latency counts in the status line."""
GAP: Final = "gap"
"""Label of a gap."""


class Span(NamedTuple):
    """A segment or a gap on the timeline, in samples of the stream."""

    sequence: int
    start: int
    end: int
    label: str


@dataclass(slots=True)
class StreamState:
    """State of one stream; positions are samples."""

    name: str
    info: StreamInfo | None = None
    spans: deque[Span] = field(default_factory=lambda: deque(maxlen=SPANS))
    """Segments and gaps in the order of their start."""
    activity: Activity | None = None
    """Latest report that speech has started or stopped; None if the input does not report it."""
    begun: int = 0
    """Start of the latest speech."""
    processed: int = 0
    """The latest position that an event has reported."""
    verdict: Verdict | None = None
    """Final verdict on the latest segment."""
    so_far: Verdict | None = None
    """Provisional verdict on the current speech."""
    latency_ms: float | None = None
    """Latency of the latest verdict, provisional or final."""
    ended: StreamEnded | None = None
    alert_unix_s: float | None = None
    gap_unix_s: float | None = None
    _mood: Track = field(default_factory=Track)

    @property
    def live(self) -> bool:
        """Whether the stream is live."""
        return self.info is not None and self.info.live

    @property
    def speaking(self) -> bool:
        """Whether somebody is speaking: as reported, else whether `so_far` is set."""
        if self.ended is not None or self.activity is None:
            return self.so_far is not None
        return self.activity.speaking

    @property
    def latest(self) -> Verdict | None:
        """The verdict to show: the provisional one, if there is one."""
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
        """Return the current position: by the clock if the stream is live."""
        if self.ended:
            return self.ended.position
        if self.info is None or not self.info.live:
            return self.processed
        return max(self.processed, int((now_unix_s - self.info.start_unix_s) * SAMPLE_RATE))

    def add_activity(self, event: Activity) -> None:
        """Note that speech has started or stopped."""
        self.activity = event
        if event.speaking:
            self.begun = event.position
        self.processed = max(self.processed, event.position)

    def add_verdict(self, verdict: Verdict, latency_ms: float) -> None:
        """Add a verdict: provisional, final, or a revision."""
        self.processed = max(self.processed, verdict.end)
        newest = self.spans[-1].sequence if self.spans else -1
        if not verdict.final:
            # a provisional verdict after the final one of its segment is ignored
            if verdict.sequence > newest:
                self.so_far, self.latency_ms = verdict, latency_ms
            return
        self._settle(verdict.sequence)
        span = Span(verdict.sequence, verdict.start, verdict.end, verdict.label)
        if verdict.sequence > newest:
            self.spans.append(span)
            self.verdict, self.latency_ms = verdict, latency_ms
            # the mood uses only the first verdict on a segment, not its revisions
            start_s, end_s = to_seconds(verdict.start), to_seconds(verdict.end)
            self._mood.add(verdict.label, start_s, end_s, verdict.agreement)
            del self._mood.changes[:-CHANGES]
            return
        for i, old in enumerate(self.spans):
            if old.sequence == verdict.sequence:
                self.spans[i] = span
        if self.verdict is not None and self.verdict.sequence == verdict.sequence:
            self.verdict = verdict

    def add_gap(self, gap: Gap, now_unix_s: float) -> None:
        """Add a gap."""
        self._settle(gap.sequence)
        self.processed = max(self.processed, gap.end)
        self.gap_unix_s = now_unix_s
        self.spans.append(Span(gap.sequence, gap.start, gap.end, GAP))

    def end(self, event: StreamEnded) -> None:
        """Note that the stream has ended."""
        self.ended, self.so_far = event, None

    def _settle(self, sequence: int) -> None:
        if self.so_far is not None and self.so_far.sequence <= sequence:
            self.so_far = None


class Board:
    """State of all streams and processes of a run."""

    def __init__(self) -> None:
        self.streams: dict[str, StreamState] = {}
        """Streams by name, in the order of their start."""
        self.voters: set[str] = set()
        """Names of all voters so far."""
        self.up: dict[str, str] = {}
        """Service of each ready node, by the node's name."""
        self.down: dict[str, str] = {}
        """Reason why a node or front is down, by its name."""
        self.restarts = 0
        self.status: Status | None = None
        self.gaps = 0
        self.gap_reason = ""
        self.alert: Alert | None = None
        """The latest alert."""
        self.alert_unix_s = 0.0
        self.alerts = 0
        self._latencies: deque[float] = deque(maxlen=LATENCIES)

    @property
    def latency_ms(self) -> float | None:
        """Median latency of the latest verdicts; None before the first."""
        return median(self._latencies) if self._latencies else None

    def see(self, event: Event | Activity, now_unix_s: float) -> None:
        """Update the state by an event, provisional or final."""
        match event:
            case StreamStarted(info=info):
                self._of(info.stream).info = info
            case Activity():
                self._of(event.stream).add_activity(event)
            case Verdict():
                self._decided(event, now_unix_s)
            case Gap():
                self.gaps += 1
                self.gap_reason = event.reason
                self._of(event.stream).add_gap(event, now_unix_s)
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

    def add_alert(self, alert: Alert, now_unix_s: float) -> None:
        """Add an alert."""
        self.alert, self.alert_unix_s = alert, now_unix_s
        self.alerts += 1
        self._of(alert.stream).alert_unix_s = now_unix_s

    def _decided(self, verdict: Verdict, now_unix_s: float) -> None:
        self.voters.update(vote.voter for vote in verdict.votes)
        self.voters.update(missing.voter for missing in verdict.missing)
        total_ms = latency_ms(verdict, now_unix_s)["total"]
        if verdict.final and not verdict.revision:
            self._latencies.append(total_ms)
        self._of(verdict.stream).add_verdict(verdict, total_ms)

    def _of(self, name: str) -> StreamState:
        return self.streams.setdefault(name, StreamState(name))
