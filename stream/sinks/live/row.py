"""Rows of text that are never wider than they should be, whatever is written into them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Self

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from abhinaya.stream.sinks.rows import clean

PLAIN: Final = Style.null()


@lru_cache(maxsize=256)
def style(text: str) -> Style:
    """Give the style that a text like `bold #d0382b` describes."""
    return Style.parse(text)


def shorten(text: str, cells: int) -> str:
    """Give text in at most `cells` cells, cut with an ellipsis if it is longer."""
    text = clean(text)
    if cells <= 0:
        return ""
    if cell_len(text) > cells:
        text = set_cell_size(text, cells - 1).rstrip() + "…"
    return text


class Row:
    """One line, built from left to right; what has no room is left out.

    Args:
        width: of the line in cells.

    """

    __slots__ = ("cells", "parts", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.cells = 0
        self.parts: list[Segment] = []

    @property
    def room(self) -> int:
        """Cells that are left."""
        return self.width - self.cells

    def add(self, text: str, how: Style = PLAIN) -> Self:
        """Append text, cut where the line ends. What a terminal cannot print becomes a space."""
        text = text if text.isprintable() else clean(text)
        cells = cell_len(text)
        if cells > self.room:
            text = set_cell_size(text, self.room)
            cells = self.room
        if cells:
            self.parts.append(Segment(text, how))
            self.cells += cells
        return self

    def column(self, text: str, cells: int, how: Style = PLAIN, *, right: bool = False) -> Self:
        """Append text in exactly `cells` cells, cut with an ellipsis if it is longer."""
        text = shorten(text, cells)
        space = " " * (cells - cell_len(text))
        return self.add(space).add(text, how) if right else self.add(text, how).add(space)

    def until(self, cell: int) -> Self:
        """Append spaces up to a column."""
        return self.add(" " * max(0, cell - self.cells))

    def extend(self, other: Row) -> Self:
        """Append another row."""
        for part in other.parts:
            self.add(part.text, part.style or PLAIN)
        return self

    @property
    def plain(self) -> str:
        """The text without its styles, without spaces at its end."""
        return "".join(part.text for part in self.parts).rstrip()


class Picture:
    """Rows below each other: something that rich can print.

    Args:
        rows: from the top.

    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = tuple(tuple(row.parts) for row in rows)

    @property
    def widths(self) -> list[int]:
        """How many cells each row takes."""
        return [sum(part.cell_length for part in row) for row in self.rows]

    @property
    def text(self) -> str:
        """The rows without their styles."""
        return "\n".join("".join(part.text for part in row).rstrip() for row in self.rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and self.rows == other.rows

    def __hash__(self) -> int:
        return hash(self.rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._segments()

    def _segments(self) -> Iterator[Segment]:
        for i, row in enumerate(self.rows):
            if i:
                yield Segment.line()
            yield from row
