"""Readers of the runs of others: one at the hub of each cell that is in the map."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from abhinaya.stream.cells.map import Cell, CellMap
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.run.others import Ledgers, Others, Take
from abhinaya.stream.wire.keys import Keys

RETRY_S: Final = 10.0
"""Time after which a cell that could not be read is tried again."""


@dataclass(slots=True)
class _Reader:
    cell: Cell
    others: Others
    failed: float | None = None
    """When it failed, by a monotonic clock."""


class OtherRuns:
    """Follows the map: a cell that comes later gets a reader, and one that is gone loses its own.

    Args:
        current: returns the map in use.
        keys: our own.
        own: id of our run, whose events its recorder gets.
        take: gets each new event; called by the threads of the readers.
        report: shows a warning.
        clock: seconds of a monotonic clock.

    """

    def __init__(
        self,
        current: Callable[[], CellMap],
        keys: Keys | None,
        own: str,
        take: Take,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._current, self._keys, self._own, self._take = current, keys, own, take
        self._report, self._clock = report, clock
        self._name = f"{socket.gethostname()}-{os.getpid()}-reader"
        self._ledgers = Ledgers()
        self._map: CellMap | None = None
        self._readers: dict[str, _Reader] = {}

    def check(self) -> None:
        """Follow the map, and try cells again that could not be read.

        Raises:
            NetworkError: the only hub, one without cells, cannot be read.

        """
        now, current = self._clock(), self._current()
        if current is not self._map:
            self._map = current
            self._follow({cell.name: cell for cell in current.cells if cell.state != "gone"})
        for reader in self._readers.values():
            if reader.failed is None:
                self._look(reader, now)
            elif now - reader.failed > RETRY_S:
                reader.others, reader.failed = self._started(reader.cell), None

    def close(self) -> None:
        """End all readers; a second call does nothing."""
        self._follow({})

    def _follow(self, cells: dict[str, Cell]) -> None:
        for name, reader in list(self._readers.items()):
            if name not in cells or not reader.cell.same_place(cells[name]):
                reader.others.close()
                del self._readers[name]
        for name, cell in cells.items():
            if name not in self._readers:
                self._readers[name] = _Reader(cell, self._started(cell))

    def _look(self, reader: _Reader, now: float) -> None:
        try:
            reader.others.check()
        except NetworkError as error:
            if not reader.cell.name:
                raise
            reader.failed = now
            self._report(f"other runs in cell {reader.cell.name}: {error}")

    def _started(self, cell: Cell) -> Others:
        keys = cell.keys(self._keys)
        others = Others(cell.endpoint, keys, self._name, self._own, self._take, self._ledgers)
        others.start()
        return others
