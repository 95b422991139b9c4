"""CSV: a row for each verdict, revision and gap, in the order of the file.

Spreadsheets run a cell that begins like a formula. Such text gets an apostrophe before it, which
they take as "this is text".
"""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean
from typing import Final

from abhinaya.models.labels import ATTRIBUTES, LABELS
from abhinaya.models.text import one_line
from abhinaya.stream.sinks.reader import rows
from abhinaya.stream.sinks.rows import Decided, Lost, Segment

FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001 - the wide forms too

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
    **dict.fromkeys(ATTRIBUTES, "float64"),
}
"""Name and pyarrow type of each column. `p_LABEL` is the mean probability of the label over all
votes with probabilities."""


def cells(row: Segment) -> dict[str, Cell]:
    """Return the cells of a segment, by column name."""
    flat: dict[str, Cell] = {name: getattr(row, name, None) for name in COLUMNS}
    if isinstance(row, Lost):
        return flat | {"type": "gap", "revision": 0, "final": True}
    transcript = row.transcript
    copied = ("translation", "language", "language_probability")
    return flat | {
        "type": "verdict",
        "transcript": transcript.text if transcript else None,
        "transcript_confidence": transcript.confidence if transcript else None,
        **{name: getattr(transcript, name, None) for name in copied},
        "votes": " ".join(
            f"{vote.voter}={vote.text.replace(' ', '')}"
            + (f":{vote.claim:.2f}" if vote.claim is not None else "")
            for vote in row.votes
        ),
        "missing": "; ".join(f"{m.voter}: {m.reason}" for m in row.missing),
        "latency_ms": row.latency_ms.get("total"),
        **{f"p_{label}": _mean(row, label) for label in LABELS},
        **{name: getattr(row.attributes, name, None) for name in ATTRIBUTES},
    }


def _mean(row: Decided, label: str) -> float | None:
    shares = [(vote.probabilities or {}).get(label) for vote in row.votes]
    known = [share for share in shares if share is not None]
    return round(fmean(known), 4) if known else None


def export(source: Path, target: Path) -> None:
    """Write CSV as in RFC 4180: UTF-8, with one header line."""
    with target.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for row in rows(source):
            if isinstance(row, Decided | Lost):
                table.writerow(map(_written, cells(row).values()))


def _written(cell: Cell) -> Cell:
    if isinstance(cell, bool):
        return str(cell).lower()
    if not isinstance(cell, str):
        return cell
    text = one_line(cell)
    return f"'{text}" if text.startswith(FORMULA) else text
