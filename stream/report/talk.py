"""Who talks when in a call with a channel for each party: shares, interruptions, silence."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from abhinaya.stream.sinks.rows import Decided, Segment

TURN_PAUSE_S: Final = 0.5
"""Segments of one channel that are closer than this are one turn."""
OVERLAP_S: Final = 0.5
"""An interruption lasts at least as long; the padding of segments overlaps by less."""
DEAD_AIR_S: Final = 3.0
"""A silence counts from this length on."""
PENDING: Final = 4096
"""Segments that wait for another channel to come as far."""


@dataclass(slots=True)
class Channel:
    """One party."""

    talk_s: float = 0.0
    """Seconds in which it spoke, alone or not."""
    turns: int = 0
    interruptions: int = 0
    """How often it began while another was speaking and both went on for a while."""


@dataclass(slots=True)
class Talk:
    """What a call came to, up to `until_s`."""

    channels: dict[str, Channel] = field(default_factory=dict)
    until_s: float = 0.0
    overlap_s: float = 0.0
    """Seconds in which two or more spoke."""
    silence_s: float = 0.0
    """Seconds in which all channels were heard and nobody spoke."""
    longest_silence_s: float = 0.0
    dead_air: int = 0
    """Silences of at least DEAD_AIR_S."""

    def share(self, name: str) -> float:
        """Give the part of all talking that is this channel's, from 0 to 1."""
        total = sum(channel.talk_s for channel in self.channels.values())
        return self.channels[name].talk_s / total if total else 0.0


@dataclass(slots=True)
class _Turn:
    start_s: float
    end_s: float
    over: str | None
    """Who was speaking when it began."""
    counted: bool = False


class Conversation:
    """Compares the channels of one call as far as all of them are known.

    Args:
        names: of the channels.

    """

    def __init__(self, names: Sequence[str]) -> None:
        self.talk = Talk({name: Channel() for name in names})
        self._known_s = dict.fromkeys(names, 0.0)
        self._waiting: list[tuple[float, int, str, Segment]] = []
        self._count = 0
        self._turns: dict[str, _Turn] = {}
        self._busy_s = 0.0
        """Until when anybody spoke or was not heard, of what has been compared."""

    def add(self, row: Segment) -> None:
        """Take a segment of a channel, in the order of their start within the channel."""
        if row.stream not in self._known_s or (isinstance(row, Decided) and not row.final):
            return
        self._count += 1
        heapq.heappush(self._waiting, (row.start_s, self._count, row.stream, row))
        self._known_s[row.stream] = max(self._known_s[row.stream], row.start_s)
        self._advance(min(self._known_s.values()))
        while len(self._waiting) > PENDING:
            self._take(heapq.heappop(self._waiting)[3])

    def finish(self, duration_s: float) -> Talk:
        """Take what is left, to the end of the call, and give the result."""
        self._advance(float("inf"))
        self._quiet_until(duration_s)
        self.talk.until_s = max(self.talk.until_s, duration_s)
        return self.talk

    def _advance(self, known_s: float) -> None:
        while self._waiting and self._waiting[0][0] <= known_s:
            self._take(heapq.heappop(self._waiting)[3])

    def _take(self, row: Segment) -> None:
        self._quiet_until(row.start_s)
        channel = self.talk.channels[row.stream]
        if isinstance(row, Decided):
            channel.talk_s += row.end_s - row.start_s
            self._speak(row)
        self._busy_s = max(self._busy_s, row.end_s)
        self.talk.until_s = max(self.talk.until_s, row.end_s)

    def _quiet_until(self, start_s: float) -> None:
        silence_s = start_s - self._busy_s
        if silence_s <= 0:
            return
        self._busy_s = start_s
        self.talk.silence_s += silence_s
        self.talk.longest_silence_s = max(self.talk.longest_silence_s, silence_s)
        self.talk.dead_air += silence_s >= DEAD_AIR_S

    def _speak(self, row: Decided) -> None:
        turn = self._turns.get(row.stream)
        others = {n: t for n, t in self._turns.items() if n != row.stream}
        if turn is None or row.start_s - turn.end_s > TURN_PAUSE_S:
            # in the middle of another's turn, not in the same moment as it
            over = [n for n, t in others.items() if t.start_s < row.start_s < t.end_s]
            turn = self._turns[row.stream] = _Turn(
                row.start_s, row.end_s, over[0] if over else None
            )
            self.talk.channels[row.stream].turns += 1
        else:
            turn.end_s = max(turn.end_s, row.end_s)
        both_s = max((min(row.end_s, t.end_s) - row.start_s for t in others.values()), default=0.0)
        self.talk.overlap_s += max(0.0, both_s)
        for name in (row.stream, *others):
            self._judge(name)

    def _judge(self, name: str) -> None:
        """Count a turn as an interruption once it has overlapped for long enough."""
        turn = self._turns[name]
        if turn.over is None or turn.counted:
            return
        other = self._turns[turn.over]
        if min(turn.end_s, other.end_s) - turn.start_s >= OVERLAP_S:
            turn.counted = True
            self.talk.channels[name].interruptions += 1


def calls(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Group streams into calls: channels of one input are named INPUT/CHANNEL."""
    groups: dict[str, list[str]] = {}
    for name in names:
        head, slash, _ = name.rpartition("/")
        if slash:
            groups.setdefault(head, []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]
