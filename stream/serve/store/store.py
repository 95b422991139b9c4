"""The history of the gateway: keeps each final event, and reads them again by number.

One thread at a time writes, under a lock, in short transactions. Readers have connections of their
own. While the file cannot be written (a full disk), the newest events wait in memory, the monitor
goes on, and what did not fit is counted in a `remark`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from abhinaya.models.text import to_json
from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import StoreError
from abhinaya.stream.serve.store import corrections, keeping, record
from abhinaya.stream.serve.store.file import HistoryFile
from abhinaya.stream.serve.store.keeping import Deleted
from abhinaya.stream.serve.store.packed import unpack
from abhinaya.stream.sinks.events import SCHEMA

_LOG = logging.getLogger("abhinaya.serve")

MAX_WAITING: Final = 10_000
"""Events that wait in memory while the file cannot be written."""
MAX_KNOWN: Final = 10_000
"""Streams whose number is in memory."""
RETRY_S: Final = 1.0
"""Time after a failed write until the next try."""
PAGE: Final = 500
"""Events that `events_of` reads at a time."""
KEEP_S: Final = 2.0
"""Time between two rounds of `Store.keep`."""
_EVENTS: Final = (
    "SELECT number, stream, body FROM events WHERE number > :after ORDER BY number LIMIT :limit"
)
_EVENTS_OF: Final = (
    "SELECT number, stream, body FROM events WHERE number > :after AND stream=:stream"
    " ORDER BY number LIMIT :limit"
)
BROKEN_OFF: Final = "the gateway stopped before this stream ended"


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
        self.file = HistoryFile(path)
        self._report = report
        self._clock = clock
        self._lock = self.file.lock
        self._waiting: deque[tuple[int, dict[str, Any], float]] = deque()
        self._lost = 0
        self._retry_at = 0.0
        self._ids: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._newest: dict[str, str] = {}
        """Name of a stream -> the run that began it last."""
        self._unsaved: dict[int, tuple[str, str]] = {}
        try:
            keeping.follow(self.file)
            self._next = self._end_broken_off()
        except BaseException:
            self.file.close()
            raise
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="history", daemon=True)
        self._keeper.start()

    def append(self, body: dict[str, Any]) -> int:
        """Keep an event, given as the JSON value of docs/events.md; return its number.

        Numbers count from 1 without a hole. The number is 0 if the event is not kept: provisional,
        a status, a start or end that is known, or the file cannot be written now; then it waits.
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
        query = _EVENTS if stream is None else _EVENTS_OF
        with self.file.reading() as db:
            rows = db.execute(query, {"after": after, "limit": limit, "stream": stream})
            return [(number, of, numbered(number, of, unpack(body))) for number, of, body in rows]

    def events_of(self, stream: int) -> Iterator[bytes]:
        """Yield all events of a stream."""
        after = 0
        while rows := self.events(after, stream, PAGE):
            yield from (body for _, _, body in rows)
            after = rows[-1][0]

    def last(self) -> int:
        """Return the number of the last event; 0 without one."""
        with self.file.reading() as db:
            return int(db.execute("SELECT ifnull(max(number), 0) FROM events").fetchone()[0])

    def retry(self) -> None:
        """Try again to write the events that wait."""
        with self._lock:
            if self.fault:
                try:
                    self._write_waiting()
                except StoreError as error:
                    self._failed(error, self._clock())

    def acknowledge(self, number: int, who: str) -> int:
        """Note who has seen an alert; return the number of the event that says so.

        Only the first one is noted: for a later one, the number is 0.

        Raises:
            StoreError: the file cannot be written.
            KeyError: no alert has this number.

        """
        return corrections.acknowledge(self.file, number, who, self._clock())

    def correct(
        self, stream: int, segment: int, label: str, who: str, note: str = "", *, others: bool
    ) -> int:
        """Note what a segment was; return the number of the event that says so.

        Args:
            stream: number of the stream.
            segment: number of the segment in it.
            label: what it was.
            who: who says so.
            note: why.
            others: whether this person may overrule the correction of another one.

        Raises:
            StoreError: the file cannot be written.
            KeyError: the segment is unknown, or a gap.
            ValueError: the stream may not be judged.
            PermissionError: another person has corrected it.

        """
        keeping.follow(self.file)
        return corrections.correct(
            self.file, stream, segment, label, who, note, self._clock(), others=others
        )

    def delete_party(self, name: str, who: str) -> Deleted:
        """Remove all streams of a party: those whose party, call, name or fact is this name.

        What is removed is overwritten: in the file, in the index of words, in the log of changes.

        Raises:
            StoreError: the file cannot be written.

        """
        _LOG.info("%s deletes the data of a party", who)
        self.retry()
        found = keeping.streams_of(self.file, name)
        with self._lock:
            for stream in found:
                self._ids.pop((stream.run, stream.name), None)
                self._newest.pop(stream.name, None)
        return keeping.delete(self.file, name, found)

    def expire(self, days: int, now: float) -> int:
        """Remove what is older than so many days, today included; return the number of events.

        Raises:
            StoreError: the file cannot be written.

        """
        return keeping.expire(self.file, days, now)

    def keep(self) -> None:
        """Write what waits, fill the tables, make a checkpoint: a thread does it every 2 s.

        Raises:
            StoreError: the file cannot be written.

        """
        self.retry()
        keeping.keep(self.file)

    def close(self) -> None:
        """Write what waits, and close the file; a second call does nothing."""
        self._closing.set()
        self._keeper.join()
        with self._lock:
            if self.file.closed:
                return
            try:
                self._write_waiting()
            except StoreError as error:
                self._failed(error, self._clock())
            self.file.close()

    def _keep(self) -> None:
        while not self._closing.wait(KEEP_S):
            try:
                self.keep()
            except StoreError as error:
                _LOG.warning("%s", error)
            except Exception:
                _LOG.exception("the history was not kept in order; it tries again")

    def _write_waiting(self) -> int:
        """Write the events that wait, in one transaction; return the number of the last one."""
        number = 0
        with self.file.writing() as db:
            for of, (run, name) in self._unsaved.items():
                record.add_stream(db, of, run, name, self._clock())
            if self._lost:
                text = f"{self._lost} events are missing here: the history could not be written"
                remark = {"schema": SCHEMA, "type": "remark", "stream": None}
                record.add_event(db, 0, remark | {"source": "history", "text": text}, self._clock())
            for stream, body, now in self._waiting:
                number = record.add_event(db, stream, body, now)
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
        with contextlib.suppress(StoreError), self.file.reading() as db:
            found: tuple[Any, ...] | None = db.execute(query, values).fetchone()
            return found
        return None  # the next write reports the error

    def _end_broken_off(self) -> int:
        """End the streams that a killed monitor left open, where their last segment ends.

        Return the number of the next stream.
        """
        with self.file.writing() as db:
            left = db.execute(
                "SELECT s.id, s.name, ifnull(max(g.segment) + 1, 0), ifnull(max(g.end_s), 0)"
                " FROM streams s LEFT JOIN segments g ON g.stream = s.id"
                " WHERE s.ended IS NULL GROUP BY s.id"
            ).fetchall()
            for stream, name, segments, end_s in left:
                body = {"schema": SCHEMA, "type": "stream_ended", "stream": name}
                body |= {
                    "segments": segments,
                    "duration_s": end_s,
                    "reason": BROKEN_OFF,
                    "sound": "",
                }
                record.add_event(db, stream, body, self._clock())
            return 1 + int(db.execute("SELECT ifnull(max(id), 0) FROM streams").fetchone()[0])


def numbered(number: int, stream: int, body: bytes) -> bytes:
    """Return the JSON of an event with its number and the number of its stream."""
    return b'{"number":%d,"stream_id":%d,' % (number, stream) + body[1:]


def encoded(number: int, stream: int, body: dict[str, Any]) -> bytes:
    """Return an event as readers get it, live and from `Store.events`."""
    return numbered(number, stream, to_json(body))
