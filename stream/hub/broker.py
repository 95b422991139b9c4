"""What the hub does with each message: who may say what, what is kept, what is answered.

Pure: the hub's loop hands in messages and the time, and sends what comes back. A segment is kept
until its verdict is written down by the recorder (the one sink that confirms); only then may the
front that sent it forget it, so that a hub that dies loses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from abhinaya.models.vote.combiner import Combiner
from abhinaya.stream.hub.aggregator import Aggregator, Facts
from abhinaya.stream.hub.dispatch_state import Absent, Action, Assign, Key, Limits, Lost, Retract
from abhinaya.stream.hub.nodes import Node
from abhinaya.stream.hub.partials import Provisionals
from abhinaya.stream.hub.publisher import Outgoing, Outlet
from abhinaya.stream.hub.refining import Desks
from abhinaya.stream.hub.streams import Fronts, Stream
from abhinaya.stream.hub.task_inputs import Material
from abhinaya.stream.hub.validation import (
    LONGEST_STATE,
    REFINER,
    TRANSCRIBER,
    fault_of_answer,
    fault_of_item,
    fault_of_node,
    in_place_of,
    service_of,
)
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.vote import rule_of
from abhinaya.stream.wire.messages import (
    Activity,
    Beat,
    Cancel,
    Died,
    Drain,
    End,
    Failed,
    FrontDown,
    Gap,
    Hello,
    Introduce,
    Known,
    Message,
    NodeDown,
    NodeLoad,
    Provisional,
    Ready,
    Refused,
    Remark,
    Seen,
    Segment,
    Status,
    StreamEnded,
    StreamStarted,
    Subscribe,
    Transcript,
    Verdict,
    Vote,
)

LONGEST_REASON: Final = 1000
"""Characters of a node's reason: a verdict that carries all of them still fits into a message."""

REASONS: Final = 64
"""Reasons for refusals that are counted apart."""


