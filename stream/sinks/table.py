"""CSV: a row for each verdict and gap, as it comes; a revision is a further row with its number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from abhinaya.models.labels import LABELS
from abhinaya.stream.sinks.files import LogFile
from abhinaya.stream.sinks.rows import Decided, Lost, Segment, ballots, to_row

Cell = str | int | float | bool | None

COLUMNS: Final = (
    "type", "stream", "segment", "revision", "final", "start_s", "end_s", "wall_time", "label",
    "leading", "confidence", "agreement", "margin", "reason", "transcript",
    "translation", "transcript_confidence", "language", "language_probability", "votes",
    "missing", "latency_ms",
    *(f"p_{label}" for label in LABELS),
)  # fmt: skip
"""`p_LABEL` is the mean probability that the voters present give to the label."""


def cells(row: Segment) -> dict[str, Cell]:
    """Give a segment by column; a column that is not named is empty."""
    flat: dict[str, Cell] = {
        "type": "verdict" if isinstance(row, Decided) else "gap",
        "stream": row.stream,
        "segment": row.segment,
        "start_s": row.start_s,
        "end_s": row.end_s,
        "reason": row.reason,
    }
    if isinstance(row, Lost):
        return flat | {"revision": 0, "final": True}
    said = row.transcript
    return flat | {
        "revision": row.revision,
        "final": row.final,
        "wall_time": row.wall_time,
        "label": row.label,
        "leading": row.leading,
        "confidence": row.confidence,
        "agreement": row.agreement,
        "margin": row.margin,
        "transcript": said.text if said else None,
        "translation": said.translation if said else None,
        "transcript_confidence": said.confidence if said else None,
        "language": said.language if said else None,
        "language_probability": said.language_probability if said else None,
        "votes": ballots(row),
        "missing": "; ".join(f"{m.voter}: {m.reason}" for m in row.missing),
        "latency_ms": row.latency_ms.get("total"),
        **{f"p_{label}": _mean(row, label) for label in LABELS},
    }


class CsvFile:
    """Writes a CSV file: RFC 4180, UTF-8, one header line.

    Raises:
        SinkError: the file cannot be opened or written.

    """

    def __init__(self, path: Path) -> None:
        self._log = LogFile(path)
        self._log.append(_line(COLUMNS))

    def put(self, values: dict[str, Any], now_unix_s: float) -> None:
        """Write an event, if it is a verdict or a gap.

        Raises:
            SinkError: the disk is full, or the file was deleted; whole rows stay.

        """
        row = to_row(values)
        if isinstance(row, Decided | Lost):
            held = cells(row)
            self._log.append(_line(_written(held.get(column)) for column in COLUMNS))

    def close(self) -> None:
        """Close the file."""
        self._log.close()


def _mean(row: Decided, label: str) -> float | None:
    shares = [(v.probabilities or {}).get(label) for v in row.votes]
    known = [share for share in shares if share is not None]
    return round(fmean(known), 4) if known else None


def _written(cell: Cell) -> Cell:
    return str(cell).lower() if isinstance(cell, bool) else cell


def _line(row: Iterable[Cell]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue().encode()
