"""The private directory of a run, for sockets and logs.

The path of a socket is short, so a long TMPDIR is of no use. A run that was killed
leaves its directory; the next run removes it. It knows by a lock, which ends with the process. Logs
that were kept for the user go after some days.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from abhinaya.models.text import say
from abhinaya.stream.errors import ConfigError, ModelError, NetworkError, ProcessError
from abhinaya.stream.wire.sockets import MAX_PATH

PREFIX: Final = "abhinaya-"
LOCK: Final = "run"
LONGEST: Final = MAX_PATH - len(f"/{PREFIX}12345678/sinks")
"""Maximum bytes of the path of the folder in which the directory is made."""
ROOM: Final = 256 * 1024
"""Bytes that a run needs at least for its settings, notes and logs."""
KEPT: Final = "kept-by-abhinaya"
"""Empty file in each directory of logs that are kept: a name alone does not say that it is ours."""
YOUNG_S: Final = 10.0
"""A younger directory is not removed: its run may not have locked it yet."""


@contextmanager
def run_directory(environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Make a private directory for sockets and logs, and remove it at the end.

    Raises:
        ConfigError: no folder can be used.

    """
    directory = _make(environment)
    lock = os.open(directory / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for base in {str(directory.parent), *_folders(environment)}:
            remove_dead(Path(base))
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _make(environment: Mapping[str, str]) -> Path:
    """Make a directory in the first folder that is short enough and can be written."""
    tried = []
    for base in _folders(environment):
        if len(os.fsencode(base)) > LONGEST:
            tried.append(f"{base[:40]}… is longer than {LONGEST} bytes")
            continue
        try:
            return _make_in(base)
        except OSError as error:
            tried.append(f"{base}: {error.strerror}")
    raise ConfigError(
        "TMPDIR",
        f"no folder can be used for the sockets of a run ({'; '.join(tried)})",
        "set TMPDIR to a folder with a short path that you can write, and that is not full",
    )


def _make_in(base: str) -> Path:
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    room = directory / "room"
    try:
        room.write_bytes(bytes(ROOM))  # a full disk still has room for the directory itself
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    room.unlink()
    return directory


def _folders(environment: Mapping[str, str]) -> Iterator[str]:
    named = (environment.get(name, "") for name in ("XDG_RUNTIME_DIR", "TMPDIR"))
    yield from (base for base in named if Path(base).is_absolute())
    yield from ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - made private
    with contextlib.suppress(OSError):  # the working directory was removed
        yield str(Path.cwd())


def remove_dead(base: Path, now: float | None = None) -> None:
    """Remove the directories of runs that were killed: nobody holds their locks."""
    now = time.time() if now is None else now
    for directory in base.glob(f"{PREFIX}????????"):
        with contextlib.suppress(OSError):  # that of another user, or another run removes it too
            if now - directory.stat().st_mtime < YOUNG_S:
                continue
            lock = os.open(directory / LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.fstat(lock).st_size:  # else it is some other file of this name
                    shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(lock)


def remove_old(days: float, now: float | None = None) -> None:
    """Remove the kept logs of this user that are older than `days`; 0 keeps them all."""
    oldest = (time.time() if now is None else now) - 86_400 * days
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}logs-*") if days else ():
        with contextlib.suppress(OSError):  # another run removes it too
            found, ours = path.lstat(), (path / KEPT).exists()
            if ours and found.st_uid == os.getuid() and found.st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)  # not if it is a link


def make_kept() -> Path:
    """Make a directory for logs that stay after the run, until `remove_old` removes it."""
    kept = Path(tempfile.mkdtemp(prefix=f"{PREFIX}logs-"))
    (kept / KEPT).touch()
    return kept


def keep_logs(directory: Path) -> Path | None:
    """Copy the logs of a run to a directory that is kept; return it, None if all are empty."""
    logs = [path for path in directory.glob("*.log") if path.stat().st_size]
    if not logs:
        return None
    try:
        kept = make_kept()
        for path in logs:
            shutil.copy(path, kept)
    except OSError:  # the disk is full: the error itself is shown all the same
        return None
    return kept


@contextmanager
def logs_kept(directory: Path, program: str) -> Iterator[None]:
    """Keep the logs of the processes if the run fails, and print their folder."""
    try:
        yield
    except (ProcessError, ModelError, NetworkError):
        if kept := keep_logs(directory):
            say(f"{program}: the logs of its processes are in {kept}", file=sys.stderr)
        raise
