"""An HTTP answer without an end: internet radio."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.base import Block, Warn
from abhinaya.stream.sources.decode import NOTHING_ELSE, Decoder
from abhinaya.stream.sources.web import WebError

if TYPE_CHECKING:
    import httpx2

LEAD_S: Final = 20.0
"""How far ahead of the clock a stream may be that perhaps is none."""
_QUICK: Final = {"probesize": str(1 << 17), "analyzeduration": "300000"}
"""What FFmpeg may read to find out what it is: a broadcast comes no faster than it is spoken."""


class Body:
    """What the decoder reads; a failure looks like the end, and is kept.

    Args:
        answer: its body has not been read but for `head`.
        head: what was read of it.
        rest: the rest of it.
        patience_s: how long it may take until it is known to be audio.

    """

    def __init__(
        self,
        answer: httpx2.Response,
        head: bytes,
        rest: Iterator[bytes],
        patience_s: float = math.inf,
    ) -> None:
        self._answer = answer
        self._waiting = head
        self._rest = rest
        self._patience_s = patience_s
        self._until = time.monotonic() + patience_s
        self.cancelled = False
        self.failure: WebError | None = None

    def known(self) -> None:
        """Note that it is audio: now it may take as long as it likes."""
        self._until = math.inf

    def read(self, size: int, /) -> bytes:
        """Give up to `size` bytes; none at the end, or after a failure."""
        if time.monotonic() > self._until:
            reason = f"sent nothing that can be decoded within {self._patience_s:g} s"
            self.failure = WebError(reason, "is it audio?", passing=False)
            self.cancelled = True
        if not self._waiting and not self.cancelled:
            try:
                self._waiting = next(self._rest, b"")
            except WebError as error:
                self.failure = error
        data, self._waiting = self._waiting[:size], self._waiting[size:]
        return data

    def close(self) -> None:
        """Let go of the connection."""
        self._answer.close()


class Endless:
    """One connection to a stream over HTTP.

    Args:
        answer: its body has not been read but for `head`.
        head: what was read of it.
        rest: the rest of it.
        sure: whether it is known to run by itself; else it may be a file of unknown length.
        subject: how people name it.
        settings: patience.
        warn: told about packets that cannot be decoded.
        clock: wall clock in Unix seconds.
        format: FFmpeg's name of it, if it is known; empty: it is found out.

    Raises:
        SourceError: it is no audio.

    """

    def __init__(
        self,
        answer: httpx2.Response,
        head: bytes,
        rest: Iterator[bytes],
        sure: bool,
        subject: str,
        settings: NetworkConfig,
        warn: Warn,
        clock: Callable[[], float] = time.time,
        format: str = "",
    ) -> None:
        self.silent_s = settings.stall_s
        self._subject = subject
        self._sure = sure
        self._left = threading.Event()
        self._body = Body(answer, head, rest, settings.stall_s)
        try:
            how: dict[str, Any] = {"options": NOTHING_ELSE | _QUICK}
            if format and "," not in format:
                how["format"] = format
            self._decoder = Decoder(self._body, subject, warn, clock=clock, how=how)
        except SourceError as error:
            self._body.close()
            if self._body.failure is not None:
                raise self._failed() from error
            raise
        self._body.known()
        if self._body.failure is not None:
            self.close()
            raise self._failed()

    @property
    def format(self) -> str:
        """What FFmpeg calls the container."""
        return self._decoder.format

    @property
    def channels(self) -> int:
        """Channels of its audio."""
        return self._decoder.channels

    @property
    def description(self) -> str:
        """Codec, rate and channels, for people."""
        return self._decoder.description

    def blocks(self) -> Iterator[Block]:
        """Give the audio.

        Raises:
            SourceError: it was cut off; also where it just ends, unless it came faster than it can
                have been spoken: that was a file.

        """
        begun, given_s = time.monotonic(), 0.0
        for block in self._decoder.blocks():
            given_s += len(block.samples) / block.rate
            yield block
            ahead_s = given_s - (time.monotonic() - begun)
            if not self._sure and ahead_s > LEAD_S and self._left.wait(ahead_s - LEAD_S):
                return
        if self._body.failure is not None:
            raise self._failed()
        if self._sure or given_s < 2 * (time.monotonic() - begun):
            raise SourceError(self._subject, "the server ended the stream")

    def cancel(self) -> None:
        """Make `blocks` end soon."""
        self._body.cancelled = True
        self._left.set()

    def close(self) -> None:
        """Let go of the connection."""
        self._decoder.close()
        self._body.close()

    def _failed(self) -> SourceError:
        assert self._body.failure is not None
        return SourceError(self._subject, self._body.failure.reason, self._body.failure.remedy)
