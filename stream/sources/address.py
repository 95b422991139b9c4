"""Addresses of inputs: which are taken, and what people and logs may see of them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from abhinaya.stream.errors import SourceError

WEB: Final = ("http", "https")
RTSP: Final = ("rtsp", "rtsps")
_KNOWN: Final = "give an http, https, rtsp or rtsps address, or a file"


def is_address(what: str) -> bool:
    """Whether an input is named by an address, not by a path."""
    scheme, separator, _ = what.partition("://")
    return bool(separator) and scheme.isascii() and scheme.replace("+", "").isalnum()


def scheme_of(url: str) -> str:
    """Give the scheme in small letters."""
    return url.partition(":")[0].lower()


def check_address(url: str, schemes: tuple[str, ...] = WEB + RTSP) -> None:
    """Refuse what cannot be asked for audio.

    Raises:
        SourceError: another protocol than `schemes`, or no host.

    """
    parts = _split(url)
    if scheme_of(url) not in schemes:
        reason = f"is of a protocol that is not taken ({scheme_of(url)})"
        remedy = _KNOWN if schemes == WEB + RTSP else f"give an {' or '.join(schemes)} address"
        raise SourceError(shown(url), reason, remedy)
    if parts is None or not parts.hostname:
        raise SourceError(shown(url), "is no address: it names no host", _KNOWN)


def shown(url: str) -> str:
    """Give an address as people and logs may see it: no user, no password, no query."""
    parts = _split(url)
    if parts is None:
        return f"{scheme_of(url)}://…"
    host = parts.netloc.rpartition("@")[2]
    text = f"{parts.scheme}://{host}{parts.path}" + ("?…" if parts.query else "")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def name_of(url: str) -> str:
    """Give what a stream from an address is called: its last part, or its host."""
    parts = _split(url)
    if parts is None:
        return "stream"
    last = PurePosixPath(unquote(parts.path)).name
    stem = last.rpartition(".")[0] or last
    name = "".join(c for c in stem if c.isprintable() and c != "/")[:80].strip()
    return name or parts.hostname or "stream"


def is_own(url: str) -> bool:
    """Whether an address is one of this machine: a proxy cannot reach it."""
    parts = _split(url)
    return parts is not None and parts.hostname in ("localhost", "127.0.0.1", "::1")


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # a port that is no number shows up only here
    except ValueError:
        return None
    return parts
