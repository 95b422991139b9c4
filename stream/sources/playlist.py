"""Playlists as text: HLS (RFC 8216, 4.3), and the plain ones of radio stations. Pure functions."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.address import WEB, check_address, join, shown, with_credentials

_LINE_END: Final = re.compile(r"[\r\n]+")
"""A title may hold the further separators of `splitlines`."""
_ATTRIBUTE: Final = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')
_AUDIO_ONLY: Final = re.compile(r"(mp4a|ac-3|ec-3|opus|flac|mp3)", re.IGNORECASE)
_OTHERS: Final = re.compile(
    r"""^File\d+\s*=\s*(\S+)|<location>\s*([^<]+?)\s*</location>|<ref\s+href\s*=\s*["']([^"']+)""",
    re.MULTILINE | re.IGNORECASE,
)
ROUNDED_S: Final = 0.6
"""Inaccuracy of the length of a part in whole seconds."""
_AGREEING: Final = 0.2
"""Share of a loss by which the playlist and the time stamps may differ."""
_TARGET_S: Final = 10.0
"""Length of a part if the playlist declares none."""

Range = tuple[int, int]
"""Bytes of a file: first, and after the last."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Audio of a broadcast that is missing."""

    length_s: float = 0.0
    reason: str = ""

    def __add__(self, other: Loss) -> Loss:
        return Loss(self.length_s + other.length_s, self.reason or other.reason)

    def by_stamps(self, seconds: float) -> Loss:
        """Return it with its length by the time stamps, if they agree with the playlist."""
        differ_s = abs(seconds - self.length_s)
        agree = self.length_s and differ_s <= ROUNDED_S + _AGREEING * self.length_s
        return Loss(seconds, self.reason) if agree else self


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a broadcast."""

    url: str
    number: int
    """Media sequence number."""
    length_s: float
    span: Range | None = None
    header: tuple[str, Range | None] | None = None
    """Address and bytes of the header that the part needs (EXT-X-MAP)."""
    joined: bool = True
    """Whether it continues the part before it, with the same codec and clock."""
    absent: bool = False
    """Whether the playlist says that it is missing (EXT-X-GAP)."""

    @property
    def key(self) -> str:
        """What tells the part from others of the playlist."""
        return f"{self.url} {self.span}"


@dataclass(frozen=True, slots=True)
class Playlist:
    """A media playlist."""

    parts: tuple[Part, ...]
    target_s: float
    """Longest length of a part."""
    over: bool
    """Whether no part will be added."""
    encrypted: bool = False
    rounded: bool = False
    """Whether the lengths are whole seconds."""


@dataclass(frozen=True, slots=True)
class Rendition:
    """An alternative of the sound in a master playlist."""

    name: str
    url: str
    """Empty if it is in the variants."""
    default: bool = False
    described: bool = False
    """Whether it describes the picture."""


def text_of(data: bytes) -> str:
    """Return the text of a playlist in any usual encoding; it may be cut in a character."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if data[1:2] == b"\0" or data[:1] == b"\0":
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", "replace")
    text = data.decode("utf-8-sig", "replace")
    return data.decode("latin-1") if "\N{REPLACEMENT CHARACTER}" in text[:-4] else text


def is_playlist(head: bytes) -> bool:
    """Return whether a file with this beginning is an HLS playlist."""
    text = text_of(head)
    return "\0" not in text and any(line.startswith("#EXT-X-") for line in _lines(text))


def other_addresses(head: bytes, url: str) -> list[str]:
    """Return the addresses in a playlist of a radio station: m3u, pls, xspf or asx."""
    text = text_of(head)
    if "\0" in text:
        return []
    found = [next(filter(None, groups)) for groups in _OTHERS.findall(text)]
    lines = list(_lines(text))
    listed = [line for line in lines if not line.startswith(("#", "["))]
    if not found and (lines[:1] == ["#EXTM3U"] or all("://" in line for line in listed)):
        found = listed
    return [join(url, html.unescape(target)) for target in found]


