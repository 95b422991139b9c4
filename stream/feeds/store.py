"""Files of feeds: permanent records of processed episodes, and folders for the audio."""

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
from abhinaya.stream.sources.address import shown, without_credentials

VERSION: Final = 1


class _DoneEpisode(msgspec.Struct, frozen=True):
    """An episode with all verdicts written."""

    guid: str
    url: str
    stream: str


class _Contents(msgspec.Struct):
    """Content of a record file (JSON)."""

    feed: str
    version: int = VERSION
    heard: list[_DoneEpisode] = []
    passed: list[str] = []
    """Keys of older episodes to skip: those in the feed when following began."""
    following: bool = False
    """Whether following has begun, so that `passed` is complete."""


class Record:
    """The processed episodes of one feed: a small file, replaced atomically, locked until `close`.

    Args:
        folder: folder of all records; created if missing.
        url: address of the feed.

    Raises:
        ConfigError: another run uses the record.
        SinkError: the file cannot be read or written.

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

    def is_done(self, episode: Episode) -> bool:
        """Return whether all verdicts of an episode are written."""
        address = without_credentials(episode.url)
        key = (episode.guid, address) if episode.shared_guid else episode.guid
        return key in self._known

    def add(self, episode: Episode) -> None:
        """Record on disk that all verdicts of an episode are written.

        Raises:
            SinkError: the file cannot be written.

        """
        if not self.is_done(episode):
            # the query of an address may hold a secret, and this file is permanent
            url = without_credentials(episode.url)
            url = url if episode.shared_guid else url.partition("?")[0]
            self._contents.heard.append(_DoneEpisode(episode.guid, url, episode.stream))
            self._write()

    def wanted(self, episodes: Sequence[Episode], newest: int) -> list[Episode]:
        """Return the episodes to process when following: first the `newest`, then all later ones.

        Raises:
            SinkError: the file cannot be written when following begins.

        """
        if not self._contents.following:
            self._contents.passed = [episode.key for episode in episodes[newest:]]
            self._contents.following = True
            self._write()
        return [episode for episode in episodes if episode.key not in self._passed]

    def close(self) -> None:
        """Unlock the record for other runs."""
        self._lock.close()

    def _index(self) -> None:
        done = self._contents.heard
        self._known = {e.guid for e in done} | {(e.guid, e.url) for e in done}
        self._passed = set(self._contents.passed)

    def _locked(self, path: Path) -> TextIO:
        make_folder(path.parent, "--feed-state")
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
                f"lists the processed episodes of {self._feed}, and cannot be read: {error}",
                "restore it, or delete it to process all episodes again",
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
    """The folders for the feeds of a run."""

    records: Path
    """Folder of the records of processed episodes."""
    cache: Path
    """Folder of the audio while an episode is processed."""
    kept: Path | None = None
    """Folder in which the audio is kept; None: the audio is deleted after processing."""


def default_folders(environment: Mapping[str, str]) -> Folders:
    """Return the user's folders by the XDG base directory standard."""
    state = Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    cache = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Folders(state / "abhinaya" / "feeds", cache / "abhinaya" / "episodes")


def make_folder(folder: Path, flag: str = "--keep") -> None:
    """Create a folder that only its owner can read, if it is missing.

    Raises:
        SinkError: the folder cannot be created.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        reason = f"cannot be created: {error.strerror}"
        raise SinkError(str(folder), reason, f"choose another folder with {flag}") from error


@contextlib.contextmanager
def temporary_folder(base: Path) -> Iterator[Path]:
    """Yield a new folder and delete it at the end; also delete the folders of killed runs.

    Raises:
        SinkError: the folder cannot be created.

    """
    make_folder(base)
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
