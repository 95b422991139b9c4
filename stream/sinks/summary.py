"""Statistics of a run, stream by stream, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.models.vote.ensemble import NOT_ASKED
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.sinks.events import latency_ms
from abhinaya.stream.wire.messages import Event, Gap, StreamEnded, StreamStarted, Verdict

NOT_PROCESSED: Final = "not processed"
NO_SPEECH: Final = "no speech was found"
REVISABLE: Final = 256
"""Number of latest verdicts that are kept, so that a revision can correct the totals."""
REASONS: Final = 16
"""Number of gap reasons that are counted separately; others are counted together."""
BINS_PER_OCTAVE: Final = 16
"""Resolution of the latency histogram: the error of a quantile is about 2 %."""


class Histogram:
    """A histogram of latencies with logarithmic bins."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, ms: float) -> None:
        """Count a latency in milliseconds."""
        self._counts[round(BINS_PER_OCTAVE * math.log2(max(ms, 0.1)))] += 1

    def quantile(self, share: float) -> float | None:
        """Return a quantile in milliseconds (`share` 0.5: the median); None without data."""
        rank = math.ceil(share * self._counts.total())
        for place in sorted(self._counts):
            rank -= self._counts[place]
            if rank <= 0:
                return float(2.0 ** (place / BINS_PER_OCTAVE))
        return None


@dataclass(slots=True)
class StreamSummary:
    """Statistics of one stream; all lengths are in samples."""

    segments: int = 0
    speech: int = 0
    """Length of all segments, without gaps."""
    duration: int = 0
    """Length of the stream; until it has ended, the end of the latest segment or gap."""
    ended: bool = False
    sound: str = ""
    """What is wrong with its sound."""
    reason: str = ""
    """Why it broke off; empty if it did not."""
    heard: int = 0
    """How far it was processed, in samples: a gap at the end does not count."""
    revisions: int = 0
    incomplete: int = 0
    """Number of segments whose first verdict lacked a vote."""
    gaps: int = 0
    gap_samples: int = 0
    gap_reasons: Counter[str] = field(default_factory=Counter)
    emotions: Counter[str] = field(default_factory=Counter)
    """Length of speech for each label, including `unknown`."""
    latency: Histogram = field(default_factory=Histogram)
    _recent: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Label and length of the latest verdicts, by sequence number."""

    @property
    def silent(self) -> bool:
        """Whether no speech was found."""
        return self.segments == 0 and self.gaps == 0

    @property
    def silence(self) -> str:
        """A sentence about a stream in which no speech was found."""
        if not self.ended:
            return "not heard to its end, and no speech was found so far"
        return self.sound_note or NO_SPEECH

    @property
    def sound_note(self) -> str:
        """A sentence about what is wrong with the sound; empty if nothing is."""
        effect = "speech may be missed" if self.segments else NO_SPEECH
        return f"{effect}: {self.sound}" if self.sound else ""

    @property
    def not_processed(self) -> str:
        """Why nothing of it was processed; empty if some was."""
        if self.segments or self.heard or not self.reason:
            return ""
        return f"{NOT_PROCESSED}: {self.reason.removeprefix(f'{NOT_PROCESSED}: ')}"

    def add_verdict(self, event: Verdict, now_unix_s: float) -> None:
        """Count a new verdict, or correct the totals by a revision."""
        self.revisions += event.revision > 0
        known = self._recent.get(event.sequence)
        if known is None and event.revision:
            return  # the verdict that it revises is no longer kept
        label, length = known or (event.label, 0)
        self.emotions[label] -= length
        self.emotions[event.label] += event.end - event.start
        self.speech += event.end - event.start - length
        self._recent[event.sequence] = (event.label, event.end - event.start)
        if known is not None:
            return
        if len(self._recent) > REVISABLE:
            del self._recent[next(iter(self._recent))]
        self.segments += 1
        self.incomplete += any(missing.reason != NOT_ASKED for missing in event.missing)
        self.duration = self.heard = max(self.duration, event.end)
        self.latency.add(latency_ms(event, now_unix_s)["total"])

    def add_gap(self, event: Gap) -> None:
        """Count a gap."""
        self.gaps += 1
        self.gap_samples += event.end - event.start
        self.duration = max(self.duration, event.end)
        known = event.reason in self.gap_reasons or len(self.gap_reasons) < REASONS
        self.gap_reasons[event.reason if known else "other reasons"] += 1

    def as_dict(self) -> dict[str, Any]:
        """Return the values of a `summary` event."""
        p50, p95 = self.latency.quantile(0.50), self.latency.quantile(0.95)
        return {
            "duration_s": round(to_seconds(self.duration), 3),
            "ended": self.ended,
            "reason": self.reason,
            "speech_s": round(to_seconds(self.speech), 3),
            "segments": self.segments,
            "emotions_s": {
                label: round(to_seconds(self.emotions[label]), 3)
                for label in (*LABELS, UNKNOWN)
                if self.emotions[label] > 0
            },
            "revisions": self.revisions,
            "incomplete": self.incomplete,
            "gaps": self.gaps,
            "gaps_s": round(to_seconds(self.gap_samples), 3),
            "gap_reasons": dict(self.gap_reasons),
            "latency_p50_ms": round(p50, 1) if p50 is not None else None,
            "latency_p95_ms": round(p95, 1) if p95 is not None else None,
        }


class Summary:
    """Statistics of all streams of a run, in the order of their start."""

    def __init__(self) -> None:
        self.streams: dict[str, StreamSummary] = {}

    def add(self, event: Event, now_unix_s: float) -> None:
        """Count an event; events of processes are ignored."""
        match event:
            case StreamStarted(info=info):
                self._of(info.stream)
            case Verdict():
                self._of(event.stream).add_verdict(event, now_unix_s)
            case Gap():
                self._of(event.stream).add_gap(event)
            case StreamEnded():
                stream = self._of(event.stream)
                if stream.duration < event.position:  # else a gap is at its end
                    stream.heard = event.position
                stream.duration, stream.ended = event.position, True
                stream.sound, stream.reason = event.sound, event.reason
            case _:
                pass

    @property
    def gaps(self) -> int:
        """Number of gaps in all streams."""
        return sum(stream.gaps for stream in self.streams.values())

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the values of a `summary` event, by stream."""
        return {name: stream.as_dict() for name, stream in self.streams.items()}

    def _of(self, name: str) -> StreamSummary:
        return self.streams.setdefault(name, StreamSummary())
