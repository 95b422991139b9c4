"""One stream of the history in full: its totals, its call, and each segment with its revisions."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from typing import Any, Final

import msgspec

from abhinaya.stream.report.shares import LOST, shares
from abhinaya.stream.report.talk import talk
from abhinaya.stream.serve.store.file import HistoryFile
from abhinaya.stream.serve.store.packed import unpack
from abhinaya.stream.serve.store.queries import Filter, streams
from abhinaya.stream.sinks.events import wall_time
from abhinaya.stream.sinks.rows import Decided, Lost, MissingRow, Segment

LATEST: Final = 1000
"""Verdicts of which latency, agreement and missing votes are shown."""


class _Told(msgspec.Struct):
    """What the statistics need of a verdict."""

    agreement: float = 0.0
    missing: list[MissingRow] = []
    latency_ms: dict[str, float] = {}


_told: Final = msgspec.json.Decoder(_Told)


def stream(file: HistoryFile, stream_id: int) -> dict[str, Any]:
    """Return a stream with its statistics and those of its call.

    Raises:
        KeyError: the stream is unknown.

    """
    page = streams(file, Filter(stream=stream_id), 1)["streams"]
    if not page:
        raise KeyError(stream_id)
    found: dict[str, Any] = page[0]
    with file.reading() as db:
        db.execute("BEGIN")  # all that follows is of one moment
        try:
            parties = dict(
                db.execute(
                    "SELECT id, name FROM streams WHERE run = ? AND call = ? ORDER BY id",
                    (found["run"], found["call"]),
                )
            )
            rows = [row for number, name in parties.items() for row in _rows(db, number, name)]
            found["latest"] = _of_verdicts(db, stream_id)
            found["revised"] = db.execute(
                "SELECT count(*) FROM segments WHERE stream = ? AND revision > 0", (stream_id,)
            ).fetchone()[0]
        finally:
            db.execute("COMMIT")
    own = [row for row in rows if row.stream == found["name"]]
    duration_s = found["duration_s"] or max((row.end_s for row in rows), default=0.0)
    spoken = talk(list(parties.values()), rows, duration_s)
    return found | {
        "shares": {label: asdict(share) for label, share in shares(own).items()},
        "talk": {
            "overlap_s": round(spoken.overlap_s, 3),
            "silence_s": round(spoken.silence_s, 3),
            "longest_silence_s": round(spoken.longest_silence_s, 3),
            "dead_air": spoken.dead_air,
            "parties": [
                {"stream_id": number, "stream": name, "share": round(spoken.share(name), 4)}
                | asdict(spoken.channels[name])
                for number, name in parties.items()
            ],
        },
    }


def segments(file: HistoryFile, stream_id: int, limit: int, after: int = -1) -> dict[str, Any]:
    """Return segments of a stream in its order: {segments, next}; `next` is the next `after`.

    Each is its last event in full (docs/events.md), with `revisions`, the earlier events, and
    `corrections`.
    """
    with file.reading() as db:
        rows = db.execute(
            "SELECT g.segment, g.first, g.event, e.body FROM segments g JOIN events e"
            " ON e.number = g.event WHERE g.stream = ? AND g.segment > ?"
            " ORDER BY g.segment LIMIT ?",
            (stream_id, after, limit + 1),
        ).fetchall()
        found = []
        for segment, first, number, body in rows[:limit]:
            head = {"number": number, "stream_id": stream_id}
            found.append(
                head
                | msgspec.json.decode(unpack(body))
                | {
                    "revisions": _earlier(db, stream_id, segment, first, number),
                    "corrections": corrections_of(db, stream_id, segment),
                }
            )
    return {"segments": found, "next": rows[limit - 1][0] if len(rows) > limit else None}


def corrections_of(db: sqlite3.Connection, stream_id: int, segment: int) -> list[dict[str, Any]]:
    """Return the corrections of a segment, the first one first."""
    rows = db.execute(
        "SELECT at, who, judged, label, note FROM corrections WHERE stream = ? AND segment = ?"
        " ORDER BY id",
        (stream_id, segment),
    )
    return [
        {"at": wall_time(at), "by": who, "judged": judged, "label": label, "note": note}
        for at, who, judged, label, note in rows
    ]


def _rows(db: sqlite3.Connection, stream_id: int, name: str) -> list[Segment]:
    """Return the segments of a stream, without votes and words."""
    rows = db.execute(
        "SELECT segment, start_s, end_s, label FROM segments WHERE stream = ? ORDER BY start_s",
        (stream_id,),
    )
    return [
        Lost(name, segment, start_s, end_s)
        if label == LOST
        else Decided(name, segment, start_s, end_s, label)
        for segment, start_s, end_s, label in rows
    ]


def _of_verdicts(db: sqlite3.Connection, stream_id: int) -> dict[str, Any]:
    """Return what only the verdicts in full know, of the latest ones."""
    stages: dict[str, list[float]] = {}
    agreement, incomplete, decided = 0.0, 0, 0
    for (body,) in db.execute(
        "SELECT e.body FROM segments g JOIN events e ON e.number = g.event"
        " WHERE g.stream = ? AND g.label != ? ORDER BY g.segment DESC LIMIT ?",
        (stream_id, LOST, LATEST),
    ):
        told = _told.decode(unpack(body))
        decided, agreement = decided + 1, agreement + told.agreement
        incomplete += any(missing.fault for missing in told.missing)
        for stage, ms in told.latency_ms.items():
            stages.setdefault(stage, []).append(ms)
    return {
        "verdicts": decided,
        "agreement": round(agreement / decided, 4) if decided else None,
        "incomplete": incomplete,
        "latency_ms": {
            stage: {"p50": values[len(values) // 2], "p95": values[len(values) * 95 // 100]}
            for stage, values in ((stage, sorted(values)) for stage, values in stages.items())
        },
    }


def _earlier(
    db: sqlite3.Connection, stream_id: int, segment: int, first: int, last: int
) -> list[dict[str, Any]]:
    """Return the earlier revisions of a segment."""
    if first == last:
        return []
    rows = db.execute(
        "SELECT number, body FROM events WHERE stream = ? AND number >= ? AND number < ?",
        (stream_id, first, last),
    )
    found = [{"number": number, **msgspec.json.decode(unpack(body))} for number, body in rows]
    return [event for event in found if event.get("segment") == segment and "revision" in event]
