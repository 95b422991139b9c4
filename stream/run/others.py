"""Reads the events of the other runs at a standing hub, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import zmq

from abhinaya.stream.errors import NetworkError
from abhinaya.stream.run.ledger import Ledger
from abhinaya.stream.run.recorder import STALE_S
from abhinaya.stream.wire.codec import MAX_STATES_BYTES, Decoder, Encoder
from abhinaya.stream.wire.greeting import Greeting
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.messages import (
    Activity,
    Event,
    Introduce,
    Message,
    Notice,
    Refused,
    Remark,
    Subscribe,
    ToSink,
)
from abhinaya.stream.wire.sockets import connect, messages, send, sinks_endpoint

MAX_RUNS: Final = 1000
"""Runs whose progress is remembered."""
WAIT_MS: Final = 200

Take = Callable[[Event | Activity, str], None]
"""Takes an event and the id of its run."""


class Ledgers:
    """Progress of the streams of runs, for all readers: a stream may go on at another hub."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, Ledger] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, notice: Notice, take: Take) -> None:
        """Hand on the event of a notice, unless it was there before. Any thread."""
        with self._lock:
            ledger = self._of.setdefault(notice.run, Ledger())
            self._of.move_to_end(notice.run)
            if len(self._of) > MAX_RUNS:
                self._of.popitem(last=False)
            if (event := ledger.admit(notice.event)) is not None:
                take(event, notice.run)


class Others:
    """A reader of a hub. It confirms nothing; what it has missed, it cannot get again.

    Args:
        endpoint: that of the hub.
        keys: for this hub.
        name: name of this reader.
        own: id of our own run, whose events its recorder gets.
        take: gets each new event; called by the thread.
        ledgers: what was read, at this hub or another.

    """

    def __init__(
        self,
        endpoint: str,
        keys: Keys | None,
        name: str,
        own: str,
        take: Take,
        ledgers: Ledgers,
    ) -> None:
        self._endpoint, self._keys = endpoint, keys
        self._name, self._own, self._take = name, own, take
        self._ledgers = ledgers
        self._closing = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="others", daemon=True)

    def start(self) -> None:
        """Start to read."""
        self._thread.start()

    def check(self) -> None:
        """Do nothing if the thread is well.

        Raises:
            NetworkError: it has failed.

        """
        if self._fault is not None:
            raise NetworkError(self._endpoint, f"cannot be read: {self._fault}")

    def close(self) -> None:
        """End the thread; a second call does nothing."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        context: zmq.Context[Any] = zmq.Context()
        try:
            endpoint = sinks_endpoint(self._endpoint)
            socket = connect(context, endpoint, self._name, self._keys)
            try:
                self._read(socket)
            finally:
                socket.close(linger=0)
        except BaseException as error:  # the run's thread reports it
            self._fault = error
        finally:
            context.term()

    def _read(self, socket: Any) -> None:
        encoder, decoder = Encoder(), Decoder[Message](ToSink, MAX_STATES_BYTES)
        greeting, heard, before = Greeting(), time.monotonic(), False
        while not self._closing.is_set():
            now = time.monotonic()
            if socket.is_new():
                greeting.connected(now)
            elif now - heard > STALE_S:
                greeting.again(now)
            if greeting.is_due(now):
                subscribe = Subscribe(sink=self._name, confirm=False)
                send(socket, encoder.encode(subscribe))
            if not socket.poll(WAIT_MS):
                continue
            for message in messages(socket, decoder):
                heard = time.monotonic()
                match message:
                    case Introduce():
                        greeting.again(heard)
                    case Refused():
                        self._remark(f"{message.reason}; {message.remedy}")
                        return
                    case Notice():
                        if not greeting.accepted:
                            greeting.accept()
                            if before:
                                self._remark("the hub was away: events of other runs are missing")
                            before = True
                        self._notice(message)

    def _notice(self, notice: Notice) -> None:
        if notice.run not in ("", self._own):  # the recorder has those
            self._ledgers.take(notice, self._take)

    def _remark(self, text: str) -> None:
        self._take(Remark(source="other runs at the hub", text=text), "")
