"""Who gets which task next: queues, credits, retries and time limits.

Pure: no sockets and no clock; every call takes `now` in seconds of any monotonic clock, and what is
to be done waits in `actions`. What depends on what follows only from what the nodes declare: a
service that needs a transcript waits until the transcriber has answered, and a stateful one until
it is done with the segment before. A service of the second stage (the refiner) has no work in a
segment until somebody `ask`s.

A node may give several services. One that is given a segment for one of them answers at once for
all that are ready, and for those that only wait for a transcript that comes along in the same task.
What is given beside a stateful service waits with it, so that they come along.

A partial is work of the lowest rank: only a node that holds nothing is given one, and nobody tries
it again. What a node may have kept of the partials of a segment is of use to the next one and to
the segment itself, so they go to the same node; but no segment waits for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final

from abhinaya.stream.hub.nodes import Absent, Action, Assign, Limits, Line, Lost, Node, Retract
from abhinaya.stream.hub.segments import OPEN, Key, Record, Segments, State, Stream, Work
from abhinaya.stream.hub.validation import TRANSCRIBER
from abhinaya.stream.wire.messages import Ready

WAITS: Final = {
    State.WAITING: "was waiting for the transcript",
    State.QUEUED: "every node was busy",
    State.HELD: "its node was still at work",
}


class Dispatch:
    """All work that is not yet answered."""

    def __init__(
        self,
        line_up: Iterable[str],
        second_stage: Iterable[str],
        segments: Segments,
        limits: Limits,
    ) -> None:
        self._line_up = tuple(line_up)
        self._lines = {name: Line() for name in (*self._line_up, *second_stage)}
        self._segments = segments
        self._limits = limits
        self._nodes: dict[str, Node] = {}
        self._partials: dict[Key, Record] = {}
        """Partials that wait for an idle node."""
        self._keeps_state = False
        """Whether a service ever declared itself stateful."""
        self._moved: dict[str, Stream] = {}
        """Streams in which a segment that waited for the one before may go on."""
        self._actions: list[Action] = []

    def actions(self) -> list[Action]:
        """Return what is to be done since the last call, in order."""
        actions, self._actions = self._actions, []
        return actions

    # --- nodes ------------------------------------------------------------------------------------

    def ready(self, now: float, ready: Ready) -> Node:
        """Take in a node. One of the same name is its predecessor, which has died."""
        self._remove(ready.node, "was started again")
        offered = {service.name: service for service in ready.gives}
        stateful = frozenset(name for name, service in offered.items() if service.stateful)
        self._keeps_state |= bool(stateful)
        for name, service in offered.items():
            line = self._lines[name]
            line.needs, line.beside, line.abandoned = frozenset(service.needs), stateful, ""
        gives = {name: offered[name] for name in self._lines if name in offered}
        node = Node(ready.node, ready.incarnation, gives, ready.credits, now)
        self._nodes[ready.node] = node
        self._advance_all()
        self._assign()
        return node

    def abandon(self, service: str, reason: str) -> None:
        """Give up a service: no node of it will come back."""
        self._lines[service].abandoned = reason
        self._advance_all()
        self._assign()

    def beat(self, now: float, name: str, work_age_s: float | None) -> None:
        """Note that a node lives; give it up if its work in progress takes too long."""
        if name in self._nodes:
            self._nodes[name].heard = now
            if work_age_s is not None and work_age_s > self._limits.task_s:
                self.gone(name, f"has been stuck for {work_age_s:.1f} s in one batch")

    def gone(self, name: str, reason: str) -> None:
        """Give up a node: what it holds goes to another, or is tried again, or is missing."""
        if node := self._remove(name, reason):
            self._actions.append(Lost(node, reason))
            self._assign()

    def tick(self, now: float) -> None:
        """Give up the nodes that have been silent for too long."""
        for node in list(self._nodes.values()):
            if now - node.heard > self._limits.silent_s:
                self.gone(node.name, f"has been silent for {now - node.heard:.1f} s")

    # --- segments ---------------------------------------------------------------------------------

    def submit(self, record: Record, services: Iterable[str] | None = None) -> None:
        """Take in a segment for the line-up, or a partial for some services."""
        record.work = {name: Work() for name in (self._line_up if services is None else services)}
        self._advance(record)
        self._assign()

    def ask(self, record: Record, service: str) -> None:
        """Ask a service of the second stage about a segment."""
        record.work[service] = Work()
        self._advance(record)
        self._assign()

    def answered(self, name: str, key: Key, part: int, service: str) -> bool:
        """Note an answer; False if it came twice, too late, or from a node that was not asked."""
        held = self._release(name, key, part, service)
        record = self._record(key, part)
        work = record.work.get(service) if record else None
        # a whole segment is answered by whoever was ever asked, also after it was given up
        counts = work is not None and work.state is not State.DONE and (held or not part)
        if record and work and counts:
            work.state = State.DONE
            self._retract_replicas(record)
            self._advance(record)
            self._move(record)
        self._assign()
        return counts

    def failed(
        self, name: str, key: Key, part: int, service: str, reason: str, retry: bool
    ) -> None:
        """Note that a node has no answer: an abstention, or something to try again."""
        held = self._release(name, key, part, service)
        record = self._record(key, part)
        if record and (held or not part):
            if retry:
                self._try_again(record, service, reason)
            elif record.stands(service) is State.HELD:
                self._give_up(record, service, reason)
        self._assign()

    def decided(self, record: Record) -> None:
        """Note that the verdict is given: the next segment waits for no answer any more."""
        self._move(record)
        self._assign()

    def stop(self, record: Record) -> None:
        """End a partial: the nodes at work on it are told."""
        task = (*record.key, record.item.part)
        self._actions += [
            Retract(name, record.key, record.item.part)
            for name, node in self._nodes.items()
            if task in node.held
        ]
        self._partials.pop(record.key, None)
        record.work = {}

    def close(self, record: Record) -> None:
        """End a segment; whoever works on it, or may keep partials of it, is told."""
        key = record.key
        told = [n for n, keeps in record.nodes.items() if keeps and n in self._nodes]
        told += [name for name, node in self._nodes.items() if (*key, 0) in node.held]
        self._actions += [Retract(name, key) for name in dict.fromkeys(told)]
        self._partials.pop(key, None)
        record.work = {}
        self._move(record)
        self._assign()

    def assign_partials(self) -> None:
        """Give partials to idle nodes; the one that was served longest ago first."""
        for record in sorted(self._partials.values(), key=lambda record: record.served):
            for service in list(record.work):
                if record.work[service].state is not State.QUEUED:
                    continue
                node = self._idle(service, record)
                if node is not None:
                    self._give(record, node, service)
            if not any(work.state is State.QUEUED for work in record.work.values()):
                del self._partials[record.key]

    # --- what others ask --------------------------------------------------------------------------

    def is_served(self, service: str) -> bool:
        """Whether a node gives it at present."""
        return any(service in node.gives for node in self._nodes.values())

    def explain(self, record: Record, service: str) -> str:
        """Say why a service has not answered yet."""
        work = record.work.get(service, Work())
        if work.state is State.ABSENT:
            return work.reason
        if not self.is_served(service):
            return "late: no node is ready"
        if work.state is State.WAITING and self._has_inputs(record, service):
            return "late: was waiting for the segment before"
        return f"late: {WAITS.get(work.state, 'no answer')}"

    @property
    def waiting(self) -> int:
        """Tasks that wait for a node; partials are not counted."""
        wholes = (record for record in self._segments if record.item.final)
        return sum(w.state is State.QUEUED for record in wholes for w in record.work.values())

    def loads(self) -> Iterator[tuple[str, str, int, int]]:
        """Yield (node, service, tasks held, tasks done) of every node."""
        for name, node in self._nodes.items():
            for service in node.gives:
                tasks = (services for key, services in node.held.items() if not key[2])
                held = sum(service in services for services in tasks)
                yield name, service, held, node.done.get(service, 0)

    # --- how it works -----------------------------------------------------------------------------

    def _record(self, key: Key, part: int) -> Record | None:
        record = self._segments.get(key)
        return record if record is not None and record.item.part == part else None

    def _remove(self, name: str, reason: str) -> Node | None:
        node = self._nodes.pop(name, None)
        for (stream, sequence, part), services in node.held.items() if node else ():
            record = self._record((stream, sequence), part)
            for service in node.gives if node and record else ():
                if record and service in services:
                    self._try_again(record, service, f"{name} {reason}")
        return node

    def _advance_all(self) -> None:
        for record in list(self._segments):
            self._advance(record)

    def _advance(self, record: Record) -> None:
        """Queue what has all it needs; give up what will never have it."""
        for name, work in record.work.items():
            line = self._lines[name]
            if line.abandoned and work.state in OPEN:
                self._give_up(record, name, line.abandoned)
            if work.state is not State.WAITING or line.needs is None:
                continue
            if not self._has_inputs(record, name) and not record.is_open((TRANSCRIBER,)):
                transcriber = record.work.get(TRANSCRIBER)
                reason = transcriber.reason if transcriber else "nobody transcribes"
                self._give_up(record, name, f"no transcript: {reason}")
            elif self._has_inputs(record, name) and self._has_turn(record, name):
                self._enqueue(record, name)

    def _has_inputs(self, record: Record, service: str) -> bool:
        """Whether all that a service reads is there."""
        if "transcript" not in (self._lines[service].needs or ()):
            return True
        return record.stands(TRANSCRIBER) is State.DONE

    def _has_turn(self, record: Record, service: str) -> bool:
        """Whether the segments before are settled, as far as that concerns a service."""
        beside = self._lines[service].beside
        if not beside or not record.item.final:
            return True
        for before in self._segments.of(record.stream):
            if before is record:
                return True
            if before.verdict is None and before.is_open(beside):
                return False
        return True

    def _move(self, record: Record) -> None:
        """Have the later segments of the stream looked at: one may wait for this one."""
        if self._keeps_state and record.item.final:
            self._moved[record.stream.info.stream] = record.stream

    def _enqueue(self, record: Record, service: str) -> None:
        record.work[service].state = State.QUEUED
        if record.item.final:
            heapq.heappush(self._lines[service].queue, (record.due, record.order, record.key))
        else:
            self._partials[record.key] = record

    def _try_again(self, record: Record, service: str, reason: str) -> None:
        task = (*record.key, record.item.part)
        replicas = (node.held.get(task, ()) for node in self._nodes.values())
        if record.stands(service) is not State.HELD or any(service in held for held in replicas):
            return
        if not record.item.final or record.work[service].attempts >= self._limits.attempts:
            self._give_up(record, service, reason)
        else:
            # the transcript that came along may be what failed: then it waits for it again
            record.work[service].state = State.WAITING
            self._advance(record)

    def _give_up(self, record: Record, service: str, reason: str) -> None:
        work = record.work[service]
        work.state, work.reason = State.ABSENT, reason
        self._actions.append(Absent(record, service, reason))
        if service == TRANSCRIBER:
            self._advance(record)
        self._move(record)

    def _release(self, name: str, key: Key, part: int, service: str) -> bool:
        node, task = self._nodes.get(name), (*key, part)
        if node is None or service not in node.held.get(task, ()):
            return False
        node.held[task].discard(service)
        if not part:
            node.done[service] = node.done.get(service, 0) + 1
        if not node.held[task]:
            del node.held[task]
        return True

    def _retract_replicas(self, record: Record) -> None:
        """Stop whoever holds nothing of a segment but what others have answered."""
        task = (*record.key, record.item.part)
        self._actions += [
            Retract(name, record.key)
            for name, node in self._nodes.items()
            if task in node.held
            and all(record.work[held].state is State.DONE for held in node.held[task])
        ]

    def _assign(self) -> None:
        while self._moved:
            _, stream = self._moved.popitem()
            for later in self._segments.of(stream):
                self._advance(later)
        for name, line in self._lines.items():
            while line.queue:
                record = self._record(line.queue[0][2], 0)
                if record is None or record.stands(name) is not State.QUEUED:
                    heapq.heappop(line.queue)
                    continue  # closed, answered, or taken along while it waited
                node = self._freest(name, record)
                if node is None:
                    break
                heapq.heappop(line.queue)
                self._give(record, node, name)

    def _give(self, record: Record, node: Node, service: str) -> None:
        """Give a segment to a node for a service, and for all that can come along."""
        services = self._along(record, node, service)
        for name in services:
            record.work[name].state = State.HELD
            record.work[name].attempts += 1
        task = (*record.key, record.item.part)
        node.held.setdefault(task, set()).update(services)
        if not record.item.final:
            record.nodes[node.name] = True
        else:
            self._take_over(record, services, node.name)
            record.nodes.setdefault(node.name, False)
        self._actions.append(Assign(node, record, services))

    def _along(self, record: Record, node: Node, service: str) -> tuple[str, ...]:
        """Return which of a node's services answer when it is given a segment for one of them."""
        offered = [name for name in node.gives if name in record.work]
        queued = {n for n in offered if record.work[n].state is State.QUEUED} | {service}
        return tuple(
            name
            for name in offered
            if name in queued
            or (
                TRANSCRIBER in queued
                and record.work[name].state is State.WAITING
                and self._has_turn(record, name)
            )
        )

    def _freest(self, service: str, record: Record) -> Node | None:
        free = [
            (len(node.held), name not in record.nodes, name)
            for name, node in self._nodes.items()
            if service in node.gives and node.has_room(record.key)
        ]
        return self._nodes[min(free)[2]] if free else None

    def _idle(self, service: str, record: Record) -> Node | None:
        names = [n for n, node in self._nodes.items() if service in node.gives and not node.held]
        if not names:
            return None
        return self._nodes[min(names, key=lambda name: (name not in record.nodes, name))]

    def _take_over(self, record: Record, services: Iterable[str], node: str) -> None:
        """Tell the others that may keep partials of a segment that it is finished elsewhere."""
        for name in [name for name, keeps in record.nodes.items() if keeps]:
            other = self._nodes.get(name)
            if other is None or set(services) & set(other.gives):
                record.nodes[name] = False
                if other is not None and name != node:
                    self._actions.append(Retract(name, record.key))
