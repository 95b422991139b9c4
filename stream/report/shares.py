"""Totals of a stream: seconds and longest run of each label; seconds in equal parts of the stream.

Segments must come in the order of their start. Provisional verdicts are ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from abhinaya.stream.sinks.rows import Decided, Lost, Segment

LOST: Final = "gap"
"""Label of a gap."""
PAUSE_S: Final = 30.0
"""Longest silence within a run, in seconds. Another label or a gap also ends a run."""


@dataclass(slots=True)
class Share:
    """Totals of one label in a stream."""

    seconds: float = 0.0
    run_start_s: float = 0.0
    """Start of the longest run."""
    run_s: float = 0.0
    """Length of the longest run, in seconds."""


def shares(rows: Iterable[Segment], pause_s: float = PAUSE_S) -> dict[str, Share]:
    """Return the totals of each label, including `unknown`."""
    found: dict[str, Share] = {}
    label, start_s, end_s = "", 0.0, 0.0
    for row in rows:
        if isinstance(row, Lost):
            label = ""
            continue
        if not row.final:
            continue
        if row.label != label or row.start_s - end_s > pause_s:
            label, start_s = row.label, row.start_s
        end_s = row.end_s
        share = found.setdefault(label, Share())
        share.seconds += row.end_s - row.start_s
        if end_s - start_s > share.run_s:
            share.run_start_s, share.run_s = start_s, end_s - start_s
    return found


def parts(rows: Iterable[Segment], duration_s: float, count: int) -> list[Counter[str]]:
    """Return the seconds of each label, including gaps, in `count` equal parts of a stream."""
    found: list[Counter[str]] = [Counter() for _ in range(count)]
    width_s = duration_s / count
    for row in rows:
        if isinstance(row, Decided) and not row.final:
            continue
        label = row.label if isinstance(row, Decided) else LOST
        last = min(count - 1, int(row.end_s / width_s))
        for i in range(min(last, int(row.start_s / width_s)), last + 1):
            inside_s = min(row.end_s, (i + 1) * width_s) - max(row.start_s, i * width_s)
            if inside_s > 1e-9:
                found[i][label] += inside_s  # type: ignore[assignment]
    return found
