"""What of a feed has been heard: a small file, replaced in one step, used by one run at a time."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
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
    """The file."""

    feed: str
    version: int = VERSION
    heard: list[_Heard] = []
    passed: list[str] = []
    """Keys of episodes that were there when following began, and are not wanted."""
    following: bool = False
    """Whether `passed` is complete."""


class Record:
    """The record of one feed, locked until it is closed.

    Args:
        folder: of all records; made if it is missing.
        url: of the feed.

    Raises:
        ConfigError: another run has it.
        SinkError: it cannot be read or written.

    """

    def __init__(self, folder: Path, url: str) -> None:
        name = hashlib.sha256(url.encode()).hexdigest()[:16]
        self._path = folder / f"{name}.json"
        self._subject = shown(url)
        self._lock = self._locked(folder, name)
        try:
            self._contents = self._read()
        except SinkError:
            self._lock.close()
            raise
        self._index()

    def is_heard(self, episode: Episode) -> bool:
        """Whether its verdicts are written."""
        if episode.shared_guid:
            return (episode.guid, episode.url) in self._pairs
        return episode.guid in self._guids

    def heard(self, episode: Episode) -> None:
        """Note, on the disk before this returns, that its verdicts are written.

        Raises:
            SinkError: it cannot be written.

        """
        if not self.is_heard(episode):
            # an address may hold a key, and this file is kept
            url = episode.url.partition("?")[0] if not episode.shared_guid else episode.url
            self._contents.heard.append(_Heard(episode.guid, url, episode.stream))
            self._index()
            self._write()

    @property
    def following(self) -> bool:
        """Whether the feed has been followed before."""
        return self._contents.following

    def follow(self, passed: Sequence[Episode]) -> None:
        """Note where following begins: these are not wanted, and all that come later are.

        Raises:
            SinkError: it cannot be written.

        """
        self._contents.passed = [episode.key for episode in passed]
        self._contents.following = True
        self._index()
        self._write()

    def is_passed(self, episode: Episode) -> bool:
        """Whether it was there when following began."""
        return episode.key in self._passed

    def close(self) -> None:
        """Let another run have it."""
        self._lock.close()

    def _index(self) -> None:
        self._guids = {h.guid for h in self._contents.heard}
        self._pairs = {(h.guid, h.url) for h in self._contents.heard}
        self._passed = set(self._contents.passed)

    def _locked(self, folder: Path, name: str) -> TextIO:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (folder / f"{name}.lock").open("w")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise ConfigError(
                f"--feed {self._subject}",
                "another run is at it",
                "end that one first, or give this one another --feed-state folder",
            ) from error
        return lock

    def _read(self) -> _Contents:
        try:
            contents = msgspec.json.decode(self._path.read_bytes(), type=_Contents)
        except FileNotFoundError:
            return _Contents(feed=self._subject)
        except (OSError, msgspec.DecodeError) as error:
            raise SinkError(
                str(self._path),
                f"cannot be read, and tells what of {self._subject} was heard: {error}",
                "restore it, or delete it to hear everything again",
            ) from error
        if contents.version != VERSION:
            reason = f"is of version {contents.version}, not {VERSION}"
            raise SinkError(str(self._path), reason, "use the program that wrote it")
        return contents

    def _write(self) -> None:
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
        return SinkError(
            str(self._path),
            f"cannot be written: {error.strerror or error}",
            "make room, or choose another folder with --feed-state",
        )
