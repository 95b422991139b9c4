"""What each cell says of itself: its state in the map, and the latest status of its hub."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from abhinaya.stream.cells.map import Cell, CellMap, State
from abhinaya.stream.wire.messages import Event, Status

HUB: Cell = Cell(name="", endpoint="ipc://")
"""Stands for a hub without cells, wherever it is."""


@dataclass(frozen=True, slots=True)
class Known:
    """A cell, as far as it is known."""

    name: str
    """Empty: a hub without cells."""
    state: State
    status: Status | None
    """The latest one; None: its hub has not reported, or does not answer."""
    age_s: float
    """Of the status."""


class Statuses:
    """A sink that keeps the latest status of each cell.

    Args:
        current: returns the map of the cells; None: one hub without cells.
        clock: seconds of a monotonic clock.

    """

    def __init__(
        self,
        current: Callable[[], CellMap] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._current = current
        self._clock = clock
        self._latest: dict[str, tuple[Status, float]] = {}

    def cell_status(self, cell: str, status: Status | None, now_unix_s: float) -> None:
        """Note the status of the hub of a cell; None: it does not answer."""
        if status is None:
            self._latest.pop(cell, None)
        else:
            self._latest[cell] = status, self._clock()

    def write(self, event: Event, now_unix_s: float) -> None:
        """Do nothing: a status comes by `cell_status`."""

    def close(self) -> None:
        """Do nothing."""

    def known(self) -> list[Known]:
        """Return the cells of the map that are not gone. Any thread."""
        now, found = self._clock(), []
        for cell in self._current().cells if self._current else (HUB,):
            if cell.state != "gone":
                status, at = self._latest.get(cell.name, (None, -math.inf))
                found.append(Known(cell.name, cell.state, status, now - at))
        return found
