"""A hub on another machine: how long to wait for it, and the fronts that it cannot watch. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from abhinaya.stream.wire.messages import Suspect


class Hub(Enum):
    """What has become of the hub."""

    ANSWERS = auto()
    LOST = auto()
    """It has just been lost."""
    AWAY = auto()
    BACK = auto()
    """It answers again."""
    GONE = auto()
    """It has never answered, or was away for too long."""


@dataclass(slots=True)
class HubWatch:
    """Decides whether to wait for the hub.

    Args:
        silent_s: seconds of silence after which it is lost.
        wait_s: seconds to wait for a hub that has answered before.

    """

    silent_s: float
    wait_s: float
    lost: bool = False

    def look(self, now: float, heard: float, ever: bool) -> Hub:
        """Return the state of the hub, last heard at `heard`, if `ever`."""
        silence_s = now - heard
        if silence_s <= self.silent_s:
            was_lost, self.lost = self.lost, False
            return Hub.BACK if was_lost else Hub.ANSWERS
        if not ever or silence_s > self.silent_s + self.wait_s:
            return Hub.GONE
        was_lost, self.lost = self.lost, True
        return Hub.AWAY if was_lost else Hub.LOST


@dataclass(slots=True)
class LocalBeats:
    """Heartbeats that fronts leave on this machine: a cut says nothing about a front.

    Args:
        silent_s: seconds of silence after which a front is suspected.

    """

    silent_s: float
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By front: its latest heartbeat, and when it was found."""

    def found(self, now: float, front: str, beat: int) -> bool:
        """Note the latest heartbeat of a front; return whether it is a new one."""
        new = front not in self._seen or self._seen[front][0] != beat
        if new:
            self._seen[front] = beat, now
        return new

    def suspects(self, now: float, fronts: Iterable[str]) -> Iterator[Suspect]:
        """Yield those of the fronts that are silent."""
        for front in fronts:
            silence_s = now - self._seen[front][1] if front in self._seen else 0.0
            if silence_s > self.silent_s:
                reason = f"has been silent for {silence_s:.1f} s"
                yield Suspect(name=front, reason=reason, limit_s=self.silent_s)
