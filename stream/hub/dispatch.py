"""Who gets which task next: queues, credits, retries and time limits.

Pure: no sockets and no clock; every call takes `now` in seconds of any monotonic clock, and what is
to be done comes back as values. What depends on what follows only from what the nodes declare: a
service that needs a transcript waits until a service that gives one has answered, and a stateful
one until it is done with the segment before.

A node may give several services. Who is given a segment for one of them answers at once for all
that are ready, and for those that only wait for a transcript which comes along in the same task.
What is given beside a stateful service waits with it, so that they come along.

A node that holds nothing can be lent for a part of a segment that is still spoken. That is no task:
nobody retries or counts it. Who has had parts of a segment is remembered, since what such a node
may have kept is of use to the next part and to the segment itself; but no segment waits for it.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterable, Iterator

from abhinaya.stream.hub.dispatch_state import (
    OPEN,
    Absent,
    Action,
    Assign,
    Job,
    Key,
    Limits,
    Lost,
    NodeRecord,
    Retract,
    ServiceRecord,
    State,
    Work,
)
from abhinaya.stream.hub.turns import Turns
from abhinaya.stream.wire.messages import Service


class Dispatch:
    """The state of all work that is not yet answered.

    Args:
        services: the names that take part in every segment.
        limits: of patience.

    """

    def __init__(self, services: Iterable[str], limits: Limits) -> None:
        self._services = {name: ServiceRecord() for name in services}
        self._limits = limits
        self._nodes: dict[str, NodeRecord] = {}
        self._jobs: dict[Key, Job] = {}
        self._order = itertools.count()
        self._had: dict[Key, dict[str, None]] = {}
        """Who has had parts of a segment that is not given out yet."""
        self._turns = Turns(self._services)

    # --- nodes ------------------------------------------------------------------------------------

    def ready(self, now: float, node: str, gives: Iterable[Service], credits: int) -> list[Action]:
        """Take in a node. One of the same name is its predecessor, which has died."""
        actions = self.gone(now, node, "was started again") if node in self._nodes else []
        offered = {service.name: service for service in gives}
        stateful = frozenset(name for name, service in offered.items() if service.stateful)
        for name, service in offered.items():
            record = self._services[name]
            record.needs, record.kind, record.abandoned = frozenset(service.needs), service.kind, ""
            record.stateful, record.beside = service.stateful, stateful
        names = tuple(name for name in self._services if name in offered)
        self._nodes[node] = NodeRecord(names, credits, now)
        self._advance_all(actions)
        return actions + self._assign()

    def abandon(self, services: Iterable[str], reason: str) -> list[Action]:
        """Give up services: no node of them will come back."""
        for name in services:
            self._services[name].abandoned = reason
        actions: list[Action] = []
        self._advance_all(actions)
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
        actions: list[Action] = [Lost(node, reason)]
        for key, services in lost.held.items():
            for service in (name for name in lost.services if name in services):
                self._try_again(key, service, f"{node} {reason}", actions)
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
        job = Job(key, due, next(self._order), {name: Work() for name in self._services})
        self._jobs[key] = job
        self._turns.begin(key)
        actions: list[Action] = []
        self._advance(job, actions)
        return actions + self._assign()

    def answered(self, node: str, key: Key, service: str) -> tuple[bool, list[Action]]:
        """Note an answer; False if it came twice or too late to count."""
        self._release(node, key, service)
        job = self._jobs.get(key)
        if job is None or job.work[service].state is State.DONE:
            return False, self._assign()
        job.work[service].state = State.DONE
        # a slower replica may hold the same task after a retry
        actions: list[Action] = [
            Retract(name, key)
            for name, other in self._nodes.items()
            if service in other.held.get(key, ())
            and all(job.work[held].state is State.DONE for held in other.held[key])
        ]
        if self._services[service].kind == "transcript":
            job.transcript = True
        self._advance(job, actions)
        self._turns.settle(key, (service,))
        return True, actions + self._assign()

    def failed(self, node: str, key: Key, service: str, reason: str, retry: bool) -> list[Action]:
        """Note that a node has no answer: an abstention, or something to try again."""
        self._release(node, key, service)
        actions: list[Action] = []
        job = self._jobs.get(key)
        if job is not None and job.work[service].state is State.HELD:
            if retry:
                self._try_again(key, service, reason, actions)
            else:
                self._give_up(job, service, reason, actions)
        return actions + self._assign()

    def decided(self, key: Key) -> list[Action]:
        """Note that the verdict is given: the next segment waits for no answer any more."""
        self._turns.settle(key, self._services)
        return self._assign()

    def close(self, key: Key) -> list[Action]:
        """Forget a segment; whoever works on it, or has had parts of it, is told."""
        told = [name for name in self._had.pop(key, ()) if name in self._nodes]
        if self._jobs.pop(key, None) is None:
            return [Retract(name, key) for name in told]
        told += [name for name, node in self._nodes.items() if key in node.held]
        actions: list[Action] = [Retract(name, key) for name in dict.fromkeys(told)]
        self._turns.settle(key, self._services)
        return actions + self._assign()

    # --- parts of segments that are still spoken --------------------------------------------------

    def idle(self, service: str, key: Key) -> str | None:
        """Return a node of a service that could be lent for a part of this segment.

        None while a task waits for the service: a node would have been given it.
        """
        had = self._had.get(key, ())
        names = [
            name
            for name, node in self._nodes.items()
            if service in node.services and not node.held and node.lent is None
        ]
        return min(names, key=lambda name: (name not in had, name)) if names else None

    def lend(self, node: str, key: Key, part: int, services: Iterable[str]) -> None:
        """Note that a node works on a part of a segment, until all of it has been `returned`."""
        self._had.setdefault(key, {})[node] = None
        self._nodes[node].lent, self._nodes[node].lent_for = (key, part), set(services)

    def returned(self, node: str, key: Key, part: int, service: str) -> None:
        """Note that a node is done with a part for a service, whatever came of it."""
        holder = self._nodes.get(node)
        if holder is not None and holder.lent == (key, part):
            holder.lent_for.discard(service)
            if not holder.lent_for:
                holder.lent = None

    # --- what others ask --------------------------------------------------------------------------

    def unstarted(self, stream: str) -> list[Key]:
        """Return the segments of a stream that no node has begun on, the oldest first."""
        return [k for k, job in self._jobs.items() if k[0] == stream and not job.nodes]

    def is_served(self, service: str) -> bool:
        """Whether a node gives it at present."""
        return any(service in node.services for node in self._nodes.values())

    def services_of(self, node: str) -> tuple[str, ...]:
        """Return what a node gives, in the order of the line-up."""
        return self._nodes[node].services

    def explain(self, key: Key, service: str) -> str:
        """Say why a service has not answered yet."""
        job = self._jobs.get(key)
        work = job.work[service] if job else Work()
        if work.state is State.ABSENT:
            return work.reason
        if not self.is_served(service):
            return "late: no node is ready"
        if job and work.state is State.WAITING and self._is_ready(job, service):
            return "late: was waiting for the segment before"
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
            for service in node.services:
                held = sum(service in services for services in node.held.values())
                yield name, service, held, node.done.get(service, 0)

    # --- how it works -----------------------------------------------------------------------------

    def _advance_all(self, actions: list[Action]) -> None:
        for job in self._jobs.values():
            self._advance(job, actions)

    def _advance(self, job: Job, actions: list[Action]) -> None:
        """Queue what has all it needs; give up what will never have it."""
        if job.transcript is None and not self._may_be_transcribed(job):
            job.transcript = False
        for name, work in job.work.items():
            needs, abandoned = self._services[name].needs, self._services[name].abandoned
            if abandoned and work.state in OPEN:
                self._give_up(job, name, abandoned, actions)
            if work.state is not State.WAITING or needs is None:
                continue
            if "transcript" in needs and job.transcript is False:
                self._give_up(job, name, self._why_no_transcript(job), actions)
            elif self._is_ready(job, name) and self._turns.has_come(job.key, name):
                self._enqueue(job, name)

    def _is_ready(self, job: Job, service: str) -> bool:
        """Whether all that a service reads is there."""
        return "transcript" not in (self._services[service].needs or ()) or bool(job.transcript)

    def _may_be_transcribed(self, job: Job) -> bool:
        """Whether a transcript can come; an undeclared service might be the one to give it."""
        return any(
            record.kind in ("", "transcript") and job.work[name].state in OPEN
            for name, record in self._services.items()
        )

    def _why_no_transcript(self, job: Job) -> str:
        for kind in ("transcript", ""):  # one that never declared itself might have given it
            for name, work in job.work.items():
                if self._services[name].kind == kind and work.reason:
                    return f"no transcript: {work.reason}"
        return "no transcript: nobody transcribes"

    def _enqueue(self, job: Job, service: str) -> None:
        job.work[service].state = State.QUEUED
        heapq.heappush(self._services[service].queue, (job.due, job.order, job.key))

    def _try_again(self, key: Key, service: str, reason: str, actions: list[Action]) -> None:
        job = self._jobs.get(key)
        if job is None or job.work[service].state is not State.HELD:
            return
        if any(service in node.held.get(key, ()) for node in self._nodes.values()):
            return
        if job.work[service].attempts >= self._limits.attempts:
            self._give_up(job, service, reason, actions)
        else:
            # the transcript that came along may be what failed: then it waits for it again
            job.work[service].state = State.WAITING
            self._advance(job, actions)

    def _give_up(self, job: Job, service: str, reason: str, actions: list[Action]) -> None:
        job.work[service].state = State.ABSENT
        job.work[service].reason = reason
        actions.append(Absent(job.key, service, reason))
        if self._services[service].kind in ("", "transcript"):
            self._advance(job, actions)
        self._turns.settle(job.key, (service,))

    def _release(self, node: str, key: Key, service: str) -> None:
        holder = self._nodes.get(node)
        if holder is not None and service in holder.held.get(key, ()):
            holder.held[key].discard(service)
            holder.done[service] = holder.done.get(service, 0) + 1
            if not holder.held[key]:
                del holder.held[key]

    def _assign(self) -> list[Action]:
        actions: list[Action] = []
        while (stream := self._turns.moved()) is not None:
            for later in [job for key, job in self._jobs.items() if key[0] == stream]:
                self._advance(later, actions)
        for name, record in self._services.items():
            while record.queue:
                _, _, key = record.queue[0]
                job = self._jobs.get(key)
                if job is None or job.work[name].state is not State.QUEUED:
                    heapq.heappop(record.queue)
                    continue  # closed, answered, or taken along while it waited
                node = self._freest(name, job)
                if node is None:
                    break
                heapq.heappop(record.queue)
                actions += self._give(job, node, name)
        return actions

    def _give(self, job: Job, node: str, service: str) -> list[Action]:
        """Give a segment to a node for a service, and for all that can come along."""
        services = self._along(job, self._nodes[node].services, service)
        for name in services:
            job.work[name].state = State.HELD
            job.work[name].attempts += 1
        job.nodes.add(node)
        self._nodes[node].held.setdefault(job.key, set()).update(services)
        taken_over = self._take_over(job.key, services, node) if job.key in self._had else []
        return [*taken_over, Assign(node, job.key, services)]

    def _along(self, job: Job, offered: Iterable[str], service: str) -> tuple[str, ...]:
        """Return which of a node's services answer when it is given a segment for one of them."""
        queued = [n for n in offered if n == service or job.work[n].state is State.QUEUED]
        transcribed = any(self._services[name].kind == "transcript" for name in queued)
        return tuple(
            name
            for name in offered
            if name in queued
            or (
                transcribed
                and job.work[name].state is State.WAITING
                and self._turns.has_come(job.key, name)
            )
        )

    def _freest(self, service: str, job: Job) -> str | None:
        had = self._had.get(job.key, ())
        free = [
            (
                len(node.held) + (node.lent is not None),
                name not in had and name not in job.nodes,
                name,
            )
            for name, node in self._nodes.items()
            if service in node.services and (len(node.held) < node.credits or job.key in node.held)
        ]
        return min(free)[2] if free else None

    def _take_over(self, key: Key, services: Collection[str], node: str) -> list[Action]:
        """Tell the others that had parts of a segment that it will be finished elsewhere."""
        had = self._had[key]
        those = [
            name
            for name in had
            if name not in self._nodes or set(services) & set(self._nodes[name].services)
        ]
        for name in those:
            del had[name]
        if not had:
            del self._had[key]
        return [Retract(name, key) for name in those if name != node and name in self._nodes]
