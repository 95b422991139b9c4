"""When a client introduces itself to the hub. Pure: time is passed in."""

from __future__ import annotations

from typing import Final

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0


class Greeting:
    """At once on a new connection and when the hub asks, then with growing pauses until accepted.

    Before the first connection nothing can be sent, so no greeting is due.
    """

    def __init__(self) -> None:
        self.accepted = False
        """Whether the hub has answered."""
        self._next: float | None = None
        self._pause_s = FIRST_PAUSE_S

    def again(self, now: float) -> None:
        """Introduce the client again: on a new connection, or to a hub that does not know it."""
        self.accepted, self._next, self._pause_s = False, now, FIRST_PAUSE_S

    def accept(self) -> None:
        """Note that the hub has answered."""
        self.accepted = True

    def is_due(self, now: float) -> bool:
        """Whether to send a greeting now; the next one is then due after a pause."""
        if self.accepted or self._next is None or now < self._next:
            return False
        self._next, self._pause_s = now + self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
        return True
