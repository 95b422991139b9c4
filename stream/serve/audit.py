"""The audit log: who has read, exported, corrected or deleted what.

One entry a line, only appended. Each has the SHA-256 of the line before, so that a changed, removed
or inserted line is found by `verify`. Each month has its own file; the chain goes on from one to
the next. A line that a kill or a full disk cut off stays, and the next entry has its SHA-256.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from abhinaya.models.text import clean
from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import SinkError
from abhinaya.stream.sinks.events import wall_time

CURRENT: Final = "audit.log"
BEGIN: Final = "0" * 64
"""What the first entry has in place of a SHA-256."""
TORN: Final = b"#torn\n"
"""Ends a line that was cut off."""
RETENTION: Final = "retention"
LONGEST: Final = 1000
"""Characters of a field."""
_DAY_S: Final = 86_400.0


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line."""

    number: int
    time: str
    who: str
    what: str
    subject: str
    previous: str
    """SHA-256 of the line of the entry before."""
    torn: str = ""
    """SHA-256 of what stands between that line and this one."""


@dataclass(slots=True)
class Chain:
    """What is known after reading some lines."""

    number: int = 0
    digest: str = BEGIN
    first: Entry | None = None
    last: Entry | None = None
    torn: int = 0
    """Lines that were cut off."""
    tail: bytes = b""
    """What follows the last whole entry."""
    removed: set[str] = field(default_factory=set)
    """SHA-256 of the last lines of files that retention has removed."""

    def add(self, line: bytes) -> str:
        """Add a line; return why it does not follow from those before, empty if it does."""
        if not line.endswith(b"\n") or line.endswith(TORN):
            self.tail += line
            return ""
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except msgspec.DecodeError:
            return "it is not an entry"
        if self.first is None and entry.number > 1:  # earlier files were removed
            self.number, self.digest = entry.number - 1, entry.previous
        if (entry.number, entry.previous) != (self.number + 1, self.digest):
            return "it does not follow from the entry before"
        if entry.torn != (_digest(self.tail) if self.tail else ""):
            return "it does not follow from the line that was cut off before it"
        self.torn += self.tail.count(TORN)
        self.number, self.digest, self.tail = entry.number, _digest(line), b""
        self.first, self.last = self.first or entry, entry
        if entry.what == RETENTION:
            self.removed.add(entry.subject.rpartition(" ")[2])
        return ""


class Audit:
    """The log in a folder.

    Args:
        folder: where the files are.
        strict: whether an entry that cannot be written is an error, or only reported.
        report: receives what a person must know.
        clock: wall clock, in Unix seconds.

    Raises:
        SinkError: the log is damaged, cannot be opened, or another process writes to it.

    """

    def __init__(
        self,
        folder: Path,
        strict: bool = False,
        report: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = unix_time,
    ) -> None:
        self._path = folder / CURRENT
        self._strict, self._report, self._clock = strict, report, clock
        self._lock = threading.Lock()
        self.fault = ""
        """Why the last entry could not be written; empty if it was."""
        self._descriptor = self._opened()
        try:
            self._chain = _read(_files(folder)[-1:])
        except BaseException:
            self.close()
            raise
        if self._chain.tail:
            report(f"{self._path}: its last line was cut off; the log goes on after it")

    def write(self, who: str, what: str, subject: str) -> None:
        """Append an entry; what it stands for happens only afterwards.

        Raises:
            SinkError: it cannot be written, and the log is strict.

        """
        try:
            with self._lock:
                self._rotate()
                self._append(who, what, subject)
            self.fault = ""
        except OSError as error:
            fault = SinkError(
                str(self._path), f"cannot be written: {error.strerror}", "make room, or repair it"
            )
            known, self.fault = self.fault, str(fault)
            if self._strict:
                raise fault from error
            if not known:
                self._report(self.fault)

    def expire(self, days: int, now: float) -> None:
        """Remove the files of the months that ended so many days ago; the log says which.

        Raises:
            SinkError: a file cannot be read, or the log not written.

        """
        for path in _files(self._path.parent):
            if path != self._path and path.stat().st_mtime < now - _DAY_S * days:
                end = _read([path])
                self.write("abhinaya", RETENTION, f"{path.name} to entry {end.number} {end.digest}")
                with suppress(OSError):
                    path.unlink()

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            os.close(self._descriptor)

    def _opened(self) -> int:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise SinkError(str(self._path), f"cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            remedy = "end that one, or choose another folder"
            raise SinkError(str(self._path), "another process writes to it", remedy) from error
        return descriptor

    def _rotate(self) -> None:
        """Begin a new file if the month is over."""
        last, month = self._chain.last, _month(self._clock())
        if last is None or self._chain.tail or last.time[:7] >= month:
            return
        archived = self._path.with_name(f"audit-{last.time[:7]}.log")
        if archived.exists():  # the clock was set back
            return
        os.fsync(self._descriptor)
        self._path.rename(archived)
        fresh = self._opened()
        self.close()
        self._descriptor = fresh

    def _append(self, who: str, what: str, subject: str) -> None:
        chain = self._chain
        head = b""
        if chain.tail and not chain.tail.endswith(TORN):
            head = TORN
        entry = Entry(
            number=chain.number + 1,
            time=wall_time(self._clock()),
            who=clean(who)[:LONGEST],
            what=clean(what)[:LONGEST],
            subject=clean(subject)[:LONGEST],
            previous=chain.digest,
            torn=_digest(chain.tail + head) if chain.tail else "",
        )
        data = head + msgspec.json.encode(entry) + b"\n"
        written = os.write(self._descriptor, data)
        if written < len(data):
            chain.tail += data[:written]
            raise OSError(errno.ENOSPC, "only a part was written, as on a full disk")
        for line in data.splitlines(keepends=True):
            chain.add(line)


def verify(folder: Path) -> Chain:
    """Check all files of a log; return what is in them.

    Raises:
        SinkError: the log is missing, or a line was changed, inserted or removed.

    """
    files = _files(folder)
    if not files:
        raise SinkError(str(folder), "has no audit log", "name the folder with --data")
    chain = _read(files)
    if chain.first and chain.first.number > 1 and chain.first.previous not in chain.removed:
        reason = f"its beginning, up to entry {chain.first.number - 1}, was removed"
        raise SinkError(str(files[0]), f"{reason}, and no entry says so")
    return chain


def _files(folder: Path) -> list[Path]:
    """Return the files in their order: that of their months, then the current one."""
    return sorted(folder.glob("audit-*.log")) + [p for p in [folder / CURRENT] if _has_data(p)]


def _has_data(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _read(files: list[Path]) -> Chain:
    chain = Chain()
    for path in files:
        for number, line in _lines(path):
            if fault := chain.add(line):
                remedy = "keep it as evidence: move all files of the log to another folder"
                raise SinkError(f"{path}, line {number}", f"was tampered with: {fault}", remedy)
    return chain


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise SinkError(str(path), f"cannot be read: {error.strerror}") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _month(unix_s: float) -> str:
    return wall_time(unix_s)[:7]
