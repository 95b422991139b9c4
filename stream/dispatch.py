"""Who gets which task next: queues, credits, retries and time limits.

Pure: no sockets and no clock; every call takes `now` in seconds of any monotonic clock, and what is
to be done comes back as values. What depends on what follows only from what the nodes declare: a
service that needs a transcript waits until a service that gives one has answered.

A node that holds nothing can be lent for a part of a segment that is still spoken. That is no task:
nobody retries or counts it. Who has had parts of a segment is remembered, since what such a node
may have kept is of use to the next part and to the segment itself; but no segment waits for it.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

Key = tuple[str, int]
"""A segment: (stream, sequence number)."""


@dataclass(frozen=True, slots=True)
class Assign:
    """Send this segment to this node."""

    node: str
    key: Key


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
    service: str
    reason: str


Action = Assign | Retract | Absent | Lost


class State(Enum):
    """Where one service stands with one segment."""

    WAITING = auto()  # for what it needs, or to know what it needs
    QUEUED = auto()
    HELD = auto()  # by a node
    DONE = auto()
    ABSENT = auto()


_OPEN: Final = (State.WAITING, State.QUEUED, State.HELD)


@dataclass(slots=True)
class _Work:
    """One service's part in one segment."""

    state: State = State.WAITING
    attempts: int = 0
    reason: str = ""


@dataclass(slots=True)
class _Job:
    key: Key
    due: float
    order: int
    work: dict[str, _Work]
    transcript: bool | None = None
    """Whether there is one; None while that is open."""
    started: bool = False


@dataclass(slots=True)
class _Service:
    """What the nodes of one name share."""

    needs: frozenset[str] | None = None
    """None until the first node has declared it."""
    gives: str = ""
    abandoned: str = ""
    """Why nobody will give it, if so."""
    queue: list[tuple[float, int, Key]] = field(default_factory=list)


