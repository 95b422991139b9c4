"""Parquet: a row for each segment in its last revision, with its votes as nested values."""

from __future__ import annotations

import itertools
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from abhinaya.models.labels import ATTRIBUTES, LABELS
from abhinaya.stream.errors import SinkError
from abhinaya.stream.sinks.events import SCHEMA
from abhinaya.stream.sinks.export.table import COLUMNS, cells
from abhinaya.stream.sinks.reader import segments
from abhinaya.stream.sinks.rows import Lost, Segment

BATCH_ROWS: Final = 2000
"""Number of rows in memory at once, which are one row group of the file."""


def export(source: Path, target: Path) -> None:
    """Write a Parquet file.

    Raises:
        SinkError: pyarrow is not installed.

    """
    try:
        import pyarrow as pa  # slow to import
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SinkError(
            ".parquet",
            "needs pyarrow, which is not installed",
            "install it with: pip install 'abhinaya[formats]'; or use .csv",
        ) from error
    schema, rows = _schema(pa), segments(source)
    # opened here: pyarrow takes only paths that are UTF-8
    with target.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while batch := [_record(row) for row in itertools.islice(rows, BATCH_ROWS)]:
            writer.write_table(pa.Table.from_pylist(batch, schema))


def _schema(pa: Any) -> Any:
    text = pa.string()
    shares = pa.struct([(label, pa.float64()) for label in LABELS])
    rated = pa.struct([(name, pa.float64()) for name in ATTRIBUTES])
    vote = [("voter", text), ("label", text), ("model", text), ("probabilities", shares)]
    vote.append(("attributes", rated))
    richer = {
        "wall_time": pa.timestamp("ms", tz="UTC"),
        "votes": pa.list_(pa.struct(vote)),
        "missing": pa.list_(pa.struct([("voter", text), ("reason", text)])),
    }
    columns = [(name, richer.get(name) or getattr(pa, kind)()) for name, kind in COLUMNS.items()]
    return pa.schema(columns, metadata={"schema": SCHEMA})


def _record(row: Segment) -> dict[str, Any]:
    record: dict[str, Any] = dict(cells(row))
    if isinstance(row, Lost):
        return record
    record["wall_time"] = datetime.fromisoformat(row.wall_time) if row.wall_time else None
    return record | {name: msgspec.to_builtins(getattr(row, name)) for name in ("votes", "missing")}
