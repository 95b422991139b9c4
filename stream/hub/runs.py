"""The runs at a hub, each with its streams and the queue of its recorder. Pure.

A stream belongs to a run: the same name in another run is another stream. A stream is forgotten
when all of its events are confirmed, and a run when nobody needs it any more (see `Broker`).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from abhinaya.stream.hub.segments import Stream
from abhinaya.stream.wire.keys import LOCAL, Key
from abhinaya.stream.wire.messages import Notice, Standing

MAX_RUNS: Final = 10_000
"""Maximum number of runs at one hub at a time."""

MAX_OF_KEY: Final = 1000
"""Maximum number of them that one key has opened, so that it leaves room for others."""

_ID: Final = re.compile("[0-9A-Za-z]{1,64}")


@dataclass(slots=True, eq=False)
class Run:
    """A run: the inputs of one main process."""

    id: str
    hub: str
    """Incarnation of the hub and of the run at it, from which its notices count."""
    last_present: float
    """When the run last had a front that was not silent, or a recorder."""
    owner: Key = LOCAL
    """The key that opened it."""
    recorder: bytes | None = None
    """Socket identity of the recorder."""
    number: int = 0
    """Number of the latest notice."""
    unconfirmed: deque[Notice] = field(default_factory=deque)
    """Notices that the recorder has not confirmed, in order."""
    streams: dict[str, Stream] = field(default_factory=dict)
    """By name: the streams that are not over."""
    over: dict[str, Standing] = field(default_factory=dict)
    """By name: the streams that are over. Their ends are confirmed, and nothing else is kept."""

    @property
    def done(self) -> bool:
        """Whether all streams are over, and the recorder has confirmed the events of the run."""
        return not self.streams and not any(notice.run for notice in self.unconfirmed)


class Runs:
    """The runs of a hub, by id."""

    def __init__(self, hub: str) -> None:
        self._hub = hub
        self._opened = 0
        self._runs: dict[str, Run] = {}

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def get(self, name: str) -> Run | None:
        """Return a run; None if it is unknown."""
        return self._runs.get(name)

    def fault(self, name: str, key: Key = LOCAL) -> str:
        """Return why a run is refused; empty if it is accepted."""
        if not _ID.fullmatch(name):
            return f"{name[:64]!r} is not the id of a run: 1 to 64 letters and digits"
        if name in self._runs:
            return ""
        if len(self._runs) >= MAX_RUNS:
            return f"the hub has {MAX_RUNS} runs already"
        if key != LOCAL and sum(run.owner == key for run in self) >= MAX_OF_KEY:
            return f"key {key.name!r} has {MAX_OF_KEY} runs already"
        return ""

    def open(self, now: float, name: str, key: Key = LOCAL) -> Run:
        """Return a run; if it was unknown, it is new and belongs to `key`."""
        if name not in self._runs:
            self._opened += 1
            self._runs[name] = Run(name, f"{self._hub}-{self._opened}", now, key)
        run = self._runs[name]
        run.last_present = now
        return run

    def forget(self, run: Run) -> None:
        """Delete a run."""
        del self._runs[run.id]
