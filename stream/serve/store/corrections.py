"""What people add to the history: that they have seen an alert, and what a segment really was."""

from __future__ import annotations

from typing import Any

from abhinaya.stream.report.shares import LOST
from abhinaya.stream.serve.store import record
from abhinaya.stream.serve.store.file import HistoryFile
from abhinaya.stream.sinks.events import SCHEMA, wall_time
from abhinaya.stream.wire.messages import NOT_JUDGED


def acknowledge(file: HistoryFile, number: int, who: str, now: float) -> int:
    """Note who has seen an alert first; return the number of the event, 0 for a later one.

    Raises:
        KeyError: no alert has this number.

    """
    with file.writing() as db:
        row = db.execute(
            "SELECT a.stream, s.name, a.who FROM alerts a JOIN streams s ON s.id = a.stream"
            " WHERE a.number = ?",
            (number,),
        ).fetchone()
        if row is None:
            raise KeyError(number)
        stream, name, earlier = row
        if earlier is not None:
            return 0
        db.execute(
            "UPDATE alerts SET who = ?, acknowledged = ? WHERE number = ?", (who, now, number)
        )
        body = _head("alert_acknowledged", name, who, now) | {"alert": number}
        return record.add_event(db, stream, body, now)


def correct(
    file: HistoryFile,
    stream: int,
    segment: int,
    label: str,
    who: str,
    note: str,
    now: float,
    *,
    others: bool,
) -> int:
    """Note what a segment was; return the number of the event that says so.

    Raises:
        KeyError: the segment is unknown, or a gap.
        ValueError: the stream may not be judged, by a person neither.
        PermissionError: another person has corrected it, and `others` is False.

    """
    with file.writing() as db:
        row = db.execute(
            "SELECT g.id, g.label, s.name, json_extract(s.facts, '$.judged') = 0"
            " FROM segments g JOIN streams s ON s.id = g.stream"
            " WHERE g.stream = ? AND g.segment = ?",
            (stream, segment),
        ).fetchone()
        if row is None or row[1] == LOST:
            raise KeyError(segment)
        row_id, judged, name, withheld = row
        if withheld:
            raise ValueError(NOT_JUDGED)
        last = db.execute(
            "SELECT who FROM corrections WHERE stream = ? AND segment = ? ORDER BY id DESC LIMIT 1",
            (stream, segment),
        ).fetchone()
        if last is not None and last[0] != who and not others:
            raise PermissionError(last[0])
        db.execute(
            "INSERT INTO corrections(stream, segment, at, who, judged, label, note)"
            " VALUES(?,?,?,?,?,?,?)",
            (stream, segment, now, who, judged, label, note),
        )
        db.execute("UPDATE segments SET corrected = ? WHERE id = ?", (label, row_id))
        body = _head("correction", name, who, now)
        body |= {"segment": segment, "judged": judged, "label": label, "note": note}
        return record.add_event(db, stream, body, now)


def _head(kind: str, name: str, who: str, now: float) -> dict[str, Any]:
    return {"schema": SCHEMA, "type": kind, "stream": name, "by": who, "at": wall_time(now)}
