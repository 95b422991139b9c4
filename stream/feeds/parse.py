"""Parse a feed (RSS or Atom) into its episodes. Pure.

feedparser reads the formats and their common errors; this module limits and checks its result.
"""

from __future__ import annotations

import calendar
import hashlib
import io
import mimetypes
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from typing import Any, Final

from abhinaya.models.text import one_line
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.address import (
    WEB,
    host_of,
    join,
    path_of,
    scheme_of,
    shown,
    without_credentials,
)

MOST_EPISODES: Final = 20_000
_TITLE: Final = 80
_KINDS: Final = ("audio", "unknown", "video")
"""What an enclosure may be, the best first."""
_TAG: Final = re.compile(
    r"</?(a|b|br|div|em|font|hr|i|img|p|s|small|span|strong|sub|sup|u)\b[^<]*>", re.I
)
_REPORT: Final = "report it to the publisher"
_LOOK_BYTES: Final = 1 << 16
_FEED_OF_PAGE: Final = re.compile(rb"<link[^>]*application/(?:rss|atom)\+xml[^>]*>", re.I)
_END: Final = re.compile(rb"</(?:\w+:)?(?:rss|feed|rdf)\s*>", re.I)
_ENTRY: Final = re.compile(rb"<(/?)(?:\w+:)?(?:item|entry)[\s>]", re.I)
_HREF: Final = re.compile(rb"href\s*=\s*[\"']([^\"']+)", re.I)


@dataclass(frozen=True, slots=True)
class Episode:
    """One entry of a feed that has audio."""

    guid: str
    """Identifier from the feed; the address of the audio if the feed has none."""
    url: str
    """Address of the audio."""
    title: str
    stream: str
    """Name of the stream: feed and title; unique in the feed."""
    published_unix_s: float | None
    shared_guid: bool = False
    """Whether other episodes of the feed have the same guid."""

    @property
    def key(self) -> str:
        """Name of the episode's file: 16 hexadecimal digits."""
        return hashlib.sha256(f"{self.guid}\n{self.url}".encode()).hexdigest()[:16]


def unpacked(data: bytes, limit: int, subject: str) -> bytes:
    """Return a feed that its server stores as gzip, unpacked; other data as it is.

    Raises:
        SourceError: it is damaged, or longer than `limit`.

    """
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        reader = zlib.decompressobj(wbits=31)
        found = reader.decompress(data, limit + 1)
    except zlib.error as error:
        raise SourceError(subject, f"is damaged gzip ({error})", _REPORT) from error
    if len(found) > limit:
        reason = f"is longer than {limit / 1e6:g} MB when unpacked"
        raise SourceError(subject, reason, "raise feeds.max_feed_mb if it is right")
    if not reader.eof:
        raise SourceError(subject, "is cut-off gzip", _REPORT)
    return found


