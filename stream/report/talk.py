"""Who talks when in a call with a channel for each party: shares, interruptions, silence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from abhinaya.stream.sinks.rows import Decided, Segment

TURN_PAUSE_S: Final = 0.5
"""Segments of one channel that are closer than this are one turn."""
OVERLAP_S: Final = 0.5
"""An interruption lasts at least as long; the padding of segments overlaps by less."""
DEAD_AIR_S: Final = 3.0
"""A silence counts from this length on."""


@dataclass(slots=True)
class _Turn:
    start_s: float
    end_s: float
    over: str | None
    """Who was speaking when it began."""
    counted: bool = False


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
    """What a call comes to; segments are added in the order of their start."""

    channels: dict[str, Channel]
    overlap_s: float = 0.0
    """Seconds in which two or more spoke."""
    silence_s: float = 0.0
    """Seconds in which all channels were heard and nobody spoke."""
    longest_silence_s: float = 0.0
    dead_air: int = 0
    """Silences of at least DEAD_AIR_S."""
    _turns: dict[str, _Turn] = field(default_factory=dict)
    _busy_s: float = 0.0
    """Until when somebody spoke or was not heard."""

    def share(self, name: str) -> float:
        """Return the part of all talking that is this channel's, from 0 to 1."""
        total = sum(channel.talk_s for channel in self.channels.values())
        return self.channels[name].talk_s / total if total else 0.0

    def add(self, row: Segment) -> None:
        """Take a segment; a provisional verdict does not count."""
        if isinstance(row, Decided) and not row.final:
            return
        self.quiet_until(row.start_s)
        if isinstance(row, Decided):
            self.channels[row.stream].talk_s += row.end_s - row.start_s
            self._speak(row)
        self._busy_s = max(self._busy_s, row.end_s)

    def quiet_until(self, start_s: float) -> None:
        """Take that nothing comes before `start_s`."""
        silence_s = start_s - self._busy_s
        if silence_s <= 0:
            return
        self._busy_s = start_s
        self.silence_s += silence_s
        self.longest_silence_s = max(self.longest_silence_s, silence_s)
        self.dead_air += silence_s >= DEAD_AIR_S

    def _speak(self, row: Decided) -> None:
        turn = self._turns.get(row.stream)
        others = {n: t for n, t in self._turns.items() if n != row.stream}
        if turn is None or row.start_s - turn.end_s > TURN_PAUSE_S:
            # in the middle of another's turn, not in the same moment as it
            over = next((n for n, t in others.items() if t.start_s < row.start_s < t.end_s), None)
            self._turns[row.stream] = _Turn(row.start_s, row.end_s, over)
            self.channels[row.stream].turns += 1
        else:
            turn.end_s = max(turn.end_s, row.end_s)
        both_s = max((min(row.end_s, t.end_s) - row.start_s for t in others.values()), default=0.0)
        self.overlap_s += max(0.0, both_s)
        for name in (row.stream, *others):
            self._judge(name)

    def _judge(self, name: str) -> None:
        """Count a turn as an interruption once it has overlapped for long enough."""
        turn = self._turns[name]
        if turn.over is None or turn.counted:
            return
        if min(turn.end_s, self._turns[turn.over].end_s) - turn.start_s >= OVERLAP_S:
            turn.counted = True
            self.channels[name].interruptions += 1


def talk(names: Sequence[str], rows: Iterable[Segment], duration_s: float) -> Talk:
    """Return what the channels of one call come to; their segments may come in any order."""
    found = Talk({name: Channel() for name in names})
    for row in sorted(rows, key=lambda row: row.start_s):
        found.add(row)
    found.quiet_until(duration_s)
    return found


def calls(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Group streams into calls: channels of one input are named INPUT/CHANNEL."""
    groups: dict[str, list[str]] = {}
    for name in names:
        head, slash, _ = name.rpartition("/")
        if slash:
            groups.setdefault(head, []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]
