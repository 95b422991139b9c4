"""How much of a stream each emotion has, and how long it went on at a stretch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from abhinaya.stream.sinks.rows import Lost, Segment

PAUSE_S: Final = 30.0
"""A silence longer than this ends a run."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of a stream, in seconds."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """How long it is."""
        return self.end_s - self.start_s


class Shares:
    """Seconds and longest run of each label, from segments in the order of their start.

    Args:
        pause_s: a silence longer than this ends a run; so do another label and a gap.

    """

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s
        self._run: tuple[str, Stretch] | None = None
        self.seconds: dict[str, float] = {}
        """Of speech, by label, `unknown` among them."""
        self.longest: dict[str, Stretch] = {}
        """From the start of the first segment of the run to the end of its last, by label."""

    @property
    def speech_s(self) -> float:
        """Seconds of speech in all."""
        return sum(self.seconds.values())

    def share(self, label: str) -> float:
        """Give the part of all speech that has the label, from 0 to 1."""
        return self.seconds.get(label, 0.0) / (self.speech_s or 1.0)

    def add(self, row: Segment) -> None:
        """Take a segment; a provisional verdict counts for nothing."""
        if isinstance(row, Lost):
            self._run = None
            return
        if not row.final:
            return
        length_s = row.end_s - row.start_s
        self.seconds[row.label] = self.seconds.get(row.label, 0.0) + length_s
        start_s = row.start_s
        if self._run is not None:
            label, run = self._run
            if label == row.label and row.start_s - run.end_s <= self._pause_s:
                start_s = run.start_s
        stretch = Stretch(start_s, row.end_s)
        self._run = row.label, stretch
        best = self.longest.get(row.label)
        if best is None or stretch.length_s > best.length_s:
            self.longest[row.label] = stretch
