"""Network addresses. The server's answer decides: file, internet radio, HLS playlist or RTSP."""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.address import RTSP, check_address, scheme_of, shown
from abhinaya.stream.sources.base import Block, InputConfig, Opened, Warn
from abhinaya.stream.sources.condition import condition
from abhinaya.stream.sources.file import is_text
from abhinaya.stream.sources.hls import (
    PLAYLIST_BYTES,
    REMEMBERED,
    connect_hls,
)
from abhinaya.stream.sources.live import Connection, Live
from abhinaya.stream.sources.media.container import NO_PROTOCOLS
from abhinaya.stream.sources.media.decode import Decoder
from abhinaya.stream.sources.media.length import packed
from abhinaya.stream.sources.media.mpeg import is_adts
from abhinaya.stream.sources.playlist import best_of, is_playlist, other_addresses, parse, text_of
from abhinaya.stream.sources.remote import RemoteFile
from abhinaya.stream.sources.web import HttpError, Web

_RTSP_PROTOCOLS: Final = "rtsp,rtsps,rtp,srtp,tcp,tls,udp"
_MAGIC: Final = (b"OggS", b"fLaC", b"RIFF", b"\x1a\x45\xdf\xa3", b"\x47\x40", b"FLV", b"\0\0\0")
"""Beginnings of containers."""
_LEAD_S: Final = 20.0
"""Seconds that an input of unknown length is read ahead of real time, in case it is a file."""
_QUICK: Final = {"probesize": str(1 << 17), "analyzeduration": "300000"}
"""Limits for FFmpeg's format detection: a broadcast arrives only in real time."""


def open_address(config: InputConfig, settings: NetworkConfig, warn: Warn) -> Opened:
    """Open the address `config.what`.

    Raises:
        SourceError: the server cannot be reached or refuses, or the content is not audio.

    """
    url = config.what
    check_address(url)
    web = Web(shown(url), settings, warn, threading.Event(), url)
    if scheme_of(url) in RTSP:
        track = config.track
        first = connect_rtsp(web, url, track)
        return _opened(config, web, first, lambda: connect_rtsp(web, url, track))
    file = RemoteFile(web, url)
    if is_playlist(file.head):
        return _open_hls(config, web, file)
    check_audio(web, file.head, file.url)
    endless = file.is_radio or not file.ends
    if config.endless == "yes" or (config.endless == "auto" and endless):
        return _open_radio(config, web, file)
    return _opened(config, web, _connect_file(config, web, file))


def check_audio(web: Web, head: bytes, url: str) -> None:
    """Check that the beginning of a body may be audio.

    Raises:
        SourceError: the body is empty, a web page, a playlist of addresses, or other text.

    """
    if not head:
        raise web.error("is empty (0 bytes)", "check the address")
    if kind := packed(head):
        raise web.error(f"is compressed with {kind}", "fetch and unpack it, and name the file")
    if others := other_addresses(head, url):
        remedy = f"name one of them, for example {shown(others[0])}"
        raise web.error("is a playlist of other addresses", remedy)
    if is_text(head):
        text = head.lower()
        what = "a web page" if b"<html" in text or b"<!doctype" in text else "text"
        raise web.error(f"is {what}, not audio", "give the address of the audio itself")


def _connect_file(config: InputConfig, web: Web, file: RemoteFile) -> Connection:
    decoder = Decoder(
        file, web.subject, web.warn, contents=file.contents(), carrier=file, track=config.track
    )
    return Connection(
        decoder.channels, decoder.description, decoder.blocks(), math.inf, decoder.close
    )


def _open_hls(config: InputConfig, web: Web, file: RemoteFile) -> Opened:
    body = b""
    while data := file.read(PLAYLIST_BYTES):
        body += data
        if len(body) > PLAYLIST_BYTES:
            raise web.error(
                f"is a playlist of more than {PLAYLIST_BYTES / 1e6:.0f} MB", "check the address"
            )
    if file.failure is not None:
        raise file.failure
    url, text, track = find_playlist(web, file.url, text_of(body), config.track)
    played: deque[str] = deque(maxlen=REMEMBERED)
    connection = connect_hls(web, url, text, played, track)

    def dial() -> Connection:
        text = text_of(web.fetch(url, PLAYLIST_BYTES)[1])
        return connect_hls(web, url, text, played, track)

    over = parse(text, url).over
    return _opened(config, web, connection, None if over else dial)


def find_playlist(web: Web, url: str, text: str, track: int = 0) -> tuple[str, str, int]:
    """Return address and text of the media playlist to play, and the track to hear in it.

    Raises:
        SourceError: it cannot be fetched, is nested too deep, or is neither http nor https.

    """
    for _ in range(3):
        best = best_of(text, url, track)
        if best is None:
            return url, text, track
        where, renditions = best
        if len(renditions) > 1:
            left = "; ".join(one.name for one in renditions[1:])
            web.remark(f"{renditions[0].name} is heard. Left out: {left}. --track N chooses")
            track = 0
        answer, body = web.fetch(where, PLAYLIST_BYTES)
        url, text = str(answer.url), text_of(body)
    raise web.error("is a playlist of too many playlists", "name one of them")


