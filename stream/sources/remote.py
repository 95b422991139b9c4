"""A file on an HTTP server, read like a local one: seekable, and resumed if it breaks off."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources import icy
from abhinaya.stream.sources.media.length import Contents, Passing
from abhinaya.stream.sources.web import HttpError, Web

if TYPE_CHECKING:
    import httpx2

_FROM_THE_START: Final = {"range": "bytes=0-"}
"""The answer shows whether the server supports ranges."""
_LOOK_BYTES: Final = 2048
"""Bytes that suffice to distinguish a playlist or web page from audio."""
_HEAD_BYTES: Final = 1 << 18
"""Bytes of the beginning that are kept."""
_READ_ON: Final = 1 << 18
"""Bytes. A shorter forward seek reads on instead of sending a new request."""
_FETCH: Final = "fetch it whole first, and name the file"


class RemoteFile:
    """A file object for the decoder.

    FFmpeg drops some exceptions of its reader. So a failure looks like the end of the file, and
    is kept in `failure`.

    Args:
        web: HTTP requests and settings of the input.
        url: address of the file.
        headers: headers of the first request.

    Raises:
        HttpError: no answer, or an error status.
        SourceError: the address is neither http nor https.

    """

    def __init__(self, web: Web, url: str, headers: Mapping[str, str] = _FROM_THE_START) -> None:
        self.failure: SourceError | None = None
        self.cancelled = threading.Event()
        self.deadline = math.inf
        """Time of the monotonic clock after which reading fails."""
        self._web = web
        self._url = url
        http = web.get(url, headers)
        self.url = str(http.url)
        """Address after redirects."""
        self.headers = http.headers
        self.total = _total_of(http)
        """Bytes of the whole file; None if the server does not declare them."""
        tag = http.headers.get("etag", "")
        self._validator = tag if tag[:1] == '"' else http.headers.get("last-modified", "")
        self._ranges = http.status_code == 206 and self.total is not None
        if self._ranges and not http.headers["content-range"].startswith("bytes 0-"):
            http.close()
            raise web.error("answers with another part of the file than it was asked for", _FETCH)
        self.ends = "content-length" in http.headers
        """Whether the body has a declared end."""
        self._http: httpx2.Response | None = http
        self._parts = self._audio(http)
        self.head = b""
        while len(self.head) < _LOOK_BYTES and (part := next(self._parts, b"")):
            self.head += part
        self._passing = Passing()
        self._passing.add(self.head)
        self._end = len(self.head)  # position after the last byte received
        self._rest = memoryview(b"")  # bytes received but not read yet
        self._position = 0  # position of the reader

    def _audio(self, http: httpx2.Response) -> Iterator[bytes]:
        """Return the body without metadata, which some servers send unasked."""
        body = self._web.body(http)
        if not (interval := icy.interval_of(http.headers)):
            return body
        return icy.audio_of(body, interval, lambda title: self._web.remark(f"plays {title}"))

    @property
    def is_radio(self) -> bool:
        """Whether the server declares a broadcast, as Icecast and Shoutcast do."""
        return any(name.startswith("icy-") for name in self.headers)

    def contents(self) -> Contents:
        """Return the bytes of the file; keeps the beginning, to which the decoder goes back."""
        if self.total is None or not self._ranges:
            return self._passing.contents()
        while len(self.head) < _HEAD_BYTES and (part := self._next()):
            self.head += part
        return Contents(self._peek, lambda: self.total or 0, self.total)

    def _peek(self, at: int, count: int) -> bytes:
        """Return bytes from anywhere, and leave the position."""
        if at + count <= len(self.head) or len(self.head) == self.total:
            return self.head[at : at + count]
        position, self._position, data = self._position, at, b""
        while len(data) < count and (part := self.read(count - len(data))):
            data += part
        self._position = position
        return data

    def seekable(self) -> bool:
        """Return whether the decoder may seek."""
        return self._ranges

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position; the next read sends the request."""
        end = self.total or 0
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: end}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; empty at the end or after a failure."""
        if self._position < len(self.head):
            data = self.head[self._position : self._position + size]
        else:
            self._go_to_position()
            data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        self._position += len(data)
        return data

    def close(self) -> None:
        """Close the connection."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _go_to_position(self) -> None:
        """Make `_rest` begin at the reader's position."""
        skip = self._position - (self._end - len(self._rest))
        if not 0 <= skip <= len(self._rest) + _READ_ON:
            self.close()
            self._rest, self._end, skip = memoryview(b""), self._position, 0
        while skip >= len(self._rest):
            skip -= len(self._rest)
            self._rest = memoryview(self._next())
            if not self._rest:
                return
        self._rest = self._rest[skip:]

    def _next(self) -> bytes:
        """Return the next bytes of the server; empty at the end or after a failure."""
        if (self.total is not None and self._end >= self.total) or self._has_failed():
            return b""
        try:
            if self._http is None:
                self._reopen()
            part = self._receive()
        except HttpError as error:
            part = self._resume(error)
        self._end += len(part)
        self._passing.add(part)
        return part

    def _has_failed(self) -> bool:
        if self.failure is None:
            if time.monotonic() > self.deadline:
                reason = "sent nothing that can be decoded for too long"
                self.failure = self._web.error(reason, "is it audio?")
            elif self._web.stop.is_set() or self.cancelled.is_set():
                self.failure = self._web.error("was interrupted")
        return self.failure is not None

    def _receive(self) -> bytes:
        part = next(self._parts, b"")
        if not part and self.total is not None:
            raise self._web.error("was cut off", transient=True)
        return part

    def _resume(self, error: HttpError) -> bytes:
        """Request the rest again until it comes or `give_up_s` has passed."""
        self.close()
        self.failure = error
        if not error.transient or self.total is None:
            return b""
        if not self._ranges:
            reason = f"{error.reason} at {self._progress()}, its server cannot resume"
            self.failure = self._web.error(reason, _FETCH, transient=True)
            return b""
        self._web.remark(f"broke off at {self._progress()}: {error.reason}; resuming")
        patience_s = self._web.settings.give_up_s
        for _ in self._web.tries(patience_s):
            try:
                self._reopen()
                part = self._receive()
            except HttpError as latest:
                self.close()
                self.failure = error = latest
                if not error.transient:
                    return b""
            else:
                self.failure = None
                self._web.remark(f"resumed at {self._progress()}")
                return part
        reason = f"{error.reason} at {self._progress()}, and not resumed within {patience_s:g} s"
        self.failure = self._web.error(reason, "try again")
        return b""

    def _reopen(self) -> None:
        """Request everything from the current end on.

        Raises:
            HttpError: no answer, or the file has changed.

        """
        headers = {"range": f"bytes={self._end}-"}
        if self._validator:
            headers["if-range"] = self._validator
        try:
            http = self._web.get(self._url, headers)
        except HttpError as error:
            if "HTTP 416" in error.reason:  # range not satisfiable
                raise self._changed("is shorter now") from error
            raise
        total = _total_of(http)
        of = http.headers.get("content-range", "")
        begins = http.status_code == 206 and of.startswith(f"bytes {self._end}-")
        if begins and total == self.total:
            self._http, self._parts = http, self._audio(http)
            return
        http.close()
        if total not in (None, self.total):
            raise self._changed(f"had {self.total} bytes, now {total}")
        raise self._changed("is another one, or its server cannot resume")

    def _changed(self, how: str) -> HttpError:
        reason = f"changed on its server while it was read, at {self._progress()}: it {how}"
        return self._web.error(reason, _FETCH)

    def _progress(self) -> str:
        return f"{self._end / 1e6:.2f} of {(self.total or 0) / 1e6:.2f} MB"


def _total_of(http: httpx2.Response) -> int | None:
    """Return the length of the whole file, also if the answer is only a range of it."""
    if http.headers.get("content-encoding", "identity") != "identity" or icy.interval_of(
        http.headers
    ):
        return None  # the declared length is that of the compressed body, or includes metadata
    if http.status_code == 206:
        length = http.headers.get("content-range", "").rpartition("/")[2]
    else:
        length = http.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None
