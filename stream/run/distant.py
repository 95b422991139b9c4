"""A hub that others run: whether it answers, and the fronts that it cannot watch. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
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


@dataclass(slots=True)
class HubWatch:
    """Decides whether the hub is lost.

    Args:
        silent_s: seconds of silence after which it is lost.

    """

    silent_s: float
    lost: bool = False

    def look(self, silence_s: float) -> Hub:
        """Return the state of a hub that has been silent for so long."""
        was_lost, self.lost = self.lost, silence_s > self.silent_s
        if self.lost:
            return Hub.AWAY if was_lost else Hub.LOST
        return Hub.BACK if was_lost else Hub.ANSWERS


def is_hopeless(silence_s: float, ever: bool, silent_s: float, wait_s: float) -> bool:
    """Whether to wait no longer for hubs, the latest of which was heard `silence_s` ago, if `ever`.

    A hub that was never there is waited for only as long as it takes to call it silent.
    """
    return silence_s > silent_s + (wait_s if ever else 0.0)


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

    def keep(self, fronts: Collection[str]) -> None:
        """Forget all other fronts."""
        self._seen = {front: seen for front, seen in self._seen.items() if front in fronts}

    def is_fresh(self, now: float, front: str) -> bool:
        """Whether a front is well."""
        return front in self._seen and now - self._seen[front][1] <= self.silent_s / 2

    def suspects(self, now: float, fronts: Iterable[str]) -> Iterator[Suspect]:
        """Yield those of the fronts that are silent."""
        for front in fronts:
            silence_s = now - self._seen[front][1] if front in self._seen else 0.0
            if silence_s > self.silent_s:
                reason = f"has been silent for {silence_s:.1f} s"
                yield Suspect(name=front, reason=reason, limit_s=self.silent_s)