def _open_radio(config: InputConfig, web: Web, file: RemoteFile) -> Opened:
    def connect(file: RemoteFile) -> Connection:
        check_audio(web, file.head, file.url)
        sure = file.is_radio or config.endless == "yes"
        return connect_radio(web, file, sure=sure, track=config.track)

    return _opened(config, web, connect(file), lambda: connect(RemoteFile(web, config.what, {})))


def connect_radio(web: Web, file: RemoteFile, *, sure: bool, track: int = 0) -> Connection:
    """Connect to internet radio.

    Args:
        web: HTTP requests and settings of the input.
        file: the server's answer.
        sure: whether it is known to be radio; else it may be a file of unknown length.
        track: see `Decoder`.

    Raises:
        SourceError: the content is not audio.

    """
    how: dict[str, Any] = {"options": NO_PROTOCOLS | _QUICK}
    if kind := _format_of(file.head, file.headers.get("content-type", "")):
        how["format"] = kind
    file.deadline = time.monotonic() + web.settings.stall_s
    try:
        decoder = Decoder(
            file, web.subject, web.warn, how=how, carrier=file, track=track, endless=True
        )
    except SourceError:
        file.close()
        raise
    file.deadline = math.inf

    def close() -> None:
        decoder.close()
        file.close()

    return Connection(
        decoder.channels,
        decoder.description,
        _radio_blocks(decoder, file, web, sure=sure),
        web.settings.stall_s,
        close,
        file.cancelled.set,
    )


def _radio_blocks(decoder: Decoder, file: RemoteFile, web: Web, *, sure: bool) -> Iterator[Block]:
    """Yield the audio. If it arrived at twice real time or faster, it was a file.

    Raises:
        SourceError: the connection failed, or the audio ended and was not a file.

    """
    begun, given_s = time.monotonic(), 0.0
    for block in decoder.blocks():
        given_s += len(block.samples) / block.rate
        yield block
        ahead_s = given_s - (time.monotonic() - begun)
        if not sure and ahead_s > _LEAD_S and file.cancelled.wait(ahead_s - _LEAD_S):
            return
    if sure or given_s < 2 * (time.monotonic() - begun):
        raise SourceError(web.subject, "the server ended the stream")


def connect_rtsp(web: Web, url: str, track: int = 0) -> Connection:
    """Connect to the audio of a camera, conference bridge or broadcaster.

    Raises:
        SourceError: the server cannot be reached, or sends no audio.

    """
    settings = web.settings
    trusted = ssl.get_default_verify_paths()
    options = {
        "protocol_whitelist": _RTSP_PROTOCOLS,
        "rtsp_transport": settings.rtsp_transport,
        "allowed_media_types": "audio",
        "timeout": str(round(1e6 * settings.stall_s)),
        # without this FFmpeg accepts any certificate
        "tls_verify": "1",
        "ca_file": trusted.cafile or "/etc/ssl/certs/ca-certificates.crt",
    }
    patience = (settings.connect_s, settings.stall_s)
    how: dict[str, Any] = {"format": "rtsp", "options": options, "timeout": patience}
    try:
        decoder = Decoder(url, web.subject, web.warn, how=how, track=track, endless=True)
    except SourceError as error:
        remedy = "check the address, user and password, and whether it is on the air"
        raise SourceError(web.subject, error.reason, remedy) from error

    def blocks() -> Iterator[Block]:
        given_s = 0.0
        for block in decoder.blocks():
            yield block
            given_s += block.length_s
        if not 0 < decoder.duration_s <= given_s + 1:  # else a recording at its end
            raise SourceError(web.subject, "the server ended the session")

    description = f"RTSP, {decoder.description}"
    return Connection(decoder.channels, description, blocks(), settings.stall_s, decoder.close)


def _opened(
    config: InputConfig,
    web: Web,
    connection: Connection,
    dial: Callable[[], Connection] | None = None,
) -> Opened:
    """Return the source of a connection: live if `dial` can reconnect it, else a file."""
    blocks = _file_blocks(connection, web) if dial is None else Live(web, connection, dial).blocks()

    def close() -> None:
        web.stop.set()
        if dial is None:  # else the reading thread closes the connection
            connection.close()
            web.close()

    return Opened(
        channels=1 if config.channels == "mix" else connection.channels,
        live=dial is not None,
        description=f"{web.subject}: {connection.description}",
        start_unix_s=unix_time(),
        audio=condition(blocks, config.channels, web.subject, web.warn),
        closing=close,
        interrupting=web.stop.set,
        repeatable=dial is None,
    )


def _file_blocks(connection: Connection, web: Web) -> Iterator[Block]:
    """Yield the blocks; an HTTP error also names the position.

    Raises:
        SourceError: the audio breaks off.

    """
    given_s = 0.0
    try:
        for block in connection.blocks:
            yield block
            given_s += block.length_s
    except HttpError as error:
        raise web.error(f"breaks off at {given_s:.2f} s: {error.reason}", error.remedy) from error


def _format_of(head: bytes, content_type: str) -> str:
    """Return FFmpeg's name of the format; empty if FFmpeg must detect it.

    In a broadcast that begins amid a frame, FFmpeg's detection needs 128 kB: 16 s at 64 kbit/s.
    The type that a server declares counts only if the bytes do not contradict it.
    """
    if is_adts(head):
        return "aac"
    kind = content_type.partition(";")[0].strip().lower()
    return "mp3" if kind in ("audio/mpeg", "audio/mp3") and not head.startswith(_MAGIC) else ""
