"""The reading thread of a front: reads all inputs in rounds and finds their speech in one batch."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from abhinaya.models.text import say_traceback
from abhinaya.stream.errors import AbhinayaError, ProcessError
from abhinaya.stream.front.numbering import Speech, SpeechItem, read_round
from abhinaya.stream.front.outbox import LatestOnly, Outbox
from abhinaya.stream.sources.base import Opened
from abhinaya.stream.wire.messages import Standing, StreamInfo

ROUND_S: Final = 0.032
"""Least time of a round if inputs come and go: the network then works on many frames at once."""
LOOK_S: Final = 0.25
"""How often their sources are asked whether they have stalled."""


@dataclass(slots=True, eq=False)
class Feed:
    """One input, shared by the thread that reads it and the thread that sends its items."""

    name: str
    infos: tuple[StreamInfo, ...]
    """Its streams, one for each channel."""
    written: tuple[Standing, ...] = ()
    """How far the streams are already written, if this process replaces one that died."""
    source: Opened | None = None
    """None if it cannot be opened again: then its streams end."""
    fault: AbhinayaError | None = None
    """The error that ended reading, if any."""
    items: deque[SpeechItem] = field(default_factory=deque)
    """Items found but not yet in an outbox. A file is read on only when this is empty."""
    over: bool = False
    """Whether reading has ended."""
    reached: int = 0
    """Position up to which it was read, or its end if its length is known."""
    outboxes: dict[str, Outbox] = field(default_factory=dict)
    """Outboxes by stream; empty until the hub's first `Welcome`."""
    latest: dict[str, LatestOnly] = field(default_factory=dict)
    """Partials and activity by stream."""
    begin: int | None = None
    """Position of the source's first sample in the streams; None: see `Speech`."""
    done: Callable[[str], None] = lambda reason: None
    """Called when the front needs it no more; the reason says why it could not be read."""

    @property
    def live(self) -> bool:
        """Whether audio arrives in real time, so that the reader must keep up."""
        return self.source is not None and self.source.live

    @property
    def is_continued(self) -> bool:
        """Whether it goes on where a predecessor was, instead of from its beginning."""
        assert self.source is not None
        return self.begin is not None or (bool(self.written) and not self.source.repeatable)

    @property
    def is_done(self) -> bool:
        """Whether reading has ended and all items are acknowledged."""
        return not self.unfinished()

    def unfinished(self) -> list[StreamInfo]:
        """Return the streams that are still read, or have items that are not acknowledged."""
        if not self.over:
            ended = {standing.stream for standing in self.written if standing.ended}
            return [info for info in self.infos if info.stream not in ended]
        found = {item.stream for item in self.items}
        found |= {stream for stream, outbox in self.outboxes.items() if not outbox.empty}
        return [info for info in self.infos if info.stream in found]


class Reader:
    """Reads feeds to their ends, and appends what it finds to their `items`.

    Args:
        front: name of the front.
        wake: called after items were found.
        stays: whether further feeds may come at any time.

    """

    def __init__(self, front: str, wake: Callable[[], None], stays: bool = False) -> None:
        self._front = front
        self._wake = wake
        self._stays = stays
        self._room = threading.Event()
        self._new: queue.SimpleQueue[tuple[Feed, Speech]] = queue.SimpleQueue()
        self._left: dict[Feed, Speech] = {}
        self.error: ProcessError | None = None
        """A bug; it must not look like the end of an input."""

    def start(self) -> None:
        """Start the reading thread."""
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, feeds: Sequence[tuple[Feed, Speech]]) -> None:
        """Read these feeds too. Without `stays`, only before the start."""
        for found in feeds:
            self._new.put(found)
        self._room.set()

    def make_room(self) -> None:
        """Note that items were removed, or audio has come: a waiting source may be read on."""
        self._room.set()

    def _run(self) -> None:
        try:
            while self._stays or self._left or not self._new.empty():
                self._room.clear()
                while not self._new.empty():
                    feed, speech = self._new.get()
                    self._left[feed] = speech
                ready = {s: f for f, s in self._left.items() if _is_ready(f)}
                if not ready:
                    self._room.wait(LOOK_S if self._stays else None)
                    continue
                begun = time.monotonic()
                self._round(ready)
                if self._stays:
                    time.sleep(max(0.0, ROUND_S - (time.monotonic() - begun)))
        except Exception as error:
            say_traceback()
            reason = f"stopped on an unexpected {type(error).__name__}: {error}"
            self.error = ProcessError(self._front, reason)
            self._wake()

    def _round(self, ready: dict[Speech, Feed]) -> None:
        news = False
        for speech, item in read_round(list(ready)):
            ready[speech].items.append(item)
            news = True
        for speech, feed in ready.items():
            feed.reached = speech.reached
            if speech.over:
                feed.fault, feed.over = speech.fault, True
                del self._left[feed]
        if news:
            self._wake()


def _is_ready(feed: Feed) -> bool:
    if feed.source is not None and feed.live:
        return feed.source.ready()
    return not feed.items
