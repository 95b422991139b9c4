"""The table of what the tests of several machines have measured."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from cluster.count import Came


@dataclass(frozen=True)
class Row:
    """One fault."""

    fault: str
    came: Came
    answers_s: float | None
    """So many seconds after the fault a call had a vote on what was said since."""
    load: float
    """Of this machine, over the last minute."""

    def cells(self) -> list[str]:
        """Return the row as text."""
        came = self.came
        numbers = [came.expected, len(came.lost), came.doubles, sum(came.gaps.values())]
        numbers += [sum(came.incomplete.values()), came.most_notices]
        answers = "" if self.answers_s is None else f"{self.answers_s:.1f}"
        return [self.fault, *map(str, numbers), answers, f"{self.load:.1f}"]


HEAD: Final = (
    "fault", "segments", "lost", "twice", "gaps", "no vote", "notices", "answers s",
    "load",
)  # fmt: skip
_ROWS: Final[list[Row]] = []


def note(fault: str, came: Came, answers_s: float | None = None) -> None:
    """Add a fault to the table."""
    _ROWS.append(Row(fault, came, answers_s, os.getloadavg()[0]))


def table() -> list[str]:
    """Return the table, in Markdown; empty if nothing was measured."""
    rows = [list(HEAD), *(row.cells() for row in _ROWS)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [" | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return [f"| {line} |" for line in lines] if _ROWS else []
