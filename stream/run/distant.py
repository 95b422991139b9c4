"""A hub on another machine: how long to wait for it, and the fronts that it cannot watch.

`HubWatch` and `LocalBeats` decide; `DistantHub` looks and reports.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from abhinaya.stream.run.recorder import Recorder
from abhinaya.stream.run.supervisor import Supervisor
from abhinaya.stream.settings.config import SuperviseConfig
from abhinaya.stream.wire.child import Stage, read_beat
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


class DistantHub:
    """Waits for the hub at `endpoint`, and watches the fronts in its place.

    `warn` shows a text to the user.
    """

    def __init__(
        self,
        endpoint: str,
        config: SuperviseConfig,
        recorder: Recorder,
        warn: Callable[[str], None],
    ) -> None:
        self._endpoint, self._recorder, self._warn = endpoint, recorder, warn
        self._wait_s = config.hub_wait_s
        self._watch = HubWatch(config.silent_s, config.hub_wait_s)
        self._beats = LocalBeats(config.silent_s)
        self._cause = ""
        """Why the hub does not let us in, as far as it is known."""
        self._heard: dict[str, float] = {}
        """When the hub has last heard each front; perhaps only one of its two ports is cut."""

    def hears(self, now: float, fronts: Iterable[str]) -> None:
        """Note the fronts that the hub hears, as it says."""
        self._heard |= dict.fromkeys(fronts, now)

    def watch(
        self, now: float, directory: Path, fronts: Collection[str], supervisor: Supervisor
    ) -> None:
        """Look at the hub, and at the heartbeats that the fronts have left in `directory`.

        Raises:
            NetworkError: the hub has never answered, or was away for too long.

        """
        heard = self._recorder.last_received
        self._beats.keep(fronts)
        self._heard = {front: at for front, at in self._heard.items() if front in fronts}
        for front in fronts:
            beat = read_beat(directory, front)
            if beat is not None and self._beats.found(now, front, beat):
                supervisor.ready(front)
            if supervisor.stages()[front] is Stage.READY and self._beats.is_fresh(now, front):
                heard = min(heard, self._heard.setdefault(front, now))
            else:
                self._heard.pop(front, None)
        supervisor.suspect(self._beats.suspects(now, fronts))
        state = self._watch.look(now, heard, self._recorder.answered)
        if state is Hub.GONE:
            raise self._recorder.unreachable(self._endpoint, self._wait_s)
        cause, self._cause = self._cause, self._recorder.cause
        if state is Hub.LOST or (state is Hub.AWAY and self._cause not in ("", cause)):
            why = f"{self._cause}; " if self._cause else ""
            limit = f"{why}waiting up to {self._wait_s:g} s"
            self._warn(f"the hub at {self._endpoint} does not answer: {limit}")
        elif state is Hub.BACK:
            self._warn(f"the hub at {self._endpoint} is back")
