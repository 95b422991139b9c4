"""What a front has sent and the hub has not acknowledged: bounded, and sent again when need be.

Pure. One outbox a stream; everything in it has a sequence number without holes. Partials and
activity wait apart: nobody keeps them, and the newest takes the place of an older one.
"""

from __future__ import annotations

from collections import deque

from abhinaya.stream.wire.messages import Activity, End, Gap, Segment

Item = Segment | Gap | End


class Outbox:
    """The unacknowledged items of one stream.

    Args:
        first: sequence number of the first item.
        window: how many items from the first unacknowledged one on may be on their way.
        capacity: how many items are kept; see `full` and `shed`.

    """

    def __init__(self, first: int, window: int, capacity: int) -> None:
        self._items: deque[Item] = deque()
        self._acknowledged = first
        self._unsent = first
        self._window = window
        self._capacity = capacity

    @property
    def acknowledged(self) -> int:
        """The lowest sequence number that is not acknowledged."""
        return self._acknowledged

    @property
    def unsent(self) -> int:
        """The lowest sequence number that is not on its way."""
        return self._unsent

    @property
    def empty(self) -> bool:
        """Whether everything put in is acknowledged."""
        return not self._items

    @property
    def full(self) -> bool:
        """Whether a source that can wait should."""
        return len(self._items) >= self._capacity

    def put(self, item: Item) -> None:
        """Add the next item; drop one that is acknowledged already: a predecessor sent it."""
        if item.sequence >= self._acknowledged:
            self._items.append(item)

    def credit(self, acknowledged: int, window: int) -> None:
        """Forget what is acknowledged and note how much may be on its way."""
        self._window = window
        self._acknowledged = max(self._acknowledged, acknowledged)
        self._unsent = max(self._unsent, self._acknowledged)
        while self._items and self._items[0].sequence < self._acknowledged:
            self._items.popleft()

    def resume(self, next_sequence: int) -> None:
        """Send again from here on: the hub has everything before."""
        self._unsent = max(next_sequence, self._acknowledged)

    def sendable(self) -> list[Item]:
        """Return what may be sent now, in order."""
        limit = self._acknowledged + self._window
        return [i for i in self._items if self._unsent <= i.sequence < limit]

    def sent(self, item: Item) -> None:
        """Note that an item is on its way."""
        self._unsent = item.sequence + 1

    def shed(self, reason: str) -> int:
        """Turn the oldest unsent segments over the capacity into gaps; return how many."""
        # a gap weighs nothing: those of an earlier call must not drive out what still fits
        excess = sum(isinstance(item, Segment) for item in self._items) - self._capacity
        count = 0
        for index, item in enumerate(self._items):
            if count >= excess:
                break
            if isinstance(item, Segment) and item.sequence >= self._unsent:
                self._items[index] = Gap(
                    stream=item.stream,
                    sequence=item.sequence,
                    start=item.start,
                    end=item.end,
                    reason=reason,
                )
                count += 1
        return count


class Fleeting:
    """What is told of a stream at best once: the newest of each kind, until it is sent."""

    def __init__(self) -> None:
        self._part: Segment | None = None
        self._activity: Activity | None = None

    def put(self, item: Segment | Activity) -> None:
        """Take the place of what is older."""
        if isinstance(item, Activity):
            self._activity = item
        else:
            self._part = item

    def take(self, unsent: int) -> list[Segment | Activity]:
        """Return what can be sent, once, where `unsent` is the lowest sequence number that is not.

        A part waits for the segments before its own and is nothing beside its own.
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
