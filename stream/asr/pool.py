"""Which of a bounded number of helpers works on which segment. Knows neither clock nor decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
Key = tuple[str, int]
"""Stream and sequence number."""

STALE_S: Final = 20.0
"""A segment lasts 10 s at most: of one that was silent for longer, the final part got lost."""


class Pool(Generic[T]):
    """Lends each segment that goes on a helper of its own, while there are some.

    Helpers are made when they are needed, and kept. A stream speaks one segment at a time: a later
    one takes back what an earlier one of the same stream was lent.

    Args:
        first: the first helper.
        make: makes another.
        size: how many segments have one at once at most.

    """

    def __init__(self, first: T, make: Callable[[], T], size: int) -> None:
        self._make = make
        self._size = size
        self._lent: dict[Key, T] = {}
        self._used: dict[Key, float] = {}
        self._free = [first]

    def __len__(self) -> int:
        """Count the helpers that are lent."""
        return len(self._lent)

    def find(self, now: float, key: Key) -> T | None:
        """Give the helper of a segment, if it has one."""
        if key in self._lent:
            self._used[key] = now
        return self._lent.get(key)

    def lend(self, now: float, key: Key) -> T | None:
        """Give a segment a helper, unless all are at work on others."""
        stream, sequence = key
        for other in list(self._lent):
            over = other[0] == stream and other[1] < sequence
            if over or now - self._used[other] > STALE_S:
                self.take_back(other)
        if len(self._lent) >= self._size:
            return None
        helper = self._free.pop() if self._free else self._make()
        self._lent[key], self._used[key] = helper, now
        return helper

    def spare(self) -> T:
        """Give a helper that no segment has, to be used before the next call of anything here.

        If all are lent, one more is made: for what is beyond the limit.
        """
        if not self._free:
            self._free.append(self._make())
        return self._free[-1]

    def take_back(self, key: Key) -> None:
        """End a loan, if there is one."""
        if key in self._lent:
            self._free.append(self._lent.pop(key))
            del self._used[key]
