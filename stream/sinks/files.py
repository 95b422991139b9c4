"""Files that stay readable: logs of whole records, and files replaced as a whole.

The one place where a fault of the disk becomes a SinkError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from abhinaya.stream.errors import EXIT_OK, SinkError

STDOUT: Final = 1
COPY_BYTES: Final = 1 << 20


class LogFile:
    """Appends records: each whole, and on the disk before the next.

    Args:
        path: the file, which is begun anew; None for standard output.
        descriptor: what to write to instead of standard output.
        goes_on: whether to go on at the end of the file instead, behind its last whole line.

    Raises:
        SinkError: the file cannot be opened.

    """

    def __init__(
        self, path: Path | None = None, *, descriptor: int = STDOUT, goes_on: bool = False
    ) -> None:
        self._subject = str(path) if path else "standard output"
        how = os.O_APPEND if goes_on else os.O_TRUNC
        self._descriptor: int | None = _open(path, how) if path else descriptor
        self._owned = path is not None
        self.regular = self._owned and stat.S_ISREG(os.fstat(self._descriptor or 0).st_mode)
        """Whether it is a file of our own on a disk, and no pipe or device."""
        self.length = 0
        """Bytes of whole records so far."""
        if path is not None and goes_on and self.regular:
            self.length = _whole_lines(path)
            self._cut()

    @property
    def closed(self) -> bool:
        """Whether nothing more is written: it was closed, or it failed."""
        return self._descriptor is None

    def append(self, record: bytes) -> None:
        """Write one record; nothing if the file is closed.

        Raises:
            SinkError: the disk is full, or the file was deleted; whole records stay.
            SystemExit: the reader of standard output has enough.

        """
        if self._descriptor is None:
            return
        try:
            if self.regular and os.fstat(self._descriptor).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "the file was deleted while it was written")
            rest = memoryview(record)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except BrokenPipeError:
            self.close()
            if self._owned:
                raise _unwritable(
                    self._subject, "its reader has gone", "start the reader again"
                ) from None
            # `abhinaya-stream ... | head` is no failure: stop, without a word.
            raise SystemExit(EXIT_OK) from None
        except OSError as error:
            self._cut()
            self.close()
            remedy = "make room, or write elsewhere; the lines before this one are whole"
            raise _unwritable(self._subject, error.strerror or str(error), remedy) from error
        self.length += len(record)

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None and self._owned:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def follow(self, path: Path) -> None:
        """Go on at the end of the file that has taken the place of this one.

        Raises:
            SinkError: it cannot be opened.

        """
        self.close()
        self._descriptor = _open(path, os.O_APPEND)
        self.length = os.fstat(self._descriptor).st_size

    def _cut(self) -> None:
        """Take back the part of a record that was written before the disk was full."""
        if self.regular and self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.length)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a new file, which takes the place of `path` at the end of the block.

    Whoever looks sees the old file or the new one, never a part of either.

    Raises:
        SinkError: the disk is full, or the folder has vanished; the old file stays.

    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield new
        new.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError):
            reason = f"the folder {path.parent} has vanished"
        remedy = "make room, or write elsewhere; what was written before is whole"
        raise _unwritable(str(path), reason, remedy) from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink()


def replace(path: Path, parts: Iterable[bytes]) -> None:
    """Put a file of these parts in the place of `path`.

    Raises:
        SinkError: it cannot be written; the old file stays.

    """
    with replacing(path) as new, new.open("wb") as file:
        file.writelines(parts)


def pieces(path: Path, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes of a file from `start` up to `end`.

    Raises:
        SinkError: the file cannot be read any more.

    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            while start < end and (piece := file.read(min(COPY_BYTES, end - start))):
                start += len(piece)
                yield piece
    except OSError as error:
        remedy = "leave it alone while it is written"
        raise _unwritable(str(path), error.strerror or str(error), remedy) from error


def _whole_lines(path: Path) -> int:
    """Give where the last whole line ends: a run that was killed may have left a part of one."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - COPY_BYTES)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0


def _unwritable(subject: str, reason: str, remedy: str) -> SinkError:
    return SinkError(subject, f"cannot be written: {reason}", remedy)


def _open(path: Path, how: int = os.O_TRUNC) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | how | os.O_CLOEXEC, 0o666)
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
