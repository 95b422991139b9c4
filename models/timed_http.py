"""HTTP requests with a limit on their total time.

httpx2 limits each wait for the next bytes: a server that sends a byte now and then would hold a
request for hours. Here the connection is cut when the time is over.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2


class TimedClient:
    """A client with one connection, for one request at a time; redirects are not followed.

    Args:
        settings: arguments of `httpx2.Client`.

    """

    def __init__(self, **settings: Any) -> None:
        self._http = httpx2.Client(limits=httpx2.Limits(max_connections=1), **settings)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._over = False

    @contextmanager
    def stream(
        self, method: str, url: str, within_s: float, **more: Any
    ) -> Iterator[httpx2.Response]:
        """Send a request; yield the answer, whose body must be read within the same time.

        Raises:
            httpx2.TimeoutException: the time is over.
            httpx2.TransportError: the connection failed.

        """
        self._over = False
        timer = threading.Timer(within_s, self._cut)
        timer.daemon = True
        timer.start()
        try:
            with self._http.stream(
                method, url, timeout=within_s, extensions={"trace": self._note}, **more
            ) as answer:
                yield answer
        except httpx2.TransportError as error:
            if self._over and not isinstance(error, httpx2.TimeoutException):
                raise httpx2.ReadTimeout("the time is over") from error
            raise
        finally:
            timer.cancel()
        if self._over:  # a body without a length ends as if it were whole
            raise httpx2.ReadTimeout("the time is over")

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _note(self, event: str, info: dict[str, Any]) -> None:
        """Keep the socket of a new connection: httpx2 has no other way to reach it that early."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
            if self._over:
                self._cut()

    def _cut(self) -> None:
        self._over = True
        with self._lock, suppress(OSError):
            if self._socket is not None:
                # of the base class: that of an SSL socket would wait for the other side
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
