"""Writes files that stay readable after a failure: logs of whole records, files replaced at once.

Errors of the operating system become SinkErrors here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from abhinaya.stream.errors import EXIT_OK, SinkError

STDOUT: Final = 1
BLOCK_BYTES: Final = 1 << 20
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ROOM: Final = "make room, or write elsewhere; the lines before this one are whole"
LONGEST_NAME: Final = 255
"""Longest name of a file, in bytes."""


class DiskFullError(SinkError):
    """A disk is full. There may be room again later."""


class LogFile:
    """Appends records to a file; if one fails, the file still ends with a whole record.

    Args:
        path: the file, which is overwritten; None for standard output.
        descriptor: file descriptor to use instead of standard output.
        append: whether to append after the last whole line instead of overwriting.

    Raises:
        SinkError: the file cannot be opened.

    """

    def __init__(
        self, path: Path | None = None, *, descriptor: int = STDOUT, append: bool = False
    ) -> None:
        self.subject = str(path) if path else "standard output"
        how = os.O_APPEND if append else os.O_TRUNC
        self._descriptor: int | None = _open(path, how) if path else descriptor
        self._owned = path is not None
        self._regular = self._owned and stat.S_ISREG(os.fstat(self._descriptor or 0).st_mode)
        """Whether `path` is a regular file, not a pipe or a device."""
        self._length = 0
        """Length of the whole records so far, in bytes."""
        if path is not None and append and self._regular:
            self._length = _whole_lines(path)
            self._cut()

    @property
    def closed(self) -> bool:
        """Whether the file was closed, by `close` or by an error."""
        return self._descriptor is None

    def append(self, record: bytes) -> None:
        """Write one record; do nothing if the file is closed.

        Raises:
            DiskFullError: the records before stay whole, and this one can be appended later.
            SinkError: the file was deleted; nothing more can be appended.
            SystemExit: the reader of standard output has closed it.

        """
        if self._descriptor is None:
            return
        try:
            if self._regular and os.fstat(self._descriptor).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "the file was deleted while it was written")
            rest = memoryview(record)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except BrokenPipeError:
            self.close()
            if self._owned:
                reason = "cannot be written: its reader has closed it"
                raise SinkError(self.subject, reason, "start the reader again") from None
            # `abhinaya-stream ... | head` is not a failure: stop without a message
            raise SystemExit(EXIT_OK) from None
        except OSError as error:
            self._cut()
            full = self._regular and error.errno in _FULL
            if not full:
                self.close()
            raise _unwritable(self.subject, error, _ROOM, full) from error
        except KeyboardInterrupt:  # nobody reads the pipe
            self._cut()
            self.close()
            raise
        self._length += len(record)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None and self._owned:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _cut(self) -> None:
        """Remove a partly written record from the end of the file."""
        if self._regular and self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._length)
                os.lseek(self._descriptor, self._length, os.SEEK_SET)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces `path` at the end of the block.

    Readers see the old file or the new one, never a part. A pipe or a device is written directly.

    Raises:
        SinkError: the disk is full, or the folder is missing; the old file is kept.

    """
    if os.path.isdir(path):
        raise _is_folder(path)
    direct = is_device(path)
    new = path if direct else beside(path, f".{os.getpid()}.new", hidden=True)
    try:
        yield new
        if not direct:
            new.replace(path)
    except FileNotFoundError as error:
        raise _no_folder(path) from error
    except OSError as error:
        remedy = "make room, or write elsewhere; what was written before is whole"
        raise _unwritable(str(path), error, remedy) from error
    finally:
        if not direct:
            with contextlib.suppress(OSError):
                new.unlink()


def is_device(path: Path) -> bool:
    """Return whether a path is a pipe or a device, into which a file cannot be renamed."""
    # `Path.exists` would raise if a name is too long
    return os.path.exists(path) and not os.path.isfile(path)


def beside(path: Path, suffix: str, *, hidden: bool = False) -> Path:
    """Return a path in the same folder: the name, shortened if the new one were too long."""
    head, name = "." if hidden else "", path.name
    if len(os.fsencode(name)) > LONGEST_NAME - len(suffix) - 1:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
        name = f"{os.fsencode(name)[:100].decode('utf-8', 'ignore')}-{digest}"
    return path.with_name(f"{head}{name}{suffix}")


def _whole_lines(path: Path) -> int:
    """Return the byte offset after the last whole line; a killed run may leave a partial line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - BLOCK_BYTES)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0


def _unwritable(subject: str, error: OSError, remedy: str, full: bool = False) -> SinkError:
    kind = DiskFullError if full else SinkError
    return kind(subject, f"cannot be written: {error.strerror or error}", remedy)


def _is_folder(path: Path) -> SinkError:
    return SinkError(str(path), "is a folder", "give the name of a file in it")


def _no_folder(path: Path) -> SinkError:
    reason = f"cannot be written: missing folder {path.parent}"
    return SinkError(str(path), reason, "make it first, or write elsewhere")


def _open(path: Path, how: int) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | how | os.O_CLOEXEC, 0o666)
    except IsADirectoryError as error:
        raise _is_folder(path) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_folder(path) from error
    except OSError as error:
        reason = f"cannot be opened: {error.strerror}"
        raise SinkError(str(path), reason, "write elsewhere") from error
