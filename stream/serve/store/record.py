"""Writes one event into the tables. Runs inside a transaction; the caller commits or rolls back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from abhinaya.models.text import to_json
from abhinaya.stream.report.shares import LOST
from abhinaya.stream.serve.store import words
from abhinaya.stream.serve.store.packed import pack

KEPT: Final = frozenset((
    "verdict", "gap", "alert", "stream_started", "stream_ended", "node_up", "node_down",
    "front_down", "remark", "alert_acknowledged", "correction",
))  # fmt: skip
"""Types of events that get a number. A provisional verdict gets none."""

Values = Mapping[str, Any]


def is_kept(body: Values) -> bool:
    """Whether an event is stored."""
    return body["type"] in KEPT and body.get("final") is not False


def day_of(unix_s: float) -> int:
    """Return the day of a time, in the time zone of this machine, as `date.toordinal` counts."""
    return datetime.fromtimestamp(unix_s).astimezone().toordinal()


def party_of(name: str) -> tuple[str, str]:
    """Return call and party of a stream's name, `CALL/PARTY`; without a slash, the call alone."""
    call, slash, party = name.rpartition("/")
    return (call, party) if slash else (name, "")


def add_stream(db: sqlite3.Connection, number: int, run: str, name: str, now: float) -> None:
    """Add a stream that has been given a number; its beginning may follow."""
    row = (number, run, name, *party_of(name), now)
    db.execute(
        "INSERT OR IGNORE INTO streams(id, run, name, call, party, started) VALUES(?,?,?,?,?,?)",
        row,
    )


def add_event(db: sqlite3.Connection, stream: int, body: Values, now: float) -> int:
    """Return the number of the new event; 0 for one that is stored already."""
    row = (stream, now, pack(to_json(body)))
    cursor = db.execute("INSERT INTO events(stream, at, body) VALUES(?,?,?)", row)
    number = int(cursor.lastrowid or 0)
    match body["type"]:
        case "verdict" | "gap":
            new = _add_segment(db, stream, number, body, now)
        case "stream_started":
            new = _start(db, stream, body, now)
        case "stream_ended":
            new = _end(db, stream, body, now)
        case "alert":
            new = _add_alert(db, stream, number, body, now)
        case _:
            new = True
    return number if new else 0


def _start(db: sqlite3.Connection, stream: int, body: Values, now: float) -> bool:
    """Fill in a stream; one that was ended begins again, one that runs has begun already."""
    facts = {k: body[k] for k in ("judged", "notice", "consent") if k in body}
    facts |= body.get("facts") or {}
    name = body["stream"]
    call = body.get("call") or party_of(name)[0]
    values = (
        body.get("source", ""),
        bool(body.get("live")),
        json.dumps(facts),
        unix_of(body.get("wall_time"), now),
        call,
        body.get("party") or (name[len(call) + 1 :] if name.startswith(f"{call}/") else ""),
    )
    done = db.execute(
        "UPDATE streams SET source=?, live=?, facts=?, started=?, call=?, party=?, ended=NULL,"
        " reason='', begun=1 WHERE id=? AND (NOT begun OR ended IS NOT NULL)",
        (*values, stream),
    )
    return done.rowcount > 0


def _end(db: sqlite3.Connection, stream: int, body: Values, now: float) -> bool:
    row = (now, body["duration_s"], body.get("reason", ""), body.get("sound", ""), stream)
    done = db.execute(
        "UPDATE streams SET ended=?, duration_s=?, reason=?, sound=? WHERE id=? AND ended IS NULL",
        row,
    )
    return done.rowcount > 0


def _add_alert(db: sqlite3.Connection, stream: int, number: int, body: Values, now: float) -> bool:
    at = min(now, unix_of(body.get("wall_time"), now))
    row = (number, stream, at, body["rule"], body["label"], body["segment"])
    db.execute(
        "INSERT INTO alerts(number, stream, at, rule, label, segment) VALUES(?,?,?,?,?,?)", row
    )
    return True


def _add_segment(
    db: sqlite3.Connection, stream: int, number: int, body: Values, now: float
) -> bool:
    """Add a segment, or replace it if the verdict is a later revision."""
    at = min(now, unix_of(body.get("wall_time"), now))
    label, revision = body.get("label", LOST), body.get("revision", 0)
    old = db.execute(
        "SELECT id, at, label, end_s - start_s, revision, text FROM segments"
        " WHERE stream=? AND segment=?",
        (stream, body["segment"]),
    ).fetchone()
    if old is not None and revision <= old[4]:
        return False
    said = body.get("transcript") or {}
    text = " ".join(filter(None, (said.get("text"), said.get("translation"))))
    values = (body["start_s"], body["end_s"], label, body.get("confidence"), revision, number, text)
    if old is None:
        db.execute(
            "INSERT INTO segments(start_s, end_s, label, confidence, revision, event, text, stream,"
            " segment, at, first, party) SELECT ?,?,?,?,?,?,?, id, ?,?,?, party FROM streams"
            " WHERE id=?",
            (*values, body["segment"], at, number, stream),
        )
    else:
        db.execute(
            "UPDATE segments SET start_s=?, end_s=?, label=?, confidence=?, revision=?, event=?,"
            " text=? WHERE id=?",
            (*values, old[0]),
        )
        if text != old[5]:
            words.replace(db, old[0], old[5], text)
        count(db, day_of(old[1]), stream, old[2], -1, -old[3])
        at = old[1]
    count(db, day_of(at), stream, label, 1, body["end_s"] - body["start_s"])
    return True


def count(
    db: sqlite3.Connection, day: int, stream: int, label: str, segments: int, speech_s: float
) -> None:
    """Add to the totals of a day."""
    db.execute(
        "INSERT INTO totals VALUES(?,?,?,?,?) ON CONFLICT DO UPDATE SET"
        " segments=segments+excluded.segments, speech_s=speech_s+excluded.speech_s",
        (day, stream, label, segments, speech_s),
    )


def unix_of(wall_time: str | None, otherwise: float) -> float:
    """Return the Unix time of ISO 8601 text."""
    return datetime.fromisoformat(wall_time).timestamp() if wall_time else otherwise
