"""What stateful services know of each stream: opaque, handed from one of its segments to the next.

Pure. Of each stream and service the states behind its segments are kept, from the last one that is
written down on: the front keeps that one too, for a hub that has to begin there.
"""

from __future__ import annotations

from collections.abc import Iterable

from abhinaya.stream.hub.dispatch_state import Key


class States:
    """The states of all streams."""

    def __init__(self) -> None:
        self._states: dict[str, dict[str, dict[int, bytes]]] = {}
        """By stream, service and the segment that they came with."""

    def keep(self, key: Key, service: str, state: bytes) -> None:
        """Take in what a service knows after a segment; what it knew stands if that is nothing."""
        stream, sequence = key
        if state:
            self._states.setdefault(stream, {}).setdefault(service, {})[sequence] = state

    def restore(self, key: Key, service: str, state: bytes) -> None:
        """Take back what a service knew before a segment, unless more is known by now."""
        stream, sequence = key
        if not self._states.get(stream, {}).get(service):
            self.keep((stream, sequence - 1), service, state)

    def before(self, key: Key, services: Iterable[str]) -> dict[str, bytes]:
        """Return by service what it knows before a segment."""
        stream, sequence = key
        known = self._states.get(stream, {})
        found = {name: _latest(known[name], sequence) for name in services if name in known}
        return {name: state for name, state in found.items() if state}

    def written(self, stream: str, acknowledged: int) -> dict[str, bytes]:
        """Forget what came before the last segment that is written; return what is known then."""
        for states in self._states.get(stream, {}).values():
            for sequence in sorted(s for s in states if s < acknowledged)[:-1]:
                del states[sequence]
        return self.before((stream, acknowledged), self._states.get(stream, {}))

    def ended(self, stream: str) -> None:
        """Forget a stream that is over."""
        self._states.pop(stream, None)


def _latest(states: dict[int, bytes], before: int) -> bytes:
    sequences = [sequence for sequence in states if sequence < before]
    return states[max(sequences)] if sequences else b""
