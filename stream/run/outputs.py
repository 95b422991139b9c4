"""Gives the events of a run to its sinks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from msgspec.structs import replace

from abhinaya.stream.errors import SinkError
from abhinaya.stream.sinks.base import ShowsCells, Sink, Ticks, publish
from abhinaya.stream.wire.messages import Activity, Event, Remark, Status

_LOG = logging.getLogger("abhinaya.run")


class Outputs:
    """The sinks of a run.

    Args:
        sinks: get the events.
        wall_clock: Unix seconds.

    """

    def __init__(self, sinks: Sequence[Sink], wall_clock: Callable[[], float]) -> None:
        self._sinks, self._clock = sinks, wall_clock
        self._statuses: dict[str, Status] = {}
        """The latest status of each cell."""

    def publish(self, event: Event | Activity, cell: str = "") -> None:
        """Send an event to the sinks; of the statuses of all cells, the sum."""
        if isinstance(event, Status):
            self._statuses[cell] = event
            self._of_cell(cell, event)
            event = total(self._statuses.values())
        publish(self._sinks, event, self._clock())

    def remark(self, source: str, text: str) -> None:
        """Send a remark to the sinks."""
        self.publish(Remark(source=source, text=text))

    def tick(self, cells: Collection[str]) -> None:
        """Update the displays; `cells` has the cells that answer."""
        for cell in self._statuses.keys() - cells:
            del self._statuses[cell]
            self._of_cell(cell, None)
        now = self._clock()
        for sink in self._sinks:
            if isinstance(sink, Ticks):
                sink.tick(now)

    def finish(self, events: Iterable[Event]) -> None:
        """Write the last events.

        An output that fails now, or that nobody reads, does not cost the others these events.
        """
        last = list(events)
        for sink in self._sinks:
            try:
                for event in last:
                    sink.write(event, self._clock())
            except (SinkError, SystemExit, KeyboardInterrupt) as error:
                _LOG.error("an output did not get the end of the streams: %s", error)

    def _of_cell(self, cell: str, status: Status | None) -> None:
        for sink in self._sinks:
            if isinstance(sink, ShowsCells):
                sink.cell_status(cell, status, self._clock())


def total(statuses: Collection[Status]) -> Status:
    """Return the sum of the statuses of several hubs."""
    latest = list(statuses)[-1]
    if len(statuses) == 1:
        return latest

    def added(name: str) -> dict[str, int]:
        found: Counter[str] = Counter()
        for status in statuses:
            found.update(getattr(status, name))
        return dict(found)

    oldest_s: dict[str, float] = {}
    for status in statuses:
        for service, age_s in status.oldest_s.items():
            oldest_s[service] = max(age_s, oldest_s.get(service, 0.0))
    return replace(
        latest,
        waiting=sum(s.waiting for s in statuses),
        open_segments=sum(s.open_segments for s in statuses),
        nodes=tuple(load for s in statuses for load in s.nodes),
        fronts=tuple(dict.fromkeys(front for s in statuses for front in s.fronts)),
        refused=added("refused"),
        doubles=sum(s.doubles for s in statuses),
        suspects=tuple(suspect for s in statuses for suspect in s.suspects),
        oldest_s=oldest_s,
        left_out=added("left_out"),
        queued=added("queued"),
    )
