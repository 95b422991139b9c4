"""The feeds of a run: threads that look at them and fetch episodes, which become inputs."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from abhinaya.stream.errors import AbhinayaError, ProcessError, SourceError
from abhinaya.stream.feeds.parse import Episode, parse_feed
from abhinaya.stream.feeds.store import Folders, Record, make, passing_folder
from abhinaya.stream.settings.config import FeedConfig, NetworkConfig
from abhinaya.stream.sources.address import shown
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.sources.network import check_audio
from abhinaya.stream.sources.remote import RemoteFile
from abhinaya.stream.sources.web import Web

_MB: Final = 1_000_000
_READ_BYTES: Final = 1 << 18
_LOOK_BYTES: Final = 4096
_DOWNLOADS: Final = 3
"""Tries with a server that cannot resume."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants of a feed."""

    url: str
    newest: int = 1
    follow: bool = False


@dataclass(slots=True)
class _Feed:
    """One feed at work."""

    wish: Wish
    record: Record
    web: Web
    known: dict[str, str] = field(default_factory=dict)
    """What to ask with, so that an unchanged feed is not sent again."""
    latest: tuple[Episode, ...] = ()
    failures: dict[str, int] = field(default_factory=dict)
    """Of episodes, by key."""
    taken: set[str] = field(default_factory=set)

    def due(self, attempts: int) -> list[Episode]:
        """Return which episodes are to be heard now, the oldest first; they count as taken."""
        newest = self.wish.newest
        if self.wish.follow:
            wanted = self.record.wanted(self.latest, newest)
        else:
            wanted = list(self.latest[:newest])
        due = [
            e
            for e in reversed(wanted)
            if e.key not in self.taken
            and self.failures.get(e.key, 0) < attempts
            and not self.record.is_heard(e)
        ]
        self.taken |= {e.key for e in due}
        return due

    def failed(self, episode: Episode) -> None:
        """Note that an episode was not heard to its end: it may be tried again."""
        self.failures[episode.key] = self.failures.get(episode.key, 0) + 1
        self.taken.discard(episode.key)


