"""Metadata amid the audio of an Icecast or Shoutcast server (`icy-metaint`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

_TITLE: Final = re.compile(rb"StreamTitle='(.*?)';", re.DOTALL)
_MOST_BYTES: Final = 1 << 24
_UNIT: Final = 16


def interval_of(headers: Mapping[str, str]) -> int:
    """Return the number of audio bytes between two blocks of metadata; 0 without metadata."""
    text = headers.get("icy-metaint", "").strip()
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return number if number <= _MOST_BYTES else 0


def audio_of(
    body: Iterator[bytes], interval: int, on_title: Callable[[str], None]
) -> Iterator[bytes]:
    """Yield the audio of a body without the metadata in it.

    A server that declares metadata and sends none is recognised by the first block: then all is
    audio.

    Args:
        body: the body, in pieces of any size.
        interval: audio bytes before each block of metadata.
        on_title: receives each new title.

    """
    left, block, latest, proved = interval, bytearray(), "", False
    for data in body:
        at = 0
        while at < len(data):
            if left:
                piece = data[at : at + left]
                at, left = at + len(piece), left - len(piece)
                yield piece
                continue
            length = 1 + _UNIT * (block[0] if block else data[at])
            piece = data[at : at + length - len(block)]
            at += len(piece)
            block += piece
            if len(block) < length:
                continue
            text = bytes(block[1:]).rstrip(b"\0")
            if text and not proved and b"='" not in text:
                yield bytes(block) + data[at:]
                yield from body
                return
            proved = proved or bool(text)
            found = _TITLE.search(text)
            if found and (title := text_of(found[1])) not in ("", latest):
                latest = title
                on_title(title)
            left, block = interval, bytearray()


def text_of(data: bytes) -> str:
    """Return a title: UTF-8, or else Latin-1, which old servers send."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
