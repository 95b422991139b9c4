"""What the dispatch keeps of nodes and their services, and what it asks for. No decisions."""

from __future__ import annotations

from dataclasses import dataclass, field

from abhinaya.stream.hub.segments import Key, Record
from abhinaya.stream.wire.messages import Service

TaskKey = tuple[str, int, int]
"""(stream, sequence number, part)."""


@dataclass(frozen=True, slots=True)
class Assign:
    """Send this segment to this node, for these services."""

    node: Node
    record: Record
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retract:
    """Tell this node that its answer is no longer wanted."""

    node: str
    key: Key
    part: int = 0
    """0: nothing of the segment is wanted, and what is kept of its partials can be forgotten."""


@dataclass(frozen=True, slots=True)
class Absent:
    """This service will give nothing for this segment."""

    record: Record
    service: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """This node is no longer worked with."""

    node: Node
    reason: str


Action = Assign | Retract | Absent | Lost


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the dispatch is, in seconds."""

    silent_s: float
    task_s: float
    attempts: int


@dataclass(slots=True)
class Node:
    """A node, and what it has in hand."""

    name: str
    incarnation: str
    gives: dict[str, Service]
    """By name, in the order of the line-up."""
    credits: int
    heard: float = 0.0
    held: dict[TaskKey, set[str]] = field(default_factory=dict)
    """Services that it has not answered yet, by task."""
    done: dict[str, int] = field(default_factory=dict)
    """Answers by service, partials apart."""

    def has_room(self, key: Key) -> bool:
        """Whether it may be given a segment: within its credits, or one that it holds anyway."""
        held = self.held
        return (
            len(held) < self.credits
            or (*key, 0) in held
            or sum(not part for _, _, part in held) < self.credits
        )


@dataclass(slots=True)
class Line:
    """What the nodes that give one service share."""

    needs: frozenset[str] | None = None
    """None until the first node has declared it."""
    beside: frozenset[str] = frozenset()
    """Stateful services, itself perhaps, that its latest node gives."""
    abandoned: str = ""
    """Why nobody will give it, if so."""
    queue: list[tuple[float, int, Key]] = field(default_factory=list)
