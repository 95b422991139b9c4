"""What the live view knows of one stream."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from abhinaya.stream.clock import SAMPLE_RATE, to_seconds
from abhinaya.stream.sinks.rows import Decided
from abhinaya.stream.sinks.track import Change, Track
from abhinaya.stream.wire.messages import Activity, Gap, StreamEnded, StreamInfo, Verdict

SPANS: Final = 512
"""Segments and gaps of a stream that are kept: more than any timeline shows."""
CHANGES: Final = 64
"""Changes of the mood that are kept."""
GAP: Final = "gap"
"""Stands among the labels for what was not heard."""


class Span(NamedTuple):
    """A segment or a gap on the timeline, in samples of the stream."""

    sequence: int
    start: int
    end: int
    label: str


class StreamState:
    """One stream as far as it is seen.

    Args:
        name: of the stream.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.info: StreamInfo | None = None
        self.spans: deque[Span] = deque(maxlen=SPANS)
        """In the order of their start."""
        self.turned: int | None = None
        """Where it last began or ceased to be spoken, in samples; None if that is not told."""
        self.begun = 0
        """Where it last began to be spoken."""
        self._speaking = False
        self.heard = 0
        """The latest position that an event has told."""
        self.verdict: Verdict | None = None
        """On the latest whole segment."""
        self.so_far: Verdict | None = None
        """On the speech that goes on."""
        self.latency_ms: float | None = None
        """Of the latest verdict, provisional ones too."""
        self.ended: StreamEnded | None = None
        self.alert_unix_s: float | None = None
        self.gap_unix_s: float | None = None
        self._mood = Track()

    @property
    def live(self) -> bool:
        """Whether its audio arrives by itself."""
        return self.info is not None and self.info.live

    @property
    def speaking(self) -> bool:
        """Whether somebody speaks now: as it is told, else by what is said of the speech."""
        return self._speaking if self.turned is not None else self.so_far is not None

    @property
    def latest(self) -> Verdict | None:
        """The verdict to show: on the speech that goes on, if there is one."""
        return self.so_far or self.verdict

    @property
    def mood(self) -> str:
        """The smoothed label (overtime.track); `unknown` before there is enough evidence."""
        return self._mood.label

    @property
    def moods(self) -> list[Change]:
        """The latest changes of the mood."""
        return self._mood.changes

    def position(self, now_unix_s: float) -> int:
        """Give how far the stream has come, in samples: by the clock if it is live."""
        if self.ended:
            return self.ended.position
        if self.info is None or not self.info.live:
            return self.heard
        return max(self.heard, int((now_unix_s - self.info.start_unix_s) * SAMPLE_RATE))

    def spoke(self, event: Activity) -> None:
        """Take that somebody begins or ceases to speak."""
        self._speaking, self.turned = event.speaking, event.position
        if event.speaking:
            self.begun = event.position
        self.heard = max(self.heard, event.position)

    def decided(self, verdict: Verdict, latency_ms: float) -> None:
        """Take a verdict: provisional, on a whole segment, or a revision."""
        self.heard = max(self.heard, verdict.end)
        newest = self.spans[-1].sequence if self.spans else -1
        if not verdict.final:
            # one that comes late, behind the verdict on the whole segment, tells nothing
            if verdict.sequence > newest:
                self.so_far, self.latency_ms = verdict, latency_ms
            return
        self._close(verdict.sequence)
        span = Span(verdict.sequence, verdict.start, verdict.end, verdict.label)
        if verdict.sequence > newest:
            self.spans.append(span)
            self.verdict, self.latency_ms = verdict, latency_ms
            self._mood.add(_row(verdict))
            del self._mood.changes[:-CHANGES]
            return
        for i in range(len(self.spans) - 1, -1, -1):
            if self.spans[i].sequence == verdict.sequence:
                self.spans[i] = span
                break
        if self.verdict is not None and self.verdict.sequence == verdict.sequence:
            self.verdict = verdict

    def lost(self, gap: Gap, now_unix_s: float) -> None:
        """Take a gap."""
        self._close(gap.sequence)
        self.heard = max(self.heard, gap.end)
        self.gap_unix_s = now_unix_s
        self.spans.append(Span(gap.sequence, gap.start, gap.end, GAP))

    def end(self, event: StreamEnded) -> None:
        """Take the end of the stream."""
        self.ended = event
        self.so_far, self._speaking = None, False

    def _close(self, sequence: int) -> None:
        if self.so_far is not None and self.so_far.sequence <= sequence:
            self.so_far = None


def _row(verdict: Verdict) -> Decided:
    """Give what the mood is made of. A revision comes too late for it: it holds what was first."""
    return Decided(
        stream=verdict.stream,
        segment=verdict.sequence,
        start_s=to_seconds(verdict.start),
        end_s=to_seconds(verdict.end),
        label=verdict.label,
        agreement=verdict.agreement,
    )
