"""Whether the monitor works: `/healthz` (its loops turn) and `/readyz` (it can judge speech now).

The run's thread writes, that of the web server asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from abhinaya.stream.serve.telemetry.cells import Known, Statuses
from abhinaya.stream.settings.config import Config, workers_of
from abhinaya.stream.wire.messages import Event, Status

STUCK_S: Final = 10.0
"""Time after which the run's loop, which turns many times a second, counts as stuck."""
HEARD_S: Final = 2.0
"""Longest silence of a hub that is ready; it beats twice a second."""
CHECK_S: Final = 10.0
"""Interval between two test recordings while a gateway serves."""
CHECKED_S: Final = 3 * CHECK_S
"""A service must have been right about a test recording within this time."""


def watched(config: Config) -> Config:
    """Return the settings with test recordings that are frequent enough for `/readyz`."""
    supervise = config.supervise
    every_s = min(supervise.canary_s, CHECK_S)
    return replace(config, supervise=replace(supervise, canary_s=every_s))


class Health:
    """A sink that notes signs of life.

    Args:
        config: the line-up.
        statuses: the statuses of the cells.
        faults: each returns why a part of the gateway cannot work; empty if it can.
        clock: seconds of a monotonic clock.

    """

    def __init__(
        self,
        config: Config,
        statuses: Statuses,
        faults: Sequence[Callable[[], str]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._services = tuple(workers_of(config))
        self._checked_s = max(CHECKED_S, 3 * config.supervise.canary_s)
        self._faults = faults
        self._statuses = statuses
        self._clock = clock
        self._turned = clock()

    def write(self, event: Event, now_unix_s: float) -> None:
        """Do nothing: `Statuses` notes what the hubs say."""

    def tick(self, now_unix_s: float) -> None:
        """Note that the run's loop turns."""
        self._turned = self._clock()

    def close(self) -> None:
        """Do nothing."""

    def stuck(self) -> str:
        """Return why the monitor is not alive; empty if it is."""
        still_s = self._clock() - self._turned
        return f"the monitor's loop stands still for {still_s:.0f} s" if still_s > STUCK_S else ""

    def missing(self) -> list[str]:
        """Return what is missing before speech can be judged; empty if nothing is.

        One open cell in which nothing is missing is enough.
        """
        found = [self.stuck(), *(fault() for fault in self._faults)]
        cells = self._statuses.known()
        if all(cell.state != "open" or self._lacks(cell) for cell in cells):
            found += self.degraded(cells) or ["no cell is open"]
        return [text for text in found if text]

    def degraded(self, cells: Sequence[Known] | None = None) -> list[str]:
        """Return what is missing in each open cell; also if other cells can judge speech."""
        cells = self._statuses.known() if cells is None else cells
        return [
            f"cell {cell.name}: {text}" if cell.name else text
            for cell in cells
            if cell.state == "open"
            for text in self._lacks(cell)
        ]

    def _lacks(self, cell: Known) -> list[str]:
        if cell.status is None:
            return ["the hub has not reported yet" if not cell.name else "its hub does not answer"]
        if cell.age_s > HEARD_S:
            return [f"the hub has been silent for {cell.age_s:.1f} s"]
        return list(lacking(cell.status, self._services, self._checked_s - cell.age_s))


def once_ready(health: Health, report: Callable[[], None]) -> Callable[[], None]:
    """Return a check for each turn of the run, which reports once that nothing is missing."""
    waits = True

    def check() -> None:
        nonlocal waits
        if waits and not health.missing():
            waits = False
            report()

    return check


def lacking(status: Status, services: Sequence[str], checked_s: float) -> Iterator[str]:
    """Yield which services cannot work, by a status. Pure.

    Args:
        status: what the hub says.
        services: those that the profile needs.
        checked_s: longest time since a right answer to the test recording.

    """
    suspects = {suspect.name for suspect in status.suspects}
    for service in services:
        nodes = [load for load in status.nodes if load.service == service]
        if not nodes:
            yield f"{service}: no node is ready"
        elif not (alive := [load for load in nodes if load.node not in suspects]):
            yield f"{service}: each node is silent or slow"
        elif all(load.checked_s is not None and load.checked_s > checked_s for load in alive):
            last_s = min(load.checked_s or 0.0 for load in alive)
            yield f"{service}: no right answer to the test recording for {last_s:.0f} s"
