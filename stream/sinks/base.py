"""The protocols of sinks, the outputs for events, and of what shows the state of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import Activity, Event, Status, Verdict


class Sink(Protocol):
    """An output for final events. It gets each event once, and those of one stream in order.

    Every method raises SinkError if the sink cannot write. Times are Unix seconds.
    """

    def write(self, event: Event, now_unix_s: float) -> None:
        """Write one event."""
        ...

    def close(self) -> None:
        """Finish the output and release it; a second call does nothing."""
        ...


@runtime_checkable
class Ticks(Protocol):
    """A sink that must be updated regularly, even without events."""

    def tick(self, now_unix_s: float) -> None:
        """Update the display; called many times a second."""
        ...


@runtime_checkable
class ShowsAlerts(Protocol):
    """A sink that also shows alerts."""

    def alert(self, alert: Alert, now_unix_s: float) -> None:
        """Show an alert; the verdict that raised it was written before."""
        ...


@runtime_checkable
class ShowsProvisional(Protocol):
    """A sink that also shows provisional events."""

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Show a provisional verdict, or that speech has started or stopped."""
        ...


@runtime_checkable
class ShowsCells(Protocol):
    """A sink that tells the cells of a run apart; `write` gets the sum of their statuses.

    The names of nodes in `NodeUp`, `NodeDown` and `Status` begin with that of their cell: `a/S1-0`.
    """

    def cell_status(self, cell: str, status: Status | None, now_unix_s: float) -> None:
        """Note the status of the hub of a cell, before `write` gets the sum.

        Without cells its name is empty. None: it does not answer, or is not used any more.
        """
        ...


class Observer(Protocol):
    """Shows the state of the processes to the user."""

    def loading(self, stages: Mapping[str, Stage]) -> None:
        """Show which processes are not ready yet."""
        ...

    def trouble(self, message: str) -> None:
        """Show a warning, for example that a process died."""
        ...


def publish(sinks: Iterable[Sink], event: Event | Activity, now_unix_s: float) -> None:
    """Send an event to the sinks; a provisional one only to the sinks that show those."""
    if isinstance(event, Activity) or (isinstance(event, Verdict) and not event.final):
        for sink in sinks:
            if isinstance(sink, ShowsProvisional):
                sink.provisional(event, now_unix_s)
        return
    for sink in sinks:
        sink.write(event, now_unix_s)
