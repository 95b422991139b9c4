"""How many segments of each stream may be in progress at once. Pure.

A live stream cannot wait. Files share what the nodes manage: those that began first are processed,
the others wait. While live streams lose voters, all files wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from abhinaya.stream.hub.segments import Stream
from abhinaya.stream.settings.config import FlowConfig

IDLE_S: Final = 2.0
"""Time without a segment after which a file gives its place to the next one."""


class Windows:
    """The windows of all streams of a hub.

    `manageable` is the number of segments of files that may be in progress at once.
    """

    def __init__(self, flow: FlowConfig) -> None:
        self._flow = flow
        self.manageable = flow.files_window
        self._windows: dict[str, int] = {}
        """By id: the windows of the files that need not wait."""
        self._busy: dict[str, float] = {}
        """By id of such a file: when it last had a segment in progress."""

    def of(self, stream: Stream) -> int:
        """Return how many segments, from the first unacknowledged one, may be sent."""
        return self.most(stream) if stream.info.live else self._windows.get(stream.id, 0)

    def most(self, stream: Stream) -> int:
        """Return the largest window that a stream may have had."""
        # a live front may send more than the backlog: the hub then drops segments, because only the
        # hub knows which ones are already in work
        return 2 * self._flow.live_backlog if stream.info.live else self._flow.file_window

    def review(self, now: float, streams: Iterable[Stream]) -> list[Stream]:
        """Choose anew which files wait; return those whose window is another now."""
        files = [s for s in streams if not s.info.live and not s.end_written]
        left, before, busy = self.manageable, self._windows, self._busy
        self._windows, self._busy = {}, {}
        for stream in files:
            if left <= 0:
                break
            in_progress = stream.next_sequence > stream.acknowledged
            since = now if in_progress else busy.get(stream.id, now)
            window = min(self._flow.file_window, left)
            self._busy[stream.id], self._windows[stream.id] = since, window
            if now - since < IDLE_S and not stream.ended:
                left -= window
        return [s for s in files if before.get(s.id, 0) != self._windows.get(s.id, 0)]

    @property
    def begun(self) -> int:
        """Number of files that need not wait."""
        return len(self._windows)
