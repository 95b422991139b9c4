"""HLS: the decoder reads the playlist, we fetch what it names, by http and https alone.

A finished broadcast is a file; one that goes on is live. Of a master playlist (RFC 8216, 4.3.4)
we choose what to play; a media playlist (4.3.3) is up to the decoder.
"""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.address import WEB, check_address, join
from abhinaya.stream.sources.decode import Decoder
from abhinaya.stream.sources.live import Connection
from abhinaya.stream.sources.web import HttpError, Web

PLAYLIST_BYTES: Final = 1 << 22
_SEGMENT_BYTES: Final = 1 << 26
REMEMBERED: Final = 512
_ATTRIBUTE: Final = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')
_URI: Final = re.compile(r'^#EXT-X-(?:KEY|MAP):.*?URI="([^"]*)"', re.MULTILINE)
_AUDIO_ONLY: Final = re.compile(r"(mp4a|ac-3|ec-3|opus|flac|mp3)", re.IGNORECASE)


def connect_hls(web: Web, url: str, text: str, played: deque[str]) -> Connection:
    """Begin to play a media playlist.

    Args:
        web: of the input.
        url: of the playlist.
        text: of the playlist, as it was just now.
        played: addresses of the parts that were fetched, by earlier connections too; added to.

    Raises:
        SourceError: it holds no audio, nothing new, or cannot be fetched.

    """
    finished = is_over(text)
    options = {
        "protocol_whitelist": "http,https",
        # the names of the parts do not matter: only our fetcher opens them
        "allowed_extensions": "ALL",
        "extension_picky": "0",
        "http_persistent": "0",
    }
    check_parts(text, url)
    parts = parts_of(text, url)
    begin = max((i + 1 for i, part in enumerate(parts) if part in played), default=0)
    if begin and not finished:
        if begin == len(parts):
            raise SourceError(web.subject, "has nothing new yet")
        options["live_start_index"] = str(begin)
    fetcher = _Fetcher(web, url, text, played)
    how: dict[str, Any] = {"format": "hls", "options": options, "io_open": fetcher}
    silent_s = web.settings.stall_s + 3 * target_s(text)
    if not finished:
        how["timeout"] = (2 * silent_s, None)  # else FFmpeg waits for a playable part for ever
    # parts that follow each other may begin their time stamps anew
    decoder = Decoder(url, web.subject, web.warn, how=how, holes=not finished, carrier=fetcher)
    return Connection(
        decoder.channels,
        f"HLS, {decoder.description}",
        decoder.blocks(),
        silent_s,
        decoder.close,
        fetcher.cancel,
    )


class _Fetcher:
    """Fetches what a playlist names, whole, and tries again for a while.

    After a failure all it returns is empty: an exception would go through FFmpeg, which drops some.
    """

    def __init__(self, web: Web, playlist: str, text: str, played: deque[str]) -> None:
        self.failure: SourceError | None = None
        self._web = web
        self._playlist = playlist
        self._text = text
        self._finished = is_over(text)
        self._played = played
        self._cancelled = False

    def __call__(self, url: str, flags: int, options: Mapping[str, str]) -> io.BytesIO:
        """Return what the decoder asks for; `options` may name a range of it."""
        if self.failure is None:
            try:
                return io.BytesIO(self._fetch(url, options))
            except SourceError as error:
                gone = isinstance(error, HttpError) and not error.transient
                if self._finished or url == self._playlist or not gone:
                    self.failure = error
                # else a part of a live stream is gone: a hole, which its time stamps show
        return io.BytesIO(b"")

    def cancel(self) -> None:
        """Fetch nothing more."""
        self._cancelled = True

    def _fetch(self, url: str, options: Mapping[str, str]) -> bytes:
        if url == self._playlist and self._text:
            text, self._text = self._text, ""
            return text.encode()
        if url.startswith("crypto"):
            raise SourceError(self._web.subject, "is encrypted", "name a stream that is not")
        headers = {}
        if (end := int(options.get("end_offset", "0"))) > 0:
            headers["range"] = f"bytes={options.get('offset', '0')}-{end - 1}"
        limit = PLAYLIST_BYTES if url == self._playlist else _SEGMENT_BYTES

        def attempt() -> bytes:
            data = b"" if self._cancelled else self._web.fetch(url, limit, headers)[1]
            if self._cancelled:
                raise self._web.error("was interrupted")
            return data

        data = self._web.patiently(attempt, None if self._finished else self._web.settings.stall_s)
        if url == self._playlist:
            check_parts(data.decode("utf-8", "replace"), url)
        else:
            self._played.append(url)
        return data


def find_playlist(web: Web, url: str, text: str) -> tuple[str, str]:
    """Return address and text of the media playlist that a playlist is or leads to.

    Raises:
        SourceError: it cannot be fetched, leads on and on, or to an address of another protocol.

    """
    for _ in range(3):
        best = best_of(text, url)
        if best is None:
            return url, text
        answer, body = web.fetch(best, PLAYLIST_BYTES)
        url, text = str(answer.url), body.decode("utf-8", "replace")
    raise web.error("is a playlist of too many playlists", "name one of them")


def is_playlist(head: bytes) -> bool:
    """Whether a file that begins so is an HLS playlist."""
    return head.lstrip(b"\xef\xbb\xbf").startswith(b"#EXTM3U") and b"#EXT-X-" in head


def best_of(text: str, url: str) -> str | None:
    """Return the address of the playlist to play; None if this is a media playlist itself.

    A rendition of sound alone is best, else the variant of the lowest bandwidth: the same sound
    comes with fewer pictures.
    """
    renditions: list[tuple[bool, str]] = []
    variants: list[tuple[bool, int, str]] = []
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate(lines):
        values = {k: v.strip('"') for k, v in _ATTRIBUTE.findall(line.partition(":")[2])}
        if line.startswith("#EXT-X-MEDIA:"):
            if values.get("TYPE") == "AUDIO" and "URI" in values:
                renditions.append((values.get("DEFAULT") != "YES", values["URI"]))
        elif line.startswith("#EXT-X-STREAM-INF:"):
            target = next((x for x in lines[number + 1 :] if x and not x.startswith("#")), "")
            if target:
                codecs = values.get("CODECS", "").split(",")
                pictures = not all(_AUDIO_ONLY.match(codec.strip()) for codec in codecs)
                width = values.get("BANDWIDTH", "")
                variants.append((pictures, int(width) if width.isdecimal() else 0, target))
    if renditions:
        return join(url, min(renditions)[1])
    return join(url, min(variants)[2]) if variants else None


def target_s(text: str) -> float:
    """Return the longest seconds of one part; 10 if the playlist does not say."""
    found = re.search(r"^#EXT-X-TARGETDURATION:\s*(\d{1,4})", text, re.MULTILINE)
    return float(found[1]) if found else 10.0


def is_over(text: str) -> bool:
    """Whether nothing will be added."""
    return "#EXT-X-ENDLIST" in text


def check_parts(text: str, url: str) -> None:
    """Refuse a media playlist that names what is not fetched; FFmpeg would look for more for ever.

    Raises:
        SourceError: an address of another protocol, or without a host.

    """
    for target in parts_of(text, url) + [join(url, uri) for uri in _URI.findall(text)]:
        check_address(target, WEB)


def parts_of(text: str, url: str) -> list[str]:
    """Return the addresses of the parts of a media playlist."""
    lines = (line.strip() for line in text.splitlines())
    return [join(url, line) for line in lines if line and not line.startswith("#")]
