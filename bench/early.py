"""What provisional labels are worth: how soon they come, and how often they stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from abhinaya.bench.statistics import percentiles
from abhinaya.stream.messages import Activity, Event, Verdict

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Early:
    """What the provisional labels of a run were worth."""

    share: float
    """Segments that had one, of all."""
    first_ms: Mapping[str, float]
    """Percentile -> milliseconds from the start of the segment to its first one at the sink."""
    first_stays: float
    """Share of those segments whose first provisional label is also the final one."""
    last_stays: float
    """The same of the last provisional label."""


@dataclass(slots=True)
class EarlyLabels:
    """Compares provisional labels with final ones; those that are still open are few."""

    segments: int = 0
    first_ms: list[float] = field(default_factory=list)
    firsts: int = 0
    lasts: int = 0
    _open: dict[Key, tuple[str, str]] = field(default_factory=dict)
    """First and last label of the segments that are still spoken."""

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Take a provisional verdict that has a label."""
        if isinstance(event, Activity) or not event.votes:
            return
        key = (event.stream, event.sequence)
        if key not in self._open:
            self.first_ms.append(1000 * (now_unix_s - event.start_unix_s))
        first, _ = self._open.get(key, (event.label, ""))
        self._open[key] = (first, event.label)

    def event(self, event: Event) -> None:
        """Take a final verdict, before it is revised."""
        if not isinstance(event, Verdict) or event.revision:
            return
        self.segments += 1
        first, last = self._open.pop((event.stream, event.sequence), ("", ""))
        self.firsts += first == event.label
        self.lasts += last == event.label

    def result(self) -> Early | None:
        """Give what they came to; None if there were none."""
        told = len(self.first_ms) - len(self._open)
        if not told:
            return None
        return Early(
            share=told / self.segments,
            first_ms=percentiles(self.first_ms),
            first_stays=self.firsts / told,
            last_stays=self.lasts / told,
        )
