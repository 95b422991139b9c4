"""HLS: fetches the parts of a media playlist and decodes them; what is missing is a loss.

A finished broadcast is a file, an unfinished one is live. Parts that follow each other without a
break are a run, which one decoder reads as one stream of bytes.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.base import Block
from abhinaya.stream.sources.file import is_text
from abhinaya.stream.sources.live import Connection
from abhinaya.stream.sources.media.container import NO_PROTOCOLS
from abhinaya.stream.sources.media.decode import Decoder
from abhinaya.stream.sources.media.mpeg import is_known, without_tags
from abhinaya.stream.sources.playlist import (
    ROUNDED_S,
    Loss,
    Part,
    Playlist,
    Range,
    parse,
    text_of,
)
from abhinaya.stream.sources.web import DOCUMENT_STALLS, HttpError, Web

PLAYLIST_BYTES: Final = 1 << 22
_PART_BYTES: Final = 1 << 26
REMEMBERED: Final = 512
_HELD: Final = 3
"""Parts of an unknown kind at the beginning that wait for one of a known kind."""
_FROM_THE_END: Final = 3
"""Parts before the end of a live playlist with which it begins."""
_LIVE_LOOK: Final = {"probesize": str(1 << 20), "analyzeduration": "1000000"}
_TRIES: Final = 3
"""Tries after which a part that always breaks off is used as far as it came."""
_UNSURE_S: Final = 0.05
"""The same of another length."""


class _Fetched(NamedTuple):
    """A part with its bytes."""

    part: Part
    header: bytes
    data: bytes
    loss: Loss
    """What is missing before it."""


def connect_hls(web: Web, url: str, text: str, played: deque[str], track: int = 0) -> Connection:
    """Begin to play a media playlist.

    Args:
        web: HTTP requests and settings of the input.
        url: address of the playlist.
        text: content of the playlist, just fetched.
        played: addresses of the parts already fetched, on earlier connections too; extended.
        track: see `Decoder`.

    Raises:
        SourceError: the playlist has no audio or no new part, or a part cannot be fetched.

    """
    player = _Player(web, url, parse(text, url), played, track)
    first = player.open()
    return Connection(
        first.channels,
        f"HLS, {first.description}",
        player.blocks(),
        player.silent_s,
        player.close,
        player.cancelled.set,
    )


class _Player:
    """Plays a playlist, run by run."""

    def __init__(
        self, web: Web, url: str, playlist: Playlist, played: deque[str], track: int
    ) -> None:
        self.cancelled = threading.Event()
        self.failure: SourceError | None = None
        self.silent_s = web.settings.stall_s + 3 * playlist.target_s
        self._web = web
        self._url = url
        self._live = not playlist.over
        self._playlist = playlist
        self._played = played
        self._track = track
        self._headers: dict[tuple[str, Range | None], bytes] = {}
        self._parts = self._sound()
        self._next: _Fetched | None = None
        self._left = Loss()  # what is missing after the last part
        self._said: set[str] = set()
        self._deadline = time.monotonic() + 2 * self.silent_s if self._live else math.inf
        self._run: _Run | None = None
        self._decoder: Decoder | None = None

    def open(self) -> Decoder:
        """Return the decoder of the first run.

        Raises:
            SourceError: nothing can be fetched and decoded.

        """
        if (decoder := self._open_run()) is None:
            lost = self._left.reason or "has no parts"
            raise self.failure or self._web.error(lost, "is the broadcast complete?")
        self._deadline = math.inf
        return decoder

    def blocks(self) -> Iterator[Block]:
        """Yield the audio; what is missing between two runs is marked as lost.

        Raises:
            SourceError: the server fails.

        """
        origin_s: float | None = None  # the time stamp of position 0
        given_s, last, loss = 0.0, None, Loss()
        while self._decoder is not None and self._run is not None:
            decoder, run = self._decoder, self._run
            if origin_s is not None and run.joined and decoder.begin_s is not None:
                loss = loss + run.loss.by_stamps(decoder.begin_s - origin_s - given_s)
            else:
                loss = loss + run.loss
            in_run_s = 0.0
            for block in decoder.blocks():
                in_run_s += block.length_s
                if lost := round(loss.length_s * block.rate) if block.lost_samples == 0 else 0:
                    block = replace(block, lost_samples=lost, lost_reason=loss.reason)
                    given_s, loss = given_s + loss.length_s, Loss()
                last = block
                yield block
            origin_s = None if decoder.begin_s is None else decoder.begin_s - given_s
            given_s += in_run_s
            lacking_s = run.length_s - in_run_s
            decoder.close()
            more = self._open_run() is not None
            if more and not self._live and lacking_s > run.tolerance_s:
                loss += Loss(lacking_s, "a part of the broadcast is shorter than declared")
        if self.failure is not None:
            raise self.failure
        loss += self._left
        if last is not None and loss.length_s:
            lost = round(loss.length_s * last.rate)
            yield Block(last.samples[:0], last.rate, last.captured_unix_s, lost, loss.reason)

    def close(self) -> None:
        """Release the decoder."""
        if self._decoder is not None:
            self._decoder.close()

    # --- runs ---

    def _open_run(self) -> Decoder | None:
        """Return the decoder of the next run that can be decoded; None at the end."""
        loss = Loss()
        self._decoder = None
        options = NO_PROTOCOLS | (_LIVE_LOOK if self._live else {})
        while self._decoder is None and self._peek() is not None:
            run = _Run(self, self._playlist.rounded)
            try:
                self._decoder = Decoder(
                    run,
                    self._web.subject,
                    self._say_once,
                    how={"options": options},
                    track=self._track,
                    endless=True,
                    horizon_s=run.horizon_s,
                )
            except SourceError as error:
                loss += run.loss
                loss += Loss(run.length_s, f"a part of the broadcast {error.reason}")
                if self._run is None and self._peek() is None and self.failure is None:
                    self.failure = error
            else:
                run.loss = loss + run.loss
                self._run = run
        if self._decoder is None:
            self._left = loss + self._left
        return self._decoder

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._web.warn(text)

    def _peek(self) -> _Fetched | None:
        """Return the next part; None at the end or after a failure."""
        if self._next is None:
            self._next = next(self._parts, None)
        return self._next

    def take(self, after: Part | None) -> _Fetched | None:
        """Return the part that continues the run after `after`; None if the run is over."""
        found = self._peek()
        if found is None or (
            after is not None
            and (found.loss.length_s or not found.part.joined or found.part.header != after.header)
        ):
            return None
        self._next = None
        return found

    # --- parts ---

    def _sound(self) -> Iterator[_Fetched]:
        """Yield the parts; those whose bytes are no audio are noted as missing, if others are."""
        held: list[_Fetched] = []
        loss, known = Loss(), False
        for each in self._fetched():
            held.append(each)
            known = known or is_known(each.data)
            if not known and len(held) < _HELD:
                continue
            for one in held:
                if known and not is_known(one.data):
                    loss += one.loss + Loss(one.part.length_s, "a part of the broadcast is damaged")
                else:
                    yield one._replace(loss=loss + one.loss)
                    loss = Loss()
            held.clear()
        yield from held
        self._left = loss + self._left

    def _fetched(self) -> Iterator[_Fetched]:
        """Yield the parts with their bytes; note those that are missing."""
        try:
            for part in self._listed():
                if isinstance(part, Loss):
                    self._left += part
                    continue
                try:
                    reason = "is missing (EXT-X-GAP)"
                    if not part.absent:
                        header, data = self._header(part), self._fetch(part.url, part.span)
                        reason = "is empty or text, not audio" if is_text(data) else ""
                except HttpError as error:
                    if error.transient:
                        raise
                    reason = error.reason
                if not reason:
                    loss, self._left = self._left, Loss()
                    self._played.append(part.key)
                    yield _Fetched(part, header, data, loss)
                    continue
                self._left += Loss(part.length_s, f"a part of the broadcast {reason}")
        except SourceError as error:
            self.failure = error

    def _header(self, part: Part) -> bytes:
        """Return the header of the run of a part; empty if it has none."""
        if part.header is None:
            return b""
        if part.header not in self._headers:
            self._headers[part.header] = self._fetch(*part.header)
        return self._headers[part.header]

    def _listed(self) -> Iterator[Part | Loss]:
        """Yield the parts of the playlist, of a live one for as long as it goes on."""
        parts: Sequence[Part | Loss] = self._playlist.parts
        if self._playlist.encrypted:
            raise self._web.error("is encrypted", "name a stream that is not")
        if self._live:
            keys = [part.key for part in self._playlist.parts]
            begin = max((i + 1 for i, key in enumerate(keys) if key in self._played), default=0)
            if begin and begin == len(keys):
                raise self._web.error("has no new part yet", transient=True)
            parts = parts[begin or max(0, len(keys) - _FROM_THE_END) :]
        while True:
            yield from parts
            if self._playlist.over:
                return
            parts = self._newer(self._playlist.parts[-1:])

    def _newer(self, latest: Sequence[Part]) -> Sequence[Part | Loss]:
        """Return what comes after the latest part, as soon as there is something."""
        reached = latest[0].number if latest else -1
        while not self._playlist.over:
            self._wait(self._playlist.target_s / 2)
            text = text_of(self._web.patiently(self._reload, self._web.settings.stall_s))
            self._playlist = parse(text, self._url)
            parts = self._playlist.parts
            if parts and parts[-1].number < reached:  # the server began to count again
                fresh = [part for part in parts if part.key not in self._played]
                return [replace(part, joined=part.joined and i > 0) for i, part in enumerate(fresh)]
            fresh = [part for part in parts if part.number > reached]
            if fresh and latest and (jump := fresh[0].number - reached - 1):
                missing_s = jump * sum(part.length_s for part in parts) / len(parts)
                lost = f"{jump} parts of the broadcast were removed before they were fetched"
                return [Loss(missing_s, lost), *fresh]
            if fresh:
                return fresh
        return ()

    def _wait(self, pause_s: float) -> None:
        until = time.monotonic() + max(0.2, pause_s)
        while not self.cancelled.wait(0.05) and not self._web.stop.is_set():
            now = time.monotonic()
            if now > self._deadline:
                raise self._web.error("gave nothing that can be decoded", "is it on the air?")
            if now >= until:
                return
        raise self._web.error("was interrupted")

    def _reload(self) -> bytes:
        if self.cancelled.is_set():
            raise self._web.error("was interrupted")
        return self._web.fetch(self._url, PLAYLIST_BYTES)[1]

    def _fetch(self, url: str, span: Range | None) -> bytes:
        """Return the bytes of a file, with retries; a part that always breaks off is kept."""
        headers = {"range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
        best, broken = b"", 0

        def attempt() -> bytes:
            nonlocal best, broken
            if self.cancelled.is_set():
                raise self._web.error("was interrupted")
            until = time.monotonic() + DOCUMENT_STALLS * self._web.settings.stall_s
            answer = self._web.get(url, headers)
            data = bytearray()
            try:
                for piece in self._web.body(answer, _PART_BYTES):
                    data += piece
                    if time.monotonic() > until:
                        raise self._web.error("answers too slowly", transient=True)
            except HttpError as error:
                best, broken = max(best, bytes(data), key=len), broken + 1
                if not error.transient or not best or broken < _TRIES:
                    raise
                return best
            finally:
                answer.close()
            if span and answer.status_code != 206:  # the server ignores ranges
                return bytes(data[span[0] : span[1]])
            return bytes(data)

        return self._web.patiently(attempt, self._web.settings.stall_s if self._live else None)


class _Run:
    """Parts that follow each other, as a file object for the decoder."""

    def __init__(self, player: _Player, rounded: bool) -> None:
        self._player = player
        self._last: Part | None = None
        self._rest = memoryview(b"")
        self._unsure_s = ROUNDED_S if rounded else _UNSURE_S
        self.loss = Loss()
        """What is missing before it."""
        self.joined = True
        """Whether it has the clock of the run before it."""
        self.length_s = 0.0
        """Seconds of its parts so far, by the playlist."""
        self.tolerance_s = ROUNDED_S
        """How much its audio may differ from that."""

    def horizon_s(self) -> float:
        """Return the longest that the audio can be so far."""
        return self.length_s + self.tolerance_s

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; empty at the end of the run."""
        while not self._rest:
            found = self._player.take(self._last)
            if found is None:
                return b""
            data = without_tags(found.data)
            if self._last is None:
                self.joined, self.loss = found.part.joined, found.loss
                data = found.header + data
            self._last = found.part
            self.length_s += found.part.length_s
            self.tolerance_s += self._unsure_s
            self._rest = memoryview(data)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)
