"""What a sink is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.wire.messages import Activity, Event, Verdict


class Sink(Protocol):
    """Where events go: each once, those of one stream in order. All of them are final.

    Every method of a sink raises SinkError if it cannot write. Times are Unix seconds.
    """

    def write(self, event: Event, now_unix_s: float) -> None:
        """Take one event."""
        ...

    def close(self) -> None:
        """Write what belongs at the end, and let go; a second call does nothing."""
        ...


@runtime_checkable
class Ticks(Protocol):
    """A sink in which time moves on although nothing happens."""

    def tick(self, now_unix_s: float) -> None:
        """Show what is new; called many times a second."""
        ...


@runtime_checkable
class ShowsAlerts(Protocol):
    """A sink that shows alerts as well."""

    def alert(self, alert: Alert, now_unix_s: float) -> None:
        """Take an alert, after the verdict that raised it."""
        ...


@runtime_checkable
class ShowsProvisional(Protocol):
    """A sink that shows what may still change as well."""

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Take a verdict on speech that goes on, or the news that somebody speaks."""
        ...


def publish(sinks: Iterable[Sink], event: Event | Activity, now_unix_s: float) -> None:
    """Hand an event to the sinks: what may still change only to those that show it."""
    if isinstance(event, Activity) or (isinstance(event, Verdict) and not event.final):
        for sink in sinks:
            if isinstance(sink, ShowsProvisional):
                sink.provisional(event, now_unix_s)
        return
    for sink in sinks:
        sink.write(event, now_unix_s)
