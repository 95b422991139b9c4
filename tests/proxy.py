"""A TCP proxy between a hub and its clients that can fail as networks do."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from typing import Literal

Mode = Literal["pass", "reset", "black hole"]


class Proxy:
    """Forwards the two ports of a hub. Use it in a `with` statement.

    `cut` are the ports, 0 and 1, that `mode` applies to; the other one passes everything.
    `reset` breaks every connection and refuses new ones. `black hole` keeps the connections, also
    new ones, and forwards nothing; what waits then is forwarded later, as TCP does.
    """

    def __init__(self, hub: str) -> None:
        host, _, port = hub.removeprefix("tcp://").partition(":")
        self._targets = [(host, int(port) + offset) for offset in (0, 1)]
        self.mode: Mode = "pass"
        self.cut: tuple[int, ...] = (0, 1)
        self._over = False
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._port: dict[socket.socket, int] = {}
        self._selector = selectors.DefaultSelector()
        self._listeners, self.port = _two_listeners()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join(10)
        for listener in self._listeners:
            listener.close()

    def _run(self) -> None:
        watched: set[socket.socket] = set()
        while not self._over:
            if self.mode == "reset":
                self._break(self.cut)
            wanted = {*self._listeners, *(s for s in self._pairs if self._passes(self._port[s]))}
            for each in watched - wanted:
                self._selector.unregister(each)
            for each in wanted - watched:
                self._selector.register(each, selectors.EVENT_READ)
            watched = wanted
            for key, _ in self._selector.select(0.02):
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready in self._listeners:
                    self._accept(ready)
                elif ready in self._pairs:
                    self._forward(ready)
            gone = watched - set(self._pairs) - set(self._listeners)
            for each in gone:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(each)
            watched -= gone
        self._break((0, 1))

    def _passes(self, port: int) -> bool:
        return self.mode == "pass" or port not in self.cut

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        port = self._listeners.index(listener)
        if self.mode == "reset" and port in self.cut:
            _reset(client)
            return
        try:
            hub = socket.create_connection(self._targets[port], 1)
        except OSError:
            _reset(client)
            return
        self._pairs |= {client: hub, hub: client}
        self._port |= {client: port, hub: port}

    def _forward(self, source: socket.socket) -> None:
        target = self._pairs[source]
        try:
            data = source.recv(65536)
            if data:
                target.sendall(data)
                return
        except OSError:
            pass
        for each in (source, target):
            self._pairs.pop(each, None)
            _reset(each)

    def _break(self, ports: tuple[int, ...]) -> None:
        for each in [each for each in self._pairs if self._port[each] in ports]:
            del self._pairs[each]
            _reset(each)


def _two_listeners() -> tuple[list[socket.socket], int]:
    while True:
        first, second = socket.socket(), socket.socket()
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        try:
            second.bind(("127.0.0.1", port + 1))
        except OSError:
            first.close()
            second.close()
            continue
        for listener in (first, second):
            listener.listen(64)
        return [first, second], port


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
