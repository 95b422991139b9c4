"""What the hub does with each message: who may say what, what is kept, what is answered.

Pure: the hub's loop hands in messages and the time, and sends what comes back. A segment is kept
until its verdict is written down by the recorder (the one sink that confirms); only then may the
front that sent it forget it, so that a hub that dies loses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from abhinaya.models.vote.combiner import Combiner
from abhinaya.stream.hub.deciders import Deciders
from abhinaya.stream.hub.nodes import Node
from abhinaya.stream.hub.publisher import Outgoing, Publisher
from abhinaya.stream.hub.segments import Stream
from abhinaya.stream.hub.streams import Streams
from abhinaya.stream.hub.validation import (
    LONGEST_STATE,
    fault_of_answer,
    fault_of_item,
    fault_of_node,
    in_place_of,
)
from abhinaya.stream.settings.config import Config
from abhinaya.stream.wire.messages import (
    Activity,
    Beat,
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
    NodeUp,
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

REASONS: Final = 64
"""Reasons for refusals that are counted apart."""


class Broker:
    """All of the hub but its sockets."""

    def __init__(self, config: Config, incarnation: str, combiner: Combiner | None = None) -> None:
        self._config = config
        self._combiner = combiner
        self._incarnation = incarnation
        self._streams = Streams(incarnation, config.flow)
        self._publisher = Publisher(incarnation)
        self._deciders = Deciders(config, combiner, self._publisher, self._to_node, self._lost)
        self._nodes: dict[bytes, Node] = {}
        self._peers: dict[str, bytes] = {}
        """By name of a node."""
        self._out: list[Outgoing] = []
        self._acknowledge: dict[str, Stream] = {}
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
        elif peer in self._streams:
            self._from_front(now, peer, message)
        elif peer in self._nodes:
            self._from_node(now, peer, message)
        else:
            self._send(peer, Introduce())
        return self._flush(now)

    def from_sink(self, now: float, peer: bytes, message: Message) -> list[Outgoing]:
        """Handle what a sink says."""
        if isinstance(message, Subscribe):
            present = [StreamStarted(info=info) for info in self._streams.open_streams()]
            up = [event for node in self._nodes.values() for event in _up(node)]
            self._publisher.subscribe(peer, message.confirm, [*present, *up])
        elif not self._publisher.knows(peer):
            self._out.append(Outgoing("sinks", peer, Introduce()))
        elif not self._publisher.is_recorder(peer):
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
        self._publisher.drop(peer)
        node = self._nodes.get(peer)
        if node is not None:
            self._deciders.dispatch.gone(node.name, "is not reachable")
        return self._flush(now)

    def tick(self, now: float) -> list[Outgoing]:
        """Handle the passing of time."""
        supervise = self._config.supervise
        self._deciders.dispatch.tick(now)
        for front in self._streams.newly_silent(now, supervise.silent_s):
            reason = f"has been silent for {now - front.heard:.1f} s"
            self._publisher.publish(
                FrontDown(front=front.name, incarnation=front.incarnation, reason=reason)
            )
        if now >= self._next_status:
            self._next_status = now + supervise.beat_s
            self._publisher.publish_unnumbered(self._status())
        return self._flush(now)

    def drain_nodes(self) -> list[Outgoing]:
        """Ask every node to finish and leave."""
        return [Outgoing("workers", peer, Drain()) for peer in self._nodes]

    # --- fronts -----------------------------------------------------------------------------------

    def _hello(self, now: float, peer: bytes, hello: Hello) -> None:
        fault = self._streams.fault(hello)
        if peer in self._nodes or fault:
            self._refuse(peer, fault or "it has introduced itself as a node")
            return
        for info in self._streams.greet(now, peer, hello):
            self._publisher.publish(StreamStarted(info=info))
        self._send(peer, self._streams.welcome(hello))

    def _from_front(self, now: float, peer: bytes, message: Message) -> None:
        self._streams.hear(now, peer)
        if isinstance(message, Activity) or (isinstance(message, Segment) and message.part):
            self._passing(now, peer, message)
        elif isinstance(message, Segment | Gap | End):
            self._item(now, peer, message)
        elif isinstance(message, Remark):
            self._publisher.publish(message)
        elif isinstance(message, Known):
            self._known(peer, message)
        elif not isinstance(message, Beat):
            self._refuse(peer, f"{type(message).__name__} is nothing that a front says")

    def _known(self, peer: bytes, known: Known) -> None:
        """Take back what an earlier hub knew of a stream."""
        stream = self._streams.of(peer, known)
        if stream is None:
            self._refuse(peer, f"stream {known.stream!r} is not this front's")
        elif known.service not in self._deciders.services or len(known.state) > LONGEST_STATE:
            self.refuse("a state that no service gives")
        elif not stream.ended:
            stream.restore_state(known.service, known.state)

    def _item(self, now: float, peer: bytes, item: Segment | Gap | End) -> None:
        stream = self._streams.of(peer, item)
        if stream is None:
            self._refuse(peer, f"stream {item.stream!r} is not this front's")
        elif item.sequence < stream.next_sequence or stream.ended:
            self._doubles += 1
            self._acknowledge[item.stream] = stream
        elif self._streams.is_in_turn(stream, item):
            self._accept(now, stream, item)
        else:
            # something before it was lost on the way: have everything sent again
            self.refuse("out of turn")
            self._send(peer, Introduce())

    def _accept(self, now: float, stream: Stream, item: Segment | Gap | End) -> None:
        fault = "" if isinstance(item, End) else fault_of_item(stream.position, item)
        if fault and not isinstance(item, End):
            self.refuse(fault)
            item = in_place_of(item, stream.position, fault)
        self._deciders.item(now, stream, item)

    def _passing(self, now: float, peer: bytes, item: Segment | Activity) -> None:
        """Handle what is lost if it comes at the wrong time."""
        stream = self._streams.of(peer, item)
        if stream is None:
            self._refuse(peer, f"stream {item.stream!r} is not this front's")
        elif isinstance(item, Activity):
            self._publisher.publish_unnumbered(item)
        elif item.sequence == stream.next_sequence and not stream.ended:
            fault = fault_of_item(stream.position, item)
            if fault:
                self.refuse(fault)
            else:
                self._deciders.partial(now, stream, item)

    # --- nodes ------------------------------------------------------------------------------------

    def _ready(self, now: float, peer: bytes, ready: Ready) -> None:
        known = self._nodes.get(peer)
        if peer in self._streams or (known is not None and known.name != ready.node):
            fault = "it has introduced itself as another"
        else:
            fault = fault_of_node(ready, self._deciders.services, self._combiner)
        if fault:
            self._refuse(peer, fault)
            refused = Node(ready.node, ready.incarnation, {s.name: s for s in ready.gives}, 0)
            self._publish_down(refused, f"refused: {fault}")
            return
        self._nodes.pop(self._peers.get(ready.node, b""), None)
        self._peers[ready.node] = peer
        node = self._nodes[peer] = self._deciders.ready(now, ready)
        for event in _up(node):
            self._publisher.publish(event)

    def _from_node(self, now: float, peer: bytes, message: Message) -> None:
        node = self._nodes[peer]
        if isinstance(message, Beat):
            self._deciders.dispatch.beat(now, node.name, message.work_age_s)
        elif isinstance(message, Vote | Transcript | Failed):
            self._answer(now, node, message)
        else:
            self._refuse(peer, f"{type(message).__name__} is nothing that a node says")

    def _answer(self, now: float, node: Node, answer: Vote | Transcript | Failed) -> None:
        fault = fault_of_answer(node.gives, answer)
        if fault:
            self.refuse(fault)
            self._deciders.unusable(node, answer, fault)
        elif not self._deciders.answered(now, node, answer):
            self._doubles += 1

    def _lost(self, node: Node, reason: str) -> None:
        """Handle that a node is no longer worked with."""
        del self._nodes[self._peers.pop(node.name)]
        self._publish_down(node, reason)

    def _publish_down(self, node: Node, reason: str) -> None:
        gave = ", ".join(node.gives)
        self._publisher.publish(
            NodeDown(node=node.name, incarnation=node.incarnation, service=gave, reason=reason)
        )

    # --- sinks ------------------------------------------------------------------------------------

    def _seen(self, number: int) -> None:
        for event in self._publisher.confirmed(number):
            if isinstance(event, Verdict | Gap | StreamEnded):
                stream = self._streams[event.stream]
                stream.acknowledged = max(stream.acknowledged, event.sequence + 1)
                self._acknowledge[event.stream] = stream
                if isinstance(event, StreamEnded):
                    stream.end_written = True
                    self._deciders.segments.clear(stream)

    def _died(self, now: float, died: Died) -> None:
        self._deciders.dispatch.gone(died.name, died.reason)
        for service in self._deciders.services.intersection(died.services):
            self._deciders.dispatch.abandon(service, died.reason)
        for stream in self._streams.remove(died.name):
            if not died.final:  # it comes back, or others take its inputs over
                continue
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
            waiting=self._deciders.dispatch.waiting,
            open_segments=self._deciders.undecided,
            nodes=tuple(
                NodeLoad(node=node, service=service, held=held, done=done)
                for node, service, held, done in self._deciders.dispatch.loads()
            ),
            fronts=self._streams.fronts,
            refused=dict(self._refused),
            doubles=self._doubles,
        )

    # --- what goes out ----------------------------------------------------------------------------

    def _flush(self, now: float) -> list[Outgoing]:
        """Decide what can be decided, and return all that is to be sent."""
        self._deciders.decide(now)
        for stream in self._acknowledge.values():
            self._send(stream.front, self._streams.credit(stream))
        self._acknowledge.clear()
        out, self._out = self._out, []
        return out + self._publisher.take()

    def _to_node(self, name: str, message: Message) -> None:
        self._send(self._peers[name], message)

    def _send(self, peer: bytes, message: Message) -> None:
        self._out.append(Outgoing("workers", peer, message))

    def _refuse(self, peer: bytes, reason: str) -> None:
        self.refuse(reason)
        self._send(peer, Refused(reason=reason))


def _up(node: Node) -> Iterator[NodeUp]:
    """Yield what people are told of a node, service by service."""
    for service in node.gives.values():
        yield NodeUp(
            node=node.name,
            service=service.name,
            gives=service.kind,
            model=service.model,
            version=service.version,
            licence=service.licence,
            noncommercial=service.noncommercial,
        )
