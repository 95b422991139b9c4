"""The history of the gateway: keeps each final event, and reads them again by number.

One thread at a time writes, under a lock, in short transactions. Readers have connections of their
own. While the file cannot be written (a full disk), the newest events wait in memory, the monitor
goes on, and what did not fit is counted in a `remark`.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from abhinaya.models.text import to_json
from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import StoreError
from abhinaya.stream.serve.store import record
from abhinaya.stream.serve.store.schema import open_reader, open_writer, store_error
from abhinaya.stream.sinks.events import SCHEMA

MAX_WAITING: Final = 10_000
"""Events that wait in memory while the file cannot be written."""
MAX_KNOWN: Final = 10_000
"""Streams whose number is in memory."""
RETRY_S: Final = 1.0
"""Time after a failed write until the next try."""
MAX_READERS: Final = 8
_EVENTS: Final = (
    "SELECT number, stream, body FROM events WHERE number > ?1 ORDER BY number LIMIT ?2"
)
_EVENTS_OF: Final = (
    "SELECT number, stream, body FROM events WHERE number > ?1 AND stream=?3"
    " ORDER BY number LIMIT ?2"
)
KILLED: Final = "the monitor was killed"


class Store:
    """The history in one file.

    Args:
        path: the file; made if it is missing.
        report: called with the message when writing fails, and when it succeeds again.
        clock: returns Unix seconds.

    Raises:
        StoreError: the file cannot be opened, is damaged, of a newer version, or in use.

    """

    def __init__(
        self,
        path: Path,
        report: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = unix_time,
    ) -> None:
        self.path = path
        self.fault: StoreError | None = None
        """Why events are not kept at the moment; None if all are."""
        self._report = report
        self._clock = clock
        self._lock = threading.RLock()
        self._readers: deque[sqlite3.Connection] = deque()
        self._waiting: deque[tuple[int, dict[str, Any], float]] = deque()
        self._lost = 0
        self._retry_at = 0.0
        self._guard = _guard(path)
        try:
            self._db = open_writer(path)
            with self.writing() as db:
                self._next = 1 + db.execute("SELECT ifnull(max(id), 0) FROM streams").fetchone()[0]
        except BaseException:
            self._guard.close()
            raise
        self._ids: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._newest: dict[str, str] = {}
        """Name of a stream -> the run that began it last."""
        self._unsaved: dict[int, tuple[str, str]] = {}
        self._end_broken_off()

    def append(self, body: dict[str, Any]) -> int:
        """Keep an event, given as the JSON value of docs/events.md; return its number.

        Numbers count from 1 without a hole. The number is 0 if the event is not kept: provisional,
        a status, a repetition, or the file cannot be written now (`fault`); then it waits.
        A field `run` says which stream of that name is meant; without it, the latest.
        """
        if not record.is_kept(body):
            return 0
        with self._lock:
            now = self._clock()
            self._waiting.append((self._stream_of(body), body, now))
            if self.fault and now < self._retry_at:
                self._bound()
                return 0
            try:
                return self._write_waiting()
            except StoreError as error:
                self._failed(error, now)
                return 0
            except BaseException:
                self._waiting.pop()  # one that cannot be stored must not stop the others
                raise

    def stream_id(self, run: str, name: str) -> int:
        """Return the number of a stream of a run; a new stream gets a new one."""
        with self._lock:
            key = run, name
            found = self._ids.get(key)
            if found is None:
                found = self._stored_id(run, name)
                if found is None:
                    found, self._next = self._next, self._next + 1
                    self._unsaved[found] = key
                self._ids[key] = found
            self._ids.move_to_end(key)
            if len(self._ids) > MAX_KNOWN:
                (old_run, old_name), _ = self._ids.popitem(last=False)
                if self._newest.get(old_name) == old_run:
                    del self._newest[old_name]
            return found

    def events(self, after: int, stream: int | None, limit: int) -> list[tuple[int, int, bytes]]:
        """Return the next events after a number: (number, stream, JSON), of one stream or of all.

        The JSON is that of docs/events.md with `number` and `stream_id` (0: of no stream).
        """
        query, values = _EVENTS if stream is None else _EVENTS_OF, (after, limit, stream)
        with self.reading() as db:
            rows = db.execute(query, values[: query.count("?")]).fetchall()
        return [(number, of, numbered(number, of, body)) for number, of, body in rows]

    def last(self) -> int:
        """Return the number of the last event; 0 without one."""
        with self.reading() as db:
            return int(db.execute("SELECT ifnull(max(number), 0) FROM events").fetchone()[0])

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the writer in a transaction; it is rolled back if the body raises.

        Raises:
            StoreError: the file cannot be written.

        """
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise store_error(error, self.path) from error
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for reading; any thread may ask.

        Raises:
            StoreError: the file cannot be read.

        """
        connection = None
        try:
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = open_reader(self.path)
            yield connection
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
                connection = None
            raise store_error(error, self.path) from error
        finally:
            if connection is not None:
                if len(self._readers) < MAX_READERS:
                    self._readers.append(connection)
                else:
                    connection.close()

    def close(self) -> None:
        """Write what waits, and close the file; a second call does nothing."""
        with self._lock:
            if self._guard.closed:
                return
            try:
                self._write_waiting()
            except StoreError as error:
                self._failed(error, self._clock())
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()
            while self._readers:
                self._readers.pop().close()
            self._guard.close()

    def _write_waiting(self) -> int:
        """Write the events that wait, in one transaction; return the number of the last one."""
        number = 0
        with self.writing() as db:
            for of, (run, name) in self._unsaved.items():
                record.add_stream(db, of, run, name)
            if self._lost:
                text = f"{self._lost} events are missing here: the history could not be written"
                remark = {"schema": SCHEMA, "type": "remark", "stream": None}
                record.add_event(db, 0, remark | {"source": "history", "text": text}, self._clock())
            for stream, body, now in self._waiting:
                db.execute("SAVEPOINT event")
                number = record.add_event(db, stream, body, now)
                if not number:
                    db.execute("ROLLBACK TO event")
                db.execute("RELEASE event")
        self._unsaved.clear()
        self._waiting.clear()
        if self.fault:
            said = f"{self._lost} events are missing" if self._lost else "nothing is missing"
            self._report(f"{self.path}: the history is written again; {said}")
        self.fault, self._lost = None, 0
        return number

    def _failed(self, error: StoreError, now: float) -> None:
        if self.fault is None:
            self._report(f"{error}; the monitor goes on, and the history is written when it can be")
        self.fault, self._retry_at = error, now + RETRY_S
        self._bound()

    def _bound(self) -> None:
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self._lost += 1

    def _stream_of(self, body: dict[str, Any]) -> int:
        name, run = body.get("stream"), body.get("run")
        if name is None:
            return 0
        if run is None:
            run = self._newest.get(name)
        if run is None:
            run = self._stored_run(name)
        self._newest[name] = run
        return self.stream_id(run, name)

    def _stored_id(self, run: str, name: str) -> int | None:
        rows = self._look("SELECT id FROM streams WHERE run=? AND name=?", run, name)
        return int(rows[0]) if rows else None

    def _stored_run(self, name: str) -> str:
        rows = self._look("SELECT run FROM streams WHERE name=? ORDER BY id DESC LIMIT 1", name)
        return str(rows[0]) if rows else ""

    def _look(self, query: str, *values: str) -> tuple[Any, ...] | None:
        try:
            found: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
        except sqlite3.Error:
            return None  # the next write reports it
        return found

    def _end_broken_off(self) -> None:
        """End the streams that a killed monitor left open, where their last segment ends."""
        with self.writing() as db:
            left = db.execute(
                "SELECT s.id, s.name, ifnull(max(g.segment) + 1, 0), ifnull(max(g.end_s), 0)"
                " FROM streams s LEFT JOIN segments g ON g.stream = s.id"
                " WHERE s.ended IS NULL AND s.started IS NOT NULL GROUP BY s.id"
            ).fetchall()
            for stream, name, segments, end_s in left:
                body = {"schema": SCHEMA, "type": "stream_ended", "stream": name}
                body |= {"segments": segments, "duration_s": end_s, "reason": KILLED, "sound": ""}
                record.add_event(db, stream, body, self._clock())


def numbered(number: int, stream: int, body: bytes) -> bytes:
    """Return the JSON of an event with its number and the number of its stream."""
    return b'{"number":%d,"stream_id":%d,' % (number, stream) + body[1:]


def encoded(number: int, stream: int, body: dict[str, Any]) -> bytes:
    """Return an event as readers get it, live and from `Store.events`."""
    return numbered(number, stream, to_json(body))


def _guard(path: Path) -> Any:
    """Make sure that no second program writes to this file; the lock ends with the process."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        file = lock.open("ab")
    except OSError as error:
        reason = f"cannot be opened: {error.strerror}"
        raise StoreError(path, reason, "check the folder and its permissions") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        reason = "another gateway writes to it"
        raise StoreError(path, reason, "end that one, or use another folder with --data") from error
    return file
