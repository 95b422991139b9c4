"""HTTP requests with a limit on their total time, and the pause that a busy server asks for.

httpx2 limits each wait for the next bytes: a server that sends a byte now and then would hold a
request for hours. Here the connection is cut when the time is over.
"""

from __future__ import annotations

import email.utils
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2


def retry_after_s(header: str | None, now_unix_s: float) -> float | None:
    """Return the pause of a `Retry-After` header, seconds or a date; None if it is neither."""
    try:
        seconds = float(header or "")
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header or "").timestamp() - now_unix_s
        except ValueError:
            return None
    return max(seconds, 0.0) if seconds < float("inf") else None


class Cut:
    """Cuts the connection of one request when its time is over, unless `stop` was called before.

    The request must get `note` as its extension `trace`: httpx2 has no other way to reach the
    socket before the answer.

    Args:
        within_s: the time for the request, in seconds.
        known: socket of an open connection, if the request will use that one.

    """

    def __init__(self, within_s: float, known: socket.socket | None = None) -> None:
        self.socket = known
        self.over = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(within_s, self._now)
        self._timer.daemon = True
        self._timer.start()

    def note(self, event: str, info: dict[str, Any]) -> None:
        """Keep the socket of a new connection."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            with self._lock:
                self.socket = info["return_value"].get_extra_info("socket")
            if self.over:
                self._now()

    def stop(self) -> None:
        """Leave the connection alone from now on."""
        self._timer.cancel()

    def _now(self) -> None:
        self.over = True
        with self._lock, suppress(OSError):
            if self.socket is not None:
                # of the base class: that of an SSL socket would wait for the other side
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


class TimedClient:
    """A client with one connection, for one request at a time; redirects are not followed.

    Args:
        settings: arguments of `httpx2.Client`.

    """

    def __init__(self, **settings: Any) -> None:
        self._http = httpx2.Client(limits=httpx2.Limits(max_connections=1), **settings)
        self._socket: socket.socket | None = None

    @contextmanager
    def stream(
        self, method: str, url: str, within_s: float, **more: Any
    ) -> Iterator[httpx2.Response]:
        """Send a request; yield the answer, whose body must be read within the same time.

        Raises:
            httpx2.TimeoutException: the time is over.
            httpx2.TransportError: the connection failed.

        """
        cut = Cut(within_s, self._socket)
        try:
            with self._http.stream(
                method, url, timeout=within_s, extensions={"trace": cut.note}, **more
            ) as answer:
                yield answer
        except httpx2.TransportError as error:
            if cut.over and not isinstance(error, httpx2.TimeoutException):
                raise httpx2.ReadTimeout("the time is over") from error
            raise
        finally:
            cut.stop()
            self._socket = cut.socket
        if cut.over:  # a body without a length ends as if it were whole
            raise httpx2.ReadTimeout("the time is over")

    def close(self) -> None:
        """Close the connection."""
        self._http.close()
