"""Data of the dispatch: nodes, queues of services, actions; and which nodes are still alive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from abhinaya.stream.hub.segments import Key, Record
from abhinaya.stream.hub.validation import LONGEST_REASON
from abhinaya.stream.hub.watch import Sample, Suspicion
from abhinaya.stream.wire.messages import NodeDown, NodeLoad, NodeUp, Service, Suspect

TaskKey = tuple[str, int, int]
"""(stream, sequence number, part)."""


@dataclass(frozen=True, slots=True)
class Assign:
    """Send a segment to a node as a task for some services."""

    node: Node
    record: Record
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retract:
    """Send a cancel to a node."""

    node: str
    key: Key
    part: int = 0
    """See Cancel.part."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A service will not answer for a segment."""

    record: Record
    service: str
    reason: str


Action = Assign | Retract | Absent | NodeDown
"""`NodeDown`: the node is no longer used."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the dispatch."""

    silent_s: float
    """Longest silence of a node."""
    task_s: float
    """Longest duration of a batch."""
    attempts: int
    """How often a task is tried."""
    supervised: bool = False
    """Whether somebody watches the processes of the nodes, and decides which are stuck."""


@dataclass(slots=True)
class Node:
    """A node and the tasks that it holds."""

    name: str
    incarnation: str
    gives: dict[str, Service]
    """Services by name, in the order of the line-up."""
    credits: int
    last_received: float = 0.0
    """Time of the last message from the node."""
    held: dict[TaskKey, set[str]] = field(default_factory=dict)
    """By task: services that have not answered yet."""
    unworked: TaskKey | None = None
    """The task that it has held longest, if a heartbeat said that it works on nothing."""
    unworked_s: float = 0.0
    """Seconds since then in which it worked on nothing and was not silent."""
    idle_at: float | None = None
    """Time of its last heartbeat, if that said that it works on nothing."""
    done: dict[str, int] = field(default_factory=dict)
    """Number of answers by service, without partials."""
    silent: bool = False
    suspicion: Suspicion | None = None
    """Why the node may be stuck."""
    right: dict[str, float] = field(default_factory=dict)
    """By service: when it was last right about the test recording (`canary.py`)."""

    def up(self) -> Iterator[NodeUp]:
        """Yield one event for each service: it is ready."""
        for service in self.gives.values():
            yield NodeUp(
                node=self.name,
                service=service.name,
                gives=service.kind,
                model=service.model,
                version=service.version,
                licence=service.licence,
                noncommercial=service.noncommercial,
            )

    def down(self, reason: str) -> NodeDown:
        """Return the event that the node is no longer used."""
        return NodeDown(
            node=self.name,
            incarnation=self.incarnation,
            service=", ".join(self.gives)[:LONGEST_REASON],
            reason=reason[:LONGEST_REASON],
        )

    def loads(self, now: float) -> Iterator[NodeLoad]:
        """Yield the load of each service."""
        tasks = [services for key, services in self.held.items() if not key[2]]
        for service in self.gives:
            held = sum(service in services for services in tasks)
            done = self.done.get(service, 0)
            right = self.right.get(service)
            checked_s = None if right is None else max(0.0, now - right)
            yield NodeLoad(
                node=self.name, service=service, held=held, done=done, checked_s=checked_s
            )

    @property
    def idle(self) -> bool:
        """Whether the node takes tasks and has none."""
        return bool(self.credits) and not (self.held or self.silent)

    def has_room(self, key: Key, yields: bool = False) -> bool:
        """Whether the node can take a segment: it has credits left, or already holds it.

        `yields`: half of the credits are for others.
        """
        held, most = self.held, -(-self.credits // 2) if yields else self.credits
        return len(held) < most or (*key, 0) in held or sum(not part for _, _, part in held) < most


@dataclass(slots=True)
class ServiceQueue:
    """The segments that wait for one service, and what its nodes have declared."""

    needs: frozenset[str] | None = None
    """Inputs of the service; None before its first node is ready."""
    stateful: frozenset[str] = frozenset()
    """All stateful services of its latest node."""
    abandoned: str = ""
    """Why no node will offer the service again; empty while one may."""
    queue: list[tuple[float, int, Key]] = field(default_factory=list)
    """Heap of (deadline, order, segment)."""


class Alive:
    """Signs of life of the nodes: which are silent, and which are too long in one batch.

    If somebody supervises the processes, they are only suspected here: the supervisor sees whether
    such a process starves, and ends it if not. Else the hub decides, by what the heartbeats say.
    """

    def __init__(self, nodes: Mapping[str, Node], limits: Limits) -> None:
        self._nodes = nodes
        self._limits = limits

    def beat(self, now: float, node: Node, age_s: float | None, cpu_s: float | None) -> str:
        """Handle a heartbeat with age and processor time of the batch; return why it must go."""
        idle_s = self._idle_s(now, node, age_s)
        if node.silent:
            node.silent, node.suspicion = False, None
        node.last_received = now
        if idle_s > self._limits.task_s:
            return f"holds a task, and has worked on nothing for {idle_s:.1f} s"
        if age_s is None or age_s <= self._limits.task_s:
            node.suspicion = None
            return ""
        reason = f"has been stuck for {age_s:.1f} s in one batch"
        if node.suspicion is None:
            node.suspicion = Suspicion(reason, self._limits.task_s, cpu_s or 0.0)
        look = None if cpu_s is None else Sample(now, cpu_s)
        gone = not self._limits.supervised and node.suspicion.judge(look).deadly
        return reason if gone else ""

    def _idle_s(self, now: float, node: Node, age_s: float | None) -> float:
        """Return for how long the node has worked on nothing, although it holds a task.

        Tasks arrive in order and it begins with the oldest: a later one may still be on its way.
        """
        before, node.idle_at = node.idle_at, now if age_s is None else None
        oldest = next(iter(node.held), None)
        if node.unworked != oldest:
            node.unworked, node.unworked_s = oldest if age_s is None else None, 0.0
        elif oldest and age_s is None and before is not None and not node.silent:
            node.unworked_s += now - before
        return node.unworked_s

    def silent(self, now: float) -> list[tuple[str, str]]:
        """Return (node, reason) for the nodes that must go because of their silence."""
        gone = []
        for node in self._nodes.values():
            silent_s = now - node.last_received
            if silent_s <= self._limits.silent_s or node.silent:
                continue
            reason = f"has been silent for {silent_s:.1f} s"
            if self._limits.supervised:
                node.silent, node.suspicion = True, Suspicion(reason, self._limits.silent_s)
            else:
                gone.append((node.name, reason))
        return gone

    def paused(self, seconds: float) -> None:
        """Note that the hub itself did not run: nobody was silent meanwhile."""
        for node in self._nodes.values():
            node.last_received += seconds
            node.idle_at = None

    def suspects(self) -> Iterator[Suspect]:
        """Yield the nodes that may be stuck, for the one who watches their processes."""
        for node in self._nodes.values():
            if (why := node.suspicion) is not None:
                yield Suspect(
                    name=node.name,
                    incarnation=node.incarnation,
                    reason=why.reason,
                    limit_s=why.limit_s,
                    used_s=why.used_s,
                )
