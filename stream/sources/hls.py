"""HLS: FFmpeg reads the media playlist (RFC 8216, 4.3.3); we fetch its parts by http or https.

A finished broadcast is a file, an unfinished one is live. Of a master playlist (4.3.4) we choose
the media playlist.
"""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.address import WEB, check_address, join
from abhinaya.stream.sources.live import Connection
from abhinaya.stream.sources.media.decode import Decoder
from abhinaya.stream.sources.web import HttpError, Web

PLAYLIST_BYTES: Final = 1 << 22
_SEGMENT_BYTES: Final = 1 << 26
REMEMBERED: Final = 512
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
"""A title may hold the further separators of `splitlines`."""
_ATTRIBUTE: Final = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')
_URI: Final = re.compile(r'^#EXT-X-(?:KEY|MAP):.*?URI="([^"]*)"', re.MULTILINE)
_AUDIO_ONLY: Final = re.compile(r"(mp4a|ac-3|ec-3|opus|flac|mp3)", re.IGNORECASE)


def connect_hls(web: Web, url: str, text: str, played: deque[str]) -> Connection:
    """Begin to play a media playlist.

    Args:
        web: HTTP requests and settings of the input.
        url: address of the playlist.
        text: content of the playlist, just fetched.
        played: addresses of the parts already fetched, on earlier connections too; extended.

    Raises:
        SourceError: the playlist has no audio or no new part, or a part cannot be fetched.

    """
    finished = is_over(text)
    options = {
        "protocol_whitelist": "http,https",
        # any file name is safe: only our fetcher opens the parts
        "allowed_extensions": "ALL",
        "extension_picky": "0",
        "http_persistent": "0",
    }
    check_parts(text, url)
    parts = parts_of(text, url)
    begin = max((i + 1 for i, part in enumerate(parts) if part in played), default=0)
    if begin and not finished:
        if begin == len(parts):
            raise SourceError(web.subject, "has no new part yet")
        options["live_start_index"] = str(begin)
    fetcher = _Fetcher(web, url, text, played)
    how: dict[str, Any] = {"format": "hls", "options": options, "io_open": fetcher}
    silent_s = web.settings.stall_s + 3 * target_s(text)
    if not finished:
        how["timeout"] = (2 * silent_s, None)  # else FFmpeg waits forever for a playable part
    # in a finished broadcast each part may restart its time stamps
    decoder = Decoder(url, web.subject, web.warn, how=how, carrier=fetcher, endless=True)
    return Connection(
        decoder.channels,
        f"HLS, {decoder.description}",
        decoder.blocks(),
        silent_s,
        decoder.close,
        fetcher.cancel,
    )


class _Fetcher:
    """Fetches the parts of a playlist whole, with retries.

    After a failure it returns empty files: FFmpeg drops some exceptions of its reader.
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
        """Return the file that the decoder requests; `options` may name a byte range."""
        if self.failure is None:
            try:
                return io.BytesIO(self._fetch(url, options))
            except SourceError as error:
                removed = isinstance(error, HttpError) and not error.transient
                if self._finished or url == self._playlist or not removed:
                    self.failure = error
                # else the server has removed a live part: the time stamps show the loss
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
    """Return address and text of the media playlist to play, from a media or master playlist.

    Raises:
        SourceError: it cannot be fetched, is nested too deep, or is neither http nor https.

    """
    for _ in range(3):
        best = best_of(text, url)
        if best is None:
            return url, text
        answer, body = web.fetch(best, PLAYLIST_BYTES)
        url, text = str(answer.url), body.decode("utf-8", "replace")
    raise web.error("is a playlist of too many playlists", "name one of them")


def is_playlist(head: bytes) -> bool:
    """Return whether a file with this beginning is an HLS playlist."""
    return head.lstrip(b"\xef\xbb\xbf").startswith(b"#EXTM3U") and b"#EXT-X-" in head


def best_of(text: str, url: str) -> str | None:
    """Return the address of the best media playlist; None if this is a media playlist itself.

    An audio-only rendition is best. Else it is the variant of the lowest bandwidth, which has the
    same audio with less video.
    """
    renditions: list[tuple[bool, str]] = []
    variants: list[tuple[bool, int, str]] = []
    lines = [line.strip() for line in _LINE_END.split(text)]
    for number, line in enumerate(lines):
        values = {k: v.strip('"') for k, v in _ATTRIBUTE.findall(line.partition(":")[2])}
        if line.startswith("#EXT-X-MEDIA:"):
            if values.get("TYPE") == "AUDIO" and "URI" in values:
                renditions.append((values.get("DEFAULT") != "YES", values["URI"]))
        elif line.startswith("#EXT-X-STREAM-INF:"):
            target = next((x for x in lines[number + 1 :] if x and not x.startswith("#")), "")
            if target:
                codecs = values.get("CODECS", "").split(",")
                video = not all(_AUDIO_ONLY.match(codec.strip()) for codec in codecs)
                width = values.get("BANDWIDTH", "")
                variants.append((video, int(width) if width.isdecimal() else 0, target))
    if renditions:
        return join(url, min(renditions)[1])
    return join(url, min(variants)[2]) if variants else None


def target_s(text: str) -> float:
    """Return the longest duration of a part in seconds; 10 if not declared."""
    found = re.search(r"^#EXT-X-TARGETDURATION:\s*(\d{1,4})", text, re.MULTILINE)
    return float(found[1]) if found else 10.0


def is_over(text: str) -> bool:
    """Return whether a playlist is finished: no part will be added."""
    return "#EXT-X-ENDLIST" in text


def check_parts(text: str, url: str) -> None:
    """Check all addresses of a media playlist; FFmpeg would reload forever for a refused part.

    Raises:
        SourceError: an address is neither http nor https, or has no host.

    """
    for target in parts_of(text, url) + [join(url, uri) for uri in _URI.findall(text)]:
        check_address(target, WEB)


def parts_of(text: str, url: str) -> list[str]:
    """Return the addresses of the parts of a media playlist."""
    lines = (line.strip() for line in _LINE_END.split(text))
    return [join(url, line) for line in lines if line and not line.startswith("#")]
