"""A file on a web server, read as if it were here: by ranges, taken up again where it broke off."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.base import Warn
from abhinaya.stream.sources.web import Backoff, Web, WebError

if TYPE_CHECKING:
    import httpx2

_HEAD_BYTES: Final = 1 << 18
_READ_ON: Final = 1 << 18
"""A seek that goes no further forward than this is cheaper read than asked for."""
_FETCH: Final = "fetch it whole first, and name the file"


def total_of(answer: httpx2.Response) -> int | None:
    """Give the length of the whole file that an answer is, or is a part of; None if not told."""
    if answer.status_code == 206:
        total = answer.headers.get("content-range", "").rpartition("/")[2]
        return int(total) if total.isdecimal() else None
    length = answer.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


def validator_of(answer: httpx2.Response) -> str:
    """Give what tells whether a file is still the same; empty if the server tells nothing."""
    tag: str = answer.headers.get("etag", "")
    return tag if tag.startswith('"') else str(answer.headers.get("last-modified", ""))


class Ranged:
    """What the decoder reads: it can seek if the server knows ranges.

    A failure looks like the end of the file; it is kept in `failure`, for whoever then asks why.

    Args:
        web: who asks.
        url: of the file.
        answer: the first answer, which tells how long the file is.
        head: what has been read of its body.
        rest: the rest of it.
        settings: patience.
        warn: told when the connection is lost and when it is back.
        stop: ends all waiting.

    """

    def __init__(
        self,
        web: Web,
        url: str,
        answer: httpx2.Response,
        head: bytes,
        rest: Iterator[bytes],
        settings: NetworkConfig,
        warn: Warn,
        stop: threading.Event,
    ) -> None:
        self.total = total_of(answer) or 0
        self.failure: WebError | None = None
        self._web = web
        self._url = url
        self._settings = settings
        self._warn = warn
        self._stop = stop
        self._ranges = answer.status_code == 206
        self._validator = validator_of(answer)
        self._answer: httpx2.Response | None = answer
        self._parts = rest
        self._rest = memoryview(b"")  # has come and was not given yet
        self._come = len(head)  # position behind what has come
        self._position = 0  # of the reader
        self.head = head
        self.head += self._read_head()

    def seekable(self) -> bool:
        """Whether the decoder may jump."""
        return self._ranges

    def tell(self) -> int:
        """Give the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position; the server is asked by the next read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.total}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Give up to `size` bytes; none at the end, or after a failure."""
        if self._position < len(self.head):
            end = len(self.head) if size < 0 else self._position + size
            data = self.head[self._position : end]
        else:
            data = self._read_on(1 << 16 if size < 0 else size)
        self._position += len(data)
        return data

    def close(self) -> None:
        """Let go of the connection."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _read_head(self) -> bytes:
        parts: list[bytes] = []
        while self._come < _HEAD_BYTES and (part := self._next()):
            parts.append(part)
        return b"".join(parts)

    def _read_on(self, size: int) -> bytes:
        at = self._come - len(self._rest)  # where `rest` begins
        if at <= self._position < self._come:
            self._rest = self._rest[self._position - at :]
        elif self._position != at:
            self._go_to(self._position)
        if not self._rest:
            self._rest = memoryview(self._next())
        data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return data

    def _go_to(self, position: int) -> None:
        self._rest = memoryview(b"")
        if 0 <= position - self._come <= _READ_ON:
            while self._come < position and (part := self._next()):
                if self._come > position:
                    self._rest = memoryview(part)[position - self._come :]
            return
        self.close()
        self._come = position

    def _next(self) -> bytes:
        """Give the next bytes that come from the server; none at the end, or after a failure."""
        if self.failure is not None or self._come >= self.total:
            return b""
        reason = "was cut off"
        try:
            if self._answer is None:
                self._ask()
            part = next(self._parts, b"")
        except WebError as error:
            part, reason = b"", error.reason
            if not error.passing:
                self.failure = error
                return b""
        if not part:
            part = self._resume(reason)
        self._come += len(part)
        return part

    def _resume(self, reason: str) -> bytes:
        """Ask for the rest until it comes or patience ends."""
        self.close()
        if not self._ranges:
            self._fail(reason, "its server cannot resume", _FETCH)
            return b""
        self._warn(f"broke off at {self._far()}: {reason}; resuming")
        backoff, begun = Backoff(self._settings, self._stop), time.monotonic()
        while time.monotonic() - begun < self._settings.give_up_s and backoff.wait():
            try:
                self._ask()
                if part := next(self._parts, b""):
                    self._warn(f"resumed at {self._far()}")
                    return part
            except WebError as error:
                reason = error.reason
                if not error.passing:
                    self.failure = error
                    return b""
            self.close()
        self._fail(reason, f"and not resumed within {self._settings.give_up_s:g} s", "try again")
        return b""

    def _ask(self) -> None:
        """Ask for everything from here on.

        Raises:
            WebError: it cannot be had, or is another file by now.

        """
        headers = {"range": f"bytes={self._come}-"}
        if self._validator:
            headers["if-range"] = self._validator
        try:
            answer = self._web.get(self._url, headers)
        except WebError as error:
            if "HTTP 416" in error.reason:  # nothing is there any more
                raise self._changed("is shorter now") from error
            raise
        begins = answer.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
        total = total_of(answer)
        if answer.status_code == 206 and begins == str(self._come) and total == self.total:
            self._answer, self._parts = answer, self._web.body(answer)
            return
        answer.close()
        if total is not None and total != self.total:
            raise self._changed(f"had {self.total} bytes, now {total}")
        raise self._changed("is another one, or its server cannot resume")

    def _changed(self, how: str) -> WebError:
        reason = f"changed on its server while it was read, at {self._far()}: it {how}"
        return WebError(reason, _FETCH, passing=False)

    def _fail(self, reason: str, then: str, remedy: str) -> None:
        text = f"{reason} at {self._far()}, {then}"
        self.failure = WebError(text, remedy, passing=False)

    def _far(self) -> str:
        return f"{self._come / 1e6:.2f} of {self.total / 1e6:.2f} MB"
