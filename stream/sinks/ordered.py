"""A text file of records in the order of their start, whole at any moment.

A record that comes in order is appended. One that revises an earlier one, or that belongs before it
(another channel was a little later), makes a new file that takes the place of the old one. What is
kept in memory is where the latest records stand, not what they say.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from abhinaya.stream.sinks.files import LogFile, pieces, replace
from abhinaya.stream.sinks.rows import Decided, Key, Lost, Segment, to_row

REMEMBERED: Final = 4096
"""Records that can still be revised, or have another put before them: hours of one call."""


class Place(NamedTuple):
    """Where a record belongs, and how long it is."""

    start_s: float
    stream: str
    segment: int
    length: int
    """Bytes in the file, without the number in front of it."""

    @property
    def key(self) -> Key:
        """Which segment it tells of."""
        return self.stream, self.segment


class OrderedFile:
    """Writes verdicts and gaps as records of a text format.

    Args:
        path: the file, which is begun anew.
        record: gives a segment as text; the same for the same segment.
        header: stands in front of the first record.
        numbered: whether a line with the record's number, from 1, goes in front of each.

    Raises:
        SinkError: the file cannot be opened or written.

    """

    def __init__(
        self,
        path: Path,
        record: Callable[[Segment], str],
        header: str = "",
        numbered: bool = False,
    ) -> None:
        self._path = path
        self._record = record
        self._numbered = numbered
        self._places: list[Place] = []
        self._highest: dict[str, int] = {}
        """The highest sequence number of each stream: what comes after it revises nothing."""
        self._settled = 0
        """Records before the first place."""
        self._log = LogFile(path)
        self._log.append(header.encode())
        self._offset = self._log.length
        """Where the first place begins, in bytes."""

    def put(self, values: dict[str, object], now_unix_s: float) -> None:
        """Write an event, if it is a verdict or a gap.

        Raises:
            SinkError: the disk is full, or the file or its folder has vanished.

        """
        row = to_row(values)
        if not isinstance(row, Decided | Lost) or self._log.closed:
            return
        text = self._record(row).encode()
        place = Place(row.start_s, row.stream, row.segment, len(text))
        old = self._find(row.key)
        in_order = not self._places or place[:3] > self._places[-1][:3]
        # into a pipe or a device one can only append
        if not self._log.regular or (old is None and in_order):
            self._log.append(self._number(self._settled + len(self._places)) + text)
            self._places.append(place)
        else:
            self._rewrite(old, place, text)
        self._settle()

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    def _find(self, key: Key) -> int | None:
        stream, segment = key
        if segment > self._highest.get(stream, -1):
            self._highest[stream] = segment
            return None
        # a revision is of one of the latest
        for i in range(len(self._places) - 1, -1, -1):
            if self._places[i].key == key:
                return i
        return None

    def _rewrite(self, old: int | None, place: Place, text: bytes) -> None:
        sources: list[tuple[int, int] | bytes] = list(self._ranges())
        places = self._places.copy()
        if old is not None:
            del places[old], sources[old]
        at = bisect.bisect(places, place)
        places.insert(at, place)
        sources.insert(at, text)
        replace(self._path, self._parts(sources))
        self._log.follow(self._path)
        self._places = places

    def _parts(self, sources: list[tuple[int, int] | bytes]) -> Iterator[bytes]:
        yield from pieces(self._path, 0, self._offset)
        begin = self._offset
        tail = b"".join(pieces(self._path, begin, self._log.length))
        for i, source in enumerate(sources):
            yield self._number(self._settled + i)
            if isinstance(source, bytes):
                yield source
            else:
                yield tail[source[0] - begin : source[1] - begin]

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Yield where the text of each place begins and ends in the file."""
        offset = self._offset
        for i, place in enumerate(self._places):
            offset += len(self._number(self._settled + i))
            yield offset, offset + place.length
            offset += place.length

    def _number(self, i: int) -> bytes:
        return b"%d\n" % (i + 1) if self._numbered else b""

    def _settle(self) -> None:
        if len(self._places) <= REMEMBERED:
            return
        half = len(self._places) // 2
        for i, place in enumerate(self._places[:half]):
            self._offset += len(self._number(self._settled + i)) + place.length
        del self._places[:half]
        self._settled += half