class Broker:
    """All of the hub but its sockets.

    Args:
        config: of the run.
        incarnation: differs between two hubs in a row.
        combiner: that the profile names, read.

    """

    def __init__(self, config: Config, incarnation: str, combiner: Combiner | None = None) -> None:
        deadlines = config.deadlines
        self._config = config
        self._combiner = combiner
        self._incarnation = incarnation
        voters = tuple(config.voters)
        # first who others wait for: tasks leave in this order
        services = (TRANSCRIBER, *voters) if config.asr else voters
        refined = config.refiner is not None
        self._services = frozenset((*services, REFINER) if refined else services)
        limits = Limits(config.supervise.silent_s, deadlines.task_s, deadlines.attempts)
        self._desks = Desks(services, limits)
        self._dispatch = self._desks.line_up
        rule = rule_of(config.vote, combiner, refined)
        self._aggregator = Aggregator(voters, rule, deadlines.revise_s)
        self._parts = Provisionals(voters, rule, deadlines.provisional_s, self._dispatch)
        self._fronts = Fronts(incarnation, config.flow)
        self._outlet = Outlet(incarnation)
        self._nodes: dict[bytes, Node] = {}
        self._node_ids: dict[str, bytes] = {}
        self._material = Material()
        self._out: list[Outgoing] = []
        self._acknowledge: dict[str, None] = {}
        self._refused: Counter[str] = Counter()
        self._doubles = 0
        self._next_status = 0.0

    # --- what comes in ----------------------------------------------------------------------------

    def from_worker(self, now: float, peer: bytes, message: Message) -> list[Outgoing]:
        """Handle what a front or a node says."""
        if isinstance(message, Hello):
            self._hello(now, peer, message)
        elif isinstance(message, Ready):
            self._ready(now, peer, message)
        elif peer in self._fronts:
            self._from_front(now, peer, message)
        elif peer in self._nodes:
            self._from_node(now, peer, message)
        else:
            self._send(peer, Introduce())
        return self._flush(now)

    def from_sink(self, now: float, peer: bytes, message: Message) -> list[Outgoing]:
        """Handle what a sink says."""
        if isinstance(message, Subscribe):
            present = [StreamStarted(info=info) for info in self._fronts.open_streams()]
            up = [event for node in self._nodes.values() for event in node.up()]
            self._outlet.subscribe(peer, message.confirm, [*present, *up])
        elif not self._outlet.knows(peer):
            self._out.append(Outgoing("sinks", peer, Introduce()))
        elif not self._outlet.is_recorder(peer):
            self.refuse(f"{type(message).__name__} is for the recorder to say")
        elif isinstance(message, Seen):
            self._seen(message.number)
        elif isinstance(message, Died):
            self._died(now, message)
        return self._flush(now)

    def refuse(self, reason: str) -> None:
        """Count a message that could not be read or is not allowed."""
        # a peer that invents reasons must not fill the memory
        known = reason in self._refused or len(self._refused) < REASONS
        self._refused[reason if known else "other"] += 1

    def unreachable(self, now: float, peer: bytes) -> list[Outgoing]:
        """Handle that a peer is gone, as the socket has noticed."""
        self._outlet.drop(peer)
        node = self._nodes.get(peer)
        if node is not None:
            self._act(now, self._desks.gone(now, node.name, "is not reachable"))
        return self._flush(now)

    def tick(self, now: float) -> list[Outgoing]:
        """Handle the passing of time."""
        supervise = self._config.supervise
        self._act(now, self._desks.tick(now))
        for front in self._fronts.newly_silent(now, supervise.silent_s):
            reason = f"has been silent for {now - front.heard:.1f} s"
            self._outlet.notify(
                FrontDown(front=front.name, incarnation=front.incarnation, reason=reason)
            )
        if now >= self._next_status:
            self._next_status = now + supervise.beat_s
            self._outlet.mention(self._status())
        return self._flush(now)

    def drain_nodes(self) -> list[Outgoing]:
        """Ask every node to finish and leave."""
        return [Outgoing("workers", peer, Drain()) for peer in self._nodes]

    # --- fronts -----------------------------------------------------------------------------------

    def _hello(self, now: float, peer: bytes, hello: Hello) -> None:
        fault = self._fronts.fault(hello)
        if peer in self._nodes or fault:
            self._refuse(peer, fault or "it has introduced itself as a node")
            return
        for info in self._fronts.greet(now, peer, hello):
            self._outlet.notify(StreamStarted(info=info))
        self._send(peer, self._fronts.welcome(hello))

    def _from_front(self, now: float, peer: bytes, message: Message) -> None:
        self._fronts.hear(now, peer)
        if isinstance(message, Segment | Gap | End):
            self._item(now, peer, message)
        elif isinstance(message, Provisional | Activity):
            self._passing(now, peer, message)
        elif isinstance(message, Remark):
            self._outlet.notify(message)
        elif isinstance(message, Known):
            self._known(peer, message)
        elif not isinstance(message, Beat):
            self._refuse(peer, f"{type(message).__name__} is nothing that a front says")

    def _known(self, peer: bytes, known: Known) -> None:
        """Take back what an earlier hub knew of a stream."""
        stream = self._fronts.of(peer, known)
        if stream is None:
            self._refuse(peer, f"stream {known.stream!r} is not this front's")
        elif known.service not in self._services or len(known.state) > LONGEST_STATE:
            self.refuse("a state that no service gives")
        elif not stream.ended:
            self._material.states.restore(
                (known.stream, stream.acknowledged), known.service, known.state
            )

    def _item(self, now: float, peer: bytes, item: Segment | Gap | End) -> None:
        stream = self._fronts.of(peer, item)
        if stream is None:
            self._refuse(peer, f"stream {item.stream!r} is not this front's")
        elif item.sequence < stream.next_sequence or stream.ended:
            self._doubles += 1
            self._acknowledge[item.stream] = None
        elif self._fronts.is_in_turn(stream, item):
            self._accept(now, stream, item)
        else:
            # something before it was lost on the way: have everything sent again
            self.refuse("out of turn")
            self._send(peer, Introduce())

    def _passing(self, now: float, peer: bytes, item: Provisional | Activity) -> None:
        """Handle what is lost if it comes at the wrong time."""
        stream = self._fronts.of(peer, item)
        if stream is None:
            self._refuse(peer, f"stream {item.stream!r} is not this front's")
        elif isinstance(item, Activity):
            self._outlet.mention(item)
        elif item.sequence == stream.next_sequence and not stream.ended:
            fault = fault_of_item(stream.position, item)
            if fault:
                self.refuse(fault)
            else:
                self._parts.open(now, Facts.of(item, stream.info), item)

    def _accept(self, now: float, stream: Stream, item: Segment | Gap | End) -> None:
        stream.next_sequence += 1
        key = (item.stream, item.sequence)
        self._act(now, self._parts.over(key))
        if isinstance(item, End):
            self._act(now, self._dispatch.close(key))
            stream.ended = True
            self._aggregator.append(
                StreamEnded(
                    stream=item.stream,
                    sequence=item.sequence,
                    position=item.position,
                    reason=item.reason,
                )
            )
            return
        fault = fault_of_item(stream.position, item)
        if fault:
            self.refuse(fault)
            item = in_place_of(item, stream.position, fault)
        stream.position = item.end
        if isinstance(item, Gap):
            self._act(now, self._dispatch.close(key))
            self._aggregator.append(item)
        else:
            self._submit(now, stream, item)

    def _submit(self, now: float, stream: Stream, segment: Segment) -> None:
        deadlines, info = self._config.deadlines, stream.info
        due = now + (deadlines.live_s if info.live else deadlines.file_s)
        facts = Facts.of(segment, info)
        self._material.keep(segment)
        self._aggregator.open(now, facts, due)
        self._act(now, self._dispatch.submit(facts.key, due))
        if info.live:
            self._shed(now, stream)

    def _shed(self, now: float, stream: Stream) -> None:
        waiting = self._dispatch.unstarted(stream.info.stream)
        backlog = self._config.flow.live_backlog
        for key in waiting[: max(0, len(waiting) - backlog)]:
            self._aggregator.shed(key, f"overload: {backlog} later segments were waiting")
            self._forget(now, key)

    # --- nodes ------------------------------------------------------------------------------------

    def _ready(self, now: float, peer: bytes, ready: Ready) -> None:
        known = self._nodes.get(peer)
        if peer in self._fronts or (known is not None and known.name != ready.node):
            fault = "it has introduced itself as another"
        else:
            fault = fault_of_node(ready, self._services, self._combiner)
        if fault:
            self._refuse(peer, fault)
            self._notify_down(Node.of(ready), f"refused: {fault}")
            return
        self._nodes.pop(self._node_ids.get(ready.node, b""), None)
        self._node_ids[ready.node] = peer
        node = Node.of(ready)
        self._nodes[peer] = node
        self._parts.declared(ready)
        for event in node.up():
            self._outlet.notify(event)
        for action in self._desks.ready(now, ready):
            if isinstance(action, Lost):  # its predecessor is, but the node of that name is there
                self._parts.lost(action.node, action.reason)
            else:
                self._act(now, [action])

    def _from_node(self, now: float, peer: bytes, message: Message) -> None:
        node = self._nodes[peer]
        if isinstance(message, Beat):
            self._act(now, self._desks.beat(now, node.name, message.work_age_s))
        elif isinstance(message, Vote | Transcript | Failed):
            self._answer(now, node, message)
        else:
            self._refuse(peer, f"{type(message).__name__} is nothing that a node says")

    def _answer(self, now: float, node: Node, answer: Vote | Transcript | Failed) -> None:
        service, key = service_of(answer), (answer.stream, answer.sequence)
        fault = fault_of_answer(node.gives, answer)
        if fault:
            self.refuse(fault)
            for name in [service] if service in node.gives else node.gives:
                self._failed(now, node, name, key, answer.part, fault)
            return
        state, answer = answer.state, msgspec.structs.replace(answer, state=b"")
        if isinstance(answer, Failed):
            if not (answer.part or answer.retry):
                self._material.knows(key, service, state)
            self._failed(now, node, service, key, answer.part, answer.reason, answer.retry)
            return
        self._parts.measured(service, answer.run_ms, answer.part)
        if answer.part:
            self._parts.answered(now, node.name, service, answer)
            return
        counts, actions = self._desks.of(service).answered(node.name, key, service)
        if not counts:
            self._doubles += 1
        elif isinstance(answer, Transcript):
            self._material.transcribed(answer)
            self._aggregator.transcribed(now, answer)
        else:
            self._aggregator.voted(now, answer, self._dispatch.explain)
        if counts:
            self._material.knows(key, service, state)
        self._act(now, actions)

    def _failed(
        self,
        now: float,
        node: Node,
        service: str,
        key: Key,
        part: int,
        reason: str,
        retry: bool = False,
    ) -> None:
        reason = reason[:LONGEST_REASON]
        if part:
            self._parts.failed(node.name, service, key, part, reason)
        else:
            desk = self._desks.of(service)
            self._act(now, desk.failed(node.name, key, service, reason, retry))

    def _act(self, now: float, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Assign):
                self._aggregator.begun(now, action.key)
                peer = self._node_ids[action.node]
                gives = [self._nodes[peer].gives[name] for name in action.services]
                choices = self._desks.choices(action.services, action.key)
                self._send(peer, self._material.task(action.key, gives, choices))
            elif isinstance(action, Retract):
                stream, sequence = action.key
                cancel = Cancel(stream=stream, sequence=sequence, part=action.part)
                self._send(self._node_ids[action.node], cancel)
            elif isinstance(action, Absent):
                self._aggregator.absent(now, action.key, action.service, action.reason)
            else:
                self._lose(action)

    def _lose(self, lost: Lost) -> None:
        node = self._nodes.pop(self._node_ids.pop(lost.node))
        self._parts.lost(lost.node, lost.reason)
        self._notify_down(node, lost.reason)

    def _notify_down(self, node: Node, reason: str) -> None:
        gave = ", ".join(node.gives)
        self._outlet.notify(
            NodeDown(node=node.name, incarnation=node.incarnation, service=gave, reason=reason)
        )

    def _forget(self, now: float, key: Key) -> None:
        self._material.forget(key)
        self._act(now, self._desks.close(key))

    # --- sinks ------------------------------------------------------------------------------------

    def _seen(self, number: int) -> None:
        for event in self._outlet.confirmed(number):
            if isinstance(event, Verdict | Gap | StreamEnded):
                self._fronts.written(event.stream, event.sequence)
                self._acknowledge[event.stream] = None
            if isinstance(event, StreamEnded):
                self._material.ended(event.stream)

    def _died(self, now: float, died: Died) -> None:
        if died.name in self._node_ids:
            self._act(now, self._desks.gone(now, died.name, died.reason))
        for service in self._services.intersection(died.services):
            self._act(now, self._desks.of(service).abandon((service,), died.reason))
        for stream in self._fronts.bury(died.name) if died.final else ():
            end = End(
                stream=stream.info.stream,
                sequence=stream.next_sequence,
                position=stream.position,
                reason=died.reason,
            )
            self._accept(now, stream, end)

    def _status(self) -> Status:
        return Status(
            hub=self._incarnation,
            waiting=self._dispatch.waiting,
            open_segments=self._aggregator.undecided,
            nodes=tuple(
                NodeLoad(node=node, service=service, held=held, done=done)
                for node, service, held, done in self._desks.loads()
            ),
            fronts=self._fronts.heard_of,
            refused=dict(self._refused),
            doubles=self._doubles,
        )

    # --- what goes out ----------------------------------------------------------------------------

    def _flush(self, now: float) -> list[Outgoing]:
        while outcomes := self._aggregator.collect(now, self._dispatch.explain):
            for event in outcomes:
                self._outlet.notify(event)
                if isinstance(event, Verdict):
                    self._act(now, self._dispatch.decided((event.stream, event.sequence)))
        for key, choices in self._aggregator.contested():
            self._act(now, self._desks.ask(key, now, choices))
        for key in self._aggregator.closed(now):
            self._forget(now, key)
        if self._parts:
            self._go_on(now)
        for stream in self._acknowledge:
            known = self._material.states.written(stream, self._fronts[stream].acknowledged)
            self._send(*self._fronts.credit(stream, known))
        self._acknowledge.clear()
        out, self._out = self._out, []
        return out + self._outlet.take()

    def _go_on(self, now: float) -> None:
        """Use what time is left for speech that goes on."""
        for verdict in self._parts.collect(now):
            self._outlet.mention(verdict)
        for ask in self._parts.asks(now):
            peer = self._node_ids[ask.node]
            gives = [self._nodes[peer].gives[name] for name in ask.services]
            self._send(peer, self._material.part(ask.item, ask.transcript, gives))

    def _send(self, peer: bytes, message: Message) -> None:
        self._out.append(Outgoing("workers", peer, message))

    def _refuse(self, peer: bytes, reason: str) -> None:
        self.refuse(reason)
        self._send(peer, Refused(reason=reason))