@dataclass(slots=True)
class _Node:
    service: str
    credits: int
    heard: float
    held: dict[Key, None] = field(default_factory=dict)
    lent: tuple[Key, int] | None = None
    """The part of a segment that it works on."""
    done: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the dispatch is, in seconds."""

    silent_s: float
    task_s: float
    attempts: int


class Dispatch:
    """The state of all work that is not yet answered.

    Args:
        services: the names that take part in every segment.
        limits: of patience.

    """

    def __init__(self, services: Iterable[str], limits: Limits) -> None:
        self._services = {name: _Service() for name in services}
        self._limits = limits
        self._nodes: dict[str, _Node] = {}
        self._jobs: dict[Key, _Job] = {}
        self._order = itertools.count()
        self._had: dict[Key, dict[str, str]] = {}
        """Who has had parts of a segment that is not given out yet: node and its service."""

    # --- nodes ------------------------------------------------------------------------------------

    def ready(
        self, now: float, node: str, service: str, needs: Iterable[str], gives: str, credits: int
    ) -> list[Action]:
        """Take in a node. One of the same name is its predecessor, which has died."""
        actions = self.gone(now, node, "was started again") if node in self._nodes else []
        shared = self._services[service]
        shared.needs, shared.gives, shared.abandoned = frozenset(needs), gives, ""
        self._nodes[node] = _Node(service, credits, now)
        for job in self._jobs.values():
            self._advance(job, actions)
        return actions + self._assign()

    def abandon(self, service: str, reason: str) -> list[Action]:
        """Give up a service: no node of it will come back."""
        self._services[service].abandoned = reason
        actions: list[Action] = []
        for job in self._jobs.values():
            self._advance(job, actions)
        return actions + self._assign()

    def beat(self, now: float, node: str, work_age_s: float | None) -> list[Action]:
        """Note that a node lives; give it up if its work in progress takes too long."""
        if node not in self._nodes:
            return []
        self._nodes[node].heard = now
        if work_age_s is not None and work_age_s > self._limits.task_s:
            return self.gone(now, node, f"has been stuck for {work_age_s:.1f} s in one batch")
        return []

    def gone(self, now: float, node: str, reason: str) -> list[Action]:
        """Give up a node: what it holds goes to another, or is tried again, or is missing."""
        lost = self._nodes.pop(node, None)
        if lost is None:
            return []
        actions: list[Action] = [Lost(node, lost.service, reason)]
        for key in lost.held:
            self._try_again(key, lost.service, f"{node} {reason}", actions)
        return actions + self._assign()

    def tick(self, now: float) -> list[Action]:
        """Give up the nodes that have been silent for too long."""
        silent = [n for n, s in self._nodes.items() if now - s.heard > self._limits.silent_s]
        actions: list[Action] = []
        for node in silent:
            age = now - self._nodes[node].heard
            actions += self.gone(now, node, f"has been silent for {age:.1f} s")
        return actions

    # --- segments ---------------------------------------------------------------------------------

    def submit(self, key: Key, due: float) -> list[Action]:
        """Take in a segment; among waiting ones that with the earliest `due` goes first."""
        job = _Job(key, due, next(self._order), {name: _Work() for name in self._services})
        self._jobs[key] = job
        actions: list[Action] = []
        self._advance(job, actions)
        return actions + self._assign()

    def answered(self, node: str, key: Key, service: str) -> tuple[bool, list[Action]]:
        """Note an answer; False if it came twice or too late to count."""
        self._release(node, key)
        job = self._jobs.get(key)
        if job is None or job.work[service].state is State.DONE:
            return False, self._assign()
        job.work[service].state = State.DONE
        # a slower replica may hold the same task after a retry
        actions: list[Action] = [
            Retract(name, key)
            for name, other in self._nodes.items()
            if other.service == service and key in other.held
        ]
        if self._services[service].gives == "transcript":
            job.transcript = True
        self._advance(job, actions)
        return True, actions + self._assign()

    def failed(self, node: str, key: Key, service: str, reason: str, retry: bool) -> list[Action]:
        """Note that a node has no answer: an abstention, or something to try again."""
        self._release(node, key)
        actions: list[Action] = []
        job = self._jobs.get(key)
        if job is not None and job.work[service].state is State.HELD:
            if retry:
                self._try_again(key, service, reason, actions)
            else:
                self._give_up(job, service, reason, actions)
        return actions + self._assign()

    def close(self, key: Key) -> list[Action]:
        """Forget a segment; whoever works on it, or has had parts of it, is told."""
        told = [name for name in self._had.pop(key, ()) if name in self._nodes]
        if self._jobs.pop(key, None) is not None:
            told += [name for name, node in self._nodes.items() if key in node.held]
        return [Retract(name, key) for name in dict.fromkeys(told)]

    # --- parts of segments that are still spoken --------------------------------------------------

    def lend(self, service: str, key: Key, part: int) -> str | None:
        """Give a node that holds nothing for a part of a segment, until it is `returned`.

        None while a task waits for the service: a node would have been given it.
        """
        those = ((name, node) for name, node in self._nodes.items() if node.service == service)
        idle = [name for name, node in those if not node.held and node.lent is None]
        if not idle:
            return None
        had = self._had.setdefault(key, {})
        chosen = min(idle, key=lambda name: (name not in had, name))
        had[chosen] = service
        self._nodes[chosen].lent = (key, part)
        return chosen

    def returned(self, node: str, key: Key, part: int) -> None:
        """Note that a node is done with a part, whatever came of it."""
        holder = self._nodes.get(node)
        if holder is not None and holder.lent == (key, part):
            holder.lent = None

    # --- what others ask --------------------------------------------------------------------------

    def unstarted(self, stream: str) -> list[Key]:
        """Give the segments of a stream that no node has begun on, the oldest first."""
        return [k for k, job in self._jobs.items() if k[0] == stream and not job.started]

    def is_served(self, service: str) -> bool:
        """Whether a node gives it at present."""
        return any(node.service == service for node in self._nodes.values())

    def explain(self, key: Key, service: str) -> str:
        """Say why a service has not answered yet."""
        work = self._jobs[key].work[service] if key in self._jobs else _Work()
        if work.state is State.ABSENT:
            return work.reason
        if not self.is_served(service):
            return "late: no node is ready"
        return {
            State.WAITING: "late: was waiting for the transcript",
            State.QUEUED: "late: every node was busy",
            State.HELD: "late: its node was still at work",
        }.get(work.state, "late")

    @property
    def waiting(self) -> int:
        """Tasks that wait for a node."""
        return sum(
            work.state is State.QUEUED for job in self._jobs.values() for work in job.work.values()
        )

    def loads(self) -> Iterator[tuple[str, str, int, int]]:
        """Yield (node, service, tasks held, tasks done) of every node."""
        for name, node in self._nodes.items():
            yield name, node.service, len(node.held), node.done

    # --- how it works -----------------------------------------------------------------------------

    def _advance(self, job: _Job, actions: list[Action]) -> None:
        """Queue what has all it needs; give up what will never have it."""
        if job.transcript is None and not self._may_be_transcribed(job):
            job.transcript = False
        for name, work in job.work.items():
            needs, abandoned = self._services[name].needs, self._services[name].abandoned
            if abandoned and work.state in _OPEN:
                self._give_up(job, name, abandoned, actions)
            if work.state is not State.WAITING or needs is None:
                continue
            if "transcript" not in needs or job.transcript:
                self._enqueue(job, name)
            elif job.transcript is False:
                self._give_up(job, name, self._why_no_transcript(job), actions)

    def _may_be_transcribed(self, job: _Job) -> bool:
        """Whether a transcript can come; an undeclared service might be the one to give it."""
        return any(
            service.gives in ("", "transcript") and job.work[name].state in _OPEN
            for name, service in self._services.items()
        )

    def _why_no_transcript(self, job: _Job) -> str:
        for gives in ("transcript", ""):  # one that never declared itself might have given it
            for name, work in job.work.items():
                if self._services[name].gives == gives and work.reason:
                    return f"no transcript: {work.reason}"
        return "no transcript: nobody transcribes"

    def _enqueue(self, job: _Job, service: str) -> None:
        job.work[service].state = State.QUEUED
        heapq.heappush(self._services[service].queue, (job.due, job.order, job.key))

    def _try_again(self, key: Key, service: str, reason: str, actions: list[Action]) -> None:
        job = self._jobs.get(key)
        if job is None or job.work[service].state is not State.HELD:
            return
        if any(n.service == service and key in n.held for n in self._nodes.values()):
            return
        if job.work[service].attempts >= self._limits.attempts:
            self._give_up(job, service, reason, actions)
        else:
            self._enqueue(job, service)

    def _give_up(self, job: _Job, service: str, reason: str, actions: list[Action]) -> None:
        job.work[service].state = State.ABSENT
        job.work[service].reason = reason
        actions.append(Absent(job.key, service, reason))
        if self._services[service].gives in ("", "transcript"):
            self._advance(job, actions)

    def _release(self, node: str, key: Key) -> None:
        holder = self._nodes.get(node)
        if holder is not None and key in holder.held:
            del holder.held[key]
            holder.done += 1

    def _assign(self) -> list[Action]:
        actions: list[Action] = []
        for name, service in self._services.items():
            while service.queue:
                _, _, key = service.queue[0]
                node = self._freest(name, key)
                if node is None:
                    break
                heapq.heappop(service.queue)
                job = self._jobs.get(key)
                if job is None or job.work[name].state is not State.QUEUED:
                    continue  # closed or answered while it waited
                job.work[name].state = State.HELD
                job.work[name].attempts += 1
                job.started = True
                self._nodes[node].held[key] = None
                if key in self._had:
                    actions += self._take_over(key, name, node)
                actions.append(Assign(node, key))
        return actions

    def _freest(self, service: str, key: Key) -> str | None:
        had = self._had.get(key, ())
        free = [
            (len(node.held) + (node.lent is not None), name not in had, name)
            for name, node in self._nodes.items()
            if node.service == service and len(node.held) < node.credits
        ]
        return min(free)[2] if free else None

    def _take_over(self, key: Key, service: str, node: str) -> list[Action]:
        """Tell the others that had parts of a segment that it will be finished elsewhere."""
        had = self._had[key]
        those = [name for name, of in had.items() if of == service]
        for name in those:
            del had[name]
        if not had:
            del self._had[key]
        return [Retract(name, key) for name in those if name != node and name in self._nodes]
