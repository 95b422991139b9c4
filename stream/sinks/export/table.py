"""CSV: a row for each verdict and gap as they came; a revision is a further row."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean
from typing import Final

from abhinaya.models.labels import LABELS
from abhinaya.stream.sinks.reader import rows
from abhinaya.stream.sinks.rows import Decided, Lost, Segment

Cell = str | int | float | bool | None

COLUMNS: Final = {
    "type": "string",
    "stream": "string",
    "segment": "int64",
    "revision": "int32",
    "final": "bool_",
    "start_s": "float64",
    "end_s": "float64",
    "wall_time": "string",
    "label": "string",
    "leading": "string",
    "confidence": "float64",
    "agreement": "float64",
    "margin": "float64",
    "reason": "string",
    "transcript": "string",
    "translation": "string",
    "transcript_confidence": "float64",
    "language": "string",
    "language_probability": "float64",
    "votes": "string",
    "missing": "string",
    "latency_ms": "float64",
    **{f"p_{label}": "float64" for label in LABELS},
}
"""Name and type, as pyarrow calls it. `p_LABEL` is the mean probability that the voters present
give to the label."""


def cells(row: Segment) -> dict[str, Cell]:
    """Return a segment by column."""
    flat: dict[str, Cell] = {name: getattr(row, name, None) for name in COLUMNS}
    if isinstance(row, Lost):
        return flat | {"type": "gap", "revision": 0, "final": True}
    said = row.transcript
    spoken = ("translation", "language", "language_probability")
    return flat | {
        "type": "verdict",
        "transcript": said.text if said else None,
        "transcript_confidence": said.confidence if said else None,
        **{name: getattr(said, name, None) for name in spoken},
        "votes": " ".join(
            f"{vote.voter}={vote.label}" + (f":{vote.claim:.2f}" if vote.claim is not None else "")
            for vote in row.votes
        ),
        "missing": "; ".join(f"{m.voter}: {m.reason}" for m in row.missing),
        "latency_ms": row.latency_ms.get("total"),
        **{f"p_{label}": _mean(row, label) for label in LABELS},
    }


def _mean(row: Decided, label: str) -> float | None:
    shares = [(vote.probabilities or {}).get(label) for vote in row.votes]
    known = [share for share in shares if share is not None]
    return round(fmean(known), 4) if known else None


def export(source: Path, target: Path) -> None:
    """Write CSV as RFC 4180 has it: UTF-8, one header line, a row for each verdict and gap."""
    with target.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for row in rows(source):
            if isinstance(row, Decided | Lost):
                flat = cells(row).values()
                table.writerow([str(c).lower() if isinstance(c, bool) else c for c in flat])
