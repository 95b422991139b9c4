"""What a sink is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from abhinaya.stream.messages import Event
from abhinaya.stream.rules import Alert


class Sink(Protocol):
    """Where events go: each once, those of one stream in order."""

    def write(self, event: Event, now_unix_s: float) -> None:
        """Take one event, at `now_unix_s` in Unix seconds.

        Raises:
            SinkError: it cannot be written.

        """
        ...

    def close(self) -> None:
        """Write what belongs at the end, and let go; a second call does nothing."""
        ...


@runtime_checkable
class ShowsAlerts(Protocol):
    """A sink that has a place for alerts as well."""

    def alert(self, alert: Alert, now_unix_s: float) -> None:
        """Take an alert, behind the verdict that raised it.

        Raises:
            SinkError: it cannot be written.

        """
        ...
