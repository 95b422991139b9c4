"""What the live view knows: every stream and process, from the events that sinks get. No I/O.

Memory is bounded however long a run goes on: of each stream the latest segments are kept, and of
streams that have ended the latest ones.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.events import latency_ms
from abhinaya.stream.sinks.live.stream import StreamState
from abhinaya.stream.wire.messages import (
    Activity,
    Event,
    FrontDown,
    Gap,
    NodeDown,
    NodeUp,
    Remark,
    Status,
    StreamEnded,
    StreamInfo,
    StreamStarted,
    Verdict,
)

ENDED: Final = 128
"""Streams that have ended and are kept; the oldest go."""
LATENCIES: Final = 64
"""Verdicts whose latency counts in the status line."""


class Board:
    """All streams and processes of a run, as far as they are seen."""

    def __init__(self) -> None:
        self.streams: dict[str, StreamState] = {}
        """By name, in the order of their start."""
        self.voters: set[str] = set()
        """Every voter heard of."""
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
                self._started(info)
            case Activity():
                self._of(event.stream).spoke(event)
            case Verdict():
                self._decided(event, now_unix_s)
            case Gap():
                self.gaps += 1
                self.gap_reason = event.reason
                self._of(event.stream).lost(event, now_unix_s)
            case StreamEnded():
                self._of(event.stream).end(event)
                self._forget()
            case _:
                self._of_process(event)

    def raised(self, alert: Alert, now_unix_s: float) -> None:
        """Take an alert."""
        self.alert, self.alert_unix_s = alert, now_unix_s
        self.alerts += 1
        self._of(alert.stream).alert_unix_s = now_unix_s

    def _of_process(self, event: NodeUp | NodeDown | FrontDown | Remark | Status) -> None:
        match event:
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
            case Remark():
                pass

    def _started(self, info: StreamInfo) -> None:
        self._of(info.stream).info = info

    def _decided(self, verdict: Verdict, now_unix_s: float) -> None:
        for vote in verdict.votes:
            self.voters.add(vote.voter)
        for missing in verdict.missing:
            self.voters.add(missing.voter)
        total_ms = latency_ms(verdict, now_unix_s)["total"]
        if verdict.final and not verdict.revision:
            self._latencies.append(total_ms)
        self._of(verdict.stream).decided(verdict, total_ms)

    def _of(self, name: str) -> StreamState:
        stream = self.streams.get(name)
        if stream is None:
            stream = self.streams[name] = StreamState(name)
        return stream

    def _forget(self) -> None:
        over = [name for name, stream in self.streams.items() if stream.ended]
        for name in over[:-ENDED]:
            del self.streams[name]
