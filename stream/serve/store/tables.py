"""The tables of segments, totals and words. They follow the events by up to 2 s, many at once.

Runs inside a transaction; the caller commits or rolls back.
"""

from __future__ import annotations

import sqlite3
import zlib
from datetime import datetime

import msgspec

from abhinaya.stream.report.shares import LOST
from abhinaya.stream.serve.store import words
from abhinaya.stream.serve.store.packed import unpack
from abhinaya.stream.serve.store.record import unix_of


class _Said(msgspec.Struct):
    text: str = ""
    translation: str = ""


class _Event(msgspec.Struct):
    """What the tables need of a verdict or a gap."""

    type: str
    segment: int = 0
    start_s: float = 0.0
    end_s: float = 0.0
    wall_time: str = ""
    label: str = LOST
    confidence: float | None = None
    revision: int = 0
    transcript: _Said | None = None

    @property
    def text(self) -> str:
        """The words, and their translation."""
        said = self.transcript
        return " ".join(filter(None, (said.text, said.translation))) if said else ""


_decoder = msgspec.json.Decoder(_Event)


def follow(db: sqlite3.Connection, limit: int) -> int:
    """Take the next events into the tables; return how many there were."""
    rows = db.execute(
        "SELECT number, stream, at, body FROM events WHERE number > (SELECT number FROM followed)"
        " ORDER BY number LIMIT ?",
        (limit,),
    ).fetchall()
    for number, stream, now, body in rows:
        try:
            event = _decoder.decode(unpack(body))
            at = min(now, unix_of(event.wall_time, now))
        except (zlib.error, ValueError):  # msgspec's too
            continue  # a damaged event must not stop the others; who reads it gets an error
        if event.type in ("verdict", "gap"):
            _add(db, stream, number, event, at)
    if rows:
        db.execute("UPDATE followed SET number = ?", (rows[-1][0],))
    return len(rows)


def day_of(unix_s: float) -> int:
    """Return the day of a time, in the time zone of this machine, as `date.toordinal` counts."""
    return datetime.fromtimestamp(unix_s).astimezone().toordinal()


def _add(db: sqlite3.Connection, stream: int, number: int, event: _Event, at: float) -> None:
    """Add a segment, or replace it if the verdict is a later revision."""
    length_s = event.end_s - event.start_s
    values = (
        event.start_s,
        event.end_s,
        event.label,
        event.confidence,
        event.revision,
        number,
        event.text,
    )
    old = db.execute(
        "SELECT id, at, label, end_s - start_s, revision, text FROM segments"
        " WHERE stream=? AND segment=?",
        (stream, event.segment),
    ).fetchone()
    if old is None:
        added = db.execute(
            "INSERT INTO segments(start_s, end_s, label, confidence, revision, event, text, stream,"
            " segment, at, first, party) SELECT ?,?,?,?,?,?,?, id, ?,?,?, party FROM streams"
            " WHERE id=?",
            (*values, event.segment, at, number, stream),
        )
        if added.rowcount:  # else the stream was deleted meanwhile
            words.add(db, added.lastrowid or 0, event.text)
            _count(db, at, stream, event.label, 1, length_s)
        return
    row_id, at, label, old_s, revision, text = old
    if event.revision <= revision:
        return
    db.execute(
        "UPDATE segments SET start_s=?, end_s=?, label=?, confidence=?, revision=?, event=?, text=?"
        " WHERE id=?",
        (*values, row_id),
    )
    if event.text != text:
        words.remove(db, row_id, text)
        words.add(db, row_id, event.text)
    _count(db, at, stream, label, -1, -old_s)
    _count(db, at, stream, event.label, 1, length_s)


def _count(
    db: sqlite3.Connection, at: float, stream: int, label: str, segments: int, speech_s: float
) -> None:
    """Add to the totals of a day."""
    db.execute(
        "INSERT INTO totals VALUES(?,?,?,?,?) ON CONFLICT DO UPDATE SET"
        " segments=segments+excluded.segments, speech_s=speech_s+excluded.speech_s",
        (day_of(at), stream, label, segments, speech_s),
    )
