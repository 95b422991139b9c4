"""Between the run and the web: keeps each event, shows the streams, and serves live readers.

The run's thread writes. An event is stored first, encoded once, and handed to the thread of the
web server, which gives the same bytes to each reader. A reader that is too slow loses events and is
told how many.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from abhinaya.stream.serve.rows import Row, new_row, row_after, unix_ms
from abhinaya.stream.serve.store.store import Store, encoded
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.events import SCHEMA, alert_event, to_dict
from abhinaya.stream.wire.messages import (
    Activity,
    Event,
    NodeDown,
    NodeUp,
    Status,
    StreamStarted,
    Verdict,
)

KEPT_ENDED: Final = 200
"""Streams that have ended and are still shown."""
KEPT_NODES: Final = 1000


@dataclass(frozen=True, slots=True)
class Item:
    """An event for a reader."""

    number: int
    """0: it is not stored."""
    stream: int
    """0: it is about no stream."""
    body: bytes
    """Its JSON."""


class Subscription:
    """The events for one reader, from now on. Use it in the thread of the web server."""

    def __init__(
        self, streams: frozenset[int] | None, limit: int, leave: Callable[[Subscription], None]
    ) -> None:
        self.streams = streams
        self.dropped = 0
        """Events that did not fit, since the beginning."""
        self._limit = limit
        self._leave = leave
        self._untold = 0
        self._items: deque[Item] = deque()
        self._ready = asyncio.Event()
        self._closed = False

    def put(self, item: Item) -> None:
        """Add an event; drop it if too many wait."""
        if self.streams is not None and item.stream not in self.streams:
            return
        if len(self._items) >= self._limit:
            self.dropped += 1
            self._untold += 1
        else:
            self._items.append(item)
        self._ready.set()

    def forgive(self) -> int:
        """Return how many events were dropped, and do not report them: they are read elsewhere."""
        untold, self._untold = self._untold, 0
        return untold

    def close(self) -> None:
        """End the subscription; its reader gets what waits, and then the end."""
        self._closed = True
        self._leave(self)
        self._ready.set()

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        while not self._items and not self._untold:
            if self._closed:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        if self._items:
            return self._items.popleft()
        return Item(0, 0, b'{"type":"dropped","events":%d}' % self.forgive())


class Board:
    """A sink for the run, and the source of all live readers.

    `store` keeps the events.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watched: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._run = ""
        """Id of our own run, known from its first stream on."""
        self._rows: OrderedDict[int, Row] = OrderedDict()
        self._ended: deque[int] = deque()
        self._nodes: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
        """The last event of each node and service, in the order of the events."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._out: deque[Item] = deque()
        self._readers: set[Subscription] = set()

    # --- the run's thread -------------------------------------------------------------------------

    def write(self, event: Event, now_unix_s: float) -> None:
        """Store an event, and send it to the readers."""
        if isinstance(event, StreamStarted):
            self._run = event.info.run
        self.take(event, self._run, now_unix_s)

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Send a provisional event to the readers."""
        self.take(event, self._run, now_unix_s)

    def alert(self, alert: Alert, now_unix_s: float) -> None:
        """Store an alert, and send it to the readers."""
        self.post(alert_event(alert), self._run)

    def take(self, event: Event | Activity, run: str, now_unix_s: float) -> None:
        """Store an event of any run, and send it to the readers."""
        body = to_dict(event, now_unix_s)
        if isinstance(event, StreamStarted):
            body |= {"call": event.info.input or event.info.stream}
        number, stream = self.post(body, run)
        if isinstance(event, NodeUp | NodeDown):
            with self._lock:
                self._nodes.pop((event.node, event.service), None)
                self._nodes[event.node, event.service] = body
                while len(self._nodes) > KEPT_NODES:
                    self._nodes.popitem(last=False)
        if stream:
            self._show(body, run, stream, number, 1000.0 * now_unix_s)

    def post(self, body: dict[str, Any], run: str = "") -> tuple[int, int]:
        """Store an event, given as JSON values, and send it to the readers.

        Return its number and that of its stream; each is 0 without one. Any thread may call this.
        """
        name = body.get("stream")
        stream = 0
        if name:
            body["run"] = run
            stream = self._store.stream_id(run, name)
        number = self._store.append(body)
        self.send(Item(number, stream, encoded(number, stream, body)))
        return number, stream

    def send(self, item: Item) -> None:
        """Send an event that is stored already to the readers. Any thread may call this."""
        with self._lock:
            waiting = bool(self._out)
            self._out.append(item)
            if not waiting and self._loop is not None:
                self._loop.call_soon_threadsafe(self._hand_over)

    def cell_status(self, cell: str, status: Status | None, now_unix_s: float) -> None:
        """Send the status of the hub of a cell to the readers; None: it does not answer."""
        if cell:
            said = (
                {"schema": SCHEMA, "stream": None}
                if status is None
                else to_dict(status, now_unix_s)
            )
            body = said | {"type": "cell_status", "cell": cell, "answers": status is not None}
            self.send(Item(0, 0, encoded(0, 0, body)))

    def watch(self, check: Callable[[], None]) -> None:
        """Call a function at each turn of the run; it raises an error of ours to end the run."""
        self._watched.append(check)

    def tick(self, now_unix_s: float) -> None:
        """Call the functions of `watch`.

        Raises:
            AbhinayaError: one of them ends the run.

        """
        for check in self._watched:
            check()

    def close(self) -> None:
        """Do nothing: the store and the web server end after the run."""

    # --- the thread of the web server -------------------------------------------------------------

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to serve readers in a loop."""
        with self._lock:
            self._loop = loop
            self._out.clear()

    def subscribe(self, streams: frozenset[int] | None, limit: int) -> Subscription:
        """Return the events from now on: of some streams only, or of all.

        Args:
            streams: numbers of streams; None: all, and the events of no stream.
            limit: events that may wait.

        """
        reader = Subscription(streams, limit, self._readers.discard)
        self._readers.add(reader)
        return reader

    def detach(self) -> None:
        """End all subscriptions."""
        with self._lock:
            self._loop = None
        for reader in list(self._readers):
            reader.close()

    @property
    def readers(self) -> int:
        """Return the number of live readers."""
        return len(self._readers)

    # --- any thread -------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """Return every stream that is open or has ended lately."""
        with self._lock:
            return list(self._rows.values())

    def row(self, stream: int) -> Row | None:
        """Return a stream, also one that ended long ago; None if it is unknown."""
        with self._lock:
            row = self._rows.get(stream)
        return row or self._past(stream)

    def nodes(self) -> list[dict[str, Any]]:
        """Return what each node said last, as events in their order."""
        with self._lock:
            return list(self._nodes.values())

    def streams_of(self, name: str) -> list[int]:
        """Return the numbers of the streams of an input."""
        return [row.id for row in self.rows() if row.input == name]

    def forget(self, streams: frozenset[int]) -> None:
        """Remove streams whose data is deleted."""
        with self._lock:
            for stream in streams & self._rows.keys():
                del self._rows[stream]

    def _past(self, stream: int) -> Row | None:
        """Return a stream after its stored events. `since` is the start of a segment then."""
        row, now_ms = None, 0.0
        for data in self._store.events_of(stream):
            body = msgspec.json.decode(data)
            if "wall_time" in body:
                now_ms = unix_ms(body["wall_time"])
            row = row or new_row(stream, body["stream"], body["run"], now_ms)
            row = replace(row_after(row, body, now_ms), number=body["number"])
        return row

    def _hand_over(self) -> None:
        with self._lock:
            items, self._out = self._out, deque()
        for reader in list(self._readers):
            for item in items:
                reader.put(item)

    def _show(
        self,
        body: dict[str, Any],
        run: str,
        stream: int,
        number: int,
        now_ms: float,
    ) -> None:
        with self._lock:
            row = self._rows.get(stream) or new_row(stream, body["stream"], run, now_ms)
            row = replace(row_after(row, body, now_ms), number=number or row.number)
            self._rows[stream] = row
            if body["type"] == "stream_ended":
                self._ended.append(stream)
                while len(self._ended) > KEPT_ENDED:
                    old = self._ended.popleft()
                    if old not in self._ended and self._rows.get(old, row).ended:
                        self._rows.pop(old, None)
