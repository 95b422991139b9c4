"""Parquet: a row for each segment in its last revision, with the votes nested in it."""

from __future__ import annotations

import itertools
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from abhinaya.models.labels import LABELS
from abhinaya.stream.errors import SinkError
from abhinaya.stream.sinks.events import SCHEMA
from abhinaya.stream.sinks.export.table import cells
from abhinaya.stream.sinks.reader import segments
from abhinaya.stream.sinks.rows import Lost, Segment

BATCH_ROWS: Final = 2000
"""Held in memory at once, and in one row group of the file."""


def export(source: Path, target: Path) -> None:
    """Write a Parquet file.

    Raises:
        SinkError: pyarrow is not installed.

    """
    try:
        import pyarrow as pa  # heavy: only who asks for Parquet loads it
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SinkError(
            ".parquet",
            "pyarrow is not installed, which writes it",
            "install it with: pip install 'abhinaya[formats]'; or use .csv",
        ) from error
    schema, rows = _schema(pa), segments(source)
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        while batch := [_record(row) for row in itertools.islice(rows, BATCH_ROWS)]:
            writer.write_table(pa.Table.from_pylist(batch, schema))


def _schema(pa: Any) -> Any:
    share, text = pa.float64(), pa.string()
    vote = pa.struct(
        [
            ("voter", text),
            ("label", text),
            ("model", text),
            ("probabilities", pa.struct([(label, share) for label in LABELS])),
        ]
    )
    return pa.schema(
        [
            ("type", text),
            ("stream", text),
            ("segment", pa.int64()),
            ("revision", pa.int32()),
            ("final", pa.bool_()),
            ("start_s", share),
            ("end_s", share),
            ("wall_time", pa.timestamp("ms", tz="UTC")),
            ("label", text),
            ("leading", text),
            ("confidence", share),
            ("agreement", share),
            ("margin", share),
            ("reason", text),
            ("transcript", text),
            ("translation", text),
            ("transcript_confidence", share),
            ("language", text),
            ("language_probability", share),
            ("votes", pa.list_(vote)),
            ("missing", pa.list_(pa.struct([("voter", text), ("reason", text)]))),
            ("latency_ms", share),
            *((f"p_{label}", share) for label in LABELS),
        ],
        metadata={"schema": SCHEMA},
    )


def _record(row: Segment) -> dict[str, Any]:
    record: dict[str, Any] = dict(cells(row))
    if isinstance(row, Lost):
        return record
    record["wall_time"] = datetime.fromisoformat(row.wall_time) if row.wall_time else None
    record["votes"] = [
        {"voter": v.voter, "label": v.label, "model": v.model, "probabilities": v.probabilities}
        for v in row.votes
    ]
    record["missing"] = [{"voter": m.voter, "reason": m.reason} for m in row.missing]
    return record
