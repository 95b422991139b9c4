"""Parse a feed (RSS or Atom) into its episodes. Pure.

feedparser reads the formats and their common errors; this module limits and checks its result.
"""

from __future__ import annotations

import calendar
import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from abhinaya.models.text import one_line
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.address import WEB, host_of, join, scheme_of, shown

MOST_EPISODES: Final = 20_000
_TITLE: Final = 80
_KINDS: Final = ("audio", "video", "application/ogg", "application/octet-stream")
"""Beginnings of the media types that an enclosure with audio may declare."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One entry of a feed that has audio."""

    guid: str
    """Identifier from the feed; the address of the audio if the feed has none."""
    url: str
    """Address of the audio."""
    stream: str
    """Name of the stream: feed and episode; unique in the feed."""
    published_unix_s: float | None
    shared_guid: bool = False
    """Whether other episodes of the feed have the same guid."""

    @property
    def key(self) -> str:
        """Name of the episode's file: 16 hexadecimal digits."""
        return hashlib.sha256(f"{self.guid}\n{self.url}".encode()).hexdigest()[:16]


def parse_feed(data: bytes, url: str, subject: str) -> tuple[Episode, ...]:
    """Return the episodes of the feed at `url`, the newest first; errors are about `subject`.

    Raises:
        SourceError: it is not a feed, is damaged, has no audio, or declares XML entities.

    """
    import feedparser  # slow to load, and only needed for feeds

    if b"<!ENTITY" in data.upper():
        raise SourceError(subject, "declares XML entities; a feed needs none", "is it a feed?")
    if not data.strip():
        raise SourceError(subject, "is empty", "check the address")
    try:
        found = feedparser.parse(io.BytesIO(data), sanitize_html=False, resolve_relative_uris=False)
    except Exception as error:  # on damaged data its decoders may raise anything
        raise SourceError(
            subject, f"is damaged ({type(error).__name__}: {error})", "report it to the publisher"
        ) from error
    if not found.version:
        page = b"<html" in data[:4096].lower()
        what = "is a web page, not a feed" if page else "is not a feed (neither RSS nor Atom)"
        raise SourceError(subject, what, "give the address of the feed itself")
    title = _clean(found.feed.get("title", ""), "") or host_of(url)
    episodes = list(_episodes(found.entries[:MOST_EPISODES], title, url))
    if not episodes:
        raise SourceError(
            subject, f"has no sound in its {len(found.entries)} entries", "is it a podcast?"
        )
    return tuple(_newest_first(_made_unique(episodes)))


def _episodes(entries: list[Any], feed: str, base: str) -> Iterator[Episode]:
    for entry in entries:
        url = next(_sounds(entry, base), None)
        if url is None:
            continue
        # dict.get, because feedparser's `get` replaces a missing date by the other, with a warning
        moment = dict.get(entry, "published_parsed") or dict.get(entry, "updated_parsed")
        title = _clean(entry.get("title", ""), "untitled")
        yield Episode(
            guid=str(entry.get("id") or "").strip()[:2000] or shown(url),
            url=url,
            stream=f"{feed}: {title}",
            published_unix_s=float(calendar.timegm(moment)) if moment else None,
        )


def _sounds(entry: Any, base: str) -> Iterator[str]:
    for part in (*entry.get("enclosures", ()), *entry.get("media_content", ())):
        address = str(part.get("href") or part.get("url") or "").strip()
        kind = str(part.get("type") or "").lower()
        if not address or (kind and not kind.startswith(_KINDS)):
            continue
        url = join(base, address)
        if scheme_of(url) in WEB and host_of(url) and len(url) < 8000:
            yield url


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


def _clean(title: Any, otherwise: str) -> str:
    """Return a title as one short printable line; `otherwise` if it is empty."""
    text = one_line(str(title)).replace("/", "-")
    return (text if len(text) <= _TITLE else text[: _TITLE - 1].rstrip() + "…") or otherwise
