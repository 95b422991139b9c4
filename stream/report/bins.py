"""Seconds of each label along a stream of any length, in a fixed number of bins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from abhinaya.stream.sinks.rows import Decided, Segment

BINS: Final = 1024
FIRST_S: Final = 0.5
"""Width of a bin at first; it doubles whenever the stream outgrows the bins."""
LOST: Final = "gap"
"""Stands among the labels for what was not heard."""


class Bins:
    """Where in a stream each label was heard. Gaps are binned as the label `gap`.

    Args:
        bins: how many, an even number; what is told is right to one part in half of it.

    """

    def __init__(self, bins: int = BINS) -> None:
        self._size = bins
        self.width_s = FIRST_S
        self.bins: list[Counter[str]] = []
        """Seconds by label."""

    def add(self, row: Segment) -> None:
        """Take a segment; a provisional verdict counts for nothing."""
        if isinstance(row, Decided):
            if not row.final:
                return
            label = row.label
        else:
            label = LOST
        while row.end_s > self._size * self.width_s:
            self._fold()
        at_s = row.start_s
        while row.end_s - at_s > 1e-9:
            place = int(at_s / self.width_s + 1e-9)
            until_s = min(row.end_s, (place + 1) * self.width_s)
            while len(self.bins) <= place:
                self.bins.append(Counter())
            self.bins[place][label] += until_s - at_s  # type: ignore[assignment]
            at_s = until_s

    def parts(self, duration_s: float, count: int = 4) -> Iterator[dict[str, float]]:
        """Yield the seconds of each label in each of `count` equal parts of the stream.

        What is in a bin is taken as spread evenly over it.
        """
        part_s = duration_s / count
        for part in range(count):
            start_s, end_s = part * part_s, (part + 1) * part_s
            seconds: Counter[str] = Counter()
            for i in range(int(start_s / self.width_s), len(self.bins)):
                from_s, to_s = i * self.width_s, (i + 1) * self.width_s
                if from_s >= end_s:
                    break
                # the last bin reaches beyond the end, where there is nothing
                filled_s = min(to_s, duration_s) - from_s
                inside = max(0.0, min(to_s, end_s) - max(from_s, start_s)) / filled_s
                for label, length_s in self.bins[i].items():
                    seconds[label] += inside * length_s  # type: ignore[assignment]
            yield {label: s for label, s in seconds.items() if s > 0}

    def _fold(self) -> None:
        pairs = range(0, len(self.bins), 2)
        self.bins = [sum(self.bins[i : i + 2], Counter()) for i in pairs]
        self.width_s *= 2
