"""`abhinaya eval shares`: how often each label was given, and how often another than neutral.

On recordings that are neutral, this is the share of false alarms. Counted are segments, each in its
last revision; gaps and provisional verdicts are not.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.train.eval_monitor import read_verdicts
from abhinaya.train.eval_report import table

Z: Final = 1.959964
"""Of a 95 % interval."""
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Shares:
    """The segments of one stream, or of all."""

    stream: str
    counts: Mapping[str, int]
    """By label, UNKNOWN among them."""

    @property
    def segments(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    @property
    def otherwise(self) -> int:
        """How many have another label than neutral; an open one is none."""
        return sum(n for label, n in self.counts.items() if label not in ("neutral", UNKNOWN))


def count(labels: Iterable[tuple[str, str]]) -> list[Shares]:
    """Count (stream, label), stream by stream, and all in the end if there are several."""
    by_stream: dict[str, Counter[str]] = {}
    for stream, label in labels:
        by_stream.setdefault(stream, Counter())[label] += 1
    rows = [Shares(stream, counts) for stream, counts in by_stream.items()]
    if len(rows) > 1:
        rows.append(Shares(ALL, sum(by_stream.values(), Counter[str]())))
    return rows


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927): right also for few segments and for none."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = hits / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5 / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE.jsonl", help="JSON lines of the monitor"
    )


def run(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Count; give the table, and the figures as plain values.

    Raises:
        DataError: a file is none of the monitor's.

    """
    files: list[Path] = args.files
    labels = [
        (stream if len(files) == 1 else f"{path.name}: {stream}", verdict.label)
        for path in files
        for (stream, _), verdict in read_verdicts(path).items()
    ]
    rows = count(labels)
    return as_text(rows), {"schema": "abhinaya.shares/1", "streams": [_values(r) for r in rows]}


def as_text(rows: Iterable[Shares]) -> str:
    """Write the counts for a terminal."""
    rows = list(rows)
    shown = [x for x in (*LABELS, UNKNOWN) if any(row.counts.get(x) for row in rows)]
    lines = [["stream", "segments", "not neutral [95 %]", *shown]]
    for row in rows:
        low, high = wilson(row.otherwise, row.segments)
        lines.append(
            [
                row.stream,
                str(row.segments),
                f"{row.otherwise / row.segments:.1%} [{low:.1%}, {high:.1%}]",
                *(str(row.counts.get(label, 0)) for label in shown),
            ]
        )
    return table(lines)


def _values(row: Shares) -> dict[str, Any]:
    return {
        "stream": row.stream,
        "segments": row.segments,
        "otherwise": row.otherwise,
        "interval": list(wilson(row.otherwise, row.segments)),
        "labels": dict(row.counts),
    }