class Feeds:
    """What a run asks for episodes, and informs of what became of them.

    Each is read as `template` says.

    Raises:
        ConfigError: another run uses one of the feeds.
        SinkError: a record or folder cannot be used.

    """

    def __init__(
        self,
        wishes: Sequence[Wish],
        template: InputConfig,
        folders: Folders,
        settings: FeedConfig,
        network: NetworkConfig,
    ) -> None:
        self._template = template
        self._settings = settings
        self._kept = folders.kept is not None
        self._remarks: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._faults: queue.SimpleQueue[AbhinayaError] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[tuple[_Feed, Episode]] = queue.SimpleQueue()
        # one episode is fetched ahead of those that are being heard
        self._room = threading.Semaphore(settings.parallel + 1)
        self._stop = threading.Event()
        self._connect = partial(Web, settings=network, warn=self._remarks.put, stop=self._stop)
        self._lock = threading.Lock()  # of the feeds' records, failures and taken episodes
        self._at_work: dict[str, tuple[_Feed, Episode]] = {}
        self._names: set[str] = set()
        self._threads: list[threading.Thread] = []
        with ExitStack() as stack:
            self._cache = folders.kept or stack.enter_context(passing_folder(folders.cache))
            make(self._cache)
            for wish in wishes:
                record = Record(folders.records, wish.url)
                stack.callback(record.close)
                feed = _Feed(wish, record, self._connect(f"feed {shown(wish.url)}"))
                self._threads.append(threading.Thread(target=self._run, args=(feed,), daemon=True))
            self._stack = stack.pop_all()

    def start(self) -> None:
        """Begin to look at the feeds."""
        for thread in self._threads:
            thread.start()

    @property
    def over(self) -> bool:
        """Whether no episode is being heard, and none will come."""
        # in this order: a thread hands over before it ends
        ended = not any(thread.is_alive() for thread in self._threads)
        return ended and self._ready.empty() and not self._at_work and self._faults.empty()

    def take(self) -> list[tuple[str, InputConfig]]:
        """Return name and input of the episodes to begin with now."""
        taken = []
        while len(self._at_work) < self._settings.parallel and not self._ready.empty():
            feed, episode = self._ready.get()
            # not the name of an earlier try either: no stream begins twice
            names = (f"{episode.stream} ({n})" for n in itertools.count(2))
            free = itertools.chain([episode.stream], names)
            name = next(name for name in free if name not in self._names)
            self._names.add(name)
            self._at_work[name] = feed, episode
            taken.append((name, replace(self._template, what=str(self._path(episode)))))
        return taken

    def news(self) -> list[str]:
        """Return what people should know since the last call."""
        return [self._remarks.get() for _ in range(self._remarks.qsize())]

    def faults(self) -> list[AbhinayaError]:
        """Return what went wrong since the last call."""
        return [self._faults.get() for _ in range(self._faults.qsize())]

    def ended(self, name: str, whole: bool) -> None:
        """Take note that the input `name` is over and written, and whether it was heard whole.

        Raises:
            SinkError: that cannot be noted down.

        """
        if name not in self._at_work:
            return
        feed, episode = self._at_work.pop(name)
        with self._lock:
            if whole:
                feed.record.heard(episode)
            else:
                feed.failed(episode)
        if not self._kept:
            self._path(episode).unlink(missing_ok=True)
        self._room.release()

    def close(self) -> None:
        """End every thread, and delete what is not kept."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=2.0)
        self._stack.close()

    # --- by the threads ---------------------------------------------------------------------------

    def _run(self, feed: _Feed) -> None:
        while not self._stop.is_set():
            try:
                self._look(feed)
            except AbhinayaError as error:
                self._faults.put(error)
            except Exception as error:  # a fault of ours must not pass for the end of a feed
                reason = f"stopped on an unexpected {type(error).__name__}: {error}"
                self._faults.put(ProcessError(feed.web.subject, reason))
                return
            if not feed.wish.follow or self._stop.wait(self._settings.interval_s):
                return

    def _look(self, feed: _Feed) -> None:
        """Look at a feed once, and fetch what is to be heard."""
        self._refresh(feed)
        with self._lock:
            due = feed.due(self._settings.attempts)
        for episode in due:
            if not self._reserve():
                return
            try:
                self._fetch(episode)
            except SourceError as error:
                self._room.release()
                with self._lock:
                    feed.failed(episode)
                if not self._stop.is_set():
                    self._faults.put(error)
                continue
            self._ready.put((feed, episode))

    def _reserve(self) -> bool:
        """Wait until there is room for one more episode; False if the run is ending."""
        while not self._stop.is_set():
            if self._room.acquire(timeout=0.1):
                return True
        return False

    def _refresh(self, feed: _Feed) -> None:
        """Ask for the episodes of a feed."""
        limit = round(self._settings.max_feed_mb * _MB)
        answer, data = feed.web.fetch(feed.wish.url, limit, feed.known)
        if answer.status_code != 304:
            feed.latest = parse_feed(data, str(answer.url), feed.web.subject)
            # only now: a feed that was damaged is asked for again
            names = {"etag": "if-none-match", "last-modified": "if-modified-since"}
            headers = answer.headers
            feed.known = {to: headers[name] for name, to in names.items() if name in headers}

    def _fetch(self, episode: Episode) -> None:
        path = self._path(episode)
        if not path.exists():
            web = self._connect(f"{episode.stream} ({shown(episode.url)})")
            download(web, episode.url, path, round(self._settings.max_episode_mb * _MB))

    def _path(self, episode: Episode) -> Path:
        return self._cache / f"{episode.key}.audio"


def download(web: Web, url: str, path: Path, limit: int) -> None:
    """Fetch a sound of at most `limit` bytes into `path`, which is there only once it is whole.

    Raises:
        SourceError: it cannot be fetched, is not audio, is too long, or there is no room.

    """
    part = path.with_suffix(".part")
    try:
        with part.open("w+b") as file:
            web.patiently(lambda: _copy(web, url, file, limit), most=_DOWNLOADS)
            file.seek(0)
            check_audio(web, file.read(_LOOK_BYTES))
        part.replace(path)
    except OSError as error:
        reason = f"cannot be stored: {error.strerror or error}"
        raise web.error(reason, f"make room in {path.parent}") from error
    finally:
        part.unlink(missing_ok=True)
        web.close()


def _copy(web: Web, url: str, file: BinaryIO, limit: int) -> None:
    """Copy a sound from its server into a file, from its beginning."""
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
