"""The table of what the tests of several machines have measured."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from cluster.calls import Came


@dataclass(frozen=True)
class Row:
    """One fault."""

    fault: str
    came: Came
    again_s: float | None
    """After so many seconds a process that was lost was there again."""
    answers_s: float | None
    """After so many seconds calls had a vote on what was said since."""
    load: float
    """Of this machine, over the last minute."""

    def cells(self) -> list[str]:
        """Return the row as text."""
        came = self.came
        numbers = [came.expected, len(came.lost), came.doubles, sum(came.gaps.values())]
        numbers += [sum(came.incomplete.values()), came.most_notices]
        times = ["" if s is None else f"{s:.1f}" for s in (self.again_s, self.answers_s)]
        return [self.fault, *map(str, numbers), *times, f"{self.load:.1f}"]


HEAD: Final = (
    "fault", "segments", "lost", "twice", "gaps", "no vote", "notices", "again s", "answers s",
    "load",
)  # fmt: skip
_ROWS: Final[list[Row]] = []


def note(
    fault: str, came: Came, again_s: float | None = None, answers_s: float | None = None
) -> None:
    """Add a fault to the table."""
    _ROWS.append(Row(fault, came, again_s, answers_s, os.getloadavg()[0]))


def table() -> list[str]:
    """Return the table, in Markdown; empty if nothing was measured."""
    rows = [list(HEAD), *(row.cells() for row in _ROWS)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [" | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return [f"| {line} |" for line in lines] if _ROWS else []
