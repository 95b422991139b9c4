"""The feeds of a run: threads poll the feeds and download episodes, which become inputs."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from abhinaya.models.interrupts import INTERRUPTS
from abhinaya.stream.errors import AbhinayaError, ProcessError, SourceError
from abhinaya.stream.feeds.parse import Episode, parse_feed, unpacked
from abhinaya.stream.feeds.store import Folders, Record, make_folder, temporary_folder
from abhinaya.stream.settings.config import FeedConfig, NetworkConfig
from abhinaya.stream.sources.address import shown
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.sources.network import check_audio
from abhinaya.stream.sources.remote import RemoteFile
from abhinaya.stream.sources.web import Web

if TYPE_CHECKING:
    import httpx2

_MB: Final = 1_000_000
_READ_BYTES: Final = 1 << 18
_LOOK_BYTES: Final = 4096
_DOWNLOADS: Final = 3
"""Tries to download an episode from a server that cannot resume."""


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """A feed, and which of its episodes to process."""

    url: str
    newest: int = 1
    """Number of newest episodes to begin with."""
    follow: bool = False
    """Whether to process later episodes too."""


@dataclass(slots=True)
class _Feed:
    """State of one feed."""

    request: FeedRequest
    record: Record
    web: Web
    moved: bool = False
    """Whether the user knows that the feed has moved for good."""
    conditions: dict[str, str] = field(default_factory=dict)
    """Headers of a conditional request: the server need not send an unchanged feed again."""
    latest: tuple[Episode, ...] = ()
    """Episodes of the latest poll, the newest first."""
    failures: dict[str, int] = field(default_factory=dict)
    """Number of failures by key of the episode."""
    taken: set[str] = field(default_factory=set)
    """Keys of the episodes that are being fetched or processed, or are done."""

    def due(self, attempts: int) -> list[Episode]:
        """Return the episodes to process now, the oldest first, and mark them as taken."""
        newest = self.request.newest
        if self.request.follow:
            wanted = self.record.wanted(self.latest, newest)
        else:
            wanted = list(self.latest[:newest])
        due = [
            e
            for e in reversed(wanted)
            if e.key not in self.taken
            and self.failures.get(e.key, 0) < attempts
            and not self.record.is_done(e)
        ]
        self.taken |= {e.key for e in due}
        return due

    def failed(self, episode: Episode) -> None:
        """Count a failure of an episode; it may be tried again."""
        self.failures[episode.key] = self.failures.get(episode.key, 0) + 1
        self.taken.discard(episode.key)


class Feeds:
    """Hands episodes to a run, and records their ends.

    `template` has their input settings; `taken` are the names of other inputs of the run.

    Raises:
        ConfigError: another run uses one of the feeds.
        SinkError: a record or folder cannot be read or written.

    """

    def __init__(
        self,
        requests: Sequence[FeedRequest],
        template: InputConfig,
        folders: Folders,
        settings: FeedConfig,
        network: NetworkConfig,
        taken: Iterable[str] = (),
    ) -> None:
        self._template = template
        self._settings = settings
        self._kept = folders.kept is not None
        self._remarks: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._faults: queue.SimpleQueue[AbhinayaError] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[tuple[_Feed, Episode]] = queue.SimpleQueue()
        # one episode is fetched ahead of those that are being processed
        self._room = threading.Semaphore(settings.parallel + 1)
        self._stop = threading.Event()
        self._network = network
        self._lock = threading.Lock()  # protects the feeds' records, failures and taken episodes
        self._running: dict[str, tuple[_Feed, Episode]] = {}
        self._names = set(taken)
        self._threads: list[threading.Thread] = []
        with ExitStack() as stack:
            self._cache = folders.kept or stack.enter_context(temporary_folder(folders.cache))
            make_folder(self._cache)
            for request in requests:
                record = Record(folders.records, request.url)
                stack.callback(record.close)
                feed = _Feed(
                    request, record, self._connect(f"feed {shown(request.url)}", request.url)
                )
                self._threads.append(threading.Thread(target=self._run, args=(feed,), daemon=True))
            self._stack = stack.pop_all()

    def start(self) -> None:
        """Start to poll the feeds."""
        for thread in self._threads:
            thread.start()

    @property
    def over(self) -> bool:
        """Whether no episode is being processed, and none will follow."""
        # in this order: a thread queues its last episode before it ends
        ended = not any(thread.is_alive() for thread in self._threads)
        return ended and self._ready.empty() and not self._running and self._faults.empty()

    def take(self) -> list[tuple[str, InputConfig]]:
        """Return the name and input of each episode to start now."""
        taken = []
        while len(self._running) < self._settings.parallel and not self._ready.empty():
            feed, episode = self._ready.get()
            # a new try gets a new name: a stream cannot begin twice
            names = (f"{episode.stream} ({n})" for n in itertools.count(2))
            free = itertools.chain([episode.stream], names)
            name = next(name for name in free if name not in self._names)
            self._names.add(name)
            self._running[name] = feed, episode
            path = str(self._path(episode))
            taken.append((name, replace(self._template, what=path, label=episode.title)))
        return taken

    def news(self) -> list[str]:
        """Return the messages for the user since the last call."""
        return [self._remarks.get() for _ in range(self._remarks.qsize())]

    def faults(self) -> list[AbhinayaError]:
        """Return the errors since the last call."""
        return [self._faults.get() for _ in range(self._faults.qsize())]

    def cancelled(self) -> list[str]:
        """Return nothing: an episode is read to its end."""
        return []

    def ended(self, name: str, reason: str) -> None:
        """Note that all results of input `name` are written; `reason`: why it broke off, or empty.

        Raises:
            SinkError: the record cannot be written.

        """
        if name not in self._running:
            return
        feed, episode = self._running.pop(name)
        with self._lock:
            if reason:
                feed.failed(episode)
            else:
                feed.record.add(episode)
        if not self._kept:
            self._path(episode).unlink(missing_ok=True)
        self._room.release()

    def close(self) -> None:
        """Stop all threads; delete the episodes that are not kept."""
        self._stop.set()
        deadline = time.monotonic() + INTERRUPTS.left_s(2.0)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        self._stack.close()

    # --- called by the threads --------------------------------------------------------------------

    def _run(self, feed: _Feed) -> None:
        while not self._stop.is_set():
            try:
                self._poll(feed)
            except AbhinayaError as error:
                self._faults.put(error)
            except Exception as error:  # a bug must not look like the end of a feed
                reason = f"stopped on an unexpected {type(error).__name__}: {error}"
                self._faults.put(ProcessError(feed.web.subject, reason))
                return
            if not feed.request.follow or self._stop.wait(self._settings.interval_s):
                return

    def _connect(self, subject: str, address: str) -> Web:
        return Web(subject, self._network, self._remarks.put, self._stop, address)

    def _poll(self, feed: _Feed) -> None:
        """Read a feed once, and fetch the episodes that are due."""
        self._refresh(feed)
        with self._lock:
            due = feed.due(self._settings.attempts)
        for episode in due:
            if not self._reserve():
                return
            try:
                self._fetch(feed, episode)
            except SourceError as error:
                self._room.release()
                with self._lock:
                    feed.failed(episode)
                if not self._stop.is_set():
                    self._faults.put(error)
                continue
            self._ready.put((feed, episode))

    def _reserve(self) -> bool:
        """Wait for room for one more episode; return False if the run is ending."""
        while not self._stop.is_set():
            if self._room.acquire(timeout=0.1):
                return True
        return False

    def _refresh(self, feed: _Feed) -> None:
        """Fetch the list of episodes of a feed, if it has changed."""
        limit = round(self._settings.max_feed_mb * _MB)
        answer, data = feed.web.fetch(feed.request.url, limit, feed.conditions)
        if (to := moved_to(answer)) and not feed.moved:
            feed.moved = True
            feed.web.remark(f"has moved for good to {shown(to)}")
        if answer.status_code != 304:
            subject, charset = feed.web.subject, answer.charset_encoding or ""
            data = unpacked(data, limit, subject)
            faults: list[str] = []
            feed.latest = parse_feed(data, str(answer.url), subject, charset, faults.append)
            for fault in faults:
                feed.web.remark(fault)
            # only after parsing: a damaged feed must be requested again
            names = {"etag": "if-none-match", "last-modified": "if-modified-since"}
            headers = {} if faults else answer.headers
            feed.conditions = {to: headers[name] for name, to in names.items() if name in headers}

    def _fetch(self, feed: _Feed, episode: Episode) -> None:
        path = self._path(episode)
        if not path.exists():
            web = self._connect(f"{episode.stream} ({shown(episode.url)})", feed.request.url)
            download(web, episode.url, path, round(self._settings.max_episode_mb * _MB))

    def _path(self, episode: Episode) -> Path:
        return self._cache / f"{episode.key}.audio"


def moved_to(answer: httpx2.Response) -> str:
    """Return the address that permanent redirects at the beginning lead to; empty without one."""
    steps = [*answer.history, answer]
    lasting = itertools.takewhile(lambda step: step.status_code in (301, 308), steps)
    count = len(list(lasting))
    return str(steps[count].url) if 0 < count < len(steps) else ""


def download(web: Web, url: str, path: Path, limit: int) -> None:
    """Download an audio file of at most `limit` bytes to `path`; `path` never holds a part of it.

    Raises:
        SourceError: it cannot be fetched, is not audio, is too long, or the disk is full.

    """
    part = path.with_suffix(".part")
    try:
        with part.open("w+b") as file:
            web.patiently(lambda: _copy(web, url, file, limit), most=_DOWNLOADS)
            file.seek(0)
            check_audio(web, file.read(_LOOK_BYTES), "")
        part.replace(path)
    except OSError as error:
        reason = f"cannot be stored: {error.strerror or error}"
        raise web.error(reason, f"make room in {path.parent}") from error
    finally:
        part.unlink(missing_ok=True)
        web.close()


def _copy(web: Web, url: str, file: BinaryIO, limit: int) -> None:
    """Copy an audio file from its server, from the beginning."""
    if file.tell():
        web.remark("was cut off; trying again from the start")
        file.seek(0)
        file.truncate()
    remote = RemoteFile(web, url)
    try:
        size = remote.total or 0
        while size <= limit and (data := remote.read(_READ_BYTES)):
            size = max(size, file.tell() + len(data))
            file.write(data)
    finally:
        remote.close()
    if size > limit:
        reason = f"is longer than {limit / 1e6:g} MB"
        raise web.error(reason, "raise feeds.max_episode_mb if it is right")
    if remote.failure is not None:
        raise remote.failure
