"""Handles each message to the hub: checks it, passes it to the coordinator, returns the replies.

Pure: the loop passes in messages and the time, and sends the returned messages. A segment is
acknowledged to its front only after the recorder (the one sink that confirms) has written its
verdict. So the front can send it again if the hub dies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec.structs import replace

from abhinaya.models.vote.combiner import Combiner
from abhinaya.stream.hub.canary import CANARY, Canary
from abhinaya.stream.hub.coordinator import Coordinator
from abhinaya.stream.hub.intake import Intake
from abhinaya.stream.hub.introductions import Introductions
from abhinaya.stream.hub.nodes import Node
from abhinaya.stream.hub.publisher import Door, Outgoing, Publisher
from abhinaya.stream.hub.rights import REVOKED, Gate, Refusals
from abhinaya.stream.hub.runs import Run, Runs
from abhinaya.stream.hub.streams import Streams
from abhinaya.stream.hub.validation import LONGEST_REASON, fault_of_answer, fault_of_node
from abhinaya.stream.settings.compliance import lawful
from abhinaya.stream.settings.config import Config
from abhinaya.stream.wire.keys import LOCAL, Key
from abhinaya.stream.wire.messages import (
    Beat,
    Died,
    Drain,
    Failed,
    FrontDown,
    Gap,
    Hello,
    Message,
    NodeDown,
    Ready,
    Refused,
    Seen,
    StreamEnded,
    StreamStarted,
    Subscribe,
    Transcript,
    Verdict,
    Vote,
)

_LOG = logging.getLogger("abhinaya.hub")


class Broker:
    """The whole hub except its sockets.

    Args:
        config: settings of the hub.
        incarnation: tells this hub from an earlier one.
        combiner: the combiner of the vote, if any.
        supervised: whether somebody watches the processes of the nodes.

    """

    def __init__(
        self,
        config: Config,
        incarnation: str,
        combiner: Combiner | None = None,
        supervised: bool = False,
    ) -> None:
        self._config, self._supervised = config, supervised
        self._combiner = combiner
        self._incarnation = incarnation
        self.refusals = Refusals()
        self._runs = Runs(incarnation)
        self._streams = Streams(incarnation, config.flow, self._runs)
        self._gate = Gate(self._runs, self.refusals)
        self._publisher = Publisher(incarnation, self._runs, self._gate.may_read)
        self._coordinator = Coordinator(
            config, combiner, self._publisher, self._to_node, self._node_down, supervised
        )
        supervise, deadlines = config.supervise, config.deadlines
        self._canary = Canary(supervise.canary_s, 3 * deadlines.task_s)
        self._intake = Intake(
            self._streams, self._coordinator, self._publisher, self._send, self.refusals.add
        )
        self._nodes: dict[bytes, Node] = {}
        self._peers: dict[str, bytes] = {}
        """Socket identity by node name."""
        self._out: list[Outgoing] = []
        self._introductions = Introductions()
        self._doubles = 0
        self._next_status = 0.0

    # --- what comes in ----------------------------------------------------------------------------

    def from_worker(
        self, now: float, peer: bytes, message: Message, key: Key = LOCAL
    ) -> list[Outgoing]:
        """Handle a message from a front or a node with this key."""
        if not self._allows("workers", peer, message, key):
            pass
        elif isinstance(message, Hello):
            self._hello(now, peer, message, key)
        elif isinstance(message, Ready):
            self._ready(now, peer, message)
        elif peer in self._streams:
            self._intake.take(now, peer, message)
            if self._streams.must_resend(peer):
                self._out += self._introductions.ask(now, "workers", peer)
        elif peer in self._nodes:
            self._from_node(now, peer, message)
        else:
            self._out += self._introductions.ask(now, "workers", peer)
        return self._flush(now)

    def from_sink(
        self, now: float, peer: bytes, message: Message, key: Key = LOCAL
    ) -> list[Outgoing]:
        """Handle a message from a sink with this key."""
        if not self._allows("sinks", peer, message, key):
            pass
        elif isinstance(message, Subscribe):
            self._subscribe(now, peer, message, key)
        elif not self._publisher.knows(peer):
            self._out += self._introductions.ask(now, "sinks", peer)
        elif (run := self._publisher.recorded_by(peer)) is None and not (
            isinstance(message, Died) and key.role == "operator"
        ):
            self.refusals.add(f"only the recorder may send {type(message).__name__}")
        elif isinstance(message, Seen) and run is not None:
            self._seen(run, message)
        elif isinstance(message, Died):
            self._died(now, run, message, key)
        return self._flush(now)

    def malformed(self, now: float, peer: bytes, reason: str) -> list[Outgoing]:
        """Handle a message that cannot be used: its sender, if known, must exit."""
        self.refusals.add(reason)
        node = self._nodes.get(peer)
        if node is not None:
            self._take_out(node.name, f"sent a message that cannot be used: {reason}")
        elif peer in self._streams:
            self._send(peer, Refused(reason=reason[:LONGEST_REASON], restart=True))
        return self._flush(now)

    def unreachable(self, now: float, peer: bytes) -> list[Outgoing]:
        """Handle a failed send: drop the peer."""
        self._publisher.drop(peer)
        if (node := self._nodes.get(peer)) is not None:
            self._coordinator.dispatch.node_down(node.name, "is not reachable")
        return self._flush(now)

    def paused(self, seconds: float) -> None:
        """Note that the hub itself did not run: nobody was silent meanwhile."""
        self._coordinator.dispatch.alive.paused(seconds)
        self._streams.paused(seconds)

    def tick(self, now: float) -> list[Outgoing]:
        """Check all time limits."""
        supervise = self._config.supervise
        self._coordinator.dispatch.tick(now)
        for name, reason in self._canary.late(now, self._nodes.values()):
            self._take_out(name, reason)
        for name, task in self._canary.tasks(now, self._nodes.values()):
            self._to_node(name, task)
        for front in self._streams.newly_silent(now, supervise.silent_s):
            reason = f"has been silent for {now - front.last_received:.1f} s"
            down = FrontDown(front=front.name, incarnation=front.incarnation, reason=reason)
            self._publisher.publish(down, front.run.id)
        if now >= self._next_status:
            self._next_status = now + supervise.beat_s
            self._introductions.tidy(now)
            for run in self._runs:
                self._tidy(now, run)
            self._gate.tidy(self._knows)
            fronts, suspects = self._streams.report(now, supervise.silent_s)
            self._coordinator.review(now, self._streams)
            status = self._coordinator.status(
                now, self._incarnation, self.refusals.counts(), self._doubles + self._intake.doubles
            )
            self._publisher.publish_status(status, fronts, suspects)
        self._coordinator.leave_out(now)
        if self._streams.windows.changed:
            self._review(now)
        return self._flush(now)

    def _review(self, now: float, welcomed: bytes = b"") -> None:
        """Choose anew which files wait; let their fronts know, except one that gets a `Welcome`."""
        for stream in self._streams.review(now):
            if stream.front != welcomed:
                self._intake.acknowledge(stream)

    def _tidy(self, now: float, run: Run) -> None:
        """Forget what is over in a run; forget the run if it is over, or if nobody comes back."""
        for stream in list(run.streams.values()):
            if stream.end_written and stream not in self._coordinator.segments:
                self._streams.close(run, stream)
        if run.recorder is not None:
            run.last_present = now
        absent_s = now - run.last_present
        if absent_s > self._config.supervise.forget_s:
            reason = f"front and recorder of the run have been away for {absent_s:.0f} s"
            for stream in list(run.streams.values()):
                if not stream.ended:
                    self._coordinator.abort(now, stream, reason)
                    _LOG.warning("run %s: ended %r: %s", run.id, stream.info.stream, reason)
            self._coordinator.decide(now)
            self._streams.forget(run)
        elif run.done and absent_s > self._config.supervise.silent_s:
            self._streams.forget(run)
        elif run.recorder is not None:  # without one, the run itself is left
            for left in self._streams.forget_left(now, run, self._config.supervise.forget_s):
                self._coordinator.forget(left)

    def drain_nodes(self) -> list[Outgoing]:
        """Return the messages that ask the nodes of this run to exit; others outlive the hub."""
        nodes = self._nodes if self._supervised else ()
        return [Outgoing("workers", peer, Drain()) for peer in nodes]

    # --- rights -----------------------------------------------------------------------------------

    def _allows(self, door: Door, peer: bytes, message: Message, key: Key) -> bool:
        """Whether a key gives the right to a message; refuse it if not."""
        run = ""
        if isinstance(message, Hello | Subscribe):
            run = message.run
        elif isinstance(message, Died):
            run = recorded.id if (recorded := self._publisher.recorded_by(peer)) else ""
        answer = self._gate.refuses(peer, key, message, run)
        if isinstance(answer, Refused):
            self._out.append(Outgoing(door, peer, answer))
        return not answer

    def _knows(self, peer: bytes) -> bool:
        return peer in self._nodes or peer in self._streams or self._publisher.knows(peer)

    def not_admitted(self, door: Door, peer: bytes) -> list[Outgoing]:
        """Handle a message of a peer whose key was removed while it was connected."""
        self.refusals.add(REVOKED.reason)
        return [Outgoing(door, peer, REVOKED)]

    def keys_changed(self, now: float, current: Callable[[str], Key | None]) -> list[Outgoing]:
        """Cut off the peers whose key has been removed, or has another role."""
        for peer, key in self._gate.revoked(current):
            door: Door = "sinks" if self._publisher.knows(peer) else "workers"
            self._out.append(Outgoing(door, peer, REVOKED))
            self._publisher.drop(peer)
            reason = f"key {key.name!r} was revoked"
            if peer in self._nodes:
                self._coordinator.dispatch.node_down(self._nodes[peer].name, reason)
            elif peer in self._streams:
                front = self._streams[peer]
                for stream in self._streams.remove(front.run, front.name):
                    self._coordinator.end(now, stream, reason)
        return self._flush(now)

    # --- fronts -----------------------------------------------------------------------------------

    def _hello(self, now: float, peer: bytes, hello: Hello, key: Key) -> None:
        if hello.adds and peer not in self._streams:
            self._out += self._introductions.ask(now, "workers", peer)
            return
        # not what the front says of its streams alone: its settings may be others
        compliance = self._config.compliance
        hello = replace(hello, streams=tuple(lawful(compliance, i) for i in hello.streams))
        fault = self._streams.fault(peer, hello, key)
        if peer in self._nodes or fault:
            added = tuple(info.stream for info in hello.streams) if hello.adds else ()
            self._refuse(peer, fault or "it has already introduced itself as a node", added)
            return
        for stream, first in self._streams.behind(hello):
            self._coordinator.skip(stream, first)
        for info in self._streams.add_front(now, peer, hello, key):
            self._publisher.publish(StreamStarted(info=info), hello.run)
        self._review(now, peer)
        self._send(peer, self._streams.welcome(peer, hello))

    # --- nodes ------------------------------------------------------------------------------------

    def _ready(self, now: float, peer: bytes, ready: Ready) -> None:
        known = self._nodes.get(peer)
        owner = self._nodes.get(self._peers.get(ready.node, b""), known)
        silent_s = self._config.supervise.silent_s
        if owner is not None and owner is not known and now - owner.last_received <= silent_s:
            # its heartbeats make the newcomer introduce itself again, until the owner is gone
            self.refusals.add("a node has the name of one that is alive")
            return
        if not ready.credits:  # it wants to stop: it gets no more tasks, and finishes what it has
            if known is not None:
                known.credits = 0
            self._send(peer, Drain())
            return
        if peer in self._streams or (known is not None and known.name != ready.node):
            fault = "it has already introduced itself under another name"
        else:
            fault = fault_of_node(ready, self._coordinator.services, self._combiner)
        if fault:
            self._refuse(peer, fault)
            refused = Node(ready.node, ready.incarnation, {s.name: s for s in ready.gives}, 0)
            self._publisher.publish(refused.down(f"refused: {fault}"))
            return
        before = self._nodes.pop(self._peers.get(ready.node, b""), None)
        self._peers[ready.node] = peer
        node = self._nodes[peer] = self._coordinator.ready(now, ready)
        if before is None or before.incarnation != ready.incarnation:
            for event in node.up():
                self._publisher.publish(event)

    def _from_node(self, now: float, peer: bytes, message: Message) -> None:
        node = self._nodes[peer]
        if isinstance(message, Beat):
            age_s, cpu_s = message.work_age_s, message.work_cpu_s
            if reason := self._coordinator.dispatch.beat(now, node, age_s, cpu_s):
                self._take_out(node.name, reason)
        elif isinstance(message, Vote | Transcript | Failed):
            self._answer(now, node, message)
        else:
            self._refuse(peer, f"a node may not send {type(message).__name__}")

    def _answer(self, now: float, node: Node, answer: Vote | Transcript | Failed) -> None:
        fault = fault_of_answer(node.gives, answer)
        if answer.stream == CANARY:
            if fault := fault or self._canary.answered(now, node, answer):
                self.refusals.add(fault)
                self._take_out(node.name, fault)
        elif fault:
            self.refusals.add(fault)
            self._coordinator.invalid(node, answer, fault)
        elif not self._coordinator.answered(now, node, answer):
            self._doubles += 1

    def _take_out(self, name: str, reason: str) -> None:
        """Drop a node that works wrongly; it must exit, else it would introduce itself again."""
        self._send(self._peers[name], Refused(reason=reason[:LONGEST_REASON], restart=True))
        self._coordinator.dispatch.node_down(name, reason)

    def _node_down(self, down: NodeDown) -> None:
        del self._nodes[self._peers.pop(down.node)]
        self._publisher.publish(down)

    # --- sinks ------------------------------------------------------------------------------------

    def _subscribe(self, now: float, peer: bytes, subscribe: Subscribe, key: Key) -> None:
        up = [event for node in self._nodes.values() for event in node.up()]
        if not subscribe.confirm:
            self._publisher.add_reader(peer, subscribe.run, up)
        elif fault := self._fault_of_recorder(peer, subscribe.run, key):
            self.refusals.add(fault)
            self._out.append(Outgoing("sinks", peer, Refused(reason=fault)))
        else:
            self._publisher.add_recorder(peer, self._runs.open(now, subscribe.run, key), up)

    def _fault_of_recorder(self, peer: bytes, run: str, key: Key) -> str:
        before = self._publisher.recorded_by(peer)
        if before is not None and before.id != run:
            return "it already records another run"
        return self._runs.fault(run, key)

    def _seen(self, run: Run, seen: Seen) -> None:
        for event in self._publisher.confirmed(run, seen):
            if not isinstance(event, Verdict | Gap | StreamEnded):
                continue
            stream = run.streams.get(event.stream)
            if stream is not None:  # else it is over, and this revised one of its verdicts
                stream.acknowledged = max(stream.acknowledged, event.sequence + 1)
                self._intake.acknowledge(stream)
                stream.end_written |= isinstance(event, StreamEnded)
                self._streams.windows.changed |= stream.end_written
                self._coordinator.segments.clear(stream)

    def _died(self, now: float, run: Run | None, died: Died, key: Key) -> None:
        if key.role == "operator":  # a node may have the name of somebody's front
            self._coordinator.dispatch.node_down(died.name, died.reason)
        for service in self._coordinator.services.intersection(died.services):
            self._coordinator.dispatch.abandon(service, died.reason)
        for stream in self._streams.remove(run, died.name) if run is not None else ():
            if died.final:  # else it restarts, or other fronts take over its inputs
                self._coordinator.end(
                    now, stream, died.reason, died.reached.get(stream.info.stream, 0)
                )

    # --- what goes out ----------------------------------------------------------------------------

    def _flush(self, now: float) -> list[Outgoing]:
        """Make all decisions that are due; return the messages to send."""
        self._coordinator.decide(now)
        self._intake.send_credits()
        out, self._out = self._out, []
        return out + self._publisher.take()

    def _to_node(self, name: str, message: Message) -> None:
        self._send(self._peers[name], message)

    def _send(self, peer: bytes, message: Message) -> None:
        self._out.append(Outgoing("workers", peer, message))

    def _refuse(self, peer: bytes, reason: str, streams: tuple[str, ...] = ()) -> None:
        self.refusals.add(reason)
        self._send(peer, Refused(reason=reason[:LONGEST_REASON], streams=streams))
