"""Handles each message to the hub: checks it, passes it to the coordinator, returns the replies.

Pure: the loop passes in messages and the time, and sends the returned messages. A segment is
acknowledged to its front only after the recorder (the one sink that confirms) has written its
verdict. So the front can send it again if the hub dies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from abhinaya.models.vote.combiner import Combiner
from abhinaya.stream.hub.coordinator import Coordinator
from abhinaya.stream.hub.nodes import Node
from abhinaya.stream.hub.publisher import Outgoing, Publisher
from abhinaya.stream.hub.segments import Stream
from abhinaya.stream.hub.streams import Streams
from abhinaya.stream.hub.validation import (
    FURTHEST_SAMPLES,
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
"""Maximum number of refusal reasons that are counted separately."""


class Broker:
    """The whole hub except its sockets."""

    def __init__(self, config: Config, incarnation: str, combiner: Combiner | None = None) -> None:
        self._config = config
        self._combiner = combiner
        self._incarnation = incarnation
        self._streams = Streams(incarnation, config.flow)
        self._publisher = Publisher(incarnation)
        self._coordinator = Coordinator(
            config, combiner, self._publisher, self._to_node, self._node_down
        )
        self._nodes: dict[bytes, Node] = {}
        self._peers: dict[str, bytes] = {}
        """Socket identity by node name."""
        self._out: list[Outgoing] = []
        self._acknowledge: dict[str, Stream] = {}
        """Streams whose front needs a new `Credit`."""
        self._refused: Counter[str] = Counter()
        self._doubles = 0
        self._next_status = 0.0

    # --- what comes in ----------------------------------------------------------------------------

    def from_worker(self, now: float, peer: bytes, message: Message) -> list[Outgoing]:
        """Handle a message from a front or a node."""
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
        """Handle a message from a sink."""
        if isinstance(message, Subscribe):
            present = [StreamStarted(info=info) for info in self._streams.open_streams()]
            up = [event for node in self._nodes.values() for event in _up(node)]
            self._publisher.subscribe(peer, message.confirm, [*present, *up])
        elif not self._publisher.knows(peer):
            self._out.append(Outgoing("sinks", peer, Introduce()))
        elif not self._publisher.is_recorder(peer):
            self.refuse(f"only the recorder may send {type(message).__name__}")
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
        """Handle a failed send: drop the peer."""
        self._publisher.drop(peer)
        node = self._nodes.get(peer)
        if node is not None:
            self._coordinator.dispatch.node_down(node.name, "is not reachable")
        return self._flush(now)

    def tick(self, now: float) -> list[Outgoing]:
        """Check all time limits."""
        supervise = self._config.supervise
        self._coordinator.dispatch.tick(now)
        for front in self._streams.newly_silent(now, supervise.silent_s):
            reason = f"has been silent for {now - front.last_received:.1f} s"
            self._publisher.publish(
                FrontDown(front=front.name, incarnation=front.incarnation, reason=reason)
            )
        if now >= self._next_status:
            self._next_status = now + supervise.beat_s
            self._publisher.publish_unnumbered(self._status())
        return self._flush(now)

    def drain_nodes(self) -> list[Outgoing]:
        """Return the messages that ask every node to finish and exit."""
        return [Outgoing("workers", peer, Drain()) for peer in self._nodes]

    # --- fronts -----------------------------------------------------------------------------------

    def _hello(self, now: float, peer: bytes, hello: Hello) -> None:
        fault = self._streams.fault(hello)
        if peer in self._nodes or fault:
            self._refuse(peer, fault or "it has already introduced itself as a node")
            return
        for info in self._streams.add_front(now, peer, hello):
            self._publisher.publish(StreamStarted(info=info))
        self._send(peer, self._streams.welcome(hello))

    def _from_front(self, now: float, peer: bytes, message: Message) -> None:
        self._streams.received(now, peer)
        if isinstance(message, Activity) or (isinstance(message, Segment) and message.part):
            self._transient(now, peer, message)
        elif isinstance(message, Segment | Gap | End):
            self._item(now, peer, message)
        elif isinstance(message, Remark):
            self._publisher.publish(message)
        elif isinstance(message, Known):
            self._known(peer, message)
        elif not isinstance(message, Beat):
            self._refuse(peer, f"a front may not send {type(message).__name__}")

    def _known(self, peer: bytes, known: Known) -> None:
        """Restore a state that an earlier hub gave to the front."""
        stream = self._streams.of(peer, known)
        if stream is None:
            self._refuse(peer, f"stream {known.stream!r} is not this front's")
        elif known.service not in self._coordinator.services or len(known.state) > LONGEST_STATE:
            self.refuse("a state of an unknown service, or too large")
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
            # an earlier item was lost: `Introduce` makes the front send everything again
            self.refuse("out of turn")
            self._send(peer, Introduce())

    def _accept(self, now: float, stream: Stream, item: Segment | Gap | End) -> None:
        fault = "" if isinstance(item, End) else fault_of_item(stream.position, item)
        if fault and not isinstance(item, End):
            self.refuse(fault)
            item = in_place_of(item, stream.position, fault)
        self._coordinator.item(now, stream, item)

    def _transient(self, now: float, peer: bytes, item: Segment | Activity) -> None:
        """Handle a partial or activity; one that is out of turn is dropped."""
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
                self._coordinator.partial(now, stream, item)

    # --- nodes ------------------------------------------------------------------------------------

    def _ready(self, now: float, peer: bytes, ready: Ready) -> None:
        known = self._nodes.get(peer)
        if peer in self._streams or (known is not None and known.name != ready.node):
            fault = "it has already introduced itself under another name"
        else:
            fault = fault_of_node(ready, self._coordinator.services, self._combiner)
        if fault:
            self._refuse(peer, fault)
            refused = Node(ready.node, ready.incarnation, {s.name: s for s in ready.gives}, 0)
            self._publisher.publish(refused.down(f"refused: {fault}"))
            return
        self._nodes.pop(self._peers.get(ready.node, b""), None)
        self._peers[ready.node] = peer
        node = self._nodes[peer] = self._coordinator.ready(now, ready)
        for event in _up(node):
            self._publisher.publish(event)

    def _from_node(self, now: float, peer: bytes, message: Message) -> None:
        node = self._nodes[peer]
        if isinstance(message, Beat):
            self._coordinator.dispatch.beat(now, node.name, message.work_age_s)
        elif isinstance(message, Vote | Transcript | Failed):
            self._answer(now, node, message)
        else:
            self._refuse(peer, f"a node may not send {type(message).__name__}")

    def _answer(self, now: float, node: Node, answer: Vote | Transcript | Failed) -> None:
        fault = fault_of_answer(node.gives, answer)
        if fault:
            self.refuse(fault)
            self._coordinator.invalid(node, answer, fault)
        elif not self._coordinator.answered(now, node, answer):
            self._doubles += 1

    def _node_down(self, down: NodeDown) -> None:
        del self._nodes[self._peers.pop(down.node)]
        self._publisher.publish(down)

    # --- sinks ------------------------------------------------------------------------------------

    def _seen(self, number: int) -> None:
        for event in self._publisher.confirmed(number):
            if isinstance(event, Verdict | Gap | StreamEnded):
                stream = self._streams[event.stream]
                stream.acknowledged = max(stream.acknowledged, event.sequence + 1)
                self._acknowledge[event.stream] = stream
                stream.end_written |= isinstance(event, StreamEnded)
                self._coordinator.segments.clear(stream)

    def _died(self, now: float, died: Died) -> None:
        self._coordinator.dispatch.node_down(died.name, died.reason)
        for service in self._coordinator.services.intersection(died.services):
            self._coordinator.dispatch.abandon(service, died.reason)
        for stream in self._streams.remove(died.name):
            if not died.final:  # it restarts, or other fronts take over its inputs
                continue
            name, start = stream.info.stream, stream.position
            end = min(max(start, died.reached.get(name, 0)), start + FURTHEST_SAMPLES)
            if end > start:
                lost = Gap(
                    stream=name,
                    sequence=stream.next_sequence,
                    start=start,
                    end=end,
                    reason=died.reason,
                )
                self._accept(now, stream, lost)
            number, reason = stream.next_sequence, died.reason
            last = End(stream=name, sequence=number, position=end, reason=reason)
            self._accept(now, stream, last)

    def _status(self) -> Status:
        return Status(
            hub=self._incarnation,
            waiting=self._coordinator.dispatch.waiting,
            open_segments=self._coordinator.undecided,
            nodes=tuple(
                NodeLoad(node=node, service=service, held=held, done=done)
                for node, service, held, done in self._coordinator.dispatch.loads()
            ),
            fronts=self._streams.fronts,
            refused=dict(self._refused),
            doubles=self._doubles,
        )

    # --- what goes out ----------------------------------------------------------------------------

    def _flush(self, now: float) -> list[Outgoing]:
        """Make all decisions that are due; return the messages to send."""
        self._coordinator.decide(now)
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
    """Yield one event for each service of a node."""
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
