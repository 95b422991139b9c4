"""Addresses of inputs: checks, and a form that is safe to print and log."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from abhinaya.models.text import clean, encodable, one_line
from abhinaya.stream.errors import SourceError

WEB: Final = ("http", "https")
RTSP: Final = ("rtsp", "rtsps")
_ALL: Final = WEB + RTSP


def is_address(what: str) -> bool:
    """Return whether an input is an address and not a path."""
    scheme, separator, _ = what.partition("://")
    return bool(separator) and scheme.isascii() and scheme.replace("+", "").isalnum()


def scheme_of(url: str) -> str:
    """Return the scheme in lower case."""
    return url.partition(":")[0].lower()


def check_address(url: str, schemes: tuple[str, ...] = _ALL) -> None:
    """Check the scheme and host of an address.

    Raises:
        SourceError: the scheme is not in `schemes`, or there is no host.

    """
    remedy = f"give an address that begins with {', '.join(f'{s}://' for s in schemes)}"
    parts = _split(url)
    if encodable(url) != url:
        raise SourceError(shown(url), "is not UTF-8", "percent-encode its special characters")
    if scheme_of(url) not in schemes:
        reason = f"uses a protocol that is not accepted ({scheme_of(url)})"
        raise SourceError(shown(url), reason, remedy)
    if parts is None:
        raise SourceError(shown(url), "is not an address: its host or port is wrong", remedy)
    if not parts.hostname:
        raise SourceError(shown(url), "is not an address: it names no host", remedy)


def shown(url: str) -> str:
    """Return an address that is safe to print and log: without user, password and query.

    It need not be valid: of `joe:secret@host/x`, where the scheme is forgotten, `…host/x` is left.
    """
    parts, rest = _split(url), re.split(r"[?#]", url)[0]
    if parts is not None and parts.netloc:
        host = parts.netloc.rpartition("@")[2]
        return clean(f"{parts.scheme}://{host}{parts.path}" + ("?…" if parts.query else ""))
    if "@" in rest:
        return clean(f"…{rest.rpartition('@')[2]}")
    return clean(f"{scheme_of(url)}://…" if is_address(url) else rest)


def has_credentials(what: str) -> bool:
    """Return whether an input names a user and a password, perhaps without a scheme."""
    return re.match(r"([\w+.-]+:/*)?[^/\s:]*:[^\s]*@", what) is not None


def with_credentials(url: str, of: str) -> str:
    """Return `url` with the user and password of `of`, if both have one origin and it has none."""
    user, at, _ = _netloc(of).rpartition("@")
    origin = origin_of(url)
    if not at or "@" in _netloc(url) or origin is None or origin != origin_of(of):
        return url
    return url.replace("//", f"//{user}@", 1)


def without_credentials(url: str) -> str:
    """Return `url` without a user and password."""
    user, at, _ = _netloc(url).rpartition("@")
    return url.replace(f"//{user}@", "//", 1) if at else url


def origin_of(url: str) -> tuple[str, str, int | None] | None:
    """Return scheme, host and port: what a password is for. None if the address is not valid."""
    if (parts := _split(url)) is None or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def name_of(url: str) -> str:
    """Return a stream name for an address: the last part of its path, or its host."""
    parts = _split(url)
    if parts is None:
        return "stream"
    last = PurePosixPath(unquote(parts.path)).name
    stem = last.rpartition(".")[0] or last
    name = one_line(stem).replace("/", "")[:80]
    return name or parts.hostname or "stream"


def host_of(url: str) -> str:
    """Return the host of an address, or an empty string."""
    parts = _split(url)
    return (parts.hostname or "") if parts else ""


def path_of(url: str) -> str:
    """Return the path of an address, or an empty string."""
    parts = _split(url)
    return parts.path if parts else ""


def join(base: str, target: str) -> str:
    """Return `target` as an absolute address; unchanged if it is not valid."""
    try:
        return urljoin(base, target)
    except ValueError:
        return target


def _netloc(url: str) -> str:
    parts = _split(url)
    return parts.netloc if parts else ""


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if the port is not a number
    except ValueError:
        return None
    return parts
