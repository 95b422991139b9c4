"""Which cell each front of a run uses, while cells come, go and fall silent. Pure.

A front stays in its cell while the map has it and it is not lost, also while it drains. Else it
moves to the next cell of its call. A front with a home (the push front of a cell) returns there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from abhinaya.stream.cells.map import Cell, CellMap


@dataclass(slots=True)
class _Place:
    """Where a front is."""

    call: str
    """Its call, or the first one of several: it decides the next cell."""
    cell: Cell
    home: str
    """Name of the cell to which it returns; empty: it stays where it is."""


class Follow:
    """The cells, those that do not answer, and the fronts in them."""

    def __init__(self, cells: CellMap) -> None:
        self.cells = cells
        self.lost: frozenset[str] = frozenset()
        """Names of the cells that take no calls because they do not answer."""
        self._places: dict[str, _Place] = {}

    def choose(self, call: str) -> Cell | None:
        """Return the cell for a new call: open, and it answers; None without one. Any thread."""
        return self.cells.choose(call, self.lost)

    def expect(self, call: str) -> Cell | None:
        """Return the cell for a call that can wait: an open one, if it answers or not."""
        return self.choose(call) or self.cells.choose(call)

    def add(self, front: str, call: str, home: str = "") -> bool:
        """Place a front; return whether there is a cell for it."""
        cell = self._home(home) or self.expect(call)
        if cell is not None:
            self._places[front] = _Place(call, cell, home)
        return cell is not None

    def add_beside(self, front: str, other: str) -> None:
        """Place a front that takes over inputs of another one."""
        place = self._places[other]
        self._places[front] = _Place(place.call, place.cell, place.home)

    def forget(self, front: str) -> None:
        """Forget a front."""
        del self._places[front]

    @property
    def fronts(self) -> list[str]:
        """The fronts that are placed."""
        return list(self._places)

    def has(self, front: str) -> bool:
        """Whether a front is placed."""
        return front in self._places

    def cell_of(self, front: str) -> Cell:
        """Return the cell of a front."""
        return self._places[front].cell

    def fronts_of(self, cell: str) -> list[str]:
        """Return the fronts in a cell."""
        return [front for front, place in self._places.items() if place.cell.name == cell]

    def used(self) -> dict[str, Cell]:
        """Return the cells with fronts, by name."""
        return {place.cell.name: place.cell for place in self._places.values()}

    def review(self, cells: CellMap, lost: Iterable[str]) -> list[str]:
        """Take the newest facts; return the fronts that move, whose place is then the new one."""
        self.cells, self.lost = cells, frozenset(lost)
        moved = []
        for front, place in self._places.items():
            stays = cells.cell(place.cell.name)
            if stays is not None and stays.name in self.lost:
                stays = self.choose(place.call) or stays
            cell = self._home(place.home) or stays or self.expect(place.call)
            if cell is None or cell.same_place(place.cell):
                continue
            place.cell = cell
            moved.append(front)
        return moved

    def _home(self, home: str) -> Cell | None:
        cell = self.cells.cell(home) if home else None
        return None if cell is None or cell.name in self.lost else cell
