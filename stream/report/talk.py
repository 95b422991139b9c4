"""Statistics of a call with one channel per party: speech, interruptions, silence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from abhinaya.stream.sinks.rows import Decided, Segment

TURN_PAUSE_S: Final = 0.5
"""Longest pause within one turn of a channel, in seconds."""
OVERLAP_S: Final = 0.5
"""Minimum overlap of an interruption, in seconds; the padding of segments overlaps by less."""
DEAD_AIR_S: Final = 3.0
"""Minimum length of a silence that counts as dead air, in seconds."""


@dataclass(slots=True)
class _Turn:
    start_s: float
    end_s: float
    over: str | None
    """Channel that was speaking when the turn began."""
    counted: bool = False


@dataclass(slots=True)
class Channel:
    """Statistics of one party."""

    talk_s: float = 0.0
    """Seconds of speech of this party."""
    turns: int = 0
    interruptions: int = 0
    """Number of turns that began during another party's turn and overlapped it by OVERLAP_S."""


@dataclass(slots=True)
class Talk:
    """Statistics of a call. Segments are added in the order of their start."""

    channels: dict[str, Channel]
    overlap_s: float = 0.0
    """Seconds in which two or more parties spoke."""
    silence_s: float = 0.0
    """Seconds without speech and without gaps."""
    longest_silence_s: float = 0.0
    dead_air: int = 0
    """Number of silences of at least DEAD_AIR_S."""
    _turns: dict[str, _Turn] = field(default_factory=dict)
    _busy_s: float = 0.0
    """End of the latest speech or gap, in seconds."""

    def share(self, name: str) -> float:
        """Return this channel's fraction of all speech, from 0 to 1."""
        total = sum(channel.talk_s for channel in self.channels.values())
        return self.channels[name].talk_s / total if total else 0.0

    def add(self, row: Segment) -> None:
        """Add a segment; a provisional verdict is ignored."""
        if isinstance(row, Decided) and not row.final:
            return
        self.add_silence_until(row.start_s)
        if isinstance(row, Decided):
            self.channels[row.stream].talk_s += row.end_s - row.start_s
            self._speak(row)
        self._busy_s = max(self._busy_s, row.end_s)

    def add_silence_until(self, start_s: float) -> None:
        """Count the time from the latest speech or gap to `start_s` as silence."""
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
            # a turn that starts at the same time as another does not interrupt it
            over = next((n for n, t in others.items() if t.start_s < row.start_s < t.end_s), None)
            self._turns[row.stream] = _Turn(row.start_s, row.end_s, over)
            self.channels[row.stream].turns += 1
        else:
            turn.end_s = max(turn.end_s, row.end_s)
        both_s = max((min(row.end_s, t.end_s) - row.start_s for t in others.values()), default=0.0)
        self.overlap_s += max(0.0, both_s)
        for name in (row.stream, *others):
            self._count_interruption(name)

    def _count_interruption(self, name: str) -> None:
        """Count a turn as an interruption once it has overlapped for long enough."""
        turn = self._turns[name]
        if turn.over is None or turn.counted:
            return
        if min(turn.end_s, self._turns[turn.over].end_s) - turn.start_s >= OVERLAP_S:
            turn.counted = True
            self.channels[name].interruptions += 1


def talk(names: Sequence[str], rows: Iterable[Segment], duration_s: float) -> Talk:
    """Return the statistics of one call; its segments may come in any order."""
    found = Talk({name: Channel() for name in names})
    for row in sorted(rows, key=lambda row: row.start_s):
        found.add(row)
    found.add_silence_until(duration_s)
    return found


def calls(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the streams of each call: two or more named INPUT/CHANNEL with the same INPUT."""
    groups: dict[str, list[str]] = {}
    for name in names:
        head, slash, _ = name.rpartition("/")
        if slash:
            groups.setdefault(head, []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]
