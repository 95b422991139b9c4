"""What is asked of the history. Each answer is a JSON value; times in it are ISO 8601 text.

Pages go from the newest to the oldest. `next` of a page is the `before` of the one after it; it is
null on the last page.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import msgspec

from abhinaya.stream.report.shares import LOST
from abhinaya.stream.serve.store import words
from abhinaya.stream.serve.store.file import HistoryFile
from abhinaya.stream.serve.store.packed import unpack
from abhinaya.stream.serve.store.tables import day_of
from abhinaya.stream.sinks.events import wall_time

MAX_PARTIES: Final = 50
"""Parties with most speech that a comparison names; the others are one entry."""
OTHERS: Final = "(others)"
WEEK: Final = 7

_SEGMENTS: Final = (
    "SELECT g.id, g.event AS number, g.stream AS stream_id, s.name AS stream, s.call, g.party,"
    " g.segment, g.at, g.start_s, g.end_s, g.label, g.corrected, g.confidence, g.revision, g.text"
)
_STREAMS: Final = (
    "SELECT id, run, name, call, party, source, live, facts, started, ended, duration_s, reason,"
    " sound FROM streams"
)
_ALERTS: Final = (
    "SELECT a.number, a.stream, a.who, a.acknowledged, e.body FROM alerts a"
    " JOIN streams s ON s.id = a.stream JOIN events e ON e.number = a.number"
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which segments, streams or alerts are asked for; None and empty text mean all."""

    words: str = ""
    label: str = ""
    party: str | None = None
    call: str | None = None
    since: float | None = None
    until: float | None = None
    stream: int | None = None
    corrected: bool = False
    """Whether only corrected segments are asked for."""


def segments(file: HistoryFile, wanted: Filter, limit: int, before: str = "") -> dict[str, Any]:
    """Return segments in their last revision: {segments, next}. Gaps have the label `gap`.

    Raises:
        ValueError: `before` is not the `next` of a page.

    """
    at, row_id = _place(before)
    where, values = _conditions(
        wanted, label="g.label", party="g.party", at="g.at", stream="g.stream", call=None
    )
    if wanted.call:
        where.append("g.stream IN (SELECT id FROM streams WHERE call = :call)")
    if wanted.corrected:
        where.append("g.corrected IS NOT NULL")
    match = words.query_of(wanted.words)
    if match:
        source = "words w JOIN segments g ON g.id = w.rowid JOIN streams s ON s.id = g.stream"
        where.insert(0, "words MATCH :match")
        order = "w.rowid DESC"
        where += ["w.rowid < :row_id"] if before else []
    else:
        source = "segments g JOIN streams s ON s.id = g.stream"
        order = "g.at DESC, g.id DESC"
        where += ["(g.at, g.id) < (:at, :row_id)"] if before else []
    values |= {"match": match, "at": at, "row_id": row_id, "limit": limit}
    with file.reading() as db:
        found = _dicts(db.execute(_page(f"{_SEGMENTS} FROM {source}", where, order), values))
    more = _cut(found, limit, "at")
    for row in found:
        row["wall_time"] = wall_time(row.pop("at"))
        del row["id"]
    return {"segments": found, "next": more}


def streams(file: HistoryFile, wanted: Filter, limit: int, before: str = "") -> dict[str, Any]:
    """Return streams with their totals: {streams, next}. They are ordered by their start.

    Raises:
        ValueError: `before` is not the `next` of a page.

    """
    at, row_id = _place(before)
    where, values = _conditions(
        wanted, label=None, party="party", at="started", stream="id", call="call"
    )
    where += ["(started, id) < (:at, :row_id)"] if before else []
    values |= {"at": at, "row_id": row_id, "limit": limit}
    with file.reading() as db:
        found = _dicts(db.execute(_page(_STREAMS, where, "started DESC, id DESC"), values))
        more = _cut(found, limit, "started")
        ids = [row["id"] for row in found]
        totals = _grouped(db, "label, sum(segments), sum(speech_s)", "totals", ids, ", label")
        alerts = _grouped(db, "count(*), count(*) - count(who)", "alerts", ids)
    for row in found:
        row["live"] = bool(row["live"])
        row["facts"] = json.loads(row["facts"])
        row["started"] = wall_time(row["started"])
        row["ended"] = row["ended"] and wall_time(row["ended"])
        row |= counts((label, n, s) for of, label, n, s in totals if of == row["id"])
        row["alerts"], row["open_alerts"] = next(
            ((n, free) for of, n, free in alerts if of == row["id"]), (0, 0)
        )
    return {"streams": found, "next": more}


def alerts(
    file: HistoryFile,
    wanted: Filter,
    limit: int,
    before: int | None = None,
    *,
    unseen: bool = False,
) -> dict[str, Any]:
    """Return alerts: {alerts, next}. Each is the event, with `by` and `at` of the acknowledgement.

    Args:
        file: the history.
        wanted: which alerts.
        limit: the most alerts.
        before: number of an alert; only older ones are returned.
        unseen: whether to return only alerts that nobody has acknowledged.

    """
    where, values = _conditions(
        wanted, label="a.label", party="s.party", at="a.at", stream="a.stream", call="s.call"
    )
    where += ["a.number < :before"] if before is not None else []
    where += ["a.acknowledged IS NULL"] if unseen else []
    found = []
    with file.reading() as db:
        values |= {"before": before, "limit": limit}
        for number, stream, who, seen, body in db.execute(
            _page(_ALERTS, where, "a.number DESC"), values
        ):
            alert = {"number": number, "stream_id": stream, **msgspec.json.decode(unpack(body))}
            found.append(alert | {"by": who or "", "at": wall_time(seen) if who else ""})
    more = len(found) > limit
    del found[limit:]
    return {"alerts": found, "next": found[-1]["number"] if more else None}


