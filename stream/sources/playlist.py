"""HLS playlists, as far as one has to read them to choose the one to hear.

What is in a media playlist (RFC 8216, section 4.3.3) is for the decoder; a master playlist (4.3.4)
names several, most of them with pictures, and only one is wanted.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urljoin

_ATTRIBUTE: Final = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')
_AUDIO_ONLY: Final = re.compile(r"(mp4a|ac-3|ec-3|opus|flac|mp3)", re.IGNORECASE)


def is_playlist(head: bytes) -> bool:
    """Whether a file that begins so is an HLS playlist."""
    return head.lstrip(b"\xef\xbb\xbf").startswith(b"#EXTM3U") and b"#EXT-X-" in head


def others_in(head: bytes) -> list[str]:
    """Give the addresses that a plain playlist (.m3u, .pls) names, if it is one."""
    text = head.decode("utf-8", "replace").lstrip("\N{ZERO WIDTH NO-BREAK SPACE}")
    if not text.lower().startswith(("#extm3u", "[playlist]", "http://", "https://")):
        return []
    return re.findall(r"^(?:File\d+=)?(https?://\S+)", text, re.MULTILINE)


def best_of(text: str, url: str) -> str | None:
    """Give the address of the playlist to hear; None if this is a media playlist itself.

    A rendition of sound alone is best, else the variant of the lowest bandwidth: the same sound
    comes with fewer pictures.
    """
    renditions: list[tuple[bool, str]] = []
    variants: list[tuple[bool, int, str]] = []
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate(lines):
        if line.startswith("#EXT-X-MEDIA:"):
            values = _attributes(line)
            if values.get("TYPE") == "AUDIO" and "URI" in values:
                renditions.append((values.get("DEFAULT") != "YES", values["URI"]))
        elif line.startswith("#EXT-X-STREAM-INF:"):
            target = next((x for x in lines[number + 1 :] if x and not x.startswith("#")), "")
            if target:
                values = _attributes(line)
                codecs = values.get("CODECS", "").split(",")
                pictures = not all(_AUDIO_ONLY.match(codec.strip()) for codec in codecs)
                width = values.get("BANDWIDTH", "")
                variants.append((pictures, int(width) if width.isdecimal() else 0, target))
    if renditions:
        return urljoin(url, min(renditions)[1])
    return urljoin(url, min(variants)[2]) if variants else None


def target_s(text: str) -> float:
    """Give the longest seconds of one segment; 10 if it does not say."""
    found = re.search(r"^#EXT-X-TARGETDURATION:\s*(\d{1,4})", text, re.MULTILINE)
    return float(found.group(1)) if found else 10.0


def is_over(text: str) -> bool:
    """Whether nothing will be added."""
    return "#EXT-X-ENDLIST" in text


def parts_of(text: str, url: str) -> list[str]:
    """Give the addresses of the parts of a media playlist."""
    lines = (line.strip() for line in text.splitlines())
    return [urljoin(url, line) for line in lines if line and not line.startswith("#")]


def _attributes(line: str) -> dict[str, str]:
    return {key: value.strip('"') for key, value in _ATTRIBUTE.findall(line.partition(":")[2])}
