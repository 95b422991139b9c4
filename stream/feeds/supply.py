"""The feeds of a run: inputs that come up while it goes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.feeds.folders import Folders, make, passing_folder
from abhinaya.stream.feeds.follow import Fetched, Follower, Wish
from abhinaya.stream.feeds.store import Record
from abhinaya.stream.settings.config import FeedConfig, NetworkConfig
from abhinaya.stream.sources.base import InputConfig


class Feeds:
    """What a run asks for episodes, and tells what became of them.

    Args:
        wishes: which feeds, and how much of them.
        template: how to hear an episode.
        folders: where to keep what is kept.
        settings: of feeds.
        network: patience.

    Raises:
        ConfigError: another run is at one of the feeds.
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
        self._stack = ExitStack()
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._faults: queue.SimpleQueue[AbhinayaError] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[tuple[Follower, Fetched]] = queue.SimpleQueue()
        # one episode is fetched ahead of those that are being heard
        self._room = threading.Semaphore(settings.parallel + 1)
        self._ending = threading.Event()
        self._at_work: dict[str, tuple[Follower, Fetched]] = {}
        self._names: set[str] = set()
        self._followers: list[Follower] = []
        try:
            cache = folders.kept or self._stack.enter_context(passing_folder(folders.cache))
            make(cache)
            for wish in wishes:
                record = Record(folders.records, wish.url)
                follower = Follower(wish, record, cache, settings, network, self)
                self._followers.append(follower)
                self._stack.callback(follower.close)
        except AbhinayaError:
            self._stack.close()
            raise

    def start(self) -> None:
        """Begin to look at the feeds."""
        for follower in self._followers:
            follower.start()

    @property
    def over(self) -> bool:
        """Whether no episode is being heard, and none will come."""
        # in this order: a follower hands over before it ends
        ended = all(follower.over for follower in self._followers)
        return ended and self._ready.empty() and not self._at_work and self._faults.empty()

    def take(self) -> list[tuple[str, InputConfig]]:
        """Give name and input of the episodes to begin with now."""
        taken = []
        while len(self._at_work) < self._settings.parallel and not self._ready.empty():
            follower, fetched = self._ready.get()
            name = self._unused(fetched.episode.stream)
            self._at_work[name] = follower, fetched
            taken.append((name, replace(self._template, what=str(fetched.path))))
        return taken

    def _unused(self, name: str) -> str:
        """Give a name that no stream of this run has had: not that of an earlier try either."""
        free, number = name, 1
        while free in self._names:
            number += 1
            free = f"{name} ({number})"
        self._names.add(free)
        return free

    def news(self) -> list[str]:
        """Give what people should know since the last call."""
        said = []
        while not self._said.empty():
            said.append(self._said.get())
        return said

    def faults(self) -> list[AbhinayaError]:
        """Give what went wrong since the last call."""
        faults = []
        while not self._faults.empty():
            faults.append(self._faults.get())
        return faults

    def ended(self, name: str, whole: bool) -> None:
        """Take note that an episode is over, and everything of it written.

        Args:
            name: of the input.
            whole: whether it was heard to its end.

        Raises:
            SinkError: that cannot be noted down.

        """
        if name not in self._at_work:
            return
        follower, fetched = self._at_work.pop(name)
        if whole:
            follower.heard(fetched.episode)
        else:
            follower.failed(fetched.episode)
        if not self._kept:
            fetched.path.unlink(missing_ok=True)
        self._room.release()

    def close(self) -> None:
        """End every thread, and delete what is not kept."""
        self._ending.set()
        self._stack.close()

    # --- what the followers call, by their threads ------------------------------------------------

    def reserve(self) -> bool:
        """Wait until there is room for one more episode; False if the run is ending."""
        while not self._room.acquire(timeout=0.1):
            if self._ending.is_set():
                return False
        return True

    def release(self) -> None:
        """Give back room that was reserved."""
        self._room.release()

    def hand_over(self, follower: Follower, fetched: Fetched) -> None:
        """Take an episode for which room was reserved."""
        self._ready.put((follower, fetched))

    def say(self, text: str) -> None:
        """Take what people should know."""
        self._said.put(text)

    def trouble(self, error: AbhinayaError) -> None:
        """Take what went wrong."""
        self._faults.put(error)
