"""An address: a file with an end, a broadcast, a playlist or a camera; its answer tells which."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.address import RTSP, check_address, scheme_of, shown
from abhinaya.stream.sources.base import Block, InputConfig, Opened, Warn
from abhinaya.stream.sources.condition import condition
from abhinaya.stream.sources.decode import Decoder
from abhinaya.stream.sources.endless import Body, Endless
from abhinaya.stream.sources.file import is_text
from abhinaya.stream.sources.hls import PLAYLIST_BYTES, Hls, find_playlist
from abhinaya.stream.sources.live import Connection, Live
from abhinaya.stream.sources.playlist import is_playlist, others_in
from abhinaya.stream.sources.ranged import Ranged, total_of
from abhinaya.stream.sources.rtsp import Rtsp
from abhinaya.stream.sources.sniff import format_of
from abhinaya.stream.sources.web import Web, WebError

if TYPE_CHECKING:
    import httpx2

_LOOK_BYTES: Final = 2048
"""What tells a playlist and a web page from audio."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a server says to the first request."""

    http: httpx2.Response
    head: bytes
    rest: Iterator[bytes]

    @property
    def radio(self) -> bool:
        """Whether it calls itself a broadcast, as Icecast and Shoutcast do."""
        return any(name.startswith("icy-") for name in self.http.headers)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to ask, and how."""

    config: InputConfig
    settings: NetworkConfig
    web: Web
    warn: Warn
    clock: Callable[[], float]
    stop: threading.Event

    @property
    def url(self) -> str:
        """The address."""
        return self.config.what

    @property
    def subject(self) -> str:
        """How people name it."""
        return shown(self.config.what)


def open_address(
    config: InputConfig,
    settings: NetworkConfig,
    warn: Warn,
    clock: Callable[[], float] = time.time,
) -> Opened:
    """Open the address `config.what`.

    Raises:
        SourceError: it cannot be reached or refuses, or it is no audio.

    """
    check_address(config.what)
    place = _Place(config, settings, Web(settings), warn, clock, threading.Event())
    if scheme_of(config.what) in RTSP:
        return _open_live(place, lambda: Rtsp(config.what, settings, warn, clock))
    try:
        answer = _ask(place, {"range": "bytes=0-"})
        if is_playlist(answer.head):
            return _open_hls(place, answer)
    except WebError as error:
        raise error.error(config.what) from error
    _check_audio(place, answer)
    endless = answer.radio or total_of(answer.http) is None
    if config.endless == "yes" or (config.endless == "auto" and endless):
        return _open_radio(place, answer)
    if total_of(answer.http) is None:
        return _open_once(place, answer)
    return _open_file(place, answer)


def _ask(place: _Place, headers: dict[str, str]) -> _Answer:
    http = place.web.get(place.url, headers)
    rest = place.web.body(http)
    head = b""
    while len(head) < _LOOK_BYTES and (part := next(rest, b"")):
        head += part
    return _Answer(http, head, rest)


def _check_audio(place: _Place, answer: _Answer) -> None:
    if not answer.head:
        raise SourceError(place.subject, "is empty (0 bytes)", "check the address")
    others = others_in(answer.head)
    if others:
        name = f"name one of them, for example {shown(others[0])}"
        raise SourceError(place.subject, "is a playlist of other addresses", name)
    if is_text(answer.head):
        page = b"<html" in answer.head.lower() or b"<!doctype" in answer.head.lower()
        what = "a web page" if page else "text"
        raise SourceError(
            place.subject, f"is {what}, not audio", "give the address of the audio itself"
        )


def _open_file(place: _Place, answer: _Answer) -> Opened:
    file = Ranged(
        place.web,
        place.url,
        answer.http,
        answer.head,
        answer.rest,
        place.settings,
        lambda text: place.warn(f"{place.subject}: {text}"),
        place.stop,
    )
    try:
        decoder = Decoder(file, place.subject, place.warn, head=file.head, clock=place.clock)
    except SourceError as error:
        if file.failure is not None:
            raise file.failure.error(place.url) from error
        raise
    return _opened(place, decoder, _whole(decoder, file, place.subject), place.stop.set)


def _open_once(place: _Place, answer: _Answer) -> Opened:
    """Open a file of unknown length, which nobody can take up again."""
    body = Body(answer.http, answer.head, answer.rest)
    decoder = Decoder(body, place.subject, place.warn, clock=place.clock)

    def interrupt() -> None:
        body.cancelled = True

    return _opened(place, decoder, _whole(decoder, body, place.subject), interrupt)


def _open_hls(place: _Place, answer: _Answer) -> Opened:
    body = answer.head
    for part in answer.rest:
        body += part
        if len(body) > PLAYLIST_BYTES:
            raise WebError("is a playlist without end", "check the address", passing=False)
    url, text = find_playlist(place.web, str(answer.http.url), body)
    heard: dict[str, None] = {}

    def connect(text: str) -> Hls:
        return Hls(
            place.web, url, text, place.subject, place.settings, place.warn, heard, place.clock
        )

    def dial() -> Hls:
        try:
            return connect(place.web.fetch(url, PLAYLIST_BYTES)[1].decode("utf-8", "replace"))
        except WebError as error:
            raise error.error(place.url) from error

    hls = connect(text)
    if hls.finished:
        return _opened(place, hls, hls.blocks(), hls.cancel)
    return _open_live(place, dial, hls)


def _open_radio(place: _Place, answer: _Answer) -> Opened:
    def listen(answer: _Answer, format: str = "") -> Endless:
        _check_audio(place, answer)
        sure = answer.radio or place.config.endless == "yes"
        return Endless(
            answer.http,
            answer.head,
            answer.rest,
            sure,
            place.subject,
            place.settings,
            place.warn,
            place.clock,
            format or format_of(answer.head, answer.http.headers.get("content-type", "")),
        )

    first = listen(answer)

    def dial() -> Endless:
        try:
            return listen(_ask(place, {}), first.format)
        except WebError as error:
            raise error.error(place.url) from error

    return _open_live(place, dial, first)


def _open_live(
    place: _Place, dial: Callable[[], Connection], first: Connection | None = None
) -> Opened:
    connection = first or dial()
    live = Live(
        place.subject, connection, dial, place.settings, place.warn, place.stop, place.clock
    )
    blocks = live.blocks()
    return Opened(
        channels=1 if place.config.channels == "mix" else connection.channels,
        live=True,
        description=f"{place.subject}: {connection.description}",
        start_unix_s=place.clock(),
        audio=condition(blocks, place.config.channels, place.subject, place.warn),
        closing=place.stop.set,
        interrupting=place.stop.set,
        repeatable=False,
    )


def _opened(
    place: _Place, what: Decoder | Hls, blocks: Iterator[Block], interrupt: Callable[[], None]
) -> Opened:
    """Make a source of something with an end, which is read like a file."""

    def close() -> None:
        interrupt()
        what.close()
        place.web.close()

    return Opened(
        channels=1 if place.config.channels == "mix" else what.channels,
        live=False,
        description=f"{place.subject}: {what.description}",
        start_unix_s=place.clock(),
        audio=condition(blocks, place.config.channels, place.subject, place.warn),
        closing=close,
        interrupting=interrupt,
    )


def _whole(decoder: Decoder, file: Ranged | Body, subject: str) -> Iterator[Block]:
    """Give the blocks of a file; where its transport failed, that is why it ends.

    Raises:
        SourceError: it broke off, with the second at which.

    """
    given_s = 0.0
    try:
        for block in decoder.blocks():
            yield block
            given_s += (block.lost_samples + len(block.samples)) / block.rate
    except SourceError:
        if file.failure is None:
            raise
    if file.failure is not None:
        reason = f"breaks off at {given_s:.2f} s: {file.failure.reason}"
        raise SourceError(subject, reason, file.failure.remedy) from file.failure
