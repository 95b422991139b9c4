"""Events in the order of their simulated time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Final

Action = Callable[[float], None]
"""Gets the time at which it happens."""

TINY: Final = 1e-12


class Events:
    """What will happen; equal times happen in the order in which they were added."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    def at(self, when: float, action: Action) -> None:
        """Add an event; one in the past happens now."""
        heapq.heappush(self._heap, (max(when, self.now), next(self._order), action))

    def every(self, seconds: float, action: Action, first: float = 0.0) -> None:
        """Add an event that repeats for ever."""

        def again(now: float) -> None:
            action(now)
            self.at(now + seconds, again)

        self.at(first, again)

    def run(self, until: float) -> None:
        """Let everything happen up to this time."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            action(self.now)
        self.now = until


class Server:
    """Does one thing after the other, in the order in which they come."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._free = 0.0
        self.busy_s = 0.0

    def take(self, cost_s: float, action: Action) -> None:
        """Do a thing that takes so long; then `action` happens."""
        self._free = max(self._free, self._events.now) + cost_s
        self.busy_s += cost_s
        self._events.at(self._free, action)
