"""The count of what came of calls: every segment exactly once, as a verdict or as a gap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Event = Mapping[str, Any]
Span = tuple[float, float]
NEAR_S = 0.01


@dataclass
class Came:
    """What came of the calls, counted."""

    expected: int
    verdicts: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    """Reason to how many segments."""
    doubles: int = 0
    lost: list[str] = field(default_factory=list)
    """Segments without verdict and gap, streams without an end."""
    incomplete: Counter[str] = field(default_factory=Counter)
    """Reasons why the vote is missing."""
    notices: Counter[str] = field(default_factory=Counter)
    """Node to how many `node_up` and `node_down`."""

    @property
    def most_notices(self) -> int:
        """Return how many there were of one node."""
        return max(self.notices.values(), default=0)

    def nothing_silent(self) -> Came:
        """Hold that every segment came once: as a verdict, or as a gap with its cause."""
        assert (self.lost, self.doubles) == ([], 0), self
        assert "" not in self.gaps, self
        return self

    def whole(self) -> Came:
        """Hold that every segment came once, as a verdict."""
        assert not self.gaps, self
        return self.nothing_silent()


def counted(events: Sequence[Event], names: Collection[str], expected: Sequence[Span]) -> Came:
    """Count the events of calls; `expected` are the segments that each of them has."""
    came = Came(len(expected) * len(names))
    for name in names:
        _count([event for event in events if event["stream"] == name], name, expected, came)
    for event in events:
        if event["type"] in ("node_up", "node_down"):
            came.notices[event["node"]] += 1
    return came


def _count(events: Sequence[Event], name: str, expected: Sequence[Span], came: Came) -> None:
    kinds: dict[str, list[Event]] = {"verdict": [], "gap": [], "stream_ended": []}
    for event in events:
        first = event.get("final", True) and not event.get("revision", 0)
        if first and event["type"] in kinds:
            kinds[event["type"]].append(event)
    verdicts, gaps, ends = kinds.values()
    came.verdicts += len(verdicts)
    came.gaps.update(event["reason"] for event in gaps)
    came.incomplete.update(m["reason"] for event in verdicts for m in event["missing"])
    numbers = Counter(event["segment"] for event in (*verdicts, *gaps))
    came.doubles += sum(numbers.values()) - len(numbers) + max(0, len(ends) - 1)
    if not ends:
        came.lost.append(f"{name}: no end")
    last = max(numbers, default=-1)
    came.lost += [f"{name}: number {n} of {last}" for n in range(last) if n not in numbers]
    # numbers go on without holes, so speech that vanished shows only in the time it took
    spans = [(event["start_s"], event["end_s"]) for event in (*verdicts, *gaps)]
    for start, end in expected:
        covered = sum(max(0.0, min(end, b) - max(start, a)) for a, b in spans)
        if covered < end - start - NEAR_S:
            came.lost.append(f"{name}: {start:.2f} to {end:.2f} s")
        elif covered > end - start + NEAR_S:
            came.doubles += 1
