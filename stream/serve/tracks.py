"""The clock of one pushed track: where on it each message of audio belongs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PAUSE_S: Final = 2.0
"""After so long without audio, audio without a position does not follow on, but comes now."""

JUMP_S: Final = 5.0
"""A position that is so far from where it can be means that the sender has set its clock anew."""


@dataclass(slots=True)
class TrackClock:
    """Puts the messages of a track in place; its clock only goes forward.

    Audio that is ahead leaves a hole, which becomes silence and a gap. What was there already is
    dropped.
    """

    rate: int
    """Samples a second."""
    size: int
    """Bytes of a sample."""
    opened: float
    """When the call began, in seconds of a monotonic clock."""
    last: float
    """When the latest audio came."""
    next: int = 0
    """Position after the last sample."""
    rest: bytes = b""
    """The first bytes of a sample whose others have not come yet."""
    shift: int = 0
    """What to add to the sender's positions since it has set its clock anew."""
    jumps: int = 0
    """How often it has done that."""

    def place(self, now: float, data: bytes, position: int | None) -> tuple[int, bytes, int]:
        """Return position and whole samples of a message, and how many bytes are dropped.

        Without a `position` the data follows on, unless there was a pause.
        """
        dropped = 0
        if position is None:
            data = self.rest + data if self.rest else data
        else:
            dropped = len(self.rest)  # the sender says that a sample begins here
        odd = len(data) % self.size
        self.rest, whole = (data[-odd:], data[:-odd]) if odd else (b"", data)
        samples = len(whole) // self.size
        clock = int((now - self.opened) * self.rate)
        if position is None:
            paused = now - self.last > PAUSE_S
            start = max(self.next, clock - samples) if paused else self.next
        else:
            start = self._at(position, clock)
        self.last = now
        if late := min(samples, max(0, self.next - start)):
            whole, start, dropped = whole[late * self.size :], self.next, dropped + late * self.size
            samples -= late
        if samples:
            self.next = start + samples
        return start, whole, dropped

    def ahead_s(self, now: float) -> float:
        """Return how much more audio has come than time has passed, in seconds."""
        return self.next / self.rate - (now - self.opened)

    def _at(self, position: int, clock: int) -> int:
        """Return the place of a sender's position."""
        start, most = position + self.shift, JUMP_S * self.rate
        ahead = start - self.next
        if ahead < -most or (ahead > most and start > clock + most):
            self.jumps += 1
            self.shift += self.next - start
            return self.next
        return start
