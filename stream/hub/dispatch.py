"""Assigns tasks to nodes: queues, credits, retries and time limits.

Pure: no sockets and no clock; `now` is seconds of any monotonic clock, and `actions` returns what
the caller must do. The order of work follows from what the nodes declare: a service that needs a
transcript waits for the transcriber; a stateful service waits until it has finished the segment
before. A service of the second stage (the refiner, voters of the cascade) works on a segment only
after `ask`.

A node may have several services. One task then covers all of them that are queued, and those that
only wait for a transcript which the same task makes. Services on the same node as a stateful
service wait with it, so that one task can cover both.

Partials have the lowest priority: only a node without tasks gets one, and no partial is retried.
Partials of a segment, and then the segment, preferably go to the same node, which may reuse its
results; but no segment waits for that node.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from abhinaya.stream.hub.nodes import (
    Absent,
    Action,
    Alive,
    Assign,
    Limits,
    Node,
    Retract,
    ServiceQueue,
)
from abhinaya.stream.hub.segments import OPEN, UNSENT, Key, Record, Segments, State, Stream, Work
from abhinaya.stream.hub.validation import LONGEST_REASON, TRANSCRIBER
from abhinaya.stream.wire.messages import Ready


class Dispatch:
    """All unanswered work, and the nodes that do it."""

    def __init__(
        self,
        line_up: Iterable[str],
        second_stage: Iterable[str],
        segments: Segments,
        limits: Limits,
    ) -> None:
        self._line_up = tuple(line_up)
        self._second_stage = tuple(second_stage)
        self._queues = {name: ServiceQueue() for name in (*self._line_up, *self._second_stage)}
        self._segments = segments
        self._limits = limits
        self.nodes: dict[str, Node] = {}
        self.alive = Alive(self.nodes, limits)
        self.live_first = False
        """Whether files leave room at the nodes for live streams."""
        self._partials: dict[Key, Record] = {}
        """Partials that wait for an idle node."""
        self._keeps_state = False
        """Whether any service is stateful."""
        self._changed: dict[str, Stream] = {}
        """Streams in which segments may no longer have to wait for an earlier one."""
        self._actions: list[Action] = []

    def actions(self) -> list[Action]:
        """Return the new actions since the last call, in order."""
        actions, self._actions = self._actions, []
        return actions

    # --- nodes ------------------------------------------------------------------------------------

    def ready(self, now: float, ready: Ready) -> Node:
        """Add a node; it replaces a dead one of the same name."""
        self._remove(ready.node, "was started again", ready.incarnation)
        offered = {service.name: service for service in ready.gives}
        stateful = frozenset(name for name, service in offered.items() if service.stateful)
        self._keeps_state |= bool(stateful)
        for name, service in offered.items():
            queue = self._queues[name]
            queue.needs, queue.stateful, queue.abandoned = frozenset(service.needs), stateful, ""
        gives = {name: offered[name] for name in self._queues if name in offered}
        node = Node(ready.node, ready.incarnation, gives, ready.credits, now)
        self.nodes[ready.node] = node
        self._advance_all()
        self._assign()
        return node

    def abandon(self, service: str, reason: str) -> None:
        """Give up a service whose nodes are all dead."""
        self._queues[service].abandoned = reason
        self._advance_all()
        self._assign()

    def beat(self, now: float, node: Node, age_s: float | None, cpu_s: float | None = None) -> str:
        """Handle a heartbeat; return why the node must go, empty if it may stay."""
        if not (reason := self.alive.beat(now, node, age_s, cpu_s)):
            self._assign()
        return reason

    def node_down(self, name: str, reason: str) -> None:
        """Drop a node; its tasks are retried, or given up after too many attempts."""
        if node := self._remove(name, reason):
            self._actions.append(node.down(reason))
            self._assign()

    def tick(self, now: float) -> None:
        """Drop nodes that have been silent for too long."""
        for name, reason in self.alive.silent(now):
            self.node_down(name, reason)

    # --- segments ---------------------------------------------------------------------------------

    def submit(
        self,
        record: Record,
        services: Iterable[str] | None = None,
        without: Mapping[str, str] | None = None,
    ) -> None:
        """Add a segment for all services, except those `without`; a partial for the given ones."""
        asked = self._line_up if services is None else services
        record.work = {name: Work() for name in filter(record.stream.allows, asked)}
        for name in record.work.keys() & self._second_stage:
            record.work[name].state = State.DEFERRED
        self.leave_out(record, without or {})
        self._advance(record)
        self._assign()

    def leave_out(self, record: Record, services: Mapping[str, str]) -> None:
        """Give up services that no node works on yet for a segment, with the reasons."""
        for name in reversed(record.work):  # the transcriber last: its absence would be a reason
            if name in services and record.state_of(name) in UNSENT:
                self._give_up(record, name, services[name])

    def ask(self, record: Record, services: Iterable[str]) -> None:
        """Ask services of the second stage about a segment."""
        record.work |= {name: Work() for name in services}
        self._advance(record)
        self._assign()

    def answered(self, name: str, key: Key, part: int, service: str) -> bool:
        """Handle an answer; return False if it came twice or too late, or was not asked for."""
        held = self._release(name, key, part, service)
        record = self._record(key, part)
        work = record.work.get(service) if record else None
        # on a whole segment, a late answer counts too, even if the service was given up
        asked = held or (not part and record is not None and name in record.nodes)
        counts = work is not None and work.state is not State.DONE and asked
        if record and work and counts:
            work.state = State.DONE
            self._retract_replicas(record)
            self._advance(record)
            self._recheck_later(record)
        self._assign()
        return counts

    def failed(
        self, name: str, key: Key, part: int, service: str, reason: str, retry: bool
    ) -> None:
        """Handle a missing answer: retry, or give up the service for this segment."""
        held = self._release(name, key, part, service)
        record = self._record(key, part)
        if record and (held or (not part and name in record.nodes)):
            if retry:
                self._try_again(record, service, reason)
            elif record.state_of(service) is State.HELD:
                self._give_up(record, service, reason)
        self._assign()

    def decided(self, record: Record) -> None:
        """Handle a new verdict: later segments no longer wait for this one."""
        self._recheck_later(record)
        self._assign()

    def stop(self, record: Record) -> None:
        """End a partial; cancel its tasks."""
        task = (*record.key, record.item.part)
        self._actions += [
            Retract(name, record.key, record.item.part)
            for name, node in self.nodes.items()
            if task in node.held
        ]
        self._partials.pop(record.key, None)
        record.work = {}

    def close(self, record: Record) -> None:
        """End a segment; cancel its tasks, also at nodes that may keep data of its partials."""
        names = [n for n, keeps in record.nodes.items() if keeps and n in self.nodes]
        names += [name for name, node in self.nodes.items() if (*record.key, 0) in node.held]
        self._actions += [Retract(name, record.key) for name in dict.fromkeys(names)]
        self._partials.pop(record.key, None)
        record.work = {}
        self._recheck_later(record)
        self._assign()

    def assign_partials(self) -> None:
        """Assign partials to idle nodes; the partial that waited longest is first."""
        idle = {name: node for name, node in self.nodes.items() if node.idle}
        if not idle:
            return  # under load, most calls end here
        for record in sorted(self._partials.values(), key=lambda record: record.served):
            for service, work in list(record.work.items()):
                names = [name for name, node in idle.items() if service in node.gives]
                if names and work.state is State.QUEUED:
                    best = min(names, key=lambda name: (name not in record.nodes, name))
                    self._give(record, idle.pop(best), service)
            if not any(work.state is State.QUEUED for work in record.work.values()):
                del self._partials[record.key]

    # --- queries ----------------------------------------------------------------------------------

    def is_served(self, service: str) -> bool:
        """Whether any node has the service now."""
        return any(service in node.gives for node in self.nodes.values())

    def explain(self, record: Record, service: str) -> str:
        """Return why a service has not answered yet."""
        work = record.work.get(service, Work())
        if work.state is State.ABSENT:
            return work.reason
        if not self.is_served(service):
            return "late: no node is ready"
        if work.state is State.WAITING and self._has_inputs(record, service):
            return "late: was waiting for the segment before"
        return f"late: {work.state.value}"

    # --- how it works -----------------------------------------------------------------------------

    def _record(self, key: Key, part: int) -> Record | None:
        record = self._segments.get(key)
        return record if record is not None and record.item.part == part else None

    def _remove(self, name: str, reason: str, successor: str = "") -> Node | None:
        node = self.nodes.pop(name, None)
        for (stream, sequence, part), services in node.held.items() if node else ():
            record = self._record((stream, sequence), part)
            for service in node.gives if node else ():
                if node and record and service in services and service in record.work:
                    # the same process on a new connection: its tasks were lost on the way
                    record.work[service].attempts -= successor == node.incarnation
                    self._try_again(record, service, f"{name} {reason}")
        return node

    def _advance_all(self) -> None:
        for record in list(self._segments):
            self._advance(record)

    def _advance(self, record: Record) -> None:
        """Queue services whose inputs are complete; give up those whose inputs cannot arrive."""
        for name, work in record.work.items():
            queue = self._queues[name]
            if queue.abandoned and work.state in OPEN:
                self._give_up(record, name, queue.abandoned)
            if work.state is not State.WAITING or queue.needs is None:
                continue
            if not self._has_inputs(record, name) and not record.is_open((TRANSCRIBER,)):
                transcriber = record.work.get(TRANSCRIBER)
                reason = transcriber.reason if transcriber else "nobody transcribes"
                self._give_up(record, name, f"no transcript: {reason}")
            elif self._has_inputs(record, name) and self._has_turn(record, name):
                self._enqueue(record, name)

    def _has_inputs(self, record: Record, service: str) -> bool:
        """Whether all inputs of a service are available."""
        if "transcript" not in (self._queues[service].needs or ()):
            return True
        return record.state_of(TRANSCRIBER) is State.DONE

    def _has_turn(self, record: Record, service: str) -> bool:
        """Whether no earlier segment can still change a state that the service waits for."""
        stateful = self._queues[service].stateful
        if not stateful or not record.item.final:
            return True
        for before in self._segments.of(record.stream):
            if before is record:
                return True
            if before.verdict is None and before.is_open(stateful):
                return False
        return True

    def _recheck_later(self, record: Record) -> None:
        """Mark the stream: its later segments may wait for this one."""
        if self._keeps_state and record.item.final:
            self._changed[record.stream.id] = record.stream

    def _enqueue(self, record: Record, service: str) -> None:
        record.work[service].state = State.QUEUED
        if record.item.final:
            heapq.heappush(self._queues[service].queue, (record.due, record.order, record.key))
        else:
            self._partials[record.key] = record

    def _try_again(self, record: Record, service: str, reason: str) -> None:
        task = (*record.key, record.item.part)
        replicas = (node.held.get(task, ()) for node in self.nodes.values())
        if record.state_of(service) is not State.HELD or any(service in held for held in replicas):
            return
        if not record.item.final or record.work[service].attempts >= self._limits.attempts:
            self._give_up(record, service, reason)
        else:
            # a transcript of the same task may have failed too: then the service waits for it
            record.work[service].state = State.WAITING
            self._advance(record)

    def _give_up(self, record: Record, service: str, reason: str) -> None:
        work = record.work[service]
        work.state, work.reason = State.ABSENT, reason[:LONGEST_REASON]
        self._actions.append(Absent(record, service, work.reason))
        if service == TRANSCRIBER:
            self._advance(record)
        self._recheck_later(record)

    def _release(self, name: str, key: Key, part: int, service: str) -> bool:
        node, task = self.nodes.get(name), (*key, part)
        if node is None or service not in node.held.get(task, ()):
            return False
        node.held[task].discard(service)
        node.unworked = None if node.unworked == task else node.unworked
        if not part:
            node.done[service] = node.done.get(service, 0) + 1
        if not node.held[task]:
            del node.held[task]
        return True

    def _retract_replicas(self, record: Record) -> None:
        """Cancel tasks whose every service has already been answered by another node."""
        task = (*record.key, record.item.part)
        self._actions += [
            Retract(name, record.key)
            for name, node in self.nodes.items()
            if task in node.held
            and all(record.work[held].state is State.DONE for held in node.held[task])
        ]

    def _assign(self) -> None:
        while self._changed:
            _, stream = self._changed.popitem()
            for later in self._segments.of(stream):
                self._advance(later)
        for name, service in self._queues.items():
            queue = service.queue
            while queue:
                record = self._record(queue[0][2], 0)
                if record is None or record.state_of(name) is not State.QUEUED:
                    heapq.heappop(queue)
                    continue  # closed, answered, or sent in another task meanwhile
                node = self._freest(name, record)
                if node is None:
                    break
                heapq.heappop(queue)
                self._give(record, node, name)

    def _give(self, record: Record, node: Node, service: str) -> None:
        """Assign a task to a node: for a service, and for others that the task can cover."""
        services = self._covered(record, node, service)
        for name in services:
            record.work[name].state = State.HELD
            record.work[name].attempts += 1
        task = (*record.key, record.item.part)
        node.held.setdefault(task, set()).update(services)
        if not record.item.final:
            record.nodes[node.name] = True
        else:
            self._cancel_partials(record, services, node.name)
            record.nodes.setdefault(node.name, False)
        self._actions.append(Assign(node, record, services))

    def _covered(self, record: Record, node: Node, service: str) -> tuple[str, ...]:
        """Return the services of a node that one task can cover, if it is sent for `service`."""
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
            for name, node in self.nodes.items()
            if service in node.gives
            and not node.silent
            and node.has_room(record.key, self.live_first and not record.stream.info.live)
        ]
        return self.nodes[min(free)[2]] if free else None

    def _cancel_partials(self, record: Record, services: Iterable[str], node: str) -> None:
        """Cancel a segment at other nodes that may keep data of its partials."""
        for name in [name for name, keeps in record.nodes.items() if keeps]:
            other = self.nodes.get(name)
            if other is None or set(services) & set(other.gives):
                record.nodes[name] = False
                if other is not None and name != node:
                    self._actions.append(Retract(name, record.key))
