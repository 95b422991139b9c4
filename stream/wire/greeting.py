"""When a client introduces itself to the hub. Pure: time is passed in."""

from __future__ import annotations

import math
from typing import Final

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0


class Greeting:
    """At once on a new connection, else with growing pauses until the hub has accepted it.

    Before the first connection nothing can be sent, so no greeting is due.
    """

    def __init__(self) -> None:
        self.accepted = False
        """Whether the hub has answered."""
        self._next = math.inf
        self._last = -math.inf
        self._pause_s = FIRST_PAUSE_S

    def connected(self, now: float) -> None:
        """Greet at once: the connection is new."""
        self.accepted, self._next, self._pause_s = False, now, FIRST_PAUSE_S

    def again(self, now: float) -> None:
        """Greet soon: the hub asks for it, or something was lost."""
        if self.accepted:
            self.connected(max(now, self._last + FIRST_PAUSE_S))

    def accept(self) -> None:
        """Note that the hub has answered."""
        self.accepted = True

    def is_due(self, now: float) -> bool:
        """Whether to greet now; the next greeting is then due after a pause."""
        if self.accepted or now < self._next:
            return False
        self._last, self._next = now, now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return True
