"""HLS: the decoder reads the playlist, we fetch what it names, and nothing but http and https.

A finished broadcast is a file; one that goes on is live.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.base import Block, Warn
from abhinaya.stream.sources.decode import Decoder
from abhinaya.stream.sources.playlist import best_of, is_over, parts_of, target_s
from abhinaya.stream.sources.web import Backoff, Web, WebError

PLAYLIST_BYTES: Final = 1 << 22
SEGMENT_BYTES: Final = 1 << 26
_REMEMBERED: Final = 512


class Fetcher:
    """Fetches what a playlist names, whole, and tries again for a while.

    Args:
        web: who asks.
        playlist: its address.
        text: of it, as it was just now.
        settings: patience.
        heard: addresses of the parts that were fetched, added to.

    """

    def __init__(
        self,
        web: Web,
        playlist: str,
        text: str,
        settings: NetworkConfig,
        heard: dict[str, None],
    ) -> None:
        self._web = web
        self._playlist = playlist
        self._text = text
        self._settings = settings
        self._finished = is_over(text)
        self._heard = heard
        self._stop = threading.Event()
        self.failure: WebError | None = None

    def __call__(self, url: str, flags: int, options: Mapping[str, str]) -> io.BytesIO:
        """Give what the decoder asks for; `options` may name a part of it.

        What cannot be had is empty: an exception would go through FFmpeg, which drops some.
        """
        if self.failure is not None:
            return io.BytesIO(b"")
        if url == self._playlist and self._text:
            text, self._text = self._text, ""
            return io.BytesIO(text.encode())
        headers = {}
        if options.get("end_offset", "0") not in ("0", "-1"):
            last = int(options["end_offset"]) - 1
            headers["range"] = f"bytes={int(options.get('offset', '0'))}-{last}"
        try:
            data = self._patiently(url, headers)
        except SourceError as error:
            self.failure = WebError(error.reason, error.remedy, passing=False)
            return io.BytesIO(b"")
        except WebError as error:
            # a part of a live stream that has gone is a hole, which its time stamps tell
            if self._finished or error.passing or url == self._playlist:
                self.failure = error
            return io.BytesIO(b"")
        if url != self._playlist and not self._finished:
            self._heard[url] = None
            if len(self._heard) > _REMEMBERED:
                del self._heard[next(iter(self._heard))]
        return io.BytesIO(data)

    def cancel(self) -> None:
        """End all waiting."""
        self._stop.set()

    def _patiently(self, url: str, headers: Mapping[str, str]) -> bytes:
        if url.startswith("crypto"):
            raise SourceError(url, "is encrypted", "name a stream that is not")
        limit = PLAYLIST_BYTES if url == self._playlist else SEGMENT_BYTES
        patience_s = self._settings.give_up_s if self._finished else self._settings.stall_s
        backoff, begun = Backoff(self._settings, self._stop), time.monotonic()
        while True:
            if self._stop.is_set():
                raise WebError("was left", "", passing=True)
            try:
                return self._web.fetch(url, limit, headers)[1]
            except WebError as error:
                late = time.monotonic() - begun > patience_s
                if not error.passing or late or not backoff.wait():
                    raise


class Hls:
    """One reading of a playlist.

    Args:
        web: who asks.
        url: of the media playlist.
        text: of the playlist, as it was just now.
        subject: how people name it.
        settings: patience.
        warn: told about packets that cannot be decoded.
        heard: addresses of the parts that earlier connections have fetched; added to.
        clock: wall clock in Unix seconds.

    Raises:
        SourceError: it holds no audio, nothing new, or cannot be fetched.

    """

    def __init__(
        self,
        web: Web,
        url: str,
        text: str,
        subject: str,
        settings: NetworkConfig,
        warn: Warn,
        heard: dict[str, None],
        clock: Callable[[], float],
    ) -> None:
        self.finished = is_over(text)
        self.silent_s = settings.stall_s + 3 * target_s(text)
        self._subject = subject
        self._fetcher = Fetcher(web, url, text, settings, heard)
        options = {
            "protocol_whitelist": "http,https",
            # what the parts are called does not matter: only our fetcher opens them
            "allowed_extensions": "ALL",
            "extension_picky": "0",
            "http_persistent": "0",
        }
        if not self.finished and (begin := self._first_new(parts_of(text, url), heard)):
            options["live_start_index"] = str(begin)
        how: dict[str, Any] = {"format": "hls", "options": options, "io_open": self._fetcher}
        try:
            # parts that follow each other may begin their time stamps anew
            self._decoder = Decoder(
                url, subject, warn, clock=clock, how=how, holes=not self.finished
            )
        except SourceError as error:
            if (failure := self._fetcher.failure) is not None:
                raise SourceError(subject, failure.reason, failure.remedy) from error
            raise

    @property
    def channels(self) -> int:
        """Channels of its audio."""
        return self._decoder.channels

    @property
    def description(self) -> str:
        """Codec, rate and channels, for people."""
        return f"HLS, {self._decoder.description}"

    def blocks(self) -> Iterator[Block]:
        """Give the audio until the broadcast is over.

        Raises:
            SourceError: the playlist or a part of it cannot be fetched any more.

        """
        given_s = 0.0
        try:
            for block in self._decoder.blocks():
                self._check(given_s)
                yield block
                given_s += (block.lost_samples + len(block.samples)) / block.rate
        except SourceError:
            self._check(given_s)
            raise
        self._check(given_s)

    def cancel(self) -> None:
        """End all waiting."""
        self._fetcher.cancel()

    def close(self) -> None:
        """Release the decoder."""
        self._decoder.close()

    def _first_new(self, parts: list[str], heard: Mapping[str, None]) -> int:
        """Give the index of the first part behind those that were heard; 0 if none was."""
        begin = max((i + 1 for i, part in enumerate(parts) if part in heard), default=0)
        if begin and begin == len(parts):
            raise SourceError(self._subject, "has nothing new yet")
        return begin

    def _check(self, given_s: float) -> None:
        failure = self._fetcher.failure
        if failure is not None:
            at = f"breaks off at {given_s:.2f} s: " if self.finished else ""
            raise SourceError(self._subject, at + failure.reason, failure.remedy) from failure


def find_playlist(web: Web, url: str, body: bytes) -> tuple[str, str]:
    """Give address and text of the media playlist that a playlist is or leads to.

    Raises:
        WebError: it cannot be fetched, or leads on and on.
        SourceError: it leads to an address of another protocol.

    """
    text = body.decode("utf-8", "replace")
    for _ in range(3):
        best = best_of(text, url)
        if best is None:
            return url, text
        answer, body = web.fetch(best, PLAYLIST_BYTES)
        url, text = str(answer.url), body.decode("utf-8", "replace")
    raise WebError("is a playlist of playlists without end", "name one of them", passing=False)
