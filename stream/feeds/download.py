"""An episode's sound, from its server into a file: resumed where it was cut, and bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.address import shown
from abhinaya.stream.sources.base import Warn
from abhinaya.stream.sources.file import is_text
from abhinaya.stream.sources.ranged import Ranged, total_of
from abhinaya.stream.sources.web import Backoff, Web, WebError

_READ_BYTES: Final = 1 << 18
_LOOK_BYTES: Final = 4096
_FROM_THE_START: Final = 3
"""Tries with a server that cannot resume."""


def download(
    url: str,
    path: Path,
    limit: int,
    settings: NetworkConfig,
    warn: Warn,
    stop: threading.Event,
) -> None:
    """Fetch `url` into `path`, which is there only once it is whole.

    Args:
        url: of the sound.
        path: the file.
        limit: bytes it may have.
        settings: patience.
        warn: told when the connection is lost and when it is back.
        stop: ends all waiting.

    Raises:
        SourceError: it cannot be had, is no sound, is too long, or there is no room.

    """
    web = Web(settings)
    part = path.with_suffix(".part")
    try:
        with part.open("w+b") as file:
            for data in _bodies(web, url, limit, settings, warn, stop):
                if data is None:  # from the start again
                    file.seek(0)
                    file.truncate()
                else:
                    file.write(data)
            file.seek(0)
            _check(url, file.read(_LOOK_BYTES))
        part.replace(path)
    except WebError as error:
        raise error.error(url) from error
    except OSError as error:
        reason = f"cannot be stored: {error.strerror or error}"
        raise SourceError(shown(url), reason, f"make room in {path.parent}") from error
    finally:
        part.unlink(missing_ok=True)
        web.close()


def _check(url: str, head: bytes) -> None:
    page = b"<html" in head.lower() or b"<!doctype" in head.lower()
    reason = ""
    if not head:
        reason = "is empty (0 bytes)"
    elif is_text(head):
        reason = f"is {'a web page' if page else 'text'}, not audio"
    if reason:
        raise SourceError(shown(url), reason, "tell its publisher")


def _bodies(
    web: Web, url: str, limit: int, settings: NetworkConfig, warn: Warn, stop: threading.Event
) -> Iterator[bytes | None]:
    """Yield the sound; None where it begins again.

    Raises:
        WebError: it cannot be had, or is too long.

    """
    backoff = Backoff(settings, stop)
    for left in reversed(range(_FROM_THE_START)):
        try:
            yield from _body(web, url, limit, settings, warn, stop)
            return
        except WebError as error:
            if not error.passing or not left:
                raise
            warn(f"{shown(url)}: {error.reason}; trying again from the start")
            if not backoff.wait():
                raise
        yield None


def _body(
    web: Web, url: str, limit: int, settings: NetworkConfig, warn: Warn, stop: threading.Event
) -> Iterator[bytes]:
    answer = web.get(url, {"range": "bytes=0-"})
    total = total_of(answer)
    if total is not None and total > limit:
        answer.close()
        raise WebError(
            f"has {total / 1e6:.0f} MB, more than {limit / 1e6:.0f}",
            "raise feeds.max_episode_mb if it is right",
            passing=False,
        )
    if total is None or answer.status_code != 206:
        for data in web.body(answer, limit):
            if stop.is_set():
                raise WebError("was left", "", passing=False)
            yield data
        return

    def say(text: str) -> None:
        warn(f"{shown(url)}: {text}")

    file = Ranged(web, url, answer, b"", web.body(answer), settings, say, stop)
    while not stop.is_set() and (data := file.read(_READ_BYTES)):
        yield data
    file.close()
    if stop.is_set():
        raise WebError("was left", "", passing=False)
    if file.failure is not None:
        raise file.failure
