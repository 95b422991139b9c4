"""A circuit breaker: after some failures in a row, nobody asks for a while.

    closed ──failures in a row──> open ──after a while──> one try ──works──> closed
                                   ^                         │
                                   └──────────fails──────────┘

Pure: time is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Circuit:
    """Whether it is worth asking a server.

    Not thread-safe: its owner holds a lock.
    """

    limit: int
    """Failures in a row that open it."""
    rest_s: float
    """Seconds it stays open before one request may try."""
    failures: int = 0
    _open_until: float | None = None
    _trying: bool = False

    def wait_s(self, now: float) -> float:
        """Give the seconds until a request may go out; 0 if it may now, and then it counts as sent.

        While one request tries an open circuit, others wait `rest_s` from now.
        """
        if self._open_until is None:
            return 0.0
        if now < self._open_until:
            return self._open_until - now
        if self._trying:
            return self.rest_s
        self._trying = True
        return 0.0

    def succeeded(self) -> None:
        """Note that the server answered."""
        self.failures, self._open_until, self._trying = 0, None, False

    def failed(self, now: float) -> None:
        """Note that it did not."""
        self.failures += 1
        if self.failures >= self.limit or self._trying:
            self._open_until, self._trying = now + self.rest_s, False
