"""What the dispatch keeps of segments, services and nodes, and what it asks for. No behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

Key = tuple[str, int]
"""A segment: (stream, sequence number)."""


@dataclass(frozen=True, slots=True)
class Assign:
    """Send this segment to this node, for these services."""

    node: str
    key: Key
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retract:
    """Tell this node that its answer is no longer wanted."""

    node: str
    key: Key
    part: int = 0
    """Of a segment that is still spoken; 0: nothing of the segment is wanted of it."""


@dataclass(frozen=True, slots=True)
class Absent:
    """This service will give nothing for this segment."""

    key: Key
    service: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """This node is no longer worked with."""

    node: str
    reason: str


Action = Assign | Retract | Absent | Lost


class State(Enum):
    """Where one service stands with one segment."""

    WAITING = auto()  # for what it needs, or to know what it needs
    QUEUED = auto()
    HELD = auto()  # by a node
    DONE = auto()
    ABSENT = auto()


OPEN: Final = (State.WAITING, State.QUEUED, State.HELD)


@dataclass(slots=True)
class Work:
    """One service's part in one segment."""

    state: State = State.WAITING
    attempts: int = 0
    reason: str = ""


@dataclass(slots=True)
class Job:
    """A segment, with what each service has to do with it."""

    key: Key
    due: float
    order: int
    work: dict[str, Work]
    transcript: bool | None = None
    """Whether there is one; None while that is open."""
    nodes: set[str] = field(default_factory=set)
    """Who has been given it, for any service; empty until it is begun."""


@dataclass(slots=True)
class ServiceRecord:
    """What the nodes that give one service share."""

    needs: frozenset[str] | None = None
    """None until the first node has declared it."""
    kind: str = ""
    stateful: bool = False
    beside: frozenset[str] = frozenset()
    """Stateful services, itself perhaps, that its latest node gives."""
    abandoned: str = ""
    """Why nobody will give it, if so."""
    queue: list[tuple[float, int, Key]] = field(default_factory=list)


@dataclass(slots=True)
class NodeRecord:
    """A node, and what it has in hand."""

    services: tuple[str, ...]
    credits: int
    heard: float
    held: dict[Key, set[str]] = field(default_factory=dict)
    """Services that it has not answered yet, by segment."""
    lent: tuple[Key, int] | None = None
    """The part of a segment that it works on."""
    lent_for: set[str] = field(default_factory=set)
    """Services that it has not answered of that part."""
    done: dict[str, int] = field(default_factory=dict)
    """Answers by service."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the dispatch is, in seconds."""

    silent_s: float
    task_s: float
    attempts: int
