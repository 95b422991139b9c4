"""Feeds as they are, and as they should not be."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr


def item(
    number: int, url: str, guid: str | None = "", title: str = "", kind: str = "audio/ogg"
) -> str:
    """One RSS item; an empty guid is made of the number, None leaves it out."""
    name = "" if guid is None else f"<guid>{escape(guid or f'guid-{number}')}</guid>"
    return (
        f"<item><title>{escape(title or f'Episode {number}')}</title>{name}"
        f"<pubDate>Mon, {number:02d} Jan 2024 10:00:00 GMT</pubDate>"
        f"<enclosure url={quoteattr(url)} length='1' type={quoteattr(kind)}/></item>"
    )


def rss(items: Sequence[str], title: str = "Talk") -> bytes:
    inner = "".join(items)
    return (
        f"<?xml version='1.0' encoding='utf-8'?><rss version='2.0'><channel>"
        f"<title>{escape(title)}</title>{inner}</channel></rss>"
    ).encode()


def atom(urls: Sequence[str]) -> bytes:
    entries = "".join(
        f"<entry><id>tag:{i}</id><title>Part {i}</title><updated>2024-01-{i + 1:02d}T10:00:00Z"
        f"</updated><link rel='alternate' href='page{i}'/>"
        f"<link rel='enclosure' type='audio/mpeg' href={quoteattr(url)}/></entry>"
        for i, url in enumerate(urls)
    )
    return (
        "<?xml version='1.0'?><feed xmlns='http://www.w3.org/2005/Atom'><title>Atomic</title>"
        f"{entries}</feed>"
    ).encode()
