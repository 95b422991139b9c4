"""Hold the latest segments of a stream back for as long as a revision of them may come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from abhinaya.stream.sinks.rows import Segment

HELD: Final = 32
"""Segments of a stream: minutes of speech, where a late vote is a matter of seconds."""


class Settling:
    """Orders the segments of one stream, each in its last revision.

    Args:
        held: how many segments are kept open.

    """

    def __init__(self, held: int = HELD) -> None:
        self._held = held
        self._open: dict[int, Segment] = {}
        self._settled = -1
        """The highest sequence number that was given away."""

    def add(self, row: Segment) -> Iterator[Segment]:
        """Take a segment or a revision; yield what no revision can change any more."""
        if row.segment <= self._settled:
            return
        self._open[row.segment] = row
        while len(self._open) > self._held:
            yield self._pop()

    def rest(self) -> Iterator[Segment]:
        """Yield what is still open, at the end."""
        while self._open:
            yield self._pop()

    def pending(self) -> list[Segment]:
        """Give what is open, in order, without closing it; provisional verdicts among it."""
        return [self._open[i] for i in sorted(self._open)]

    def _pop(self) -> Segment:
        self._settled = min(self._open)
        return self._open.pop(self._settled)
