"""Puts packets of one track in order, each with its position in samples; times are passed in."""

from __future__ import annotations

from typing import Final, NamedTuple

DELAY_S: Final = 0.06
FAR_AHEAD: Final = 3_000
"""Packets. A sequence number further ahead is that of a sender which began anew (RFC 3550, A.1)."""
FAR_BEHIND: Final = 100
LEAP_S: Final = 10.0
"""A time stamp that leaps so far ahead of the clock belongs to a new clock of the sender."""
BACK_S: Final = 1.0
MOST_WAITING: Final = 500
MARGIN_S: Final = 0.2
"""In an announced pause, silence stays so far behind the clock: the next packet may be early."""
PIECE: Final = 8_000
"""Samples of silence in one piece."""


class _Waiting(NamedTuple):
    arrived: float
    time: int
    data: bytes


class JitterBuffer:
    """Waits for packets that are out of order.

    A packet leaves when it is the next one, or when one has waited `delay_s`. Positions count from
    the first packet, or from `begin`. A pause of the sender without a lost packet is silence: it is
    filled in if `silence` has a sample; a hole where packets were lost stays a hole, so that who
    gets the positions can report it. What is before the first packet of a track is silence
    too. After a leap of sequence number or time stamp, and
    after `restart`, the position goes on by the time of arrival.

    Args:
        rate: samples (ticks of the time stamp) a second.
        silence: one sample of silence; empty: pauses are not filled in.
        sample_bytes: bytes of one sample.

    """

    def __init__(
        self,
        rate: int = 8_000,
        delay_s: float = DELAY_S,
        *,
        silence: bytes = b"",
        sample_bytes: int = 1,
    ) -> None:
        self.rate, self.delay_s = rate, delay_s
        self.silence, self.sample_bytes = silence, sample_bytes
        self.late = 0
        """Packets that came after their turn, or twice."""
        self.lost = 0
        """Packets that did not come in time."""
        self._waiting: dict[int, _Waiting] = {}
        self._ready: list[tuple[int, bytes]] = []
        self._highest: int | None = None
        """Highest sequence number, unwrapped; None: the next packet begins a new clock."""
        self._next: int | None = None
        """The sequence number whose turn it is; None: nothing of this clock has left."""
        self._time = 0
        """Newest time stamp, unwrapped, and when it arrived."""
        self._time_at = 0.0
        self._zero = 0
        """Time stamp of position 0."""
        self._end = 0
        """Position after what has left."""
        self._began: float | None = None
        """When position 0 was."""
        self._paused = self._resumed = False
        """Whether the sender has announced a pause; whether the next packet ends one."""

    def begin(self, now: float) -> None:
        """Make `now` position 0 if nothing has done so yet: tracks of a call share their zero."""
        if self._began is None:
            self._began = now

    def push(self, now: float, sequence: int, timestamp: int, data: bytes) -> None:
        """Take a packet; one without data only holds its place (comfort noise, a key pressed)."""
        self.begin(now)
        if self._highest is not None and self._begins_anew(now, sequence, timestamp, data):
            self.restart()
        if self._highest is None:
            self._highest, self._time, self._time_at = sequence, timestamp, now
        number = self._highest + _near(sequence - self._highest, 16)
        time = self._time + _near(timestamp - self._time, 32)
        if number in self._waiting or (self._next is not None and number < self._next):
            self.late += 1
            return
        if number >= self._highest:
            self._highest = number
            if data:
                self._time, self._time_at = time, now
        self._resumed, self._paused = self._resumed or self._paused, False
        self._waiting[number] = _Waiting(now, time, data)
        if len(self._waiting) > MOST_WAITING:
            self._release(min(self._waiting))  # a burst: do not wait for the rest

    def pop(self, now: float) -> list[tuple[int, bytes]]:
        """Return what may leave now, in order: position and data."""
        while self._waiting:
            first = min(self._waiting)
            oldest = min(packet.arrived for packet in self._waiting.values())
            if first != self._next and now - oldest < self.delay_s:
                break
            self._release(first)
        if self._paused and not self._waiting:
            self._fill(self._position_at(now - MARGIN_S))
        ready, self._ready = self._ready, []
        return ready

    def wait_s(self, now: float) -> float | None:
        """Return after how many seconds `pop` has something without another packet, if at all."""
        if not self._waiting:
            return None
        oldest = min(packet.arrived for packet in self._waiting.values())
        return max(0.0, oldest + self.delay_s - now)

    def pause(self, now: float) -> None:
        """Let silence go on by the clock until the next packet: the sender announced a pause."""
        self.begin(now)
        self._paused = True

    def restart(self) -> None:
        """Let all leave; the next packet begins a new sequence and clock (another sender)."""
        for number in sorted(self._waiting):
            self._release(number)
        self._highest = self._next = None

    def _begins_anew(self, now: float, sequence: int, timestamp: int, data: bytes) -> bool:
        assert self._highest is not None
        ahead = _near(sequence - self._highest, 16)
        if not -FAR_BEHIND <= ahead <= FAR_AHEAD:
            return True
        if ahead <= 0 or not data:
            return False
        leap_s = _near(timestamp - self._time, 32) / self.rate
        return leap_s < -BACK_S or leap_s > now - self._time_at + LEAP_S

    def _release(self, number: int) -> None:
        packet = self._waiting.pop(number)
        silent = number == self._next or self._resumed or not self._end
        if self._next is None:
            at = self._position_at(packet.arrived)
            follows = at - self._end <= self.delay_s * self.rate
            self._zero = packet.time - (self._end if follows else at)
        else:
            self.lost += number - self._next
        self._next = number + 1
        if not packet.data:
            return
        position = packet.time - self._zero
        if silent:
            self._fill(position)
        self._resumed = False
        data = packet.data[max(0, self._end - position) * self.sample_bytes :]
        if not data:  # a time that has been before
            self.late += 1
            return
        position = max(position, self._end)
        self._ready.append((position, data))
        self._end = position + len(data) // self.sample_bytes

    def _position_at(self, now: float) -> int:
        return round((now - (self._began or 0.0)) * self.rate)

    def _fill(self, end: int) -> None:
        """Fill in silence up to a position."""
        while self.silence and self._end < end:
            count = min(end - self._end, PIECE)
            self._ready.append((self._end, self.silence * count))
            self._end += count


def _near(difference: int, bits: int) -> int:
    """Return a difference of two counters that wrap, as the nearest signed number."""
    half = 1 << (bits - 1)
    return (difference + half) % (2 * half) - half
