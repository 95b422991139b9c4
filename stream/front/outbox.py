"""Messages of a front that the hub has not acknowledged: bounded, and sent again to a new hub.

Pure. Each stream has one outbox with consecutive sequence numbers. Partials and activity may be
lost, so they wait apart, and a newer one replaces an older one.
"""

from __future__ import annotations

import itertools
import sys
from collections import deque
from typing import Final

from abhinaya.stream.wire.messages import Activity, End, Gap, Segment

Item = Segment | Gap | End

CATCH_UP: Final = 4
"""Segments of a live stream in progress at once while more than these wait: after a cut, the hub
would otherwise get hundreds at once, and drop the oldest or miss their deadlines."""


class Outbox:
    """The unacknowledged items of one stream.

    Args:
        first: sequence number of the first item.
        window: how many items, from the first unacknowledged one, may be sent.
        capacity: with how many items it is full.
        pace: how many segments are sent at once while more of them wait.

    """

    def __init__(self, first: int, window: int, capacity: int, pace: int = sys.maxsize) -> None:
        self._items: deque[Item] = deque()
        self._since: dict[int, float] = {}
        """When each item was added, by sequence number."""
        self._acknowledged = first
        self._unsent = first
        self._window = window
        self._capacity = capacity
        self._pace = pace

    @property
    def acknowledged(self) -> int:
        """The lowest sequence number that is not acknowledged."""
        return self._acknowledged

    @property
    def unsent(self) -> int:
        """The lowest sequence number that is not sent."""
        return self._unsent

    @property
    def empty(self) -> bool:
        """Whether all items are acknowledged."""
        return not self._items

    @property
    def full(self) -> bool:
        """Whether the reader of a file must wait."""
        return len(self._items) >= self._capacity

    def put(self, item: Item, now: float = 0.0) -> None:
        """Add the next item, unless it is acknowledged already because a predecessor sent it."""
        if item.sequence >= self._acknowledged:
            self._items.append(item)
            self._since[item.sequence] = now

    def held_s(self, item: Item, now: float) -> float:
        """Return how long an item has been here."""
        return now - self._since.get(item.sequence, now)

    def credit(self, acknowledged: int, window: int) -> None:
        """Drop the acknowledged items and set the window."""
        self._window = window
        self._acknowledged = max(self._acknowledged, acknowledged)
        self._unsent = max(self._unsent, self._acknowledged)
        while self._items and self._items[0].sequence < self._acknowledged:
            del self._since[self._items.popleft().sequence]

    def resume(self, next_sequence: int) -> None:
        """Send again from `next_sequence`: the hub has all items before it."""
        self._unsent = max(next_sequence, self._acknowledged)

    def sendable(self) -> list[Item]:
        """Return the items that may be sent now, in order.

        While a file must wait for others (its window is 0), only segments wait.
        """
        unsent = [item for item in self._items if item.sequence >= self._unsent]
        behind = sum(isinstance(item, Segment) for item in unsent) > self._pace
        limit = self._acknowledged + (min(self._window, self._pace) if behind else self._window)
        if not self._window:
            limit = self._acknowledged + self._capacity
            unsent = list(itertools.takewhile(lambda i: not isinstance(i, Segment), unsent))
        return [item for item in unsent if item.sequence < limit]

    def sent(self, item: Item) -> None:
        """Note that an item was sent."""
        self._unsent = item.sequence + 1

    def shed(self, most: int, reason: str) -> None:
        """Replace the oldest unsent segments by gaps, so that at most so many samples stay."""
        excess = sum(i.end - i.start for i in self._items if isinstance(i, Segment)) - most
        for index, item in enumerate(self._items):
            if excess <= 0:
                break
            if isinstance(item, Segment) and item.sequence >= self._unsent:
                excess -= item.end - item.start
                self._items[index] = Gap(
                    stream=item.stream,
                    sequence=item.sequence,
                    start=item.start,
                    end=item.end,
                    reason=reason,
                )


class LatestOnly:
    """Messages of a stream that may be lost: the newest partial and the newest activity."""

    def __init__(self) -> None:
        self._part: Segment | None = None
        self._activity: Activity | None = None

    def put(self, item: Segment | Activity) -> None:
        """Add a message; it replaces the older one of its kind."""
        if isinstance(item, Activity):
            self._activity = item
        else:
            self._part = item

    def take(self, unsent: int) -> list[Segment | Activity]:
        """Remove and return the messages to send now; `unsent` as in `Outbox.unsent`.

        A partial waits until all earlier segments are sent. It is dropped once its own segment is
        sent.
        """
        items: list[Segment | Activity] = []
        if self._activity is not None:
            items.append(self._activity)
            self._activity = None
        if self._part is not None and self._part.sequence <= unsent:
            if self._part.sequence == unsent:
                items.append(self._part)
            self._part = None
        return items
