"""The reading thread of a front: reads all inputs in rounds and finds their speech in one batch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from abhinaya.models.text import say_traceback
from abhinaya.stream.errors import AbhinayaError, ProcessError
from abhinaya.stream.front.numbering import Speech, SpeechItem, read_round
from abhinaya.stream.front.outbox import LatestOnly, Outbox
from abhinaya.stream.sources.base import Opened
from abhinaya.stream.wire.messages import Standing, StreamInfo


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

    @property
    def live(self) -> bool:
        """Whether audio arrives in real time, so that the reader must keep up."""
        return self.source is not None and self.source.live

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
    """Reads feeds to their ends, and appends what it finds to their `items`."""

    def __init__(self, front: str, wake: Callable[[], None]) -> None:
        self._front = front
        self._wake = wake
        self._room = threading.Event()
        self.error: ProcessError | None = None
        """A bug; it must not look like the end of an input."""

    def start(self, feeds: Sequence[tuple[Feed, Speech]]) -> None:
        """Start the reading thread."""
        threading.Thread(target=self._run, args=(dict(feeds),), daemon=True).start()

    def make_room(self) -> None:
        """Note that items were removed: a waiting source may be read on."""
        self._room.set()

    def _run(self, left: dict[Feed, Speech]) -> None:
        feeds = {speech: feed for feed, speech in left.items()}
        try:
            while left:
                self._room.clear()
                ready = [speech for feed, speech in left.items() if feed.live or not feed.items]
                if not ready:
                    self._room.wait()
                    continue
                news = False
                for speech, item in read_round(ready):
                    feeds[speech].items.append(item)
                    news = True
                for speech in ready:
                    feeds[speech].reached = speech.reached
                for speech in (speech for speech in ready if speech.over):
                    feed = feeds[speech]
                    feed.fault, feed.over = speech.fault, True
                    del left[feed]
                if news:
                    self._wake()
        except Exception as error:
            say_traceback()
            reason = f"stopped on an unexpected {type(error).__name__}: {error}"
            self.error = ProcessError(self._front, reason)
            self._wake()
