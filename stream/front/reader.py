"""The reading thread of a front: all its inputs in rounds, and their speech found in one batch."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from abhinaya.stream.errors import AbhinayaError, ProcessError
from abhinaya.stream.front.numbering import Speech, SpeechItem, read_round
from abhinaya.stream.front.outbox import Fleeting, Outbox
from abhinaya.stream.sources.base import Opened
from abhinaya.stream.wire.messages import Standing, StreamInfo


@dataclass(slots=True, eq=False)
class Feed:
    """One input, between the thread that reads it and the thread that sends it."""

    name: str
    infos: tuple[StreamInfo, ...]
    """Of its streams, one a channel."""
    written: tuple[Standing, ...] = ()
    """What is written of them already, if this process takes over from one that died."""
    source: Opened | None = None
    """None for one that cannot be opened again: then its streams end."""
    fault: AbhinayaError | None = None
    """Why it cannot be read, or not to its end."""
    items: deque[SpeechItem] = field(default_factory=deque)
    """What was found. A source that can wait is read on when this is empty."""
    over: bool = False
    outboxes: dict[str, Outbox] = field(default_factory=dict)
    """By stream; filled when the hub has told how far they have come."""
    fleeting: dict[str, Fleeting] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether audio arrives by itself and cannot wait."""
        return self.source is not None and self.source.live

    @property
    def is_done(self) -> bool:
        """Whether all of it was sent and acknowledged."""
        return self.over and not self.items and all(box.empty for box in self.outboxes.values())


class Reader:
    """Reads feeds to their ends; what it finds goes into their `items`."""

    def __init__(self, front: str, wake: Callable[[], None]) -> None:
        self._front = front
        self._wake = wake
        self._room = threading.Event()
        self.error: ProcessError | None = None
        """A fault of ours, which must not pass for the end of an input."""

    def start(self, feeds: Sequence[tuple[Feed, Speech]]) -> None:
        """Begin to read."""
        threading.Thread(target=self._run, args=(dict(feeds),), daemon=True).start()

    def make_room(self) -> None:
        """Note that items were taken: a source that waited may go on."""
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
                for speech in (speech for speech in ready if speech.over):
                    feed = feeds[speech]
                    feed.fault, feed.over = speech.fault, True
                    del left[feed]
                if news:
                    self._wake()
        except Exception as error:
            traceback.print_exc()
            reason = f"stopped on an unexpected {type(error).__name__}: {error}"
            self.error = ProcessError(self._front, reason)
            self._wake()
