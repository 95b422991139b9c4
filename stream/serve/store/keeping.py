"""What the history does beside writing: checkpoints, the index of words, retention, deletion.

All of it in steps of some milliseconds, between which the writer goes on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from abhinaya.stream.serve.store import tables, words
from abhinaya.stream.serve.store.file import HistoryFile
from abhinaya.stream.serve.store.packed import unpack
from abhinaya.stream.serve.store.tables import day_of

STEP: Final = 100
"""Rows that one step writes or removes while the writer waits."""
PAUSE_S: Final = 0.002
"""Pause after a step, so that the writer gets its turn."""
PAGES: Final = 200
"""Pages that one step returns to the file system."""
MAX_LOG_BYTES: Final = 64 << 20
"""Above this size, the log of changes is emptied while the writer waits."""
ERASE_S: Final = 10.0
"""How long a deletion waits for readers that still see the old data."""


@dataclass(frozen=True, slots=True)
class StreamKey:
    """A stream that is to be deleted."""

    id: int
    run: str
    name: str
    ended: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion has removed."""

    ids: frozenset[int]
    """Numbers of the streams."""
    streams: tuple[str, ...]
    """Their names."""
    running: tuple[str, ...]
    """Those of them that have not ended: what they say from now on is kept again."""
    events: int
    erased: bool
    """Whether nothing of it is in the file any more. If not, a reader held the old data, and the
    next checkpoint overwrites it."""


def keep(file: HistoryFile) -> None:
    """Take new events into the tables, and make a checkpoint.

    Raises:
        StoreError: the file cannot be written.

    """
    follow(file)
    file.checkpoint()
    if file.log_bytes > MAX_LOG_BYTES:
        file.empty_log()


def follow(file: HistoryFile) -> None:
    """Take all new events into the tables."""
    more = True
    while more:
        with file.writing() as db:
            more = tables.follow(db, STEP) == STEP
        time.sleep(PAUSE_S)


def expire(file: HistoryFile, days: int, now: float) -> int:
    """Remove what is older than so many days, today included; return the number of events.

    Raises:
        StoreError: the file cannot be written.

    """
    follow(file)
    first_day = day_of(now) - days + 1
    cutoff = datetime.fromordinal(first_day).timestamp()
    removed = segments = 0
    while found := _rows(
        file, "SELECT id, stream, segment, text FROM segments WHERE at < ? LIMIT ?", cutoff, STEP
    ):
        segments += _remove_segments(file, found)
    oldest = "SELECT number, at FROM events ORDER BY number LIMIT ?"
    while found := [row for row in _rows(file, oldest, STEP) if row[1] < cutoff]:
        removed += _remove_events(file, found)
    oldest = "DELETE FROM totals WHERE day = (SELECT min(day) FROM totals WHERE day < ?)"
    while _write(file, oldest, first_day):
        pass
    for (stream,) in _rows(file, "SELECT id FROM streams WHERE ended < ?", cutoff):
        _write(file, "DELETE FROM streams WHERE id = ?", stream)
    if removed or segments:
        _tidy(file)
    return removed


def streams_of(file: HistoryFile, name: str) -> list[StreamKey]:
    """Return the streams whose party, call, name or fact is this name."""
    rows = _rows(
        file,
        "SELECT id, run, name, ended IS NOT NULL FROM streams"
        " WHERE party = ?1 OR call = ?1 OR name = ?1"
        " OR EXISTS (SELECT 1 FROM json_each(facts) WHERE value = ?1)",
        name,
    )
    return [StreamKey(key, run, name, bool(ended)) for key, run, name, ended in rows]


def delete(file: HistoryFile, name: str, found: Sequence[StreamKey]) -> Deleted:
    """Remove streams and the remarks that name them, and overwrite what is removed.

    Raises:
        StoreError: the file cannot be written.

    """
    follow(file)
    removed = 0
    for stream in found:
        while rows := _rows(
            file,
            "SELECT id, stream, segment, text FROM segments WHERE stream = ? LIMIT ?",
            stream.id,
            STEP,
        ):
            _remove_segments(file, rows)
        while rows := _rows(
            file, "SELECT number FROM events WHERE stream = ? LIMIT ?", stream.id, STEP
        ):
            removed += _remove_events(file, rows)
        for table in ("totals", "alerts", "corrections"):
            _write(file, f"DELETE FROM {table} WHERE stream = ?", stream.id)  # noqa: S608
        _write(file, "DELETE FROM streams WHERE id = ?", stream.id)
    remarks = _remarks_about(file, {name, *(stream.name for stream in found)})
    for start in range(0, len(remarks), STEP):
        removed += _remove_events(file, remarks[start : start + STEP])
    _tidy(file)
    return Deleted(
        ids=frozenset(stream.id for stream in found),
        streams=tuple(stream.name for stream in found),
        running=tuple(stream.name for stream in found if not stream.ended),
        events=removed,
        erased=_erase(file),
    )


def _remove_segments(file: HistoryFile, rows: Sequence[tuple[Any, ...]]) -> int:
    with file.writing() as db:
        for row, stream, segment, text in rows:
            words.remove(db, row, text)
            db.execute("DELETE FROM segments WHERE id = ?", (row,))
            key = stream, segment
            db.execute("DELETE FROM corrections WHERE stream = ? AND segment = ?", key)
    time.sleep(PAUSE_S)
    return len(rows)


def _remove_events(file: HistoryFile, rows: Sequence[tuple[Any, ...]]) -> int:
    numbers = [(row[0],) for row in rows]
    with file.writing() as db:
        db.executemany("DELETE FROM events WHERE number = ?", numbers)
        db.executemany("DELETE FROM alerts WHERE number = ?", numbers)
    time.sleep(PAUSE_S)
    return len(rows)


def _remarks_about(file: HistoryFile, names: set[str]) -> list[tuple[int]]:
    """Return the numbers of the events of no stream that name one of the names."""
    naming = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in sorted(names)))
    found = []
    with file.reading() as db:
        for number, body in db.execute("SELECT number, body FROM events WHERE stream = 0"):
            values = msgspec.json.decode(unpack(body))
            if naming.search(f"{values.get('source', '')}\n{values.get('text', '')}"):
                found.append((number,))
    return found


def _tidy(file: HistoryFile) -> None:
    """Merge the index, so that removed words leave it; return free pages to the file system."""
    first, more = True, True
    while more:
        with file.writing() as db:
            more = words.merge(db, first)
        first = False
        time.sleep(PAUSE_S)
    while _rows(file, "PRAGMA freelist_count") != [(0,)]:
        with file.writing() as db:
            db.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
        time.sleep(PAUSE_S)


def _erase(file: HistoryFile) -> bool:
    """Empty the log of changes, which still has the old data; wait for readers that see them."""
    deadline = time.monotonic() + ERASE_S
    while not (done := file.empty_log()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return done


def _rows(file: HistoryFile, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with file.reading() as db:
        return db.execute(query, values).fetchall()


def _write(file: HistoryFile, query: str, *values: Any) -> int:
    with file.writing() as db:
        return db.execute(query, values).rowcount
