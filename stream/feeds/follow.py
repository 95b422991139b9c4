"""One feed at work: a thread that looks at it, fetches its episodes and hands them over.

The run takes an episode when it has room for one, and says when its verdicts are written.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from abhinaya.stream.errors import AbhinayaError, ProcessError, SourceError
from abhinaya.stream.feeds.agenda import Agenda
from abhinaya.stream.feeds.download import download
from abhinaya.stream.feeds.parse import Episode, parse_feed
from abhinaya.stream.feeds.store import Record
from abhinaya.stream.settings.config import FeedConfig, NetworkConfig
from abhinaya.stream.sources.address import shown
from abhinaya.stream.sources.web import Web, WebError

_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants of a feed."""

    url: str
    newest: int = 1
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """An episode that is here."""

    episode: Episode
    path: Path


class Desk(Protocol):
    """Whom the followers of a run report to; called by their threads."""

    def reserve(self) -> bool:
        """Wait until there is room for one more episode; False if the run is ending."""
        ...

    def release(self) -> None:
        """Give back room that was reserved."""
        ...

    def hand_over(self, follower: Follower, fetched: Fetched) -> None:
        """Take an episode for which room was reserved."""
        ...

    def say(self, text: str) -> None:
        """Take what people should know."""
        ...

    def trouble(self, error: AbhinayaError) -> None:
        """Take what went wrong."""
        ...


class Follower:
    """Follows one feed in a thread of its own.

    Args:
        wish: which feed, and how much of it.
        record: of what was heard.
        cache: folder for episodes.
        settings: of feeds.
        network: patience.
        desk: takes episodes and news.

    """

    def __init__(
        self,
        wish: Wish,
        record: Record,
        cache: Path,
        settings: FeedConfig,
        network: NetworkConfig,
        desk: Desk,
    ) -> None:
        self.record = record
        self.agenda = Agenda(wish.newest, settings.attempts, record.is_heard)
        self._wish = wish
        self._cache = cache
        self._settings = settings
        self._network = network
        self._desk = desk
        self._web = Web(network)
        self._known: dict[str, str] = {}
        self._latest: tuple[Episode, ...] = ()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def over(self) -> bool:
        """Whether nothing more will be handed over."""
        return not self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End soon, and let another run have the feed."""
        self._stop.set()
        self._thread.join(timeout=2.0)
        self.record.close()

    def heard(self, episode: Episode) -> None:
        """Note that the verdicts of an episode are written.

        Raises:
            SinkError: that cannot be noted down.

        """
        with self._lock:
            self.record.heard(episode)

    def failed(self, episode: Episode) -> None:
        """Note that an episode was not heard to its end."""
        with self._lock:
            self.agenda.failed(episode)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except AbhinayaError as error:
                self._desk.trouble(error)
            except Exception as error:  # a fault of ours must not pass for the end of a feed
                reason = f"stopped on an unexpected {type(error).__name__}: {error}"
                self._desk.trouble(ProcessError(f"feed {shown(self._wish.url)}", reason))
                return
            if not self._wish.follow or self._stop.wait(self._settings.interval_s):
                return

    def _look(self) -> None:
        """Look at the feed once, and fetch what is to be heard."""
        episodes = self._episodes()
        with self._lock:
            due = self.agenda.due(self._wanted(episodes))
        for episode in due:
            if self._stop.is_set() or not self._desk.reserve():
                return
            try:
                fetched = self._fetch(episode)
            except SourceError as error:
                self._desk.release()
                self.failed(episode)
                if not self._stop.is_set():
                    subject = f"{episode.stream} ({error.subject})"
                    self._desk.trouble(SourceError(subject, error.reason, error.remedy))
                continue
            self._desk.hand_over(self, fetched)

    def _wanted(self, episodes: tuple[Episode, ...]) -> list[Episode]:
        if not self._wish.follow:
            return self.agenda.beginning(episodes)[0]
        if not self.record.following:
            self.record.follow(self.agenda.beginning(episodes)[1])
        return [e for e in episodes if not self.record.is_passed(e)]

    def _episodes(self) -> tuple[Episode, ...]:
        """Ask for the feed; nothing if it is as it was."""
        url, subject = self._wish.url, shown(self._wish.url)
        try:
            answer, data = self._web.fetch(
                url, round(self._settings.max_feed_mb * _MB), self._known
            )
        except WebError as error:
            raise SourceError(f"feed {subject}", error.reason, error.remedy) from error
        if answer.status_code == 304:
            return self._latest
        names = {"etag": "if-none-match", "last-modified": "if-modified-since"}
        self._latest = parse_feed(data, str(answer.url), f"feed {subject}")
        # only now: a feed that was damaged is asked for again
        self._known = {
            to: answer.headers[name] for name, to in names.items() if name in answer.headers
        }
        return self._latest

    def _fetch(self, episode: Episode) -> Fetched:
        path = self._cache / f"{episode.key}.audio"
        if not path.exists():
            limit = round(self._settings.max_episode_mb * _MB)
            download(episode.url, path, limit, self._network, self._desk.say, self._stop)
        return Fetched(episode, path)
