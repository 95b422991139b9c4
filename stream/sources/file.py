"""A file source: audio, or video with audio, in any format that PyAV decodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, Final

from abhinaya.models.errors import near_miss
from abhinaya.models.text import encodable
from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.address import shown
from abhinaya.stream.sources.base import InputConfig, Opened, Warn
from abhinaya.stream.sources.condition import condition
from abhinaya.stream.sources.media.container import NO_PROTOCOLS
from abhinaya.stream.sources.media.decode import Decoder
from abhinaya.stream.sources.media.length import Contents, structure
from abhinaya.stream.sources.playlist import other_addresses

_HEAD_BYTES: Final = 512


def open_file(config: InputConfig, warn: Warn, clock: Callable[[], float] = unix_time) -> Opened:
    """Open the file `config.what`.

    Raises:
        SourceError: the file is missing, a folder, empty, not audio, or without samples.

    """
    path = Path(config.what)
    head = read_head(path, config.subject)
    file = path.open("rb")  # FFmpeg gets an open file, so that a playlist cannot name other files
    contents = _contents(file)
    how: dict[str, Any] = {"options": NO_PROTOCOLS}
    if after := structure(contents.peek, contents.opened_size).after:
        warn(
            f"{config.subject}: {after} bytes follow the end that its header declares; all are read"
        )
        how["options"] = NO_PROTOCOLS | {"ignore_length": "1"}
    try:
        decoder = Decoder(
            file, config.subject, warn, contents=contents, clock=clock, how=how, track=config.track
        )
    except SourceError as error:
        file.close()
        if others := other_addresses(head, ""):
            reason = "is a playlist of other inputs"
            remedy = f"name one of them, for example {shown(others[0])}"
            raise SourceError(config.subject, reason, remedy) from error.__cause__
        if is_text(head):
            reason = "is text, not audio"
            raise SourceError(config.subject, reason, "name a recording") from error.__cause__
        raise

    def close() -> None:
        decoder.close()
        file.close()

    return Opened(
        channels=1 if config.channels == "mix" else decoder.channels,
        live=False,
        description=f"{encodable(config.label or path.name)}: {decoder.description}",
        start_unix_s=clock(),
        audio=condition(decoder.blocks(), config.channels, config.subject, warn),
        closing=close,
        length_s=decoder.length_s,
    )


def _contents(file: BufferedReader) -> Contents:
    """Return the bytes of a file, read beside the decoder."""
    number = file.fileno()

    def size() -> int:
        return os.fstat(number).st_size

    return Contents(lambda at, count: os.pread(number, count, at), size, size())


def read_head(path: Path, subject: str) -> bytes:
    """Return the first bytes of a file; errors are about `subject`.

    Raises:
        SourceError: it is missing, a folder, not readable, or empty.

    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            remedy = "read it as standard input: abhinaya-stream - < PATH"
            raise SourceError(subject, "is a pipe or a device, not a file", remedy)
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except IsADirectoryError as error:
        raise SourceError(subject, "is a folder", "name a file in it") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        if any(c in path.name for c in "*?["):
            raise SourceError(subject, "matches no file", "check the pattern") from error
        if path.is_symlink():
            raise SourceError(subject, "is a link to a file that is missing", "mend it") from error
        near = near_miss(path.name, _beside(path), "check the path", likeness=0.8)
        raise SourceError(subject, "no such file", near) from error
    except PermissionError as error:
        raise SourceError(subject, "may not be read", "change its permissions") from error
    except (OSError, ValueError) as error:
        reason = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise SourceError(subject, reason) from error
    if not head:
        raise SourceError(subject, "is empty (0 bytes)", "record or fetch it again")
    return head


def _beside(path: Path) -> list[str]:
    """Return names of files in the folder of a path: those that the user may have meant."""
    try:
        with os.scandir(path.parent) as entries:
            return [entry.name for entry in islice(entries, 1000)]
    except OSError:
        return []


def is_text(head: bytes) -> bool:
    """Return whether the first 512 bytes are plain text."""
    start = head[:_HEAD_BYTES]
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # at the end the cut may split a character
            return False
        text = start[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\r\n\f\ufeff" for character in text)