def parse_feed(
    data: bytes,
    url: str,
    subject: str,
    charset: str = "",
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[Episode, ...]:
    """Return the episodes of a feed, the newest first.

    Of a feed that is cut off, the last entry is left out if it is not whole: it may lack a part of
    its identifier.

    Args:
        data: the feed.
        url: its address, which relative addresses in it build on.
        subject: name of the feed in errors.
        charset: encoding that the server states; empty: what the feed itself states.
        warn: receives what is wrong with a feed that is read all the same.

    Raises:
        SourceError: it is not a feed, is damaged, has no audio, or declares XML entities.

    """
    import feedparser  # slow to load, and only needed for feeds
    from feedparser.encodings import convert_to_utf8

    if not data.strip():
        raise SourceError(subject, "is empty", "check the address")
    stated = {"content-type": f"application/xml; charset={charset}"} if charset else {}
    try:
        data = convert_to_utf8(stated, data, {})
        if b"<!ENTITY" in data.upper():
            raise SourceError(subject, "declares XML entities; a feed needs none", "is it a feed?")
        found = feedparser.parse(io.BytesIO(data), sanitize_html=False, resolve_relative_uris=False)
    except SourceError:
        raise
    except Exception as error:  # on damaged data its decoders may raise anything
        raise SourceError(
            subject, f"is damaged ({type(error).__name__}: {error})", _REPORT
        ) from error
    if not found.version:
        page = b"<html" in data[:4096].lower()
        what = "is a web page, not a feed" if page else "is not a feed (neither RSS nor Atom)"
        named = _FEED_OF_PAGE.search(data[:_LOOK_BYTES]) if page else None
        href = _HREF.search(named[0]) if named else None
        its = shown(join(url, href[1].decode("utf-8", "replace"))) if href else ""
        remedy = f"is its feed {its}?" if its else "give the address of the feed itself"
        raise SourceError(subject, what, remedy)
    title = _title(found.feed, found.version) or host_of(url)
    entries = found.entries
    if not _END.search(data, max(0, len(data) - _LOOK_BYTES)):
        tags = _ENTRY.findall(data)
        left = " and its last entry is left out" if tags and not tags[-1] else ""
        entries = entries[:-1] if left else entries
        warn(f"is cut off: its end is missing{left}")
    episodes = list(_episodes(entries[:MOST_EPISODES], title, url, found.version))
    if not episodes:
        raise SourceError(
            subject, f"has no sound in its {len(found.entries)} entries", "is it a podcast?"
        )
    return tuple(_newest_first(_made_unique(episodes)))


def _episodes(entries: list[Any], feed: str, base: str, version: str) -> Iterator[Episode]:
    for entry in entries:
        url = _sound(entry, without_credentials(base))
        if not url:
            continue
        # dict.get, because feedparser's `get` replaces a missing date by the other, with a warning
        moment = dict.get(entry, "published_parsed") or dict.get(entry, "updated_parsed")
        title = _title(entry, version) or "untitled"
        yield Episode(
            guid=str(entry.get("id") or "").strip()[:2000] or shown(url),
            url=url,
            title=title,
            stream=f"{feed}: {title}",
            published_unix_s=float(calendar.timegm(moment)) if moment else None,
        )


def _sound(entry: Any, base: str) -> str:
    """Return the address of an entry's sound, rather than of its video; empty if it has none."""
    found: dict[str, str] = {}
    for part in (*entry.get("enclosures", ()), *entry.get("media_content", ())):
        address = str(part.get("href") or part.get("url") or "").strip()
        url = join(base, address)
        kind = _kind(str(part.get("type") or "").lower(), path_of(url)) if address else ""
        if kind and scheme_of(url) in WEB and host_of(url) and len(url) < 8000:
            found.setdefault(kind, url)
    return next((found[kind] for kind in _KINDS if kind in found), "")


def _kind(declared: str, path: str) -> str:
    """Return `audio`, `video` or `unknown`; empty for what is neither."""
    if declared == "application/ogg":
        return "audio"
    kinds = (declared, mimetypes.guess_type(path)[0] or "")
    for kind in kinds:
        if (top := kind.partition("/")[0]) in ("audio", "video"):
            return top
    return "unknown" if {*kinds} <= {"", "application/octet-stream"} else ""


def _made_unique(episodes: list[Episode]) -> list[Episode]:
    """Drop duplicates, mark shared guids, and make equal names different."""
    unique = list({(e.guid, e.url): e for e in reversed(episodes)}.values())[::-1]
    guids = Counter(e.guid for e in unique)
    names = Counter(e.stream for e in unique)
    return [
        replace(
            e,
            shared_guid=guids[e.guid] > 1,
            stream=e.stream if names[e.stream] == 1 else f"{e.stream} [{e.key[:6]}]",
        )
        for e in unique
    ]


def _newest_first(episodes: list[Episode]) -> list[Episode]:
    """Sort by date; keep the feed's order if an episode has no date."""
    if any(e.published_unix_s is None for e in episodes):
        return episodes
    return sorted(episodes, key=lambda e: -(e.published_unix_s or 0.0))


def _title(found: Any, version: str) -> str:
    """Return a title as one short line of plain text; empty without a title."""
    title = found.get("title_detail") or {}
    text, kind = str(title.get("value") or ""), title.get("type")
    # RSS does not say what a title is: feedparser guesses, and overlooks a lone tag
    loose = not version.startswith("atom") and _TAG.search(text)
    if loose or kind in ("text/html", "application/xhtml+xml"):
        text = _Plain.of(text)
    text = one_line(text) or one_line(str(found.get("itunes_title") or ""))
    text = text.replace("/", "-")  # a slash would look like a channel
    return text if len(text) <= _TITLE else text[: _TITLE - 1].rstrip() + "…"


class _Plain(HTMLParser):
    """Reads the text of HTML; it decodes entities once."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._hidden = ""

    @classmethod
    def of(cls, html: str) -> str:
        """Return the text."""
        reader = cls()
        reader.feed(html)
        reader.close()
        return "".join(reader._parts)

    def handle_data(self, data: str) -> None:
        """Keep text, but not that of scripts and styles."""
        if not self._hidden:
            self._parts.append(data)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Separate what stands on lines of its own."""
        if tag in ("br", "p", "div", "li", "hr"):
            self._parts.append(" ")
        if tag in ("script", "style"):
            self._hidden = tag

    def handle_endtag(self, tag: str) -> None:
        """Note the end of a script or style."""
        if tag == self._hidden:
            self._hidden = ""
