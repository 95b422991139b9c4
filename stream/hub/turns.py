"""In which order stateful services take the segments of a stream. Pure.

Such a service needs what it returned with the segment before. So a segment waits until those before
are settled for it: answered, failed for good, given up, forgotten, or decided without it.
"""

from __future__ import annotations

from collections.abc import Iterable

from abhinaya.stream.hub.dispatch_state import Key, ServiceRecord


class Turns:
    """The segments of each stream that are not settled, service by service.

    Args:
        services: of the line-up; what they declare is looked up here.

    """

    def __init__(self, services: dict[str, ServiceRecord]) -> None:
        self._services = services
        self._open: dict[tuple[str, str], dict[int, None]] = {}
        """By stream and service, in order."""
        self._moved: dict[str, None] = {}

    def begin(self, key: Key) -> None:
        """Take in a segment, which comes after all that came before."""
        stream, sequence = key
        for name in self._services:
            self._open.setdefault((stream, name), {})[sequence] = None

    def settle(self, key: Key, services: Iterable[str]) -> None:
        """Note that the next segments of the stream need not wait for these answers."""
        stream, sequence = key
        for name in services:
            line = self._open.get((stream, name), {})
            if next(iter(line), None) == sequence and self._services[name].stateful:
                self._moved[stream] = None
            line.pop(sequence, None)
            if not line:
                self._open.pop((stream, name), None)

    def has_come(self, key: Key, service: str) -> bool:
        """Whether the segments before are settled, as far as that concerns a service."""
        stream, sequence = key
        lines = (self._open.get((stream, name), {}) for name in self._services[service].beside)
        return all(next(iter(line), sequence) >= sequence for line in lines)

    def moved(self) -> str | None:
        """Return a stream in which a segment may go on that waited, each once."""
        return self._moved.popitem()[0] if self._moved else None
