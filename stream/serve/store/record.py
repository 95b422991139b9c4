"""Writes one event. Runs inside a transaction; the caller commits or rolls back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from abhinaya.models.text import to_json
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
    """Return the number of the new event; 0 for a start or an end that is stored already.

    Verdicts and gaps enter the tables of segments later, many at once (`tables.py`): that costs a
    third, and writes a fifth of the bytes.
    """
    kind = body["type"]
    if kind == "stream_started" and not _start(db, stream, body, now):
        return 0
    if kind == "stream_ended" and not _end(db, stream, body, now):
        return 0
    row = (stream, now, pack(to_json(body)))
    cursor = db.execute("INSERT INTO events(stream, at, body) VALUES(?,?,?)", row)
    number = int(cursor.lastrowid or 0)
    if kind == "alert":
        at = min(now, unix_of(body.get("wall_time"), now))
        alert = (number, stream, at, body["rule"], body["label"], body["segment"])
        db.execute(
            "INSERT INTO alerts(number, stream, at, rule, label, segment) VALUES(?,?,?,?,?,?)",
            alert,
        )
    return number


def _start(db: sqlite3.Connection, stream: int, body: Values, now: float) -> bool:
    """Fill in a stream; one that was ended begins again, one that runs has begun already."""
    marks = {k: body[k] for k in ("judged", "heard", "notice", "consent") if k in body}
    facts = dict(body.get("facts") or {}) | marks
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


def unix_of(wall_time: str | None, otherwise: float) -> float:
    """Return the Unix time of ISO 8601 text."""
    return datetime.fromisoformat(wall_time).timestamp() if wall_time else otherwise
