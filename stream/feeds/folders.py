"""Where feeds keep what they keep: records for long, episodes only while they are heard."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from abhinaya.stream.errors import SinkError


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of a run."""

    records: Path
    """What has been heard."""
    cache: Path
    """Where episodes are while they are heard."""
    kept: Path | None = None
    """Where they stay; None: they are deleted as soon as they are heard."""


def default_folders(environment: Mapping[str, str]) -> Folders:
    """Give where the user's system wants them (XDG base directories)."""
    state = Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    cache = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Folders(state / "abhinaya" / "feeds", cache / "abhinaya" / "episodes")


def make(folder: Path) -> None:
    """Make a folder that only its owner may see, if it is missing.

    Raises:
        SinkError: it cannot be made.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        reason = f"cannot be made: {error.strerror}"
        raise SinkError(str(folder), reason, "choose another folder with --keep") from error


@contextlib.contextmanager
def passing_folder(base: Path) -> Iterator[Path]:
    """Give a new folder that is deleted at the end; delete those of runs that were killed.

    Raises:
        SinkError: it cannot be made.

    """
    make(base)
    try:
        with (base / "lock").open("w") as one_at_a_time:
            fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
            _sweep(base)
            folder = Path(tempfile.mkdtemp(dir=base))
            lock = (folder / "lock").open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise SinkError(str(base), f"cannot be used: {error.strerror}", "make room") from error
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(base: Path) -> None:
    for old in base.iterdir():
        with contextlib.suppress(OSError), (old / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
