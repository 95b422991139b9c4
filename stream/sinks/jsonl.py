"""One event a line, as JSON: whole lines only, each on the disk before the next is taken."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Any, Final

import msgspec

from abhinaya.stream.errors import EXIT_OK, SinkError
from abhinaya.stream.messages import Event, Status
from abhinaya.stream.sinks.events import summary_event, to_dict
from abhinaya.stream.sinks.summary import Summary

STDOUT: Final = 1


class JsonLines:
    """Writes events to a file, or to standard output; a `summary` event at the end.

    Args:
        path: the file, which is begun anew; None for standard output.
        descriptor: what to write to instead of standard output.

    Raises:
        SinkError: the file cannot be opened.

    """

    def __init__(self, path: Path | None = None, *, descriptor: int = STDOUT) -> None:
        self._subject = str(path) if path else "standard output"
        self._descriptor: int | None = _open(path) if path else descriptor
        self._owned = path is not None
        self._regular = stat.S_ISREG(os.fstat(self._descriptor or 0).st_mode) and self._owned
        self._written = 0
        """Bytes of whole lines in a file of our own."""
        self._summary = Summary()

    def write(self, event: Event, now_unix_s: float) -> None:
        """Write one event; Status, which comes twice a second, is for eyes only.

        Raises:
            SinkError: the disk is full, or the file was deleted; whole lines stay.
            SystemExit: the reader of standard output has enough.

        """
        if isinstance(event, Status):
            return
        self._summary.add(event, now_unix_s)
        self._line(to_dict(event, now_unix_s))

    def close(self) -> None:
        """Write the summary and close the file.

        Raises:
            SinkError: the summary cannot be written.

        """
        if self._descriptor is None:
            return
        try:
            self._line(summary_event(self._summary.as_dict()))
        finally:
            self._let_go()

    def _line(self, values: dict[str, Any]) -> None:
        if self._descriptor is None:
            return
        line = memoryview(msgspec.json.encode(values) + b"\n")
        try:
            if self._regular and os.fstat(self._descriptor).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "the file was deleted while it was written")
            rest = line
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except BrokenPipeError:
            self._let_go()
            if self._owned:
                raise self._error("its reader has gone", "start the reader again") from None
            # `abhinaya-stream ... | head` is no failure: stop, without a word.
            raise SystemExit(EXIT_OK) from None
        except OSError as error:
            self._cut()
            self._let_go()
            remedy = "make room, or write elsewhere; the lines before this one are whole"
            raise self._error(error.strerror or str(error), remedy) from error
        self._written += len(line)

    def _cut(self) -> None:
        """Take back the part of a line that was written before the disk was full."""
        if self._regular and self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._written)

    def _let_go(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None and self._owned:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _error(self, reason: str, remedy: str) -> SinkError:
        return SinkError(self._subject, f"cannot be written: {reason}", remedy)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except IsADirectoryError as error:
        raise SinkError(str(path), "is a folder", "give the name of a file in it") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SinkError(
            str(path), f"there is no folder {path.parent}", "make it first, or write elsewhere"
        ) from error
    except OSError as error:
        raise SinkError(
            str(path), f"cannot be opened: {error.strerror}", "write elsewhere"
        ) from error