def parties(file: HistoryFile) -> list[dict[str, Any]]:
    """Return each party with the number of its streams, that with most streams first."""
    with file.reading() as db:
        return _dicts(
            db.execute(
                "SELECT party, count(*) AS streams FROM streams GROUP BY party"
                " ORDER BY streams DESC, party LIMIT 1000"
            )
        )


def monday_of(unix_s: float) -> int:
    """Return the day on which the week of a time begins, in the time zone of this machine."""
    day = day_of(unix_s)
    return day - date.fromordinal(day).weekday()


def weeks(file: HistoryFile, monday: int) -> dict[str, Any]:
    """Compare the week that begins on a day (`date.toordinal`) with the one before.

    Return {current, previous}: each has {from, to, segments, speech_s, gaps, labels} and the same
    for each party (`parties`) and for each day (`days`). `labels` has seconds of speech.
    """
    with file.reading() as db:
        rows = db.execute(
            "SELECT t.day, s.party, t.label, sum(t.segments), sum(t.speech_s) FROM totals t"
            " JOIN streams s ON s.id = t.stream WHERE t.day >= ? AND t.day < ? GROUP BY 1, 2, 3",
            (monday - WEEK, monday + WEEK),
        ).fetchall()
    return {
        name: _week([row for row in rows if first <= row[0] < first + WEEK], first)
        for name, first in (("current", monday), ("previous", monday - WEEK))
    }


def counts(rows: Iterable[tuple[str, int, float]]) -> dict[str, Any]:
    """Return {segments, speech_s, gaps, labels} of rows (label, segments, seconds)."""
    found: dict[str, Any] = {"segments": 0, "speech_s": 0.0, "gaps": 0, "labels": {}}
    for label, number, seconds in rows:
        if label == LOST:
            found["gaps"] += number
        elif number:
            found["segments"] += number
            found["speech_s"] = round(found["speech_s"] + seconds, 3)
            found["labels"][label] = round(found["labels"].get(label, 0.0) + seconds, 3)
    return found


def _week(rows: Sequence[tuple[int, str, str, int, float]], first: int) -> dict[str, Any]:
    def of(part: Iterable[tuple[int, str, str, int, float]]) -> dict[str, Any]:
        return counts((label, number, seconds) for _, _, label, number, seconds in part)

    speech: dict[str, float] = {}
    for _, party, label, _, seconds in rows:
        speech[party] = speech.get(party, 0.0) + (seconds if label != LOST else 0.0)
    named = sorted(speech, key=lambda party: -speech[party])[:MAX_PARTIES]
    groups: dict[str, list[tuple[int, str, str, int, float]]] = {party: [] for party in named}
    for row in rows:
        groups.setdefault(row[1] if row[1] in named else OTHERS, []).append(row)
    days = range(first, first + WEEK)
    return {
        "from": date.fromordinal(first).isoformat(),
        "to": date.fromordinal(first + WEEK - 1).isoformat(),
        **of(rows),
        "parties": {party: of(part) for party, part in groups.items()},
        "days": {
            date.fromordinal(day).isoformat(): of(row for row in rows if row[0] == day)
            for day in days
        },
    }


def _conditions(
    wanted: Filter, *, label: str | None, party: str, at: str, stream: str, call: str | None
) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions of a filter and their values, for these columns."""
    given = {
        "label": (label, "=", wanted.label),
        "party": (party, "=", wanted.party),
        "call": (call, "=", wanted.call),
        "since": (at, ">=", wanted.since),
        "until": (at, "<", wanted.until),
        "stream": (stream, "=", wanted.stream),
    }
    where = [
        f"{column} {sign} :{name}"
        for name, (column, sign, value) in given.items()
        if column and value not in (None, "")
    ]
    return where, {name: value for name, (_, _, value) in given.items()}


def _page(select: str, where: Sequence[str], order: str) -> str:
    """Return a query for a page, with one row more to see whether it is the last."""
    conditions = f" WHERE {' AND '.join(where)}" if where else ""
    return f"{select}{conditions} ORDER BY {order} LIMIT :limit + 1"


def _cut(rows: list[dict[str, Any]], limit: int, at: str) -> str | None:
    """Cut the surplus row; return the `next` of the page."""
    more = len(rows) > limit
    del rows[limit:]
    return f"{rows[-1][at]!r}:{rows[-1]['id']}" if more else None


def _grouped(
    db: sqlite3.Connection, columns: str, table: str, streams: Sequence[int], more: str = ""
) -> list[tuple[Any, ...]]:
    marks = ",".join("?" * len(streams))
    query = f"SELECT stream, {columns} FROM {table} WHERE stream IN ({marks}) GROUP BY stream{more}"  # noqa: S608 - names of this file only
    return db.execute(query, streams).fetchall()


def _place(cursor: str) -> tuple[float, int]:
    if not cursor:
        return 0.0, 0
    at, _, row = cursor.partition(":")
    return float(at), int(row)


def _dicts(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
