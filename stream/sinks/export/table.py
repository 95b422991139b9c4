"""CSV: a row for each verdict and gap as they came; a revision is a further row."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean
from typing import Final

from abhinaya.models.labels import LABELS
from abhinaya.stream.sinks.reader import rows
from abhinaya.stream.sinks.rows import Decided, Lost, Segment, ballots

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
    """Return a segment by column; a column that is not named is empty."""
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


def export(source: Path, target: Path) -> None:
    """Write CSV as RFC 4180 has it: UTF-8, one header line, a row for each verdict and gap."""
    with target.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for row in rows(source):
            if isinstance(row, Decided | Lost):
                table.writerow({name: _written(cell) for name, cell in cells(row).items()})


def _mean(row: Decided, label: str) -> float | None:
    shares = [(v.probabilities or {}).get(label) for v in row.votes]
    known = [share for share in shares if share is not None]
    return round(fmean(known), 4) if known else None


def _written(cell: Cell) -> Cell:
    return str(cell).lower() if isinstance(cell, bool) else cell