def parse(text: str, url: str) -> Playlist:
    """Return a media playlist.

    Raises:
        SourceError: an address is neither http nor https, or has no host.

    """
    parts: list[Part] = []
    number, length_s, target_s, joined, absent, encrypted = 0, 0.0, _TARGET_S, True, False, False
    span: str | None = None
    header: tuple[str, Range | None] | None = None
    rounded = True
    for line in _lines(text):
        tag, _, value = line.partition(":")
        if not line.startswith("#"):
            begin = parts[-1].span if parts and parts[-1].url == join(url, line) else None
            found = _range(span, begin[1] if begin else 0) if span else None
            part = Part(
                _checked(url, line), number, length_s or target_s, found, header, joined, absent
            )
            parts.append(part)
            number, length_s, joined, absent, span = number + 1, 0.0, True, False, None
        elif tag == "#EXTINF":
            length = value.partition(",")[0].strip()
            length_s = _seconds(length)
            rounded &= "." not in length
        elif tag == "#EXT-X-TARGETDURATION":
            target_s = _seconds(value)
        elif tag == "#EXT-X-MEDIA-SEQUENCE":
            number = int(_seconds(value))
        elif tag == "#EXT-X-BYTERANGE":
            span = value
        elif tag == "#EXT-X-DISCONTINUITY":
            joined = False
        elif tag == "#EXT-X-GAP":
            absent = True
        elif tag == "#EXT-X-MAP":
            values = _attributes(value)
            where = _checked(url, values.get("URI", ""))
            header = where, _range(values["BYTERANGE"], 0) if "BYTERANGE" in values else None
        elif tag == "#EXT-X-KEY":
            values = _attributes(value)
            encrypted |= values.get("METHOD", "NONE") != "NONE"
            if "URI" in values:
                _checked(url, values["URI"])
    over = any(line == "#EXT-X-ENDLIST" for line in _lines(text))
    return Playlist(tuple(parts), target_s, over, encrypted, rounded)


def best_of(text: str, url: str, track: int = 0) -> tuple[str, list[Rendition]] | None:
    """Return the address of the best media playlist, and the alternatives of the sound.

    None if this is a media playlist itself. A rendition is best: the default, or number `track`.
    Else it is the variant of the lowest bandwidth, which has the same audio with less video.
    """
    renditions: dict[str, Rendition] = {}
    variants: list[tuple[bool, int, str]] = []
    lines = list(_lines(text))
    for number, line in enumerate(lines):
        values = _attributes(line.partition(":")[2])
        if line.startswith("#EXT-X-MEDIA:") and values.get("TYPE") == "AUDIO":
            name = ", ".join(filter(None, (values.get("NAME"), values.get("LANGUAGE"))))
            described = "describes-video" in values.get("CHARACTERISTICS", "")
            default = values.get("DEFAULT") == "YES"
            where = values.get("URI", "")
            renditions.setdefault(name, Rendition(name, where, default, described))
        elif line.startswith("#EXT-X-STREAM-INF:"):
            target = next((x for x in lines[number + 1 :] if not x.startswith("#")), "")
            if target:
                codecs = values.get("CODECS", "").split(",")
                video = not all(_AUDIO_ONLY.match(codec.strip()) for codec in codecs)
                width = values.get("BANDWIDTH", "")
                variants.append((video, int(width) if width.isdecimal() else 0, target))
    listed = list(renditions.values())
    if track > len(listed) > 1:
        names = "; ".join(f"{n}: {one.name}" for n, one in enumerate(listed, 1))
        raise SourceError(
            url.partition("?")[0], f"has {len(listed)} sounds, not {track}", f"choose from {names}"
        )
    order = sorted(listed, key=lambda one: (not one.default, one.described))
    if track and len(listed) > 1:
        order = [listed[track - 1]]
    if order and (order[0].url or not variants):
        return join(url, order[0].url), [order[0], *(one for one in listed if one != order[0])]
    if variants:
        return join(url, min(variants)[2]), order
    return None


def _lines(text: str) -> Iterator[str]:
    """Yield the lines that are not empty, without spaces around them."""
    return (
        line for line in (line.strip(" \t\r\n\ufeff") for line in _LINE_END.split(text)) if line
    )


def _attributes(text: str) -> dict[str, str]:
    return {key: value.strip('"') for key, value in _ATTRIBUTE.findall(text)}


def _seconds(text: str) -> float:
    """Return a number of a playlist; 0 if it is not one, or impossible."""
    found = re.match(r"\s*(\d{1,15}(?:\.\d*)?)", text)
    return float(found[1]) if found else 0.0


def _range(text: str, begin: int) -> Range | None:
    """Return the bytes of `LENGTH@BEGIN`; without a begin they follow the part before."""
    found = re.fullmatch(r'"?(\d{1,15})(?:@(\d{1,15}))?"?', text.strip())
    if found is None:
        return None
    begin = int(found[2]) if found[2] else begin
    return begin, begin + int(found[1])


def _checked(base: str, target: str) -> str:
    url = join(base, target)
    try:
        check_address(url, WEB)
    except SourceError as error:
        reason = f"names {shown(url)}, which {error.reason}"
        raise SourceError(shown(base), reason, "name another playlist") from error
    return with_credentials(url, base)
