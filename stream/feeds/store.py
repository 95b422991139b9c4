"""What feeds keep: records of what was heard, for long, and episodes while they are heard."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import msgspec

from abhinaya.stream.errors import ConfigError, SinkError
from abhinaya.stream.feeds.parse import Episode
from abhinaya.stream.sources.address import shown

VERSION: Final = 1


class _Heard(msgspec.Struct, frozen=True):
    """An episode whose verdicts are written."""

    guid: str
    url: str
    stream: str


class _Contents(msgspec.Struct):
    """The file of a record."""

    feed: str
    version: int = VERSION
    heard: list[_Heard] = []
    passed: list[str] = []
    """Keys of episodes that were there when following began, and are not wanted."""
    following: bool = False
    """Whether `passed` is complete."""


class Record:
    """What of one feed was heard: a small file, replaced in one step, locked until `close`.

    Args:
        folder: of all records; made if it is missing.
        url: of the feed.

    Raises:
        ConfigError: another run uses it.
        SinkError: it cannot be read or written.

    """

    def __init__(self, folder: Path, url: str) -> None:
        name = hashlib.sha256(url.encode()).hexdigest()[:16]
        self._path = folder / f"{name}.json"
        self._feed = shown(url)
        self._lock = self._locked(folder / f"{name}.lock")
        try:
            self._contents = self._read()
        except SinkError:
            self._lock.close()
            raise
        self._index()

    def is_heard(self, episode: Episode) -> bool:
        """Whether its verdicts are written."""
        key = (episode.guid, episode.url) if episode.shared_guid else episode.guid
        return key in self._known

    def heard(self, episode: Episode) -> None:
        """Note, on the disk before this returns, that its verdicts are written.

        Raises:
            SinkError: it cannot be written.

        """
        if not self.is_heard(episode):
            # an address may hold a key, and this file is kept
            url = episode.url.partition("?")[0] if not episode.shared_guid else episode.url
            self._contents.heard.append(_Heard(episode.guid, url, episode.stream))
            self._write()

    def wanted(self, episodes: Sequence[Episode], newest: int) -> list[Episode]:
        """Return what one who follows wants of a feed: the newest to begin with, then what comes.

        Raises:
            SinkError: it cannot be written where following begins.

        """
        if not self._contents.following:
            self._contents.passed = [episode.key for episode in episodes[newest:]]
            self._contents.following = True
            self._write()
        return [episode for episode in episodes if episode.key not in self._passed]

    def close(self) -> None:
        """Let another run use it."""
        self._lock.close()

    def _index(self) -> None:
        heard = self._contents.heard
        self._known = {h.guid for h in heard} | {(h.guid, h.url) for h in heard}
        self._passed = set(self._contents.passed)

    def _locked(self, path: Path) -> TextIO:
        make(path.parent, "--feed-state")
        try:
            lock = path.open("w")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise ConfigError(
                f"--feed {self._feed}",
                "another run uses it",
                "end that one first, or give this one another --feed-state folder",
            ) from error
        return lock

    def _read(self) -> _Contents:
        try:
            contents = msgspec.json.decode(self._path.read_bytes(), type=_Contents)
        except FileNotFoundError:
            return _Contents(feed=self._feed)
        except (OSError, msgspec.DecodeError) as error:
            raise SinkError(
                str(self._path),
                f"lists what of {self._feed} was heard, and cannot be read: {error}",
                "restore it, or delete it to hear everything again",
            ) from error
        if contents.version != VERSION:
            reason = f"has version {contents.version}, not {VERSION}"
            raise SinkError(str(self._path), reason, "use the program that wrote it")
        return contents

    def _write(self) -> None:
        self._index()
        new = self._path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                file.write(msgspec.json.encode(self._contents))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> SinkError:
        reason = f"cannot be written: {error.strerror or error}"
        return SinkError(
            str(self._path), reason, "make room, or choose another folder with --feed-state"
        )


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of a run."""

    records: Path
    """What was heard."""
    cache: Path
    """Where episodes are while they are heard."""
    kept: Path | None = None
    """Where they stay; None: they are deleted as soon as they are heard."""


def default_folders(environment: Mapping[str, str]) -> Folders:
    """Return where the user's system wants them (XDG base directories)."""
    state = Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    cache = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Folders(state / "abhinaya" / "feeds", cache / "abhinaya" / "episodes")


def make(folder: Path, flag: str = "--keep") -> None:
    """Make a folder that only its owner may see, if it is missing.

    Raises:
        SinkError: it cannot be made.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        reason = f"cannot be made: {error.strerror}"
        raise SinkError(str(folder), reason, f"choose another folder with {flag}") from error


@contextlib.contextmanager
def passing_folder(base: Path) -> Iterator[Path]:
    """Yield a new folder that is deleted at the end; delete those of runs that were killed.

    Raises:
        SinkError: it cannot be made.

    """
    make(base)
    try:
        with (base / "lock").open("w") as one_at_a_time:
            fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
            for old in base.iterdir():
                with contextlib.suppress(OSError), (old / "lock").open("w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(old, ignore_errors=True)
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
