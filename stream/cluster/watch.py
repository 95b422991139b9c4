"""Listens to the hubs of all cells as an operator, and reports deaths of nodes to them."""

from __future__ import annotations

import os
import socket as sockets
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import zmq

from abhinaya.stream.cluster import keys
from abhinaya.stream.cluster.actions import View
from abhinaya.stream.wire.client import Client
from abhinaya.stream.wire.codec import MAX_STATES_BYTES, Decoder, Encoder
from abhinaya.stream.wire.greeting import Greeting
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.messages import (
    Died,
    Introduce,
    Message,
    NodeDown,
    Notice,
    Refused,
    Status,
    Subscribe,
    ToSink,
)
from abhinaya.stream.wire.sockets import connect, messages, send, sinks_endpoint

STALE_S: Final = 4.0
"""After so long without a status, the hub is greeted again."""

MAX_DOWN: Final = 1000
"""Nodes of which it is remembered that the hub knows of their death."""


class Link:
    """The connection to one hub."""

    def __init__(
        self, context: zmq.Context[Any], endpoint: str, own_keys: Keys | None, silent_s: float
    ) -> None:
        self.endpoint = endpoint
        self._silent_s = silent_s
        self._name = f"controller-{sockets.gethostname()}-{os.getpid()}"
        self.socket: Client = connect(context, sinks_endpoint(endpoint), self._name, own_keys)
        self._encoder, self._decoder = Encoder(), Decoder[Message](ToSink, MAX_STATES_BYTES)
        self._greeting = Greeting()
        self._since, self._heard = time.monotonic(), float("-inf")
        self._status: Status | None = None
        self._down: deque[tuple[str, str]] = deque(maxlen=MAX_DOWN)
        self._refused = ""

    def read(self, now: float) -> View:
        """Read what has come; return what the hub says."""
        if self.socket.is_new():
            self._greeting.connected(now)
        elif now - self._heard > STALE_S:
            self._greeting.again(now)
        if self._greeting.is_due(now):
            send(self.socket, self._encoder.encode(Subscribe(sink=self._name, confirm=False)))
        for message in messages(self.socket, self._decoder):
            match message:
                case Introduce():
                    self._greeting.again(now)
                case Refused():
                    self._refused = f"the hub refuses the operator's key: {message.reason}"
                case Notice(event=event):
                    self._greeting.accept()
                    self._refused = ""
                    if isinstance(event, Status):
                        self._heard, self._status = now, event
                    elif isinstance(event, NodeDown):
                        self._down.append((event.node, event.incarnation))
        return View(self._heard, self._status, frozenset(self._down), self._fault(now))

    def report(self, died: Died) -> None:
        """Report a death, if the hub is there; a new hub knows no nodes anyway."""
        send(self.socket, self._encoder.encode(died))

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def _fault(self, now: float) -> str:
        if self._refused:
            return self._refused
        silent = now - max(self._heard, self._since) > self._silent_s
        return str(self.socket.error()) if silent else ""


class Watch:
    """The connections to the hubs of a cluster.

    Args:
        folder: the cluster's keys; None without keys.
        silent_s: seconds of silence after which a hub counts as lost.

    """

    def __init__(self, folder: Path | None, silent_s: float) -> None:
        self._folder, self._silent_s = folder, silent_s
        self._context: zmq.Context[Any] = zmq.Context()
        self._links: dict[str, Link] = {}

    def follow(self, hubs: Mapping[str, tuple[str, str]]) -> None:
        """Listen to these hubs: (endpoint, public key) by cell.

        Raises:
            NetworkError: an own key is missing or open to others.

        """
        for cell in [cell for cell, link in self._links.items() if cell not in hubs]:
            self._links.pop(cell).close()
        for cell, (endpoint, key) in hubs.items():
            link = self._links.get(cell)
            if link is None or link.endpoint != endpoint:
                if link is not None:
                    link.close()
                self._links[cell] = Link(self._context, endpoint, self._keys(key), self._silent_s)

    def _keys(self, key: str) -> Keys | None:
        if self._folder is None:
            return None
        return Keys(keys.client_keys(self._folder), keys.OPERATOR, key)

    def read(self, now: float) -> dict[str, View]:
        """Return what each hub says, by cell."""
        return {cell: link.read(now) for cell, link in self._links.items()}

    def report(self, cell: str, died: Died) -> None:
        """Report a death to the hub of a cell."""
        if link := self._links.get(cell):
            link.report(died)

    def wait(self, seconds: float) -> None:
        """Wait until a hub says something, at most so long."""
        poller = zmq.Poller()
        for link in self._links.values():
            poller.register(link.socket, zmq.POLLIN)
        poller.poll(round(1000 * seconds))

    def close(self) -> None:
        """Close all connections."""
        for link in self._links.values():
            link.close()
        self._context.term()
